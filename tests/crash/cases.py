"""What happens at each crash point: which process dies or is cut off, over which story.

A story gives work to the processes of a world until everything has ended. Told without a crash it
is the measure: its digest is what every other telling must come to (I25).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from bursar.engine.model import Origin
from bursar.kit.crashpoints import Side, Step
from bursar.kit.ids import SystemIds
from bursar.payouts.commands import CreatePayout
from tests.crash.telling import DEATH_S, Case, Death, Severing, Story, Telling
from tests.crash.world import KILLED
from tests.e2e.platform import payout_body
from tests.engine.proxy import Cut

AMOUNT: Final = 10_000
FEE: Final = 20


async def _due(telling: Telling, **changes: Any) -> str:
    ids = SystemIds()
    payout_id = ids.new("po")
    create: Any = {
        "origin": Origin("per_test", "cor_test"),
        "merchant_id": telling.world.merchant_id,
        "payout_id": payout_id,
        "reference": "INV-1",
        "amount": AMOUNT,
        "currency": "EUR",
        "fee": FEE,
        "beneficiary_name": "Ana Silva",
        "beneficiary_iban": "DE89370400440532013000",
        "description": "",
        "priority": 1,
        "due_at": None,
        "max_retries": 3,
        "metadata": {},
    }
    await telling.world.submit(CreatePayout(**create | changes))
    return payout_id


async def _stands(telling: Telling, state: str) -> None:
    """Return when the last attempt is in a state. A slow machine may have given one up unsent."""
    await telling.world.until(
        "SELECT state FROM attempts ORDER BY number DESC LIMIT 1",
        lambda rows: [row["state"] for row in rows] == [state],
    )


async def created(telling: Telling) -> None:
    """A client creates a payout, which the bank executes at once."""
    await telling.world.start_bank(accept_async=0, decline=0)
    await telling.start("api")
    await telling.write("/payouts", payout_body("INV-1", amount=AMOUNT), "key-1")
    await telling.start("worker")
    await telling.ended()


async def cancelled(telling: Telling) -> None:
    """A client takes back a payout that is due tomorrow."""
    clock_ahead = timedelta(days=1)
    (now,) = await telling.world.rows("SELECT now() AS now")
    payout_id = await _due(telling, due_at=now["now"] + clock_ahead)
    await telling.world.start_bank(decline=0)
    await telling.start("api")
    await telling.write(f"/payouts/{payout_id}/cancel", {"reason": "mistake"}, "key-2")
    await telling.ended()


async def paid(telling: Telling) -> None:
    """A worker sends a payout, which the bank executes at once."""
    await _due(telling)
    await telling.world.start_bank(accept_async=0, decline=0)
    await telling.start("worker")
    await telling.ended()


async def told(telling: Telling) -> None:
    """The bank accepts a payout and tells by webhook that it was executed."""
    await _due(telling)
    await telling.world.start_bank(accept_async=1, decline=0)
    await telling.start("api")
    await telling.start("worker")
    await telling.ended()
    await telling.world.until(
        "SELECT result FROM inbox", lambda rows: bool(rows) and all(row["result"] for row in rows)
    )


async def unanswered(telling: Telling) -> None:
    """The bank executes a payout and never answers; it is asked."""
    await _due(telling)
    await telling.world.start_bank(timeout_executed=1, decline=0, hold_s=0.1)
    await telling.start("worker")
    await telling.ended()


async def abandoned(telling: Telling) -> None:
    """A worker dies with a lease; another takes over, and the bank knows of nothing."""
    await _due(telling)
    await telling.world.start_bank(accept_async=0, decline=0)
    first = await telling.world.start_worker("payout.submit:before")
    async with asyncio.timeout(DEATH_S):
        assert await asyncio.shield(first) == KILLED
    await telling.start("worker")
    await telling.ended()


async def expired(telling: Telling) -> None:
    """A payout's time runs out before a worker is there."""
    await _due(telling)
    await telling.world.rows("UPDATE payouts SET expires_at = now()")
    await telling.world.start_bank(decline=0)
    await telling.start("worker")
    await telling.ended()


async def resent(telling: Telling) -> None:
    """The off-ramp never gets an order; it gets the same again under the same key."""
    await _due(telling, currency="USDC")
    await telling.world.start_bank(
        **{"offramp.lost": 1, "offramp.hold_s": 0.1, "offramp.decline": 0}
    )
    await telling.start("api")
    await telling.start("worker")
    await _stands(telling, "unknown")
    await telling.world.turn("offramp", lost=0)
    await telling.ended()


async def retried(telling: Telling) -> None:
    """A payout's time runs out; its client has it sent once more, and the bank executes it."""
    payout_id = await _due(telling)
    await telling.world.rows("UPDATE payouts SET expires_at = now()")
    await telling.world.start_bank(accept_async=0, decline=0)
    await telling.start("api")
    await telling.start("worker")
    await telling.ended()
    await telling.write(f"/payouts/{payout_id}/retry", {"reason": "still owed"}, "key-3")
    await telling.ended()


