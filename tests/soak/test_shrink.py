"""A failing schedule is made small; and what the schedules stand on behaves as they need it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bursar.worker.main import TOPICS, Worker
from soak.loop import VirtualLoop
from soak.process import NOT_EXCLUDING, QUEUES
from soak.tape import Tape

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from soak.bugs import Planter, named
bug = named("failover on a timeout")
sys.meta_path.insert(0, Planter(bug))
from bursar.kit.clock import SystemClock
from soak.schedule import run, silence
from soak.shrink import Shrinker
with silence():
    failed = next(r for r in map(run, range(100)) if r.violation is not None)
    shrinker = Shrinker(failed, clock=SystemClock(), seconds=20)
    small = shrinker.shrink()
    again = run(small.seed, draws=small.draws, dropped=shrinker.dropped)
print(failed.violation.invariant, small.violation.invariant, again.violation.invariant)
print(len(failed.lines), len(small.lines))
"""
LINES_MAX = 30


def test_a_failing_schedule_is_made_small() -> None:
    """It breaks the same invariant, again and again, in a trace that a person can read."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    invariants, lengths = told.stdout.splitlines()
    assert len(set(invariants.split())) == 1
    before, after = map(int, lengths.split())
    assert after < before
    assert after <= LINES_MAX


def test_time_jumps_and_order_stays() -> None:
    """A year passes at once; timers fire in order, equal ones by age."""
    loop, seen = VirtualLoop(), []

    async def later(seconds: float, name: str) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, loop.time()))

    async def play() -> None:
        await asyncio.gather(later(3e7, "c"), later(1, "a"), later(1, "b"))

    loop.run_until_complete(play())
    loop.close()
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 3e7)]


def test_streams_of_a_tape_do_not_move_each_other() -> None:
    """What is drawn under one name does not depend on what is drawn under another."""
    one, two = Tape(7), Tape(7)
    drawn = [one.unit("x") for _ in range(5)]
    assert [(two.unit("x"), two.unit("y"))[0] for _ in range(5)] == drawn
    replayed = Tape(7, {"x": drawn[:2]})
    assert [replayed.unit("x") for _ in range(4)] == [*drawn[:2], 0.0, 0.0]


def test_nodes_have_the_worker_s_lanes() -> None:
    """A lane that the worker gets must be played here, too, and in the same way."""
    nothing: Any = None
    listener: Any = SimpleNamespace(events={topic: asyncio.Event() for topic in TOPICS})
    worker = Worker(
        nothing,
        nothing,
        nothing,
        listener,
        clock=nothing,
        concurrency=1,
        poll_s=1.0,
        anchor=None,
        journal_export=None,
    )
    lanes = {lane._queue: lane for lane in worker._lanes}
    assert set(lanes) == set(QUEUES)
    assert {queue for queue, lane in lanes.items() if not lane._excludes} == NOT_EXCLUDING
    for queue, lane in lanes.items():
        handler: Any = lane._handler
        assert handler.func is QUEUES[queue]
