"""What operators do about a payout: send it again, say what became of an attempt. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from bursar.engine.model import CommandBase, Key, Needs, Peeked, Reply, Table
from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import close_incident, open_incidents
from bursar.incidents.model import OPEN_INCIDENTS
from bursar.kit.canonical import canonical_json
from bursar.ledger import recipes
from bursar.ledger.model import HOLDS, PENDING_LEGS
from bursar.payouts.commands import RETRY_BUDGET, WAKE, account_locks
from bursar.payouts.errors import (
    FinalityWindowOpen,
    NothingToResolve,
    NotRetryable,
    PayoutNotFound,
    SecondPersonRequired,
)
from bursar.payouts.machine import OPEN_ATTEMPT, PAID_ATTEMPT, AttemptState, Event, State
from bursar.payouts.model import (
    ATTEMPTS,
    ATTEMPTS_OF_PAYOUT,
    PAYOUTS,
    RESOLUTIONS,
    Attempt,
    Payout,
    Resolution,
    Source,
)
from bursar.payouts.outcomes import Told, learn
from bursar.payouts.silence import (
    ASKS_WHILE_FROZEN,
    MISMATCH_INCIDENT,
    UNPROVEN_INCIDENT,
    closes_at,
    is_frozen,
    unprovable_at,
)
from bursar.payouts.steps import move, remark
from bursar.payouts.store import HistoryLine
from bursar.payouts.view import payout_json, resolution_view
from bursar.rails.outcomes import Executed, NotExecuted

Verdict = Literal["executed", "not_executed"]

_PROPOSED: Final = "attempt.resolution_proposed"
_RESOLVED: Final = "attempt.resolved"
_ANSWERED: Final[dict[str, frozenset[str]]] = {
    "executed": frozenset({UNPROVEN_INCIDENT, *ASKS_WHILE_FROZEN}) - {MISMATCH_INCIDENT},
    "not_executed": frozenset({UNPROVEN_INCIDENT, *ASKS_WHILE_FROZEN}),
}
"""The kinds of incidents that a verdict answers.

"Executed" books what was asked. What the provider took may differ from it, and that difference
stands in no account: `amount_mismatch` stays open until a person has dealt with it (F18).
"""

_set = msgspec.structs.replace


class _OnOwnPayout(CommandBase, frozen=True, kw_only=True):
    """A person's command about a payout of the merchant that their key is scoped to."""

    merchant_id: str
    payout_id: str

    def peeks(self) -> tuple[tuple[Table[Any], Key], ...]:
        """The payout, for its merchant and currency."""
        return ((PAYOUTS, self.payout_id),)

    def _peeked(self, peeked: Peeked) -> Payout | None:
        payout = peeked.find(PAYOUTS, self.payout_id)
        return payout if payout is not None and payout.merchant_id == self.merchant_id else None

    def _the_row(self) -> Needs:
        """Of another merchant's payout nothing but the row that says so."""
        return Needs(locks=((PAYOUTS, self.payout_id),))

    def _own(self, ws: WorkingSet) -> Payout:
        payout = ws.find(PAYOUTS, self.payout_id)
        if payout is None or payout.merchant_id != self.merchant_id:
            raise PayoutNotFound("There is no such payout.")
        return payout


class RetryPayout(_OnOwnPayout, frozen=True, kw_only=True):
    """Send a payout that failed once more: a new hold, fresh retries, and a new attempt."""

    reason: str = ""

    def needs(self, peeked: Peeked) -> Needs:
        """The payout, its attempts, and the accounts of its hold."""
        payout = self._peeked(peeked)
        if payout is None:
            return self._the_row()
        return Needs(
            locks=(
                (PAYOUTS, payout.id),
                *account_locks(payout.merchant_id, payout.currency, recipes.CREATE_ROLES),
            ),
            children=((ATTEMPTS_OF_PAYOUT, payout.id),),
            journals=(payout.merchant_id,),
        )

    def decide(self, ws: WorkingSet) -> Reply:
        """Raises `PayoutNotFound`, `NotRetryable`, `FinalityWindowOpen`, `InsufficientFunds`."""
        payout = self._own(ws)
        attempts = ws.children(ATTEMPTS_OF_PAYOUT, payout.id)
        if payout.state not in (State.FAILED, State.DEAD_LETTER):
            raise NotRetryable(f"The payout is {payout.state}.", state=payout.state)
        if any(one.state in OPEN_ATTEMPT or one.state in PAID_ATTEMPT for one in attempts):
            raise NotRetryable("An attempt is open or has paid.", state=payout.state)
        if any(map(is_frozen, attempts)):
            detail = "An attempt may have paid another amount than asked."
            raise NotRetryable(detail, state=payout.state)
        _refuse_before(max(map(closes_at, attempts), default=ws.now), ws.now)
        reopened, entry = move(
            ws,
            payout,
            Event.REOPEN,
            note={"after": payout.failure_code, "reason": self.reason or None},
            next_attempt_at=ws.now,
            expires_at=ws.now + RETRY_BUDGET,
            retries_burned=0,
            failure_code=None,
            failure_reason=None,
        )
        hold = recipes.payout_created(
            ws,
            entry,
            payout.id,
            amount=payout.amount,
            fee=payout.fee,
            currency=payout.currency,
            recipe="payout_retried",
        )
        retried = _set(reopened, hold_id=hold.id)
        ws.update(PAYOUTS, retried)
        ws.wake(WAKE)
        return Reply(200, payout_json(retried), payout.id)


