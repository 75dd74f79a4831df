"""What the bank decides about an order, and what becomes of a transfer. Pure.

Nothing here reads a clock or draws: `now_ms` and the draws are handed in.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from bursar_sim.draws import fractions, hex_id
from bursar_sim.provider.knobs import FINALITY_WINDOW_S, Knobs

COST_MINOR: Final = 20
"What the bank charges for an executed transfer, in minor units of the transfer's currency."
AMOUNT_MAX: Final = 10**15
"Minor units; less than 2^53, so that every JSON reader takes it exactly."
_CURRENCIES: Final = (
    "AED AUD BHD BRL CAD CHF CLP CNY COP CZK DKK EUR GBP GHS HKD HUF IDR ILS INR JOD JPY KES KRW "
    "KWD MAD MXN MYR NGN NOK NZD OMR PHP PLN QAR RON SAR SEK SGD THB TND TRY TWD TZS UGX USD USDC "
    "USDT VND XAF XOF ZAR"
)
CURRENCIES: Final = frozenset(_CURRENCIES.split())
"Served by this bank (ISO 4217, and two stablecoins)."
REASONS: Final = {
    "AC01": "Account identifier is not valid",
    "AC04": "Account is closed",
    "AC06": "Account is blocked",
    "AG01": "Transaction is not allowed on this type of account",
    "AM03": "Currency is not served",
    "AM04": "Insufficient funds on the debtor's account",
    "BE04": "Creditor's address is missing or wrong",
    "FOCR": "Returned after a request to cancel",
    "MD07": "Account holder is deceased",
    "MS03": "Reason not given by the creditor's bank",
    "RR04": "Regulatory reason",
}
"ISO 20022 external status and return reasons that this bank uses, in our own words."
_DECLINES: Final = ("AC01", "AC04", "AC06", "AG01", "BE04", "MD07", "RR04")
_RETURNS: Final = ("AC04", "AC06", "MD07", "FOCR", "MS03")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Za-z0-9]{1,30}\Z")


class Status(StrEnum):
    """Where a transfer stands.

    pending -> executed | rejected;  executed -> returned
    """

    PENDING = "pending"
    EXECUTED = "executed"
    REJECTED = "rejected"
    RETURNED = "returned"


class Step(StrEnum):
    """What happens to a transfer next, at its `due_at`."""

    EXECUTE = "execute"
    REJECT = "reject"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Order:
    """A customer's wish to pay, well formed. `amount` in minor units of `currency`."""

    end_to_end_id: str
    amount: int
    currency: str
    creditor_iban: str
    fingerprint: str
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One order that the bank knows. Amounts in minor units, times in epoch milliseconds."""

    end_to_end_id: str
    transfer_id: str
    fingerprint: str
    amount: int
    currency: str
    cost: int
    status: Status
    answer: str
    code: str | None
    returned_amount: int
    hidden: bool
    received_at: int
    executed_at: int | None
    step: Step | None
    due_at: int | None
    correlation_id: str | None

    @property
    def known(self) -> bool:
        """False while inquiry says "not found" of an order that will be executed yet."""
        return not (self.hidden and self.status is Status.PENDING)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the statement: money that moved."""

    kind: str
    transfer_id: str
    end_to_end_id: str
    amount: int
    currency: str
    booked_at: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A webhook to send about a transfer, not before `not_before` (epoch milliseconds)."""

    event_id: str
    kind: str
    transfer: Transfer
    occurred_at: int
    not_before: int


@dataclass(frozen=True, slots=True)
class Booking:
    """A transfer's new row and all that goes with it, to be committed together."""

    transfer: Transfer
    lines: tuple[Line, ...] = ()
    notices: tuple[Notice, ...] = ()
    silent: bool = False
    "The customer never hears the answer to this order."


@dataclass(frozen=True, slots=True)
class Lost:
    """The order never reached the bank's books, and never will under these knobs."""


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The key names another order."""


@dataclass(frozen=True, slots=True)
class _Draws:
    fate: float
    route: float
    timing: float
    reason: float
    returned: float
    repeated: float
    variant: float
    lost: float


def iban_is_valid(iban: str) -> bool:
    """Shape and check digits (ISO 13616, ISO 7064 mod 97-10); not the country's own rules."""
    if not _IBAN.match(iban):
        return False
    turned = (iban[4:] + iban[:4]).upper()
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def decide(
    order: Order, known: Transfer | None, *, knobs: Knobs, seed: int, now_ms: int
) -> Booking | Transfer | Lost | KeyReused:
    """What the bank makes of an order.

    A `Booking` is new and must be committed before anybody hears of it; a `Transfer` is the
    one that this key made before, whose answer is given again.
    """
    if known is not None:
        return known if known.fingerprint == order.fingerprint else KeyReused()
    draws = _Draws(*fractions(seed, order.end_to_end_id))
    fate = _fate(knobs, draws.fate)
    if fate == "timeout_not_executed":
        return Lost()
    transfer = Transfer(
        end_to_end_id=order.end_to_end_id,
        transfer_id="bt_" + hex_id(seed, order.end_to_end_id),
        fingerprint=order.fingerprint,
        amount=order.amount,
        currency=order.currency,
        cost=COST_MINOR,
        status=Status.PENDING,
        answer="accepted",
        code=None,
        returned_amount=0,
        hidden=False,
        received_at=now_ms,
        executed_at=None,
        step=None,
        due_at=None,
        correlation_id=order.correlation_id,
    )
    silent = fate == "timeout_executed"
    refusal = _refusal(order, fate, draws)
    if refusal is not None:
        refused = replace(transfer, status=Status.REJECTED, answer="rejected", code=refusal, cost=0)
        return Booking(refused, silent=silent)
    if fate == "decline_later":
        code = _pick(_DECLINES, draws.reason)
        due = now_ms + _settle_delay_ms(knobs, draws)
        return Booking(replace(transfer, step=Step.REJECT, due_at=due, code=code))
    if silent and knobs.late_s > 0:
        due = now_ms + int(1000 * knobs.late_s * draws.timing)
        return Booking(replace(transfer, step=Step.EXECUTE, due_at=due, hidden=True), silent=silent)
    if draws.route < knobs.accept_async:
        due = now_ms + _settle_delay_ms(knobs, draws)
        return Booking(replace(transfer, step=Step.EXECUTE, due_at=due), silent=silent)
    executed, lines = _execute(replace(transfer, answer="executed"), knobs, draws, now_ms)
    return Booking(executed, lines, silent=silent)


