"""What a worker does for payouts: send, send again, ask, apply events, take over, expire.

Each job reads with no lock kept, calls out with no transaction open, and brings the outcome back
as a command. Whoever dies in between leaves a lease that runs out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import msgspec
import structlog

from bursar.engine.engine import Engine
from bursar.engine.errors import OutcomeUnknown, Overloaded
from bursar.engine.model import Origin
from bursar.kit.backoff import full_jitter
from bursar.kit.clock import Clock
from bursar.kit.crashpoints import CrashPoints, NoCrash, Step, passing
from bursar.kit.ids import Ids, Randomness
from bursar.payouts.attempts import (
    BeginAttempt,
    Begun,
    Choice,
    ExpireLease,
    RecordInquiry,
    RecordReply,
    ResendAttempt,
)
from bursar.payouts.commands import ExpirePayout
from bursar.payouts.errors import NotDue
from bursar.payouts.inbox import ApplyEvent, DeferEvent
from bursar.payouts.machine import AttemptState
from bursar.payouts.outcomes import Returned
from bursar.payouts.store import PayoutReads
from bursar.rails.contracts import Contract
from bursar.rails.errors import ProviderEventInvalid
from bursar.rails.outcomes import Executed, Inquiry, StatusReturned
from bursar.rails.port import PayoutRail, ProviderEvent, WebhookVerifier
from bursar.rails.proof import as_instructed, judge_inquiry, judge_submit, window_closes_at

log = structlog.get_logger(__name__)

LEASE_MARGIN_S = 3.0
"""How much longer than the request's deadline a lease lasts."""
RETRY_BASE_S = 0.5
RETRY_CAP_S = 300.0


class Jobs(msgspec.Struct, frozen=True):
    """What the handlers work with."""

    engine: Engine
    reads: PayoutReads
    rails: Mapping[str, PayoutRail]
    verifiers: Mapping[str, WebhookVerifier]
    clock: Clock
    ids: Ids
    randomness: Randomness
    worker_id: str
    crash: CrashPoints = NoCrash()

    @property
    def origin(self) -> Origin:
        """Ourselves, acting under the correlation id of the payout's request."""
        return Origin(self.worker_id)

    def retry_delay(self, attempt: int) -> timedelta:
        """A jittered pause after try number `attempt`."""
        seconds = full_jitter(
            attempt, base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S, randomness=self.randomness
        )
        return timedelta(seconds=seconds)


async def send(jobs: Jobs, payout_id: str) -> None:
    """Begin an attempt at the provider for its currency, call once, record what came of it."""
    attempt_id = jobs.ids.new("pa")
    started = jobs.clock.monotonic()
    begin = BeginAttempt(
        origin=jobs.origin,
        payout_id=payout_id,
        attempt_id=attempt_id,
        choices=tuple(_choice(rail.contract, attempt_id) for rail in jobs.rails.values()),
        lease_token=jobs.ids.new("ls"),
    )
    try:
        with passing(jobs.crash, Step.PAYOUT_BEGIN):
            begun = await jobs.engine.submit(begin)
    except NotDue:
        return
    await _call(jobs, begun, started)


async def resend(jobs: Jobs, attempt_id: str) -> None:
    """Send an unknown attempt to its provider again under its key, and record what came of it."""
    found = await jobs.reads.attempt_now(attempt_id)
    if found is None or found[0].provider not in jobs.rails:
        return
    started = jobs.clock.monotonic()
    again = ResendAttempt(
        origin=jobs.origin,
        attempt_id=attempt_id,
        lease_token=jobs.ids.new("ls"),
        lease=_lease(jobs.rails[found[0].provider].contract),
    )
    try:
        with passing(jobs.crash, Step.PAYOUT_RESEND):
            begun = await jobs.engine.submit(again)
    except NotDue:
        log.debug("resend_outrun", attempt_id=attempt_id)
        return
    if begun is not None:
        await _call(jobs, begun, started)


async def _call(jobs: Jobs, begun: Begun, started: float) -> None:
    """Call the provider once under the lease that was asked for at `started`, and record it."""
    attempt = begun.attempt
    rail = jobs.rails[attempt.provider]
    # The commit or the way to the provider may take so long that the lease would end before the
    # request does: then it must not begin (F33).
    lease_ends = started + _lease(rail.contract).total_seconds()
    with passing(jobs.crash, Step.PAYOUT_SUBMIT):
        reply = await rail.submit(
            begun.instruction,
            correlation_id=begun.correlation_id,
            must_start_before=lease_ends - rail.contract.request_deadline_s,
        )
    record = RecordReply(
        origin=jobs.origin,
        attempt_id=attempt.id,
        lease_token=attempt.lease_token,
        outcome=judge_submit(
            reply,
            rail.contract,
            first_send=begun.first_send,
            conclusive=begun.conclusive,
        ),
        retry_delay=jobs.retry_delay(attempt.number),
    )
    with passing(jobs.crash, Step.PAYOUT_RECORD):
        await jobs.engine.submit(record)


