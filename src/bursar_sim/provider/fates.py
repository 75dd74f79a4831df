"""What a provider makes of an order that comes in. Pure: clock and chance are handed in.

Draws of a new order depend on the seed and its key alone; draws of an answer on how many times
the key came in before, too, so that a repeated order can have better luck.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from bursar_sim.draws import hex_id
from bursar_sim.provider.knobs import FATES, Knobs
from bursar_sim.provider.model import (
    AMOUNT_MAX,
    Booking,
    Failing,
    Fault,
    KeyReused,
    Lost,
    Notice,
    Order,
    Planned,
    Reply,
    Status,
    Step,
    Transfer,
    Verdict,
)
from bursar_sim.provider.rules import Draws, Rules, pick
from bursar_sim.provider.steps import execute, notices

_HALF: Final = 0.5
_FAULTS: Final = (
    (Fault.ERROR, "error_executed"),
    (Fault.RESET, "reset"),
    (Fault.TRUNCATED, "truncated"),
)
_ERRORS: Final = (500, 502, 503, 504)
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Za-z0-9]{1,30}\Z")


@lru_cache(maxsize=4096)
def iban_is_valid(iban: str) -> bool:
    """Shape and check digits (ISO 13616, ISO 7064 mod 97-10); not the country's own rules."""
    if not _IBAN.match(iban):
        return False
    turned = (iban[4:] + iban[:4]).upper()
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def decide(
    order: Order,
    known: Transfer | None,
    rules: Rules,
    *,
    now_ms: int,
    lost: int = 0,
) -> Verdict:
    """What the provider makes of an order; `lost` is how often one of its key was lost before.

    A booking must be committed before anybody hears of it. A `known` transfer is what the key
    made before; its first answer is given again while the key lives.
    """
    arrival = f"{order.key}#{lost + (known.arrivals if known else 0)}"
    if rules.fires("lost", arrival):
        return Verdict(Lost(), lost=True, fired=("lost",))
    if known is not None and known.fingerprint != order.fingerprint:
        return Verdict(KeyReused())
    if known is not None and _is_forgotten(known, rules, now_ms):
        return _anew(known, arrival, rules, now_ms)
    if known is not None:
        return _again(known, arrival, rules)
    if rules.fires("error_not_executed", arrival):
        status = _error(rules, arrival)
        return Verdict(Failing(status), lost=True, fired=("error_not_executed",))
    draws = rules.draws(order.key)
    fate = _fate(rules.knobs, draws.fate)
    if fate == "timeout_not_executed":
        return Verdict(Lost(), fired=(fate,))
    new = _New(order, fate, draws, rules, now_ms)
    booking = new.booking()
    reply, fired = _reply(booking.transfer, arrival, rules, new=True)
    if booking.transfer.mute or fate == "timeout_executed":
        reply, fired = Reply(booking.transfer, new=True, fault=Fault.SILENCE), ()
    elif "webhook_early" in booking.fired:
        reply = replace(reply, wait_s=reply.wait_s + rules.knobs.early_s)
    return Verdict(reply, booking, fired=fired)


