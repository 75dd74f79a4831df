"""Many schedules, in one process or several, and what they came to."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from soak.schedule import Result, run, silence

CHUNK = 50


class Tally(msgspec.Struct):
    """What a number of schedules came to."""

    schedules: int = 0
    commits: int = 0
    fired: Counter[str] = msgspec.field(default_factory=Counter)
    reached: Counter[str] = msgspec.field(default_factory=Counter)
    crashed: Counter[str] = msgspec.field(default_factory=Counter)
    ends: Counter[str] = msgspec.field(default_factory=Counter)
    violations: list[tuple[int, str]] = msgspec.field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another tally."""
        self.schedules += other.schedules
        self.commits += other.commits
        for name in ("fired", "reached", "crashed", "ends"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations

    def take(self, result: Result) -> None:
        """Take in one schedule."""
        self.schedules += 1
        self.commits += result.commits
        for name in ("fired", "reached", "crashed", "ends"):
            getattr(self, name).update(getattr(result, name))
        if result.violation is not None:
            self.violations.append((result.seed, str(result.violation)))


def play(seeds: Iterable[int]) -> Tally:
    """Play some seeds."""
    tally = Tally()
    with silence():
        for seed in seeds:
            tally.take(run(seed))
    return tally


def play_many(first: int, count: int, workers: int) -> Iterator[Tally]:
    """Play seeds from `first` on, in chunks over several processes."""
    chunks = [
        range(start, min(start + CHUNK, first + count))
        for start in range(first, first + count, CHUNK)
    ]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(play, chunks)
