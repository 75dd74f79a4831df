"""This checkout against another one: both run at once, and take turns at each measurement.

Two runs one after the other differ by more than most changes do; turns of a few seconds don't.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from bench.plan import Plan
from bench.report import Figure, Sample, Target

HERE = Path(__file__).parents[1]
LOSS = 0.1
"""How much slower than the other this checkout may be."""
MEASUREMENTS = {
    "hot": ("in process, one merchant", "/s"),
    "many": ("in process, many merchants", "/s"),
    "latency": ("latency at one connection, p50", "ms"),
    "http": ("POST /payouts, 128 connections", "/s"),
}


class ContestantFailed(Exception):
    """A checkout could not be measured; what it wrote to standard error says why."""


async def compare(other: Path, plan: Plan) -> list[Figure]:
    """A figure for each measurement, with the checkout in `other` as its baseline.

    `other` is an absolute path; it is measured with its own `bench` and `src`, by this
    interpreter. Raises `ContestantFailed`.
    """
    places = (HERE, other)
    contestants = [await _start(place, plan) for place in places]
    try:
        for contestant in contestants:
            await _answer(contestant)
        taken: dict[str, tuple[list[float], list[float]]] = {
            name: ([], []) for name in MEASUREMENTS
        }
        for turn in range(plan.turns):
            for name, samples in taken.items():
                for side in (0, 1) if turn % 2 else (1, 0):
                    samples[side].append(await _measure(contestants[side], name))
    finally:
        await asyncio.gather(*map(_end, contestants))
    return [_figure(name, *samples, other) for name, samples in taken.items()]


async def _start(place: Path, plan: Plan) -> Process:
    path = os.pathsep.join((str(place), str(place / "src")))
    counts = (plan.payouts, plan.merchants, plan.singles, plan.requests)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(HERE / "bench" / "contestant.py"), *map(str, counts)),
        cwd=place,
        env={**os.environ, "PYTHONPATH": path},
        stdin=PIPE,
        stdout=PIPE,
    )


async def _measure(contestant: Process, name: str) -> float:
    assert contestant.stdin is not None
    contestant.stdin.write(f"{name}\n".encode())
    await contestant.stdin.drain()
    return float(await _answer(contestant))


async def _answer(contestant: Process) -> bytes:
    assert contestant.stdout is not None
    line = await contestant.stdout.readline()
    if not line:
        raise ContestantFailed(f"a checkout stopped, with {await contestant.wait()}")
    return line


async def _end(contestant: Process) -> None:
    """An empty line, or the end of its input, lets it stop its servers and go."""
    if contestant.stdin is not None:
        contestant.stdin.close()
    await contestant.wait()


def _figure(name: str, ours: list[float], theirs: list[float], other: Path) -> Figure:
    title, unit = MEASUREMENTS[name]
    is_time = unit == "ms"
    target = Target("at most", 1 + LOSS) if is_time else Target("at least", 1 - LOSS)
    ours_, theirs_ = Sample(tuple(ours)), Sample(tuple(theirs))
    return Figure(title, unit, ours_, theirs_, str(other), target, f"{len(ours)} turns")
