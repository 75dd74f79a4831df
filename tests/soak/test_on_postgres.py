"""Fewer seeds of the same schedules, over a real server; and that they can fail."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from bursar.bootstrap import QUERIES
from bursar.db.roles import OWNER
from soak.lines import Line, Lines
from soak.loop import T0, VirtualClock
from soak.on_postgres import TEMPLATE, Server, server
from soak.real_loop import RealLoop
from soak.schedule import run_on, silence
from soak.swarm import FAULTS
from soak.tally import Tally

SEEDS = range(65, 79)
"""In these, all faults of the database come several times."""
HUNTED = (17, 14, 16) * 3
"""In these, transactions of two processes meet often."""
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    """A server for the schedules of this file."""
    with server() as started, silence():
        yield started


@pytest.mark.timeout(300)
def test_no_invariant_breaks(ours: Server) -> None:
    """I1 to I12, I14, I22, I23, I25, I26, by the real SQL, while transactions truly overlap.

    At the end the rows are those that were seen to be committed, and `bursar verify` agrees
    (F41, F44, F49).
    """
    before = ours.lock_waits
    tally = Tally()
    for seed in SEEDS:
        tally.take(ours.run(seed))
    assert tally.violations == []
    expected = {name for name in FAULTS if name.startswith("db.")}
    assert {name for name in expected if not tally.fired[name]} == set(), "take other seeds"
    assert tally.crashed.total() > 0
    assert ours.lock_waits > before, "nobody ever waited for another's row"


@pytest.mark.timeout(300)
def test_rows_that_are_not_locked_are_found_out(ours: Server) -> None:
    """Without FOR NO KEY UPDATE updates are lost (I2, I6).

    If the journal's heads are not locked either, the journal's key stops the second writer.
    """
    broken = {
        name: re.sub(r"FOR NO KEY UPDATE( OF \w)?\s*\Z", "", text)
        if name.startswith("lock_") and name != "lock_journal_heads"
        else text
        for name, text in QUERIES.items()
    }
    assert broken != QUERIES
    assert any(ours.run(seed, queries=broken).violation is not None for seed in HUNTED)


def _play(ours: Server, work: Any) -> Any:
    loop = ours.loop()

    async def play() -> Any:
        lines = Lines(loop, VirtualClock(loop).wall, ours.dsn(TEMPLATE), OWNER)
        try:
            return await work(loop, lines)
        finally:
            lines.close()
            await asyncio.sleep(0)

    return run_on(loop, play())


def test_time_stands_still_while_the_server_works(ours: Server) -> None:
    """A statement of 50 real milliseconds takes no virtual time; then an hour passes at once."""

    async def work(loop: RealLoop, lines: Lines) -> None:
        async def ask() -> float:
            async with lines.acquire() as line:
                await line.fetchval("SELECT pg_sleep(0.05)")
            return loop.time()

        asking = loop.create_task(ask())
        await asyncio.sleep(HOUR_S)
        assert asking.result() == 0.0
        assert loop.time() == HOUR_S

    _play(ours, work)


def test_time_goes_on_for_whoever_has_the_lock(ours: Server) -> None:
    """Somebody waits for a row; who has it waits for an hour first."""

    async def work(loop: RealLoop, lines: Lines) -> None:
        first, second = await lines.lend(), await lines.lend()
        seal = "SELECT pg_advisory_xact_lock(1)"

        async def wait(line: Line) -> float:
            await line.execute("BEGIN")
            await line.fetchval(seal)
            return loop.time()

        assert await wait(first) == 0.0
        waiting = loop.create_task(wait(second))
        await asyncio.sleep(HOUR_S)
        assert not waiting.done()
        await first.execute("ROLLBACK")
        assert await waiting == HOUR_S

    _play(ours, work)


def test_the_server_tells_virtual_time(ours: Server) -> None:
    """All four of the functions that the product's statements ask."""

    async def work(loop: RealLoop, lines: Lines) -> None:
        await asyncio.sleep(HOUR_S)
        async with lines.acquire() as line:
            told = await line.fetchrow(
                "SELECT now(), transaction_timestamp(), statement_timestamp(), clock_timestamp()"
            )
        assert {(moment - T0).total_seconds() for moment in told} == {HOUR_S}

    _play(ours, work)
