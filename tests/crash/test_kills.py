"""Postgres is killed under load, a few times here and a thousand times in `./dev soak`."""

import asyncio

from soak.kills import play

KILLS = 10


async def test_no_acknowledged_write_is_lost_when_postgres_is_killed() -> None:
    """F49, F8, I25: SIGKILL and immediate shutdown with groups in flight.

    Every acknowledged write is there after each restart, every commit whose answer was lost is
    resolved by its tombstone to what the database says, and nothing else is in the books. If none
    was lost in `KILLS`, the killing goes on until one is.
    """
    report = await asyncio.to_thread(play, KILLS)
    assert not report.faults, "\n".join(report.lines())
    assert report.kills.total() >= KILLS
    assert report.acknowledged > KILLS
    assert report.lost == 0
    assert report.ambiguous > 0
    assert report.resolved == report.ambiguous
