"""Places to run commands in: the in-memory twin, Postgres, or each in turn."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Database
from tests.engine.stores import Place, open_shop, postgres_place, twin_place


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