def _choice(contract: Contract, attempt_id: str) -> Choice:
    key = contract.map_key(attempt_id)
    return Choice(contract.provider, key, _lease(contract), contract.currencies)


def _lease(contract: Contract) -> timedelta:
    """Longer than one request may take, so that a commit may come first."""
    return contract.request_deadline + timedelta(seconds=LEASE_MARGIN_S)


async def ask(jobs: Jobs, attempt_id: str) -> None:
    """Ask the provider about an attempt by our key, and record what that proves."""
    found = await jobs.reads.attempt_now(attempt_id)
    if found is None:
        return
    attempt, correlation_id, now = found
    rail = jobs.rails[attempt.provider]
    with passing(jobs.crash, Step.PAYOUT_INQUIRE):
        inquiry = await rail.inquire(attempt.provider_key, correlation_id=correlation_id)
    closes = window_closes_at(attempt.ambiguous_at, attempt.lease_until, rail.contract)
    outcome = as_instructed(
        judge_inquiry(
            inquiry,
            rail.contract,
            now=now,
            window_closes_at=closes,
            promised=attempt.state == AttemptState.ACCEPTED,
        ),
        amount_minor=attempt.amount,
        currency=attempt.currency,
    )
    command = RecordInquiry(
        origin=jobs.origin,
        attempt_id=attempt_id,
        asked_at_inquiry=attempt.inquiries,
        outcome=outcome,
        returned=what_came_back(inquiry) if isinstance(outcome, Executed) else None,
        retry_delay=jobs.retry_delay(attempt.number),
    )
    try:
        with passing(jobs.crash, Step.PAYOUT_LEARN):
            await jobs.engine.submit(command)
    except NotDue:
        log.debug("inquiry_outrun", attempt_id=attempt_id)


def what_came_back(inquiry: Inquiry) -> Returned | None:
    """The return that an inquiry told, if it told one."""
    if not isinstance(inquiry, StatusReturned):
        return None
    return Returned(
        provider_ref=inquiry.provider_ref,
        return_id=inquiry.return_id,
        amount=inquiry.returned_minor,
        code=inquiry.code,
        reason=inquiry.reason,
        sequence=inquiry.sequence,
    )


async def apply_event(jobs: Jobs, inbox_key: str) -> None:
    """Apply one stored event. `inbox_key` is provider/event id."""
    provider, _, event_id = inbox_key.partition("/")
    body = await jobs.reads.inbox_body(provider, event_id)
    if body is None:
        return
    event = None
    try:
        event = _read(jobs.verifiers[provider], event_id, body)
        apply = ApplyEvent(
            origin=jobs.origin, provider=provider, event=event, retry_delay=jobs.retry_delay(1)
        )
        with passing(jobs.crash, Step.INBOX_APPLY):
            await jobs.engine.submit(apply)
    except NotDue:
        log.debug("event_outrun", inbox_key=inbox_key)
    except (Overloaded, OutcomeUnknown):
        raise
    except Exception as error:
        # It is put behind the others, and in the end before a human: it must not block them (F45).
        if isinstance(error, ProviderEventInvalid):
            log.warning("event_unreadable", inbox_key=inbox_key, why=_why(error))
        else:
            log.exception("event_not_applied", inbox_key=inbox_key)
        await jobs.engine.submit(
            DeferEvent(
                origin=jobs.origin,
                provider=provider,
                event_id=event_id,
                event=event,
                why=_why(error),
            )
        )


def _read(verifier: WebhookVerifier, event_id: str, body: str) -> ProviderEvent:
    """The event in a stored body. Raises `ProviderEventInvalid`.

    A body that could not be read as it came is stored as text, which might be read as another.
    """
    event = verifier.parse(body.encode())
    if event.event_id != event_id:
        raise ProviderEventInvalid("another event than it was stored as", pointer="/event_id")
    return event


def _why(error: Exception) -> str:
    """For people: what can't be read, with the field; the log has what else went wrong."""
    if not isinstance(error, ProviderEventInvalid):
        return "It could not be applied; the log says why."
    place = f", at {error.pointer}" if error.pointer else ""
    return f"It can't be read: {error.detail}{place}."


async def take_over(jobs: Jobs, attempt_id: str) -> None:
    """End the lease of a worker that fell silent."""
    try:
        with passing(jobs.crash, Step.PAYOUT_TAKE_OVER):
            await jobs.engine.submit(ExpireLease(origin=jobs.origin, attempt_id=attempt_id))
    except NotDue:
        log.debug("lease_outrun", attempt_id=attempt_id)


async def expire(jobs: Jobs, payout_id: str) -> None:
    """Give up a payout whose time has run out."""
    try:
        with passing(jobs.crash, Step.PAYOUT_EXPIRE):
            await jobs.engine.submit(ExpirePayout(origin=jobs.origin, payout_id=payout_id))
    except NotDue:
        log.debug("expiry_outrun", payout_id=payout_id)
