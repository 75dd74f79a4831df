"""The only clock of the benchmarks."""

import time
from statistics import median


class Stopwatch:
    """Seconds since it was made or reset."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """How long it runs."""
        return time.perf_counter() - self._began

    def reset(self) -> None:
        """Start again at zero."""
        self._began = time.perf_counter()


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of all are not above; 0.5 is the median."""
    ordered = sorted(values)
    if share == 0.5:
        return median(ordered)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
