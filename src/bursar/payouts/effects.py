"""What a new fact does to the payout and the books: the difference that it makes. Pure.

`before` and `after` are the attempt's standings without and with the fact. What is booked in all
is a function of where all attempts stand, so the order of facts does not matter (I24).
"""

from __future__ import annotations

import msgspec

from bursar.engine.model import JournalEntry
from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import close_incident, open_incident, open_incidents
from bursar.ledger import recipes
from bursar.payouts.facts import (
    FOREIGN,
    Standing,
    amount_returned,
    foreign_currency,
    standing,
)
from bursar.payouts.machine import HELD, OPEN_ATTEMPT, PAID_ATTEMPT, AttemptState, Event, State
from bursar.payouts.model import (
    ATTEMPTS,
    ATTEMPTS_OF_PAYOUT,
    FACTS_OF_ATTEMPT,
    PAYOUTS,
    Attempt,
    Fact,
    Payout,
    Source,
)
from bursar.payouts.silence import MISMATCH_INCIDENT, UNEXPLAINED_INCIDENT
from bursar.payouts.steps import move, remark, settle

_set = msgspec.structs.replace


def stands(ws: WorkingSet, attempt: Attempt) -> Standing:
    """How an attempt stands by the facts that are known now."""
    return standing(ws.children(FACTS_OF_ATTEMPT, attempt.id), attempt.amount)


def take_effect(
    ws: WorkingSet, payout: Payout, attempt: Attempt, before: Standing, fact: Fact
) -> None:
    """Book what `fact` changed: money that left, money that came back, what people must see.

    The attempt has been moved to its new state already.
    """
    after = stands(ws, attempt)
    if before.unexplained and not after.unexplained:
        for incident in open_incidents(ws, payout.id):
            if incident.kind == UNEXPLAINED_INCIDENT:
                close_incident(ws, incident, note="The payment was told.")
    if after.paid and not before.paid:
        payout = _left(ws, payout, attempt, fact)
    back = _return_behind(ws, fact)
    if after.returned != before.returned:
        _came_back(ws, payout, attempt, before, back)
    late = before.failed and not before.paid and after.paid
    if (late or after.contradicted) and not before.contradicted:
        _contradicted(ws, payout, attempt, after)
    if after.excess > before.excess or (fact.kind == AttemptState.RETURNED and fact.amount <= 0):
        _refused(ws, payout, attempt, back, after.excess - before.excess)
    if fact.kind == FOREIGN:
        _mismatch(ws, payout, attempt, fact)
    if before.references and after.references > before.references:
        _second_reference(ws, payout, attempt, fact)


def report_unexplained(ws: WorkingSet, payout: Payout, attempt: Attempt) -> bool:
    """Money came back, the provider was asked how much had left, and it did not tell: people must.

    For an attempt that had ended; an open one is asked about until it is called unproven. False if
    people are called already.
    """
    if any(row.kind == UNEXPLAINED_INCIDENT for row in open_incidents(ws, payout.id)):
        return False
    facts = ws.children(FACTS_OF_ATTEMPT, attempt.id)
    back = sum(fact.amount for fact in facts if fact.kind == AttemptState.RETURNED)
    _report(
        ws,
        remark(ws, payout, "attempt.unexplained", {"attempt": attempt.id}),
        payout,
        UNEXPLAINED_INCIDENT,
        amount=back,
        detail=(
            f"{attempt.provider} told that money came back of the key {attempt.provider_key}, "
            f"{back} {attempt.currency} in minor units, but never that it had left. Nothing is "
            "booked. Two persons may say how the payout stands."
        ),
    )
    return True


def report_other_return(ws: WorkingSet, payout: Payout, attempt: Attempt, fact: Fact) -> None:
    """A known return is told with another amount: the first counts, and a person looks."""
    known = ws.children(FACTS_OF_ATTEMPT, attempt.id)
    same = (row for row in known if (row.kind, row.item) == (fact.kind, fact.item))
    first = next(same, fact)
    if first.amount == fact.amount:
        return
    if any(row.kind == "return_contradicted" for row in open_incidents(ws, payout.id)):
        return
    note = {"attempt": attempt.id, "return_id": fact.item, "amount": fact.amount}
    _report(
        ws,
        remark(ws, payout, "attempt.return_contradicted", note),
        payout,
        "return_contradicted",
        amount=fact.amount,
        detail=(
            f"{attempt.provider} told the return {fact.item} of the key {attempt.provider_key} as "
            f"{first.amount}, and now as {fact.amount} {attempt.currency}, in minor units. The "
            "first counts."
        ),
    )


