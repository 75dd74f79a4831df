"""Stopping: nothing new is started, and nothing runs on when the engine is closed (F92)."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from bursar.engine.store import Store
from bursar.payouts import commands, inbox
from bursar.worker import main
from bursar.worker.lanes import Handler, Lane


class Queues:
    """A store that only knows what is due; `gate` holds up whoever asks."""

    def __init__(self, **due: list[str]) -> None:
        self.due = due
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def take_due(self, queue: str, limit: int, arguments: Mapping[str, Any]) -> list[str]:
        """What is due and not in flight."""
        found = [key for key in self.due[queue] if key not in arguments["in_flight"]][:limit]
        self.asked.set()
        await self.gate.wait()
        return found


def lane_of(queues: Queues, queue: str, handler: Handler) -> Lane:
    """A lane over one of the queues."""
    return Lane(cast(Store, queues), queue, handler, concurrency=4, poll_s=0.005)


async def test_what_was_taken_when_the_stop_came_is_not_started() -> None:
    """F92: the lane had asked for work, and is told to stop before the answer is there."""
    queues = Queues(q=["k"])
    queues.gate.clear()
    started: list[str] = []

    async def work(key: str) -> None:
        started.append(key)

    lane = lane_of(queues, "q", work)
    task = asyncio.create_task(lane.run())
    await queues.asked.wait()
    await lane.drain(1)
    queues.gate.set()
    async with asyncio.timeout(5):
        await task
    await asyncio.sleep(0.01)
    assert started == []


async def test_what_does_not_end_is_cancelled_and_over() -> None:
    """F92: a lease recovers it; it must not meet a closed engine."""
    queues = Queues(q=["quick", "stuck"])
    ended: list[str] = []
    both = asyncio.Event()

    async def work(key: str) -> None:
        queues.due["q"].remove(key)
        if not queues.due["q"]:
            both.set()
        try:
            await asyncio.sleep(0.02 if key == "quick" else 3600)
            ended.append(f"{key} done")
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append(f"{key} cancelled")
            raise

    lane = lane_of(queues, "q", work)
    task = asyncio.create_task(lane.run())
    await both.wait()
    await lane.drain(0.1)
    assert ended == ["quick done", "stuck cancelled"]
    await task


async def test_all_lanes_stop_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """F92: no lane takes on what another's last job made due; one deadline bounds them all."""
    monkeypatch.setattr(main, "DRAIN_S", 0.3)
    queues = Queues(a=["a1"], b=["b1"], c=[])
    worked: list[str] = []
    begun, stop = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        worked.append(key)
        queues.due[key[0]].remove(key)
        if len(worked) == 2:
            begun.set()
        if key == "a1":
            await stop.wait()
            await asyncio.sleep(0.02)
            queues.due["c"].append("c1")  # what the other lane would find
        await asyncio.sleep(3600)

    worker = main.Worker(
        cast(Any, None),
        cast(Any, None),
        cast(Any, None),
        cast(Any, _Listening()),
        clock=cast(Any, _Asleep()),
        concurrency=1,
        poll_s=1,
        anchor=None,
        journal_export=Path("unused"),
    )
    worker._lanes = [lane_of(queues, name, work) for name in "abc"]
    worker._housekeeping = []
    running = asyncio.create_task(worker.run(stop))
    await begun.wait()
    started = time.monotonic()
    stop.set()
    await running
    assert time.monotonic() - started < 0.3 * 2
    assert worked == ["a1", "b1"]


class _Listening:
    """A listener that hears nothing."""

    def __init__(self) -> None:
        self.events = {commands.WAKE: asyncio.Event(), inbox.WAKE: asyncio.Event()}

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(3600)


class _Asleep:
    """A clock of which nothing is asked."""