@dataclass(frozen=True, slots=True)
class _New:
    """An order that nobody knew before, and all that decides on it."""

    order: Order
    fate: str | None
    draws: Draws
    rules: Rules
    now_ms: int

    def booking(self) -> Booking:
        """The order's row, and what goes with it."""
        transfer = self._row()
        fired: tuple[str, ...] = () if self.fate is None else (self.fate,)
        refusal = self._refusal()
        if refusal is not None:
            refused = replace(
                transfer, status=Status.REJECTED, answer="rejected", code=refusal, cost=0
            )
            return Booking(refused, fired=fired if self.fate != "timeout_executed" else ())
        transfer = self._hide(transfer, self._not_found_until(), "not_found")
        if self.fate == "decline_later":
            code = pick(self.rules.terms.declines, self.draws.reason)
            planned = (Planned(Step.REJECT, self._settle_at()),)
            return self._taken(replace(transfer, plan=planned, code=code), fired)
        if self._fires("stuck"):
            return self._taken(transfer, (*fired, "stuck"))
        transfer, mistakes = self._mistaken(transfer)
        transfer, when = self._timed(transfer)
        fired += mistakes + when
        if transfer.plan:
            return self._taken(transfer, fired)
        executed = execute(
            replace(transfer, answer="executed"),
            self.now_ms,
            (),
            self.rules,
        )
        repeats = any(planned.step is Step.REPEAT for planned in executed.transfer.plan)
        heard = repeats or self._fires("forgets")
        return replace(
            executed,
            notices=executed.notices if heard else (),
            fired=fired + (executed.fired if heard else ()),
        )

    def _row(self) -> Transfer:
        order = self.order
        reference = self.rules.terms.prefix + hex_id(self.rules.seed, order.key)
        return Transfer(
            key=order.key,
            reference=reference,
            told_reference=reference,
            fingerprint=order.fingerprint,
            amount=order.amount,
            currency=order.currency,
            cost=self.rules.terms.cost,
            status=Status.PENDING,
            answer="accepted",
            code=None,
            returned=0,
            last_return=0,
            returns=0,
            sequence=1,
            arrivals=1,
            mute=False,
            received_at=self.now_ms,
            executed_at=None,
            hidden_until=None,
            hidden_by=None,
            plan=(),
            correlation_id=order.correlation_id,
        )

    def _refusal(self) -> str | None:
        if self.order.currency not in self.rules.terms.currencies:
            return self.rules.terms.currency_code
        if not iban_is_valid(self.order.account):
            return self.rules.terms.account_code
        if self.fate == "insufficient_funds":
            return self.rules.terms.short_code
        if self.fate == "decline":
            return pick(self.rules.terms.declines, self.draws.reason)
        return None

    def _fires(self, name: str) -> bool:
        return self.rules.fires(name, self.order.key)

    def _fraction(self, name: str) -> float:
        return self.rules.fraction(name, self.order.key)

    def _settle_at(self) -> int:
        delay_s = self.rules.knobs.settle_delay_s * (0.5 + self.draws.timing)
        return self.now_ms + int(1000 * min(delay_s, self.rules.terms.window_s))

    def _not_found_until(self) -> int | None:
        if not self._fires("not_found"):
            return None
        top_s = self.rules.knobs.not_found_s
        if self.rules.terms.not_found_proves:
            top_s = min(top_s, self.rules.terms.window_s)
        return self.now_ms + int(1000 * top_s * self._fraction("not_found_s"))

    def _hide(self, transfer: Transfer, until: int | None, by: str) -> Transfer:
        if until is None or until <= max(self.now_ms, transfer.hidden_until or 0):
            return transfer
        return replace(transfer, hidden_until=until, hidden_by=by)

    def _mistaken(self, transfer: Transfer) -> tuple[Transfer, tuple[str, ...]]:
        fired: tuple[str, ...] = ()
        if self._fires("wrong_amount"):
            other = _other_amount(transfer.amount, self._fraction("wrong_amount_by"))
            transfer = replace(transfer, amount=other)
            fired += ("wrong_amount",)
        if self._fires("wrong_currency"):
            first, second = self.rules.terms.mistakes
            transfer = replace(transfer, currency=second if transfer.currency == first else first)
            fired += ("wrong_currency",)
        return transfer, fired

    def _timed(self, transfer: Transfer) -> tuple[Transfer, tuple[str, ...]]:
        """The transfer with its plan, or with none if it is executed in the answer."""
        now, knobs, window_ms = self.now_ms, self.rules.knobs, self.rules.terms.window_ms
        if self._fires("worse"):
            due = now + window_ms + 1 + int(1000 * knobs.worse_s * self._fraction("worse_s"))
            hidden = self._hide(replace(transfer, mute=True), due, "worse")
            return replace(hidden, plan=(Planned(Step.EXECUTE, due),)), ("worse",)
        fired: tuple[str, ...] = ()
        hides, flips = None, self._fires("flip")
        if self._fires("late"):
            due, hides = now + int(window_ms * self._fraction("late_at")), "late"
        elif self.fate == "timeout_executed" and knobs.late_s > 0:
            late_s = min(knobs.late_s, self.rules.terms.window_s)
            due, hides = now + int(1000 * late_s * self.draws.timing), "late_s"
        elif not flips and self._fires("webhook_early"):
            due, fired = now, ("webhook_early",)
        elif self.draws.route < knobs.accept_async or not self.rules.terms.synchronous:
            due, fired = (
                self._settle_at(),
                ("accept_async",) if self.rules.terms.synchronous else (),
            )
        elif flips:
            due = self._settle_at()
        else:
            return transfer, ()
        if hides is not None:
            transfer, fired = self._hide(transfer, due, hides), (hides,)
        plan: tuple[Planned, ...] = (Planned(Step.EXECUTE, due),)
        if flips:
            left_ms = now + window_ms - due
            after = due + int(left_ms * self._fraction("flip_at"))
            plan = (Planned(Step.REJECT, due), Planned(Step.EXECUTE, after))
            transfer = replace(transfer, code=pick(self.rules.terms.declines, self.draws.reason))
        return replace(transfer, plan=plan), fired

    def _taken(self, transfer: Transfer, fired: tuple[str, ...]) -> Booking:
        told: tuple[Notice, ...] = ()
        if self.rules.terms.tells_processing and transfer.hidden_by in {None, "not_found"}:
            told, more = notices("processing", transfer, self.now_ms, self.rules)
            fired += more
        return Booking(transfer, (), told, fired)


