"""One calm platform for the tests that only talk to it; the violent ones start their own."""

import fcntl
import os
import tempfile
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


@pytest.fixture(autouse=True)
def _one_at_a_time() -> Iterator[None]:
    """Platforms under load would take each other's processors, so only one test has one.

    The group mark says the same, but xdist 3.8 loses groups under pytest 9.2. Waiting counts
    as a test's time, hence the long timeouts.
    """
    path = Path(tempfile.gettempdir()) / f"bursar-e2e-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def data_dir(scratch: Path, request: pytest.FixtureRequest) -> Path:
    """A fresh data directory that the server's account can enter."""
    name: str = request.node.name
    made = scratch / name[:40]
    made.mkdir(mode=0o711)
    return made