async def resolved(telling: Telling) -> None:
    """The bank never says what became of a payout. A person takes it on, and two persons decide."""
    payout_id = await _due(telling)
    await telling.world.start_bank(accept_async=1, stuck=1, decline=0)
    await telling.start("api")
    await telling.start("worker")
    await _stands(telling, "accepted")
    # As if its key's life were over.
    await telling.world.rows(
        """UPDATE attempts SET begun_at = begun_at - interval '5 minutes',
            lease_until = lease_until - interval '5 minutes', inquire_at = now()
        WHERE state = 'accepted'"""
    )
    alerts = "SELECT id FROM incidents"
    await telling.world.until(alerts, bool)
    (alert,) = await telling.world.rows(alerts)
    await telling.write(f"/payouts/ops/alerts/{alert['id']}/assign", {}, "key-4")
    said = {"verdict": "not_executed", "evidence": "not on the statement"}
    await telling.write(f"/payouts/{payout_id}/resolve", said, "key-5")
    await telling.write(f"/payouts/{payout_id}/resolve", said, "key-6", by=1)
    await telling.ended()


STORIES: Final[tuple[Story, ...]] = (
    *(created, cancelled, paid, told, unanswered, resent, abandoned, expired, retried, resolved),
)


def both(process: str, step: Step, story: Story, *, times: int = 1) -> tuple[Death, Death]:
    """Death before the step, and after it."""
    return (
        Death(process, step, Side.BEFORE, story, times),
        Death(process, step, Side.AFTER, story, times),
    )


API_DEATHS: Final = (
    Death("api", Step.ENGINE_WRITE, Side.BEFORE, created, stored=False),
    Death("api", Step.ENGINE_WRITE, Side.AFTER, created, stored=False),
    Death("api", Step.ENGINE_COMMIT, Side.BEFORE, created, stored=False),
    Death("api", Step.ENGINE_COMMIT, Side.AFTER, created, stored=True),
    Death("api", Step.ENGINE_ANSWER, Side.BEFORE, created, stored=True),
    Death("api", Step.ENGINE_ANSWER, Side.AFTER, created, stored=True),
    Death("api", Step.API_REPLY, Side.BEFORE, created, stored=True),
    Death("api", Step.API_REPLY, Side.AFTER, created, stored=True),
    Death("api", Step.API_REPLY, Side.BEFORE, cancelled, stored=True),
    Death("api", Step.API_REPLY, Side.AFTER, cancelled, stored=True),
    *both("api", Step.INBOX_STORE, told),
)
WORKER_DEATHS: Final = (
    # The first group takes the lease, the second records the reply.
    *both("worker", Step.ENGINE_WRITE, paid),
    *both("worker", Step.ENGINE_COMMIT, paid),
    *both("worker", Step.ENGINE_ANSWER, paid),
    *both("worker", Step.ENGINE_WRITE, paid, times=2),
    *both("worker", Step.ENGINE_COMMIT, paid, times=2),
    *both("worker", Step.ENGINE_ANSWER, paid, times=2),
    *both("worker", Step.PAYOUT_BEGIN, paid),
    *both("worker", Step.PAYOUT_SUBMIT, paid),
    *both("worker", Step.PAYOUT_RECORD, paid),
    *both("worker", Step.PAYOUT_INQUIRE, unanswered),
    *both("worker", Step.PAYOUT_LEARN, unanswered),
    *both("worker", Step.PAYOUT_RESEND, resent),
    *both("worker", Step.PAYOUT_TAKE_OVER, abandoned),
    *both("worker", Step.PAYOUT_EXPIRE, expired),
    *both("worker", Step.INBOX_APPLY, told),
)

EITHER: Final = (Cut.ANSWER, Cut.REQUEST)
"""COMMIT took effect and its answer is lost, or it is lost itself. Every command meets both."""


def severed(cut: Cut, story: Story, api: str = "", worker: str = "") -> Severing:
    """A cut of these commands, named with spaces between."""
    return Severing(cut, story, frozenset(api.split()), frozenset(worker.split()))


CUTS: Final = (
    *(
        severing
        for cut in EITHER
        for severing in (
            severed(cut, created, "CreatePayout", "BeginAttempt RecordReply"),
            severed(cut, cancelled, "CancelPayout"),
            severed(cut, told, "ReceiveEvent", "ApplyEvent"),
            severed(cut, unanswered, worker="RecordInquiry"),
            severed(cut, resent, worker="ResendAttempt"),
            severed(cut, abandoned, worker="ExpireLease"),
            severed(cut, retried, "RetryPayout", "ExpirePayout"),
            severed(cut, resolved, "AssignIncident ResolvePayout.propose ResolvePayout.confirm"),
        )
    ),
    # When it takes effect, and when the process notices, is the engine's affair alone, whatever
    # was written: so these two come over one command of each process.
    severed(Cut.LATE, created, "CreatePayout", "BeginAttempt"),
    severed(Cut.SILENCE, created, "CreatePayout", "BeginAttempt"),
)


def waits(case: Case) -> bool:
    """Whether it lasts for long: a lease must end, or a deadline pass."""
    if isinstance(case, Severing):
        return case.story in {abandoned, resent, resolved} or case.cut is Cut.SILENCE
    begun = case.step in {Step.PAYOUT_BEGIN, Step.PAYOUT_SUBMIT, Step.PAYOUT_RECORD}
    grouped = case.process == "worker" and case.step.startswith("engine.")
    return begun or grouped or case.story in {abandoned, resent}
