"""What becomes of a transfer, step by step. Pure: clock and chance are handed in.

Each step is booked at the moment when it was due, even if the front door was closed then, so
a restart never executes anything later than promised.
"""

from dataclasses import replace
from typing import Final

from bursar_sim.draws import hex_id
from bursar_sim.provider.model import (
    Booking,
    Line,
    Notice,
    Planned,
    Status,
    Step,
    Transfer,
)
from bursar_sim.provider.rules import Rules, pick

_HALF: Final = 0.5
_AGAIN_MS: Final = 500
"A webhook told twice comes again within so long."
_AFTER_MS: Final = 300
"A webhook out of order comes within so long after the one that it should precede."


def advance(transfer: Transfer, rules: Rules) -> Booking:
    """What the transfer's next step makes of it. Raises `ValueError` if it has none."""
    if not transfer.plan:
        raise ValueError(f"{transfer.reference} has no next step")
    planned, *rest = transfer.plan
    at_ms, after = planned.at_ms, tuple(rest)
    if planned.step is Step.EXECUTE:
        booking = execute(transfer, at_ms, after, rules)
    elif planned.step is Step.REJECT:
        booking = _reject(transfer, at_ms, after, rules)
    elif planned.step is Step.RETURN:
        booking = _return(transfer, planned, after, rules)
    elif planned.step is Step.REPEAT:
        booking = _repeat(transfer, at_ms, after, rules)
    else:
        booking = _undo(transfer, at_ms, after, rules)
    return _stale(transfer, booking, at_ms, rules)


def execute(transfer: Transfer, at_ms: int, after: tuple[Planned, ...], rules: Rules) -> Booking:
    """The money leaves. What comes back later, or leaves again, is planned here."""
    flipped = transfer.status is Status.REJECTED
    follow = _follow(transfer, at_ms, rules)
    new = replace(
        transfer,
        status=Status.EXECUTED,
        code=None,
        cost=rules.terms.cost,
        sequence=transfer.sequence + 1,
        executed_at=at_ms,
        plan=after + follow,
    )
    too_late = at_ms > transfer.received_at + rules.terms.window_ms
    corrected = any(planned.step in {Step.REPEAT, Step.UNDO} for planned in follow)
    news = flipped or too_late or corrected or rules.fires("forgets", transfer.key)
    told, fired = notices("settled", new, at_ms, rules, news=news)
    return Booking(new, _debit(new, at_ms), told, fired + (("flip",) if flipped else ()))


def notices(
    kind: str,
    transfer: Transfer,
    at_ms: int,
    rules: Rules,
    *,
    amount: int | None = None,
    news: bool = False,
) -> tuple[tuple[Notice, ...], tuple[str, ...]]:
    """The webhooks about a transfer's new state, and the knobs that bent them.

    `news` is what nobody would ask about: it is never lost.
    """
    if not rules.knobs.bends_webhooks:
        return (Notice(kind, transfer, amount or transfer.amount, at_ms, at_ms),), ()
    draws = rules.draws(transfer.key)
    if draws.lost < rules.knobs.webhook_lost and not news:
        return (), ("webhook_lost",)
    subject = f"{transfer.key}/{transfer.sequence}"
    not_before, fired = at_ms, []
    if rules.fires("webhook_late", subject):
        late_ms = 1000 * rules.knobs.webhook_late_s * rules.fraction("webhook_late_s", subject)
        not_before += int(late_ms) + 1
        fired.append("webhook_late")
    elif transfer.plan and rules.fires("webhook_disorder", subject):
        spread_ms = int(_AFTER_MS * rules.fraction("webhook_disorder_ms", subject))
        not_before = transfer.plan[0].at_ms + 50 + spread_ms
        fired.append("webhook_disorder")
    first = Notice(kind, transfer, amount or transfer.amount, at_ms, not_before)
    told = [first]
    if draws.repeated < rules.knobs.webhook_duplicate:
        suffix = "" if draws.variant < _HALF else "_again"
        later = not_before + int(_AGAIN_MS * draws.timing)
        told.append(replace(first, suffix=suffix, not_before=later))
        fired.append("webhook_duplicate")
    if rules.fires("webhook_new_id", subject):
        later = not_before + int(_AGAIN_MS * rules.fraction("webhook_new_id_ms", subject))
        told.append(replace(first, suffix="_new", not_before=later))
        fired.append("webhook_new_id")
    return tuple(told), tuple(fired)


