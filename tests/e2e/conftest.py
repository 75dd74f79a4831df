"""One calm platform for the tests that only talk to it; the violent ones start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.platform import Platform, platform_running

CALM_POLL_S = 30


@pytest.fixture(scope="session")
def calm(scratch: Path) -> Iterator[Platform]:
    """A bank that neither fails nor declines, and a worker that polls every 30 s only."""
    data_dir = scratch / "calm"
    data_dir.mkdir(mode=0o711)
    with platform_running(
        data_dir, knobs=["decline=0"], environment={"BURSAR_WORKER_POLL_S": str(CALM_POLL_S)}
    ) as platform:
        yield platform


@pytest.fixture
def data_dir(scratch: Path, request: pytest.FixtureRequest) -> Path:
    """A fresh data directory that the server's account can enter."""
    name: str = request.node.name
    made = scratch / name[:40]
    made.mkdir(mode=0o711)
    return made
