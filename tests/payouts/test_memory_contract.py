"""The twin's queues, reads and unique rules, held to Postgres over the same rows."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from bursar.bootstrap import QUERIES
from bursar.db.pool import Pool, open_pool
from bursar.engine.errors import ConstraintError
from bursar.engine.memory import MemoryStore
from bursar.engine.model import Row, Table
from bursar.engine.postgres import PostgresStore
from bursar.engine.working_set import Changes
from bursar.kit.clock import SystemClock
from bursar.payouts.machine import OPEN_ATTEMPT, AttemptState, State
from bursar.payouts.memory import QUEUES, MemoryReads, new_store
from bursar.payouts.model import ATTEMPTS, INBOX, PAYOUTS, Attempt, InboxEvent, Payout
from bursar.payouts.store import PostgresReads
from tests.conftest import Database
from tests.engine.rows import row_of

LIMIT = 500
NOT_EXCLUDING = {"leases", "expiries"}
_set = msgspec.structs.replace


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connections of the owner."""
    opened = await open_pool(database.dsns.owner, size=2, name="tests")
    yield opened
    await opened.close()


def _moments(chance: random.Random, now: datetime) -> Any:
    """Moments around now, none so near that a test could cross it, no two alike."""
    used: set[int] = set()

    def moment() -> datetime:
        while True:
            seconds = chance.choice((-1, 1)) * chance.randint(60, 100_000)
            if seconds not in used:
                used.add(seconds)
                return now + timedelta(seconds=seconds)

    return moment


def _rows(seed: int, now: datetime) -> list[tuple[Table[Any], Row]]:
    """Payouts in all states, each with attempts of which at most one is open, and events."""
    chance = random.Random(seed)
    moment = _moments(chance, now)
    found: list[tuple[Table[Any], Row]] = []
    for number in range(150):
        payout = row_of(PAYOUTS, number)
        assert isinstance(payout, Payout)
        next_at = chance.choice((None, moment(), moment()))
        payout = _set(
            payout,
            state=chance.choice(list(State)),
            priority=chance.randrange(3),
            next_attempt_at=next_at,
            expires_at=moment(),
        )
        found.append((PAYOUTS, payout))
        attempt = row_of(ATTEMPTS, number)
        assert isinstance(attempt, Attempt)
        for place in range(chance.randrange(3)):
            state = chance.choice([state for state in AttemptState if state not in OPEN_ATTEMPT])
            found.append((ATTEMPTS, _attempt(attempt, chance, moment, place, state)))
        if chance.random() < 0.7:
            state = chance.choice(sorted(OPEN_ATTEMPT))
            found.append((ATTEMPTS, _attempt(attempt, chance, moment, 9, state)))
        event = row_of(INBOX, number)
        assert isinstance(event, InboxEvent)
        found.append((INBOX, _set(event, next_try_at=chance.choice((None, moment())))))
    return found


def _attempt(
    attempt: Attempt, chance: random.Random, moment: Any, place: int, state: AttemptState
) -> Attempt:
    return _set(
        attempt,
        id=f"{attempt.id}_{place}",
        number=place,
        state=state,
        lease_until=moment(),
        inquire_at=chance.choice((None, moment())),
        resend_at=chance.choice((None, moment())),
        frozen_at=chance.choice((None, None, None, moment())),
    )


async def _store_rows(pool: Pool, rows: list[tuple[Table[Any], Row]]) -> MemoryStore:
    """The rows in Postgres, and in a twin."""
    store, twin = PostgresStore(pool, QUERIES), new_store(SystemClock())
    inserts: dict[Table[Any], list[Any]] = {}
    for table, row in rows:
        inserts.setdefault(table, []).append(row)
    events = inserts.pop(INBOX, [])
    for place in (store, twin):
        session: Any = await place.begin()
        if events:
            await session.claim(INBOX, sorted(events, key=INBOX.key_of))
        await session.write(Changes(updates={}, inserts=inserts, released={}, wakes=frozenset()))
        await session.commit()
    return twin


@pytest.mark.parametrize("seed", range(4))
async def test_the_twin_is_due_what_postgres_is_due(pool: Pool, seed: int) -> None:
    """Same rows, same keys in the same order, whatever is in flight already."""
    rows = _rows(seed, SystemClock().wall())
    twin = await _store_rows(pool, rows)
    store = PostgresStore(pool, QUERIES)
    chance = random.Random(seed)
    for queue in sorted(QUEUES):
        everything = await store.take_due(
            queue, LIMIT, {} if queue in NOT_EXCLUDING else {"in_flight": []}
        )
        assert everything, queue
        assert len(everything) < len(rows), queue
        arguments: dict[str, Any] = {}
        if queue not in NOT_EXCLUDING:
            arguments["in_flight"] = chance.sample(everything, k=len(everything) // 3)
        for limit in (LIMIT, 3):
            due = await store.take_due(queue, limit, arguments)
            assert await twin.take_due(queue, limit, arguments) == due, queue


async def test_the_twin_reads_what_postgres_reads(pool: Pool) -> None:
    """An attempt with its payout's correlation id, a stored body; None for what is not there."""
    rows = _rows(1, SystemClock().wall())
    twin = MemoryReads(await _store_rows(pool, rows))
    postgres = PostgresReads(pool)
    attempts = [row for table, row in rows if table is ATTEMPTS]
    for attempt in attempts[:5]:
        assert isinstance(attempt, Attempt)
        found, same = await postgres.attempt_now(attempt.id), await twin.attempt_now(attempt.id)
        assert found is not None
        assert same is not None
        assert found[:2] == same[:2] == (attempt, same[1])
        assert abs(found[2] - same[2]) < timedelta(seconds=30)
    event = next(row for table, row in rows if table is INBOX)
    assert isinstance(event, InboxEvent)
    body = await postgres.inbox_body(event.provider, event.event_id)
    assert await twin.inbox_body(event.provider, event.event_id) == body == event.body
    for reads in (twin, postgres):
        assert await reads.attempt_now("pa_none") is None
        assert await reads.inbox_body("bank", "none") is None


@pytest.mark.parametrize("state", sorted(OPEN_ATTEMPT))
async def test_the_twin_refuses_what_postgres_refuses(pool: Pool, state: AttemptState) -> None:
    """I6: a second open attempt, and a second attempt of one number, break the same rule."""
    payout, attempt = row_of(PAYOUTS, 1), row_of(ATTEMPTS, 1)
    assert isinstance(attempt, Attempt)
    open_one = _set(attempt, state=state)
    twin = await _store_rows(pool, [(PAYOUTS, payout), (ATTEMPTS, open_one)])
    for second in (
        _set(open_one, id="pa_x", number=77),
        _set(open_one, id="pa_x", state=AttemptState.PAID),
    ):
        broken = []
        for place in (PostgresStore(pool, QUERIES), twin):
            session: Any = await place.begin()
            with pytest.raises(ConstraintError) as refused:
                await session.write(
                    Changes(
                        updates={}, inserts={ATTEMPTS: [second]}, released={}, wakes=frozenset()
                    )
                )
            await session.rollback()
            broken.append(refused.value.constraint)
        assert broken[0] == broken[1]
