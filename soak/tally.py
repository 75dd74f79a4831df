"""Many schedules, in one process or several, what they came to, and which faults they lacked.

A fault that never strikes is only said to be survived. The rarest ones strike in a few of a
thousand seeds, so that a thousand without one may be chance. The rule (`lacking`):

- A fault that struck in no whole thousand of a run is lacking. So in a run of one thousand every
  fault must strike.
- Of a longer run the seeds in which the fault struck are counted. It is lacking if, had they been
  spread over the run by chance alone, so many thousands would be without one with a probability
  under `BY_CHANCE`. A common fault may so be missing in none, a rare one in some.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from soak.schedule import Result, run, silence

CHUNK = 50
THOUSAND = 1000
"""So many consecutive seeds, from the first of a run on, are looked at by themselves."""
BY_CHANCE = 1e-6
FIRSTS_MAX = 5


def positive(text: str) -> int:
    """How many, as an option says it: a whole number from 1 on."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!a} is no whole number from 1 on")
    return number


class Tally(msgspec.Struct):
    """What a number of schedules came to. `struck` is in how many of them a fault fired."""

    schedules: int = 0
    commits: int = 0
    fired: Counter[str] = msgspec.field(default_factory=Counter)
    struck: Counter[str] = msgspec.field(default_factory=Counter)
    reached: Counter[str] = msgspec.field(default_factory=Counter)
    crashed: Counter[str] = msgspec.field(default_factory=Counter)
    ends: Counter[str] = msgspec.field(default_factory=Counter)
    violations: list[tuple[int, str]] = msgspec.field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another tally."""
        self.schedules += other.schedules
        self.commits += other.commits
        for name in ("fired", "struck", "reached", "crashed", "ends"):
            getattr(self, name).update(getattr(other, name))
        self.violations += other.violations

    def take(self, result: Result) -> None:
        """Take in one schedule."""
        self.schedules += 1
        self.commits += result.commits
        for name in ("fired", "reached", "crashed", "ends"):
            getattr(self, name).update(getattr(result, name))
        self.struck.update(name for name, times in result.fired.items() if times)
        if result.violation is not None:
            self.violations.append((result.seed, str(result.violation)))


@dataclass
class Thousands:
    """Which faults were missing in which thousands. Keeps names only of those not yet whole.

    `missing` has the first seeds of the whole thousands in which a fault of `expected` never
    fired. A last part of fewer seeds counts for the rate alone.
    """

    first: int
    expected: tuple[str, ...]
    whole: int = 0
    missing: dict[str, list[int]] = field(default_factory=dict)
    _played: Counter[int] = field(default_factory=Counter)
    _met: dict[int, set[str]] = field(default_factory=dict)

    @property
    def unfinished(self) -> int:
        """How many thousands have begun and are not whole."""
        return len(self._met)

    def add(self, seed: int, part: Tally) -> None:
        """Take in the part of a run that begins at `seed`, in any order. No part spans two."""
        number = (seed - self.first) // THOUSAND
        self._met.setdefault(number, set()).update(
            name for name in part.struck if part.struck[name]
        )
        self._played[number] += part.schedules
        if self._played[number] == THOUSAND:
            self.whole += 1
            met = self._met.pop(number)
            del self._played[number]
            for name in self.expected:
                if name not in met:
                    self.missing.setdefault(name, []).append(self.first + number * THOUSAND)


def lacking(thousands: Thousands, tally: Tally) -> list[str]:
    """The faults that did not strike where they should have: see the rule above."""
    return [
        name
        for name, firsts in sorted(thousands.missing.items())
        if len(firsts) == thousands.whole or _by_chance(name, thousands, tally) < BY_CHANCE
    ]


def missing_lines(thousands: Thousands, tally: Tally) -> Iterator[str]:
    """Which faults were missing in which thousands, for a person."""
    never = [name for name in thousands.expected if not tally.struck[name]]
    if never:
        yield f"never fired: {', '.join(never)}"
    found = lacking(thousands, tally)
    for name, firsts in sorted(thousands.missing.items()):
        shown = ", ".join(map(str, sorted(firsts)[:FIRSTS_MAX]))
        yield (
            f"{'LACKING' if name in found else 'missing, perhaps by chance'}: {name} fired in "
            f"{tally.struck[name]} seeds of {tally.schedules}, in none of {len(firsts)} of "
            f"{thousands.whole} thousands (from {shown}); by chance with at most "
            f"{_by_chance(name, thousands, tally):.1e}"
        )


def _by_chance(name: str, thousands: Thousands, tally: Tally) -> float:
    return chance_of_missing(
        len(thousands.missing[name]),
        thousands.whole,
        struck=tally.struck[name],
        schedules=tally.schedules,
    )


def chance_of_missing(missing: int, whole: int, *, struck: int, schedules: int) -> float:
    """At most so likely do `missing` or more of `whole` thousands have none of `struck` seeds.

    If every choice of `struck` among all the seeds is as likely as any other. For given thousands
    it is the share of the choices that avoid them; it is added up over all that could be meant.
    """
    outside = schedules - missing * THOUSAND
    if struck > outside:
        return 0.0
    avoided = _log_choices(outside, struck) - _log_choices(schedules, struck)
    return math.exp(min(0.0, _log_choices(whole, missing) + avoided))


def _log_choices(of: int, chosen: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)


def play(seeds: Iterable[int]) -> Tally:
    """Play some seeds."""
    tally = Tally()
    with silence():
        for seed in seeds:
            tally.take(run(seed))
    return tally


def play_many(first: int, count: int, workers: int) -> Iterator[tuple[int, Tally]]:
    """Play seeds from `first` on, in parts over several processes: the first of each, and it."""
    parts = [
        range(start, min(start + CHUNK, first + count))
        for start in range(first, first + count, CHUNK)
    ]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_part, parts)


def _part(seeds: range) -> tuple[int, Tally]:
    return seeds.start, play(seeds)
