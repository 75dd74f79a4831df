"""Provider events: stored raw first, then applied as facts. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from bursar.engine.model import PLATFORM, Claim, CommandBase, Key, Needs, Peeked, Table
from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import open_incident
from bursar.payouts.attempts import attempt_needs
from bursar.payouts.errors import NotDue
from bursar.payouts.model import (
    ATTEMPTS,
    INBOX,
    PAYOUTS,
    PROVIDER_KEYS,
    Attempt,
    InboxEvent,
    Payout,
    ProviderKey,
    Source,
)
from bursar.payouts.outcomes import (
    Returned,
    Told,
    learn,
    learn_denial,
    learn_foreign,
    learn_return,
)
from bursar.payouts.steps import remark
from bursar.rails.outcomes import Accepted, Executed
from bursar.rails.port import EventKind, ProviderEvent

_set = msgspec.structs.replace

WAKE = "inbox"
TRIES_MAX = 8
RETRY_PAUSE = timedelta(seconds=0.5)
"""An event can outrun the commit that makes its key known; it is tried again, then looked at."""


class ReceiveEvent(CommandBase, frozen=True, kw_only=True):
    """Store a verified message as it came, once per (provider, event id)."""

    provider: str
    event_id: str
    body: str

    def needs(self, peeked: Peeked) -> Needs:
        """Claims the event's row."""
        return Needs(claims=(Claim(INBOX, self._row(peeked.now)),))

    def decide(self, ws: WorkingSet) -> bool:
        """True if it is new, False if it was known (F21)."""
        if ws.claim(INBOX, self._row(ws.now)) is not None:
            return False
        ws.wake(WAKE)
        return True

    def _row(self, now: datetime) -> InboxEvent:
        return InboxEvent(
            provider=self.provider,
            event_id=self.event_id,
            body=self.body,
            received_at=now,
            result="",
            tries=0,
            next_try_at=now,
        )


class ApplyEvent(CommandBase, frozen=True, kw_only=True):
    """Turn a stored event into what it says of its attempt, once."""

    provider: str
    event: ProviderEvent
    retry_delay: timedelta

    def peeks(self) -> tuple[tuple[Table[Any], Key], ...]:
        """Whose the provider's key is."""
        return ((PROVIDER_KEYS, self._key),)

    @property
    def _key(self) -> tuple[str, str]:
        return (self.provider, self.event.provider_key)

    def needs(self, peeked: Peeked) -> Needs:
        """The event and, if its key is known, all that an outcome may touch."""
        own = (INBOX, (self.provider, self.event.event_id))
        owner = peeked.find(PROVIDER_KEYS, self._key)
        if owner is None:
            return Needs(locks=(own, (PROVIDER_KEYS, self._key)), journals=(PLATFORM,))
        needs = attempt_needs(
            payout_id=owner.payout_id,
            attempt_id=owner.attempt_id,
            hold_id=owner.hold_id,
            merchant_id=owner.merchant_id,
            currency=owner.currency,
        )
        return msgspec.structs.replace(needs, locks=(own, (PROVIDER_KEYS, self._key), *needs.locks))

    def decide(self, ws: WorkingSet) -> None:
        """Raises `NotDue` if it was applied already."""
        stored = ws.get(INBOX, (self.provider, self.event.event_id))
        if stored.result:
            raise NotDue("The event was applied.")
        owner = ws.find(PROVIDER_KEYS, self._key)
        if owner is None:
            self._unmatched(ws, stored)
            return
        result = self._apply(ws, owner)
        ws.update(INBOX, _set(stored, result=result, tries=stored.tries + 1, next_try_at=None))

    def _apply(self, ws: WorkingSet, owner: ProviderKey) -> str:
        event = self.event
        payout = ws.get(PAYOUTS, owner.payout_id)
        attempt = ws.get(ATTEMPTS, owner.attempt_id)
        told = Told(Source.WEBHOOK, self.retry_delay)
        if self._is_foreign(attempt):
            self._remark(ws, payout, attempt, "amount_mismatch")
            reference = event.provider_ref
            learn_foreign(ws, attempt, told, event.amount_minor, event.currency, reference)
            return "evidence"
        if event.kind == EventKind.RETURNED:
            learn_return(ws, payout, attempt, self._returned(), told)
            return "applied"
        if event.kind != EventKind.FAILED:
            learn(ws, payout, attempt, self._outcome(), told)
            return "applied"
        # It spoke when it was sent, and nobody knows when that was: the answer to a question asked
        # after the window is proof, an event never is (F12).
        self._remark(ws, payout, attempt, f"failed:{event.code}")
        had_effect = learn_denial(
            ws,
            payout,
            attempt,
            told,
            code=event.code,
            reason=event.reason,
            sequence=event.sequence,
        )
        return "applied" if had_effect else "evidence"

    def _remark(self, ws: WorkingSet, payout: Payout, attempt: Attempt, reason: str) -> None:
        note = {"attempt": attempt.id, "event": self.event.event_id, "reason": reason}
        remark(ws, payout, "attempt.evidence", note)

    def _is_foreign(self, attempt: Attempt) -> bool:
        """Whether it speaks of a currency, or of paying an amount, that nobody asked for (F18)."""
        pays = self.event.kind in (EventKind.PAID, EventKind.ACCEPTED)
        amount = self.event.amount_minor if pays else attempt.amount
        return (amount, self.event.currency) != (attempt.amount, attempt.currency)

    def _outcome(self) -> Accepted | Executed:
        event = self.event
        if event.kind == EventKind.ACCEPTED:
            return Accepted(event.provider_ref)
        return Executed(
            provider_ref=event.provider_ref,
            amount_minor=event.amount_minor,
            currency=event.currency,
            cost_minor=event.cost_minor,
            sequence=event.sequence,
        )

    def _returned(self) -> Returned:
        event = self.event
        return Returned(
            provider_ref=event.provider_ref,
            return_id=event.return_id or event.event_id,
            amount=event.amount_minor,
            code=event.code or "",
            reason=event.reason or "",
            sequence=event.sequence,
        )

    def _unmatched(self, ws: WorkingSet, stored: InboxEvent) -> None:
        _put_off(ws, stored, "unmatched", self.event, "That is no key of ours.")