class ResolvePayout(_OnOwnPayout, frozen=True, kw_only=True):
    """Say what became of an attempt, where no provider can prove it.

    It is the payout's open attempt, or one that failed and of which another amount was told.

    The first person proposes. Another person who says the same confirms it, and it is applied as
    any outcome is. Persons are told apart by `origin.actor`, not by key (F68). `provider_ref` is
    the provider's name of the payment: with `executed` always, with `not_executed` never.
    """

    verdict: Verdict
    provider_ref: str | None
    evidence: str

    def needs(self, peeked: Peeked) -> Needs:
        """All that an outcome may touch but what hangs on the attempt, which is not known yet."""
        payout = self._peeked(peeked)
        if payout is None:
            return self._the_row()
        return Needs(
            locks=(
                (PAYOUTS, payout.id),
                (HOLDS, payout.hold_id),
                *account_locks(payout.merchant_id, payout.currency, recipes.OUTCOME_ROLES),
            ),
            children=(
                (ATTEMPTS_OF_PAYOUT, payout.id),
                (PENDING_LEGS, payout.hold_id),
                (OPEN_INCIDENTS, payout.id),
                recipes.debt(payout.merchant_id, payout.currency),
            ),
            journals=(payout.merchant_id,),
        )

    def decide(self, ws: WorkingSet) -> Reply:
        """202 for a proposal, 200 once it is confirmed.

        Raises `PayoutNotFound`, `NothingToResolve`, `SecondPersonRequired`; `FinalityWindowOpen`
        while the provider may still carry out what was sent, or knows our key. Until then its own
        answer is better than anybody's word: it has the true reference and the cost.
        """
        payout = self._own(ws)
        attempt = _in_question(ws.children(ATTEMPTS_OF_PAYOUT, payout.id))
        if attempt is None:
            raise NothingToResolve(f"The payout is {payout.state}.", state=payout.state)
        known = ws.find(RESOLUTIONS, attempt.id)
        answer = known if known is not None and _answers(known, attempt) else None
        _refuse_before(unprovable_at(attempt), ws.now)
        said = self._resolution(attempt, ws.now)
        if answer is None or _content(answer) != _content(said):
            return self._propose(ws, payout, said, known)
        if answer.proposed_by == said.proposed_by:
            raise SecondPersonRequired(
                "You proposed this. Another person has to confirm it.",
                proposed_at=answer.proposed_at,
            )
        return self._confirm(ws, payout, attempt, answer)

    def _resolution(self, attempt: Attempt, now: datetime) -> Resolution:
        return Resolution(
            attempt_id=attempt.id,
            merchant_id=attempt.merchant_id,
            payout_id=attempt.payout_id,
            verdict=self.verdict,
            provider_ref=self.provider_ref,
            amount=attempt.amount,
            currency=attempt.currency,
            evidence=self.evidence,
            proposed_by=self.origin.actor,
            proposed_at=now,
            confirmed_by=None,
            confirmed_at=None,
        )

    def _propose(
        self, ws: WorkingSet, payout: Payout, said: Resolution, known: Resolution | None
    ) -> Reply:
        if known is None:
            ws.insert(RESOLUTIONS, said)
        else:
            ws.update(RESOLUTIONS, said)
        remark(ws, payout, _PROPOSED, _note(said))
        return Reply(202, canonical_json(resolution_view(said, payout, None)), payout.id)

    def _confirm(
        self, ws: WorkingSet, payout: Payout, attempt: Attempt, known: Resolution
    ) -> Reply:
        confirmed = _set(known, confirmed_by=self.origin.actor, confirmed_at=ws.now)
        ws.update(RESOLUTIONS, confirmed)
        note = {**_note(confirmed), "reason": self.evidence, "proposed_by": known.proposed_by}
        entry = remark(ws, payout, _RESOLVED, note)
        # What another amount had frozen is now decided.
        decided = _set(attempt, frozen_at=None)
        ws.update(ATTEMPTS, decided)
        answered = _ANSWERED[known.verdict] - _still_asked(ws, payout.id)
        for incident in open_incidents(ws, payout.id):
            if incident.kind in answered:
                close_incident(ws, incident, note=f"Resolved: {known.verdict}.", entry=entry)
        learn(ws, payout, decided, _outcome(confirmed), Told(Source.OPERATOR, timedelta(0)))
        shown = resolution_view(confirmed, _go_on(ws, payout.id), self.evidence)
        return Reply(200, canonical_json(shown), payout.id)