def advance(transfer: Transfer, *, knobs: Knobs, seed: int) -> Booking:
    """What the transfer's next step makes of it, booked at the moment when it was due.

    The books run on time even when the bank's front door was closed, so a restart never
    executes anything later than promised.
    """
    if transfer.step is None or transfer.due_at is None:
        raise ValueError(f"{transfer.transfer_id} has no next step")
    at_ms = transfer.due_at
    draws = _Draws(*fractions(seed, transfer.end_to_end_id))
    if transfer.step is Step.EXECUTE:
        new, lines = _execute(transfer, knobs, draws, at_ms)
        return Booking(new, lines, _notices("transfer.settled", new, knobs, draws, at_ms))
    if transfer.step is Step.REJECT:
        new = replace(transfer, status=Status.REJECTED, cost=0, step=None, due_at=None)
        return Booking(new, (), _notices("transfer.rejected", new, knobs, draws, at_ms))
    new = replace(
        transfer,
        status=Status.RETURNED,
        code=_pick(_RETURNS, draws.reason),
        returned_amount=transfer.amount,
        step=None,
        due_at=None,
    )
    lines = (_line("return", new, new.amount, at_ms),)
    return Booking(new, lines, _notices("transfer.returned", new, knobs, draws, at_ms))


def return_id(transfer: Transfer) -> str | None:
    """The bank's name of the return, if the transfer was returned."""
    if transfer.status is not Status.RETURNED:
        return None
    return "rt_" + transfer.transfer_id.removeprefix("bt_")


def _fate(knobs: Knobs, fate: float) -> str | None:
    edge = 0.0
    for name, rate in (
        ("timeout_not_executed", knobs.timeout_not_executed),
        ("timeout_executed", knobs.timeout_executed),
        ("insufficient_funds", knobs.insufficient_funds),
        ("decline", knobs.decline),
        ("decline_later", knobs.decline_later),
    ):
        edge += rate
        if fate < edge:
            return name
    return None


def _refusal(order: Order, fate: str | None, draws: _Draws) -> str | None:
    if order.currency not in CURRENCIES:
        return "AM03"
    if not iban_is_valid(order.creditor_iban):
        return "AC01"
    if fate == "insufficient_funds":
        return "AM04"
    if fate == "decline":
        return _pick(_DECLINES, draws.reason)
    return None


def _settle_delay_ms(knobs: Knobs, draws: _Draws) -> int:
    return int(1000 * min(knobs.settle_delay_s * (0.5 + draws.timing), FINALITY_WINDOW_S))


def _execute(
    transfer: Transfer, knobs: Knobs, draws: _Draws, at_ms: int
) -> tuple[Transfer, tuple[Line, ...]]:
    comes_back = draws.returned < knobs.return_rate
    new = replace(
        transfer,
        status=Status.EXECUTED,
        executed_at=at_ms,
        step=Step.RETURN if comes_back else None,
        due_at=at_ms + int(1000 * knobs.return_delay_s) if comes_back else None,
    )
    return new, (
        _line("debit", new, new.amount, at_ms),
        _line("cost", new, new.cost, at_ms),
    )


def _line(kind: str, transfer: Transfer, amount: int, at_ms: int) -> Line:
    return Line(
        kind, transfer.transfer_id, transfer.end_to_end_id, amount, transfer.currency, at_ms
    )


def _notices(
    kind: str, transfer: Transfer, knobs: Knobs, draws: _Draws, at_ms: int
) -> tuple[Notice, ...]:
    if draws.lost < knobs.webhook_lost:
        return ()
    event_id = f"evt_{transfer.transfer_id.removeprefix('bt_')}_{kind.removeprefix('transfer.')}"
    first = Notice(event_id, kind, transfer, at_ms, at_ms)
    if draws.repeated >= knobs.webhook_duplicate:
        return (first,)
    again = event_id if draws.variant < 0.5 else event_id + "_again"  # noqa: PLR2004 - half
    return (first, replace(first, event_id=again, not_before=at_ms + int(500 * draws.timing)))


def _pick(codes: tuple[str, ...], fraction: float) -> str:
    return codes[int(fraction * len(codes))]