def _is_forgotten(known: Transfer, rules: Rules, now_ms: int) -> bool:
    """Whether an order under the key is taken for a new one, although it was or will be executed.

    One that was refused would be refused again: that makes no difference.
    """
    leaves = any(planned.step is Step.EXECUTE for planned in known.plan)
    if known.executed_at is None and not leaves:
        return False
    life_ms = 0 if rules.fires("forgets", known.key) else rules.terms.key_life_ms
    return now_ms >= known.received_at + life_ms


def _anew(known: Transfer, arrival: str, rules: Rules, now_ms: int) -> Verdict:
    """The money leaves once more, under another reference, for the order as it came in now."""
    early = now_ms < known.received_at + rules.terms.key_life_ms
    due = max(now_ms, *(planned.at_ms for planned in known.plan), 0)
    plan = (*known.plan, Planned(Step.REPEAT, due))
    booking = Booking(replace(known, received_at=now_ms, plan=plan))
    reply, fired = _reply(known, arrival, rules, new=True)
    return Verdict(reply, booking, fired=(*fired, "forgets") if early else fired)


def _again(known: Transfer, arrival: str, rules: Rules) -> Verdict:
    in_flight = known.status is Status.PENDING
    if in_flight and known.mute:
        return Verdict(Reply(known, new=False, fault=Fault.SILENCE))
    executes = any(planned.step is Step.EXECUTE for planned in known.plan)
    if in_flight and executes and rules.fires("repeat_declined", arrival):
        codes = (*rules.terms.declines, *[rules.terms.short_code] * len(rules.terms.declines))
        code = pick(codes, rules.fraction("repeat_declined_for", arrival))
        reply = Reply(known, new=False, declined=code)
        return Verdict(reply, fired=("repeat_declined",))
    reply, fired = _reply(known, arrival, rules, new=False)
    return Verdict(reply, fired=fired)


def _reply(
    transfer: Transfer, arrival: str, rules: Rules, *, new: bool
) -> tuple[Reply, tuple[str, ...]]:
    fault, name = None, None
    for fault_, name_ in _FAULTS:
        possible = fault_ is not Fault.ERROR or transfer.answer != "rejected"
        if possible and rules.fires(name_, arrival):
            fault, name = fault_, name_
            break
    slow = rules.fires("slow", arrival)
    reply = Reply(
        transfer,
        new=new,
        fault=fault,
        wait_s=rules.knobs.slow_s if slow else 0.0,
        error_status=_error(rules, arrival) if fault is Fault.ERROR else 500,
    )
    return reply, (() if name is None else (name,)) + (("slow",) if slow else ())


def _other_amount(amount: int, part: float) -> int:
    """One unit less or more, or any amount up to twice as much; `part` is in [0, 1)."""
    if part < _HALF / 2 and amount > 1:
        return amount - 1
    if part < _HALF and amount < AMOUNT_MAX:
        return amount + 1
    other = 1 + int(2 * amount * (2 * part - 1))
    if other != amount and other <= AMOUNT_MAX:
        return other
    return amount - 1 if amount > 1 else amount + 1


def _error(rules: Rules, arrival: str) -> int:
    return _ERRORS[int(rules.fraction("error", arrival) * len(_ERRORS))]


def _fate(knobs: Knobs, draw: float) -> str | None:
    edge = 0.0
    for name in FATES:
        edge += getattr(knobs, name)
        if draw < edge:
            return name
    return None