def _follow(transfer: Transfer, at_ms: int, rules: Rules) -> tuple[Planned, ...]:
    """Of a second execution, an undoing and a return an execution has at most one.

    None of them where the key is forgotten, for then the sender can make it a second execution.
    """
    key = transfer.key
    if rules.fires("forgets", key):
        return ()
    back_ms = int(1000 * rules.knobs.return_delay_s)
    if rules.fires("double", key):
        left_ms = max(transfer.received_at + rules.terms.window_ms - at_ms, 0)
        return (Planned(Step.REPEAT, at_ms + int(left_ms * rules.fraction("double_at", key))),)
    if rules.terms.ordered and rules.fires("undo", key):
        return (Planned(Step.UNDO, at_ms + back_ms),)
    if rules.knobs.return_rate <= 0 or rules.draws(key).returned >= rules.knobs.return_rate:
        return ()
    amount, due = transfer.amount, at_ms + back_ms
    if amount == 1 or not rules.fires("return_parts", key):
        return (Planned(Step.RETURN, due, amount),)
    first = 1 + int((amount - 1) * rules.fraction("return_part", key))
    return (
        Planned(Step.RETURN, due, first),
        Planned(Step.RETURN, due + back_ms, amount - first),
    )


def _reject(transfer: Transfer, at_ms: int, after: tuple[Planned, ...], rules: Rules) -> Booking:
    new = replace(
        transfer, status=Status.REJECTED, cost=0, sequence=transfer.sequence + 1, plan=after
    )
    told, fired = notices("rejected", new, at_ms, rules)
    return Booking(new, (), told, fired)


def _return(
    transfer: Transfer, planned: Planned, after: tuple[Planned, ...], rules: Rules
) -> Booking:
    new = replace(
        transfer,
        status=Status.RETURNED,
        code=pick(rules.terms.returns, rules.draws(transfer.key).reason),
        returned=transfer.returned + planned.amount,
        last_return=planned.amount,
        returns=transfer.returns + 1,
        sequence=transfer.sequence + 1,
        plan=after,
    )
    told, fired = notices("returned", new, planned.at_ms, rules, amount=planned.amount, news=True)
    fired += ("return_parts",) if new.returns > 1 else ("return_rate",)
    return Booking(new, (_back(new, planned.at_ms),), told, fired)


def _repeat(transfer: Transfer, at_ms: int, after: tuple[Planned, ...], rules: Rules) -> Booking:
    number = transfer.sequence + 1
    new = replace(
        transfer,
        status=Status.EXECUTED,
        code=None,
        cost=rules.terms.cost,
        told_reference=rules.terms.prefix + hex_id(rules.seed, f"{transfer.key}/{number}"),
        sequence=number,
        plan=after,
    )
    told, fired = notices("settled", new, at_ms, rules, news=True)
    forgotten = rules.fires("forgets", transfer.key)
    doubled = () if forgotten or not rules.fires("double", transfer.key) else ("double",)
    return Booking(new, _debit(new, at_ms), told, fired + doubled)


def _undo(transfer: Transfer, at_ms: int, after: tuple[Planned, ...], rules: Rules) -> Booking:
    new = replace(
        transfer,
        status=Status.REJECTED,
        code=pick(rules.terms.declines, rules.draws(transfer.key).reason),
        cost=0,
        returned=transfer.amount,
        last_return=transfer.amount,
        returns=1,
        sequence=transfer.sequence + 1,
        plan=after,
    )
    told, fired = notices("rejected", new, at_ms, rules, news=True)
    return Booking(new, (_back(new, at_ms),), told, (*fired, "undo"))


def _stale(before: Transfer, booking: Booking, at_ms: int, rules: Rules) -> Booking:
    """Until when inquiry answers what was before. "Failed" must not outlive the window."""
    if rules.knobs.stale <= 0 and before.stale is None:
        return booking
    new = replace(booking.transfer, stale=None, stale_until=None)
    subject = f"{new.key}/{new.sequence}"
    if not before.hidden(at_ms - 1) and rules.fires("stale", subject):
        until = at_ms + int(1000 * rules.knobs.stale_s * rules.fraction("stale_s", subject))
        if before.status is Status.REJECTED:
            until = min(until, before.received_at + rules.terms.window_ms)
        if until > at_ms:
            new = replace(new, stale_until=until)
    return replace(booking, transfer=new)


def _debit(transfer: Transfer, at_ms: int) -> tuple[Line, ...]:
    reference, key = transfer.told_reference, transfer.key
    return (
        Line("debit", reference, key, transfer.amount, transfer.currency, at_ms),
        Line("cost", reference, key, transfer.cost, transfer.currency, at_ms),
    )


def _back(transfer: Transfer, at_ms: int) -> Line:
    return Line(
        "return",
        transfer.told_reference,
        transfer.key,
        transfer.last_return,
        transfer.currency,
        at_ms,
        transfer.returns,
    )