class DeferEvent(CommandBase, frozen=True, kw_only=True):
    """Put off an event that could not be applied; after enough tries, a human looks at it.

    `event` is what it says, None if it could not be read. `why` is for people.
    """

    provider: str
    event_id: str
    why: str
    event: ProviderEvent | None = None

    def needs(self, _peeked: Peeked) -> Needs:
        """The event."""
        return Needs(locks=((INBOX, (self.provider, self.event_id)),), journals=(PLATFORM,))

    def decide(self, ws: WorkingSet) -> None:
        """Nothing, if it was applied meanwhile."""
        stored = ws.get(INBOX, (self.provider, self.event_id))
        if not stored.result:
            _put_off(ws, stored, "dead_letter", self.event, self.why)


def _put_off(
    ws: WorkingSet, stored: InboxEvent, result: str, event: ProviderEvent | None, why: str
) -> None:
    """Try again after a doubling pause; at the last try, close the event with an incident."""
    tries = stored.tries + 1
    if tries < TRIES_MAX:
        pause = RETRY_PAUSE * 2**stored.tries
        ws.update(INBOX, _set(stored, tries=tries, next_try_at=ws.now + pause))
        return
    ws.update(INBOX, _set(stored, result=result, tries=tries, next_try_at=None))
    entry = ws.journal(PLATFORM, f"event.{result}", stored.event_id, {"provider": stored.provider})
    open_incident(
        ws,
        entry,
        kind=f"{result}_event",
        subject_id=stored.event_id,
        amount=0 if event is None else event.amount_minor,
        currency="" if event is None else event.currency,
        detail=f"{_says(stored, event)} {why} It was tried {tries} times.",
    )


def _says(stored: InboxEvent, event: ProviderEvent | None) -> str:
    if event is None:
        return f"{stored.provider} sent an event that can't be read."
    return (
        f"{stored.provider} says {event.kind} of the key {event.provider_key}, under "
        f"{event.provider_ref}: {event.amount_minor} {event.currency}, in minor units."
    )
