"""Places to run commands in: the in-memory twin, Postgres, or each in turn."""

from collections.abc import AsyncIterator, Iterator

import pytest
from structlog.testing import capture_logs

from tests.conftest import Database
from tests.engine.stores import Place, open_shop, postgres_place, twin_place


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Failures are planted here by the hundred; drawing their tracebacks takes half a second."""
    with capture_logs():
        yield


@pytest.fixture
async def on_postgres(database: Database) -> AsyncIterator[Place]:
    """Postgres, as a role that may do what API and worker may, with one merchant."""
    async with postgres_place(database.dsns.owner) as made:
        await open_shop(made)
        yield made


@pytest.fixture
async def on_twin() -> AsyncIterator[Place]:
    """The twin with one merchant."""
    async with twin_place() as made:
        await open_shop(made)
        yield made


@pytest.fixture(params=["twin", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each store in turn: what holds on one holds on the other."""
    found: Place = request.getfixturevalue(f"on_{request.param}")
    return found