def _still_asked(ws: WorkingSet, payout_id: str) -> frozenset[str]:
    """The kinds of alerts that wait for more than a person's note: an attempt is still frozen."""
    frozen = any(map(is_frozen, ws.children(ATTEMPTS_OF_PAYOUT, payout_id)))
    return ASKS_WHILE_FROZEN if frozen else frozenset()


def _answers(known: Resolution, attempt: Attempt) -> bool:
    """Whether what was said is about all that is told now; else it is to be said anew."""
    return attempt.frozen_at is None or known.proposed_at > attempt.frozen_at


def _in_question(attempts: list[Attempt]) -> Attempt | None:
    """The open attempt, or else one that failed but of which another amount was told."""
    open_one = next((one for one in attempts if one.state in OPEN_ATTEMPT), None)
    frozen = (one for one in attempts if one.state == AttemptState.FAILED and is_frozen(one))
    return open_one or next(frozen, None)


def _go_on(ws: WorkingSet, payout_id: str) -> Payout:
    """The payout; if it waited for this word to be sent again, it is due now."""
    payout = ws.get(PAYOUTS, payout_id)
    attempts = ws.children(ATTEMPTS_OF_PAYOUT, payout_id)
    waits = payout.state == State.FUNDS_LOCKED and payout.next_attempt_at is None
    if waits and not any(map(is_frozen, attempts)):
        payout = _set(payout, next_attempt_at=ws.now, updated_at=ws.now)
        ws.update(PAYOUTS, payout)
        ws.wake(WAKE)
    return payout


def _refuse_before(moment: datetime, now: datetime) -> None:
    if now < moment:
        raise FinalityWindowOpen(
            "The provider may still answer for what was sent, or carry it out. Ask again after "
            "`closes_at`, under another idempotency key: this refusal is the answer of this one.",
            closes_at=moment,
        )


def _content(resolution: Resolution) -> tuple[object, ...]:
    """What two persons must agree on."""
    return (
        resolution.attempt_id,
        resolution.verdict,
        resolution.provider_ref,
        resolution.amount,
        resolution.currency,
    )


def _outcome(resolution: Resolution) -> Executed | NotExecuted:
    if resolution.provider_ref is not None:
        return Executed(
            provider_ref=resolution.provider_ref,
            amount_minor=resolution.amount,
            currency=resolution.currency,
            cost_minor=0,
        )
    # Not sent again by itself: that is a decision of its own, by `RetryPayout`.
    return NotExecuted(
        code="resolved_not_executed", reason=resolution.evidence, retryable=False, sent=True
    )


def _note(resolution: Resolution) -> dict[str, Any]:
    return {
        "attempt": resolution.attempt_id,
        "verdict": resolution.verdict,
        "provider_reference": resolution.provider_ref,
        "reason": resolution.evidence,
    }


def resolution_shown(
    payout: Payout, attempts: list[Attempt], history: Iterable[HistoryLine]
) -> dict[str, object] | None:
    """What people say of the attempt in question, as the journal has it, for the API to show.

    None if nobody has spoken since it is in question. If none is: the last word that two persons
    agreed on. A proposal about an attempt that has ended in another way is about nothing, and is
    not shown. `history` is oldest first.
    """
    said: dict[str, Resolution] = {}
    agreed: tuple[Resolution, str] | None = None
    attempt_of = {attempt.id: attempt for attempt in attempts}
    for line in history:
        if line.kind not in (_PROPOSED, _RESOLVED):
            continue
        note = msgspec.json.decode(line.body, type=_Said)
        if line.kind == _PROPOSED:
            said[note.attempt] = _proposal(attempt_of[note.attempt], note, line)
        else:
            known = said.pop(note.attempt)
            agreed = _set(known, confirmed_by=line.actor, confirmed_at=line.at), note.reason
    current = _in_question(attempts)
    if current is not None:
        proposed = said.get(current.id)
        stands = proposed is not None and _answers(proposed, current)
        return resolution_view(proposed, payout, None) if proposed and stands else None
    return None if agreed is None else resolution_view(agreed[0], payout, agreed[1])


class _Said(msgspec.Struct, frozen=True):
    """What the journal has of a person's word; `reason` is the evidence."""

    attempt: str
    verdict: str
    reason: str
    provider_reference: str | None = None


def _proposal(attempt: Attempt, note: _Said, line: HistoryLine) -> Resolution:
    return Resolution(
        attempt_id=attempt.id,
        merchant_id=attempt.merchant_id,
        payout_id=attempt.payout_id,
        verdict=note.verdict,
        provider_ref=note.provider_reference,
        amount=attempt.amount,
        currency=attempt.currency,
        evidence=note.reason,
        proposed_by=line.actor,
        proposed_at=line.at,
        confirmed_by=None,
        confirmed_at=None,
    )
