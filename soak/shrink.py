"""Makes a failing schedule small: the fewest payouts, faults and choices that break the rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bursar.kit.clock import Clock
from soak.schedule import Result, run
from soak.tape import Draws

Attempted = tuple[Draws, frozenset[int]]


class Shrinker:
    """Tries simpler tapes, keeps those that break the same invariant, and stops in time."""

    def __init__(
        self,
        failed: Result,
        *,
        clock: Clock,
        seconds: float,
        bias: Mapping[str, float] | None = None,
    ) -> None:
        """`clock` measures real time: shrinking ends after `seconds` of it."""
        if failed.violation is None:
            raise ValueError("nothing was broken")
        self._seed = failed.seed
        self._wanted = failed.violation.invariant
        self._clock = clock
        self._bias = bias
        self._ends = clock.monotonic() + seconds
        self.best = failed
        self.dropped: frozenset[int] = frozenset()
        self.tried = 0

    def shrink(self) -> Result:
        """The smallest failing schedule that was found."""
        steps: list[Callable[[], Iterator[Attempted]]] = [
            self._without_payouts,
            self._without_classes,
            self._without_tails,
            self._without_draws,
        ]
        changed = True
        while changed and not self._late:
            changed = False
            for step in steps:
                changed |= self._improve(step)
        return self.best

    @property
    def _late(self) -> bool:
        return self._clock.monotonic() >= self._ends

    def _improve(self, step: Callable[[], Iterator[Attempted]]) -> bool:
        """Take the first that still fails, and begin the step anew, until none does."""
        improved, found = False, True
        while found and not self._late:
            found = False
            for draws, dropped in step():
                if self._late:
                    break
                if self._fails(draws, dropped):
                    found = improved = True
                    break
        return improved

    def _fails(self, draws: Draws, dropped: frozenset[int]) -> bool:
        self.tried += 1
        result = run(self._seed, draws=draws, dropped=dropped, bias=self._bias)
        same = result.violation is not None and result.violation.invariant == self._wanted
        if same:
            used = {name: _trimmed(values) for name, values in result.draws.items()}
            result.draws = {name: values for name, values in used.items() if values}
            smaller = _size(result.draws) < _size(self.best.draws) or dropped != self.dropped
            if not smaller:
                return False
            self.best, self.dropped = result, dropped
        return same

    def _without_payouts(self) -> Iterator[Attempted]:
        for number in range(6):
            if number not in self.dropped:
                yield self.best.draws, self.dropped | {number}

    def _without_classes(self) -> Iterator[Attempted]:
        for name in sorted(self.best.draws):
            if any(self.best.draws[name]):
                yield {k: v for k, v in self.best.draws.items() if k != name}, self.dropped

    def _without_tails(self) -> Iterator[Attempted]:
        for name, values in sorted(self.best.draws.items()):
            if len(values) > 1 and any(values[len(values) // 2 :]):
                yield self.best.draws | {name: values[: len(values) // 2]}, self.dropped

    def _without_draws(self) -> Iterator[Attempted]:
        for name, values in sorted(self.best.draws.items()):
            for place, value in enumerate(values):
                if value:
                    zeroed = [*values[:place], 0.0, *values[place + 1 :]]
                    yield self.best.draws | {name: zeroed}, self.dropped


def _trimmed(values: list[float]) -> list[float]:
    end = len(values)
    while end and not values[end - 1]:
        end -= 1
    return values[:end]


def _size(draws: Draws) -> int:
    return sum(sum(1 for value in values if value) for values in draws.values())