def _return_behind(ws: WorkingSet, fact: Fact) -> Fact:
    """The return that `fact` brings into effect: a payment does so to the last one told before."""
    if fact.kind != AttemptState.PAID:
        return fact
    known = ws.children(FACTS_OF_ATTEMPT, fact.attempt_id)
    back = [other for other in known if other.kind == AttemptState.RETURNED]
    return max(back, key=lambda other: (other.at, other.item), default=fact)


def others_paid(ws: WorkingSet, payout: Payout, attempt: Attempt) -> list[Attempt]:
    """The other attempts of the payout whose money left."""
    attempts = ws.children(ATTEMPTS_OF_PAYOUT, payout.id)
    return [other for other in attempts if other.id != attempt.id and other.state in PAID_ATTEMPT]


def _left(ws: WorkingSet, payout: Payout, attempt: Attempt, fact: Fact) -> Payout:
    """Money left. It posts: from the hold if that can go, else whatever is available (F25)."""
    others_open = any(
        other.id != attempt.id and other.state in OPEN_ATTEMPT
        for other in ws.children(ATTEMPTS_OF_PAYOUT, payout.id)
    )
    if payout.state in HELD and not others_open:
        return settle(ws, payout, cost=fact.cost, provider_ref=fact.provider_ref)
    return _left_late(ws, payout, attempt, fact)


def _left_late(ws: WorkingSet, payout: Payout, attempt: Attempt, fact: Fact) -> Payout:
    """Paid when we no longer expected it: an obligation, which no hold covers (F25).

    Beside another attempt, paid or still open, a person looks whether it went out twice.
    """
    note = {
        "attempt": attempt.id,
        "cost": fact.cost,
        "provider_reference": fact.provider_ref,
        "returned": 0,
    }
    changes = {"provider_cost": payout.provider_cost + fact.cost, "amount_returned": 0}
    ended = {State.FAILED, State.DEAD_LETTER, State.CANCELLED}
    if payout.state in ended:
        late, entry = move(
            ws,
            payout,
            Event.SETTLE,
            note=note,
            settled_at=ws.now,
            provider_ref=fact.provider_ref,
            failure_code=None,
            failure_reason=None,
            **changes,
        )
        recipes.payout_paid_late(ws, entry, late, cost=fact.cost)
        return late
    if payout.state == State.RETURNED:
        again, entry = move(ws, payout, Event.SETTLE, note=note, settled_at=ws.now, **changes)
    else:
        entry = remark(ws, payout, "payout.paid_again", note)
        again = _set(payout, updated_at=ws.now, **changes)
        ws.update(PAYOUTS, again)
    _report(ws, entry, payout, "possible_double_execution", detail=_rivals(ws, attempt, fact))
    recipes.payout_paid_again(ws, entry, again, cost=fact.cost)
    return again


def _rivals(ws: WorkingSet, attempt: Attempt, fact: Fact) -> str:
    others = ", ".join(
        f"{other.provider} {other.provider_key} ({other.state}, {other.provider_ref})"
        for other in ws.children(ATTEMPTS_OF_PAYOUT, attempt.payout_id)
        if other.id != attempt.id and (other.state in OPEN_ATTEMPT or other.state in PAID_ATTEMPT)
    )
    return (
        f"{attempt.provider} paid under the key {attempt.provider_key}, as {fact.provider_ref}. "
        f"Other attempts, by provider and key, that paid or may pay: {others or 'none'}."
    )


def _came_back(
    ws: WorkingSet, payout: Payout, attempt: Attempt, before: Standing, fact: Fact
) -> None:
    """Money came back, or what we took for come back did not."""
    after = stands(ws, attempt)
    paid = others_paid(ws, payout, attempt)
    known = ws.children_of_all(FACTS_OF_ATTEMPT, (other.id for other in paid))
    others = [standing(facts, other.amount) for facts, other in zip(known, paid, strict=True)]
    total = amount_returned(payout.amount, [after, *others])
    undone = after.undone_by is not None and before.undone_by is None
    delta = after.returned - before.returned
    note = {
        "attempt": attempt.id,
        "amount": delta,
        "returned": total,
        "return_id": f"failed:{after.undone_by}" if undone else fact.item,
        "code": fact.code,
        "reason": fact.reason,
    }
    if delta < 0:
        entry = remark(ws, payout, "payout.return_undone", note)
        payout = _with_returned(ws, payout, total)
        if payout.state == State.RETURNED:
            payout, _ = move(
                ws, payout, Event.SETTLE, note={"attempt": attempt.id}, settled_at=ws.now
            )
        # The money is with the payee after all: an obligation like any late payment.
        recipes.payout_paid_again(ws, entry, _set(payout, amount=-delta), cost=0)
        return
    if total == payout.amount and payout.state == State.SETTLED:
        payout, entry = move(ws, payout, Event.RETURN, note=note, amount_returned=total)
    else:
        # Of two executions one came back: the payout stays settled by the other.
        kind = "part_returned" if total != payout.amount_returned else "again_returned"
        entry = remark(ws, payout, f"payout.{kind}", note)
        payout = _with_returned(ws, payout, total)
    recipes.payout_returned(ws, entry, payout, amount=delta)


