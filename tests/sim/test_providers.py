"""A provider inside this process: no thread, no file, no lifespan."""

import time

import pytest

from bursar_sim.callback import Unreachable
from bursar_sim.clock import SystemClock
from bursar_sim.provider.knobs import Knobs
from bursar_sim.providers import Provider, build


class Nowhere:
    """A poster that reaches nobody."""

    async def post(self, headers: dict[str, str], body: bytes) -> int:
        """Never."""
        raise Unreachable


def made(name: str, seed: int = 1) -> Provider:
    """In memory."""
    return build(name, data=None, seed=seed, knobs=Knobs(), clock=SystemClock(), poster=Nowhere())


def test_building_is_cheap() -> None:
    """Thousands of schedules build one each: under 2 ms, at the best of three tries."""
    best = 1.0
    for _ in range(3):
        began = time.perf_counter()
        for seed in range(20):
            made("bank", seed)
        best = min(best, (time.perf_counter() - began) / 20)

    assert best < 0.002


def test_no_such_provider() -> None:
    """A name that is none."""
    with pytest.raises(ValueError, match="no such provider"):
        made("nonsense")
