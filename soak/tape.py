"""The choice tape: every choice of a schedule is a number in [0, 1), drawn under a name.

0 is always the harmless choice: no fault, no delay, the first of a list. So a shorter tape, or
one with a draw taken out, is a simpler schedule, and shrinking needs to know nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
Draws = dict[str, list[float]]


class Tape:
    """Draws by name, each name a stream of its own, so that one class of choice moves no other.

    With `recorded`, those draws are given again; a stream that has run out gives 0.
    """

    def __init__(
        self,
        seed: int,
        recorded: Mapping[str, Sequence[float]] | None = None,
        *,
        dropped: frozenset[int] = frozenset(),
    ) -> None:
        """`dropped` are the numbers of payouts to leave out, for shrinking."""
        self.seed = seed
        self.dropped = dropped
        self.taken: Draws = {}
        self._recorded = recorded
        self._streams: dict[str, random.Random] = {}

    def unit(self, name: str) -> float:
        """The next number of this name, in [0, 1)."""
        taken = self.taken.get(name)
        if taken is None:
            taken = self.taken[name] = []
        if self._recorded is not None:
            known = self._recorded.get(name, ())
            value = known[len(taken)] if len(taken) < len(known) else 0.0
        else:
            stream = self._streams.get(name)
            if stream is None:
                stream = self._streams[name] = random.Random(f"{self.seed}/{name}")
            value = stream.random()
        taken.append(value)
        return value

    def chance(self, name: str, rate: float) -> bool:
        """True with probability `rate`. A rate of 0 draws nothing."""
        return rate > 0 and self.unit(name) >= 1.0 - rate

    def uniform(self, name: str, low: float, high: float) -> float:
        """A number in [low, high); `low` is the harmless one."""
        return low + (high - low) * self.unit(name)

    def below(self, name: str, count: int) -> int:
        """An integer from 0 to `count` - 1."""
        return int(self.unit(name) * count)

    def pick(self, name: str, choices: Sequence[T]) -> T:
        """One of the choices; the first is the harmless one."""
        return choices[self.below(name, len(choices))]