def _with_returned(ws: WorkingSet, payout: Payout, total: int) -> Payout:
    changed = _set(payout, amount_returned=total, updated_at=ws.now)
    ws.update(PAYOUTS, changed)
    return changed


def _contradicted(ws: WorkingSet, payout: Payout, attempt: Attempt, after: Standing) -> None:
    """Paid, and failed as well: it counts as paid, a person looks, and the provider is asked.

    Where the provider's order says which came last, there is nothing to ask.
    """
    entry = remark(ws, payout, "attempt.contradicted", {"attempt": attempt.id})
    facts = ws.children(FACTS_OF_ATTEMPT, attempt.id)
    failed = [fact for fact in facts if fact.kind == AttemptState.FAILED]
    codes = sorted({fact.code or "no code" for fact in failed if fact.source != Source.OPERATOR})
    said = [f"{attempt.provider} says that it failed, with {', '.join(codes)}"] if codes else []
    if any(fact.source == Source.OPERATOR for fact in failed):
        said.append("two persons said that it was not executed")
    _report(
        ws,
        entry,
        payout,
        "paid_and_failed",
        detail=(
            f"{attempt.provider} says of the key {attempt.provider_key} that it paid, under "
            f"{attempt.provider_ref}. But {', and '.join(said)}. It counts as paid."
        ),
    )
    if after.contradicted:
        ws.update(ATTEMPTS, _set(ws.get(ATTEMPTS, attempt.id), inquire_at=ws.now))


def _refused(ws: WorkingSet, payout: Payout, attempt: Attempt, fact: Fact, excess: int) -> None:
    """More came back than had left, or nothing: what is beyond the amount is not booked (F80)."""
    booked = stands(ws, attempt).returned
    note = {"attempt": attempt.id, "amount": excess, "return_id": fact.item}
    entry = remark(ws, payout, "payout.return_refused", note)
    _report(
        ws,
        entry,
        payout,
        "return_exceeds_settled",
        amount=excess,
        detail=(
            f"{attempt.provider} told a return of {fact.amount} {attempt.currency} of the key "
            f"{attempt.provider_key}, {fact.item}; {excess} of it are not booked. Of the attempt's "
            f"{attempt.amount}, {booked} are booked as returned. Amounts are in minor units."
        ),
    )


def _mismatch(ws: WorkingSet, payout: Payout, attempt: Attempt, fact: Fact) -> None:
    """The provider speaks of an amount that nobody asked for: people must look (F18)."""
    currency = foreign_currency(fact.item)
    known = fact.amount > 0 and bool(currency)
    says = "another amount, which can't be told in minor units that we carry"
    if known:
        says = f"{fact.amount} {currency}"
    under = f", under {fact.provider_ref}" if fact.provider_ref else ""
    open_incident(
        ws,
        remark(ws, payout, "attempt.mismatch", {"attempt": attempt.id}),
        kind=MISMATCH_INCIDENT,
        subject_id=payout.id,
        amount=fact.amount if known else payout.amount,
        currency=currency if known else payout.currency,
        detail=(
            f"We asked {attempt.amount} {attempt.currency} of {attempt.provider} under the key "
            f"{attempt.provider_key}. It says {says}{under}. Amounts are in minor units."
        ),
    )


def _second_reference(ws: WorkingSet, payout: Payout, attempt: Attempt, fact: Fact) -> None:
    """One attempt, two transfers at the provider: the first counts, a person looks (F17)."""
    note = {"attempt": attempt.id, "provider_reference": fact.provider_ref}
    entry = remark(ws, payout, "attempt.second_reference", note)
    _report(
        ws,
        entry,
        payout,
        "second_reference",
        detail=(
            f"{attempt.provider} paid the key {attempt.provider_key} under "
            f"{attempt.provider_ref}, and also under {fact.provider_ref}. "
            "The books have the first."
        ),
    )


def _report(
    ws: WorkingSet,
    entry: JournalEntry,
    payout: Payout,
    kind: str,
    *,
    detail: str,
    amount: int | None = None,
) -> None:
    open_incident(
        ws,
        entry,
        kind=kind,
        subject_id=payout.id,
        amount=payout.amount if amount is None else amount,
        currency=payout.currency,
        detail=detail,
    )
