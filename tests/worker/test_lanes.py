"""Lanes: due work is taken once, bounded, woken early, and left for others when it fails."""

import asyncio
from collections.abc import Mapping
from typing import Any

from bursar.engine.store import Session
from bursar.worker.lanes import Lane


class Queue:
    """A store that only knows what is due."""

    def __init__(self, *keys: str) -> None:
        self.due = list(keys)
        self.broken = 0

    async def take_due(self, _queue: str, limit: int, arguments: Mapping[str, Any]) -> list[str]:
        """What is due and not in flight."""
        if self.broken:
            self.broken -= 1
            raise ConnectionError("away")
        in_flight = arguments.get("in_flight", [])
        return [key for key in self.due if key not in in_flight][:limit]

    async def begin(self, *, patience_s: float | None = None) -> Session:
        """Unused."""
        raise AssertionError

    async def entomb(self, group_id: str) -> bool:
        """Unused."""
        raise AssertionError(group_id)


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - waits for the code under test
            await asyncio.sleep(0.001)


async def test_every_key_is_worked_once_while_it_is_in_flight() -> None:
    """Keys in flight are left out of the next take, and no more than the bound run at once."""
    queue = Queue(*(f"k{i}" for i in range(10)))
    running: set[str] = set()
    most: list[int] = [0]
    done: list[str] = []

    async def work(key: str) -> None:
        assert key not in running
        running.add(key)
        most[0] = max(most[0], len(running))
        await asyncio.sleep(0.002)
        running.remove(key)
        queue.due.remove(key)
        done.append(key)

    lane = Lane(queue, "q", work, concurrency=3, poll_s=0.01)
    task = asyncio.create_task(lane.run())
    await _until(lambda: len(done) == 10)
    await lane.drain(1)
    await task

    assert sorted(done) == [f"k{i}" for i in range(10)]
    assert most[0] == 3


async def test_a_wake_is_heard_long_before_the_poll() -> None:
    """A notification starts work at once; polling is only the fall-back."""
    queue = Queue()
    wake = asyncio.Event()
    done = asyncio.Event()

    async def work(key: str) -> None:
        queue.due.remove(key)
        done.set()

    lane = Lane(queue, "q", work, concurrency=1, poll_s=3600, wake=wake)
    task = asyncio.create_task(lane.run())
    await asyncio.sleep(0.01)
    queue.due.append("k")
    wake.set()
    async with asyncio.timeout(5):
        await done.wait()
    await lane.drain(1)
    await task


async def test_a_lane_outlives_a_database_that_is_away() -> None:
    """Taking fails, the lane polls again (F92)."""
    queue = Queue("k")
    queue.broken = 2
    done: list[str] = []

    async def work(key: str) -> None:
        queue.due.remove(key)
        done.append(key)

    lane = Lane(queue, "q", work, concurrency=1, poll_s=0.005)
    task = asyncio.create_task(lane.run())
    await _until(lambda: done == ["k"])
    await lane.drain(1)
    await task


async def test_a_poison_job_does_not_stop_the_others() -> None:
    """One key that always fails is set aside for a poll interval; the rest goes on (F45)."""
    queue = Queue("poison", "a", "b", "c")
    done: list[str] = []

    async def work(key: str) -> None:
        if key == "poison":
            raise RuntimeError("always")
        queue.due.remove(key)
        done.append(key)

    lane = Lane(queue, "q", work, concurrency=2, poll_s=0.01)
    task = asyncio.create_task(lane.run())
    await _until(lambda: len(done) == 3)
    await lane.drain(1)
    await task

    assert sorted(done) == ["a", "b", "c"]
