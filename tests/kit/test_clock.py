"""The machine's clock."""

import sys
import time

import pytest

from bursar.kit.clock import SystemClock


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems count sleep, or have no such clock"
)
def test_intervals_count_the_time_that_the_machine_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    """F33: a lease in the database runs on while the worker's machine is suspended."""
    asked: list[int] = []
    real = time.clock_gettime

    def reading(clock: int) -> float:
        asked.append(clock)
        return real(clock)

    monkeypatch.setattr(time, "clock_gettime", reading)
    first, second = SystemClock().monotonic(), SystemClock().monotonic()
    assert asked == [time.CLOCK_BOOTTIME] * 2
    assert first <= second
