"""A server with room for many worlds side by side."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.db.embedded import EmbeddedPostgres
from bursar.db.prepare import prepare
from bursar.db.roles import ADMIN
from tests.conftest import Database, binaries_of, run_blocking

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def roomy(scratch: Path) -> Iterator[EmbeddedPostgres]:
    """A running server of its own: the shared one has fewer connections than the worlds need."""
    server = EmbeddedPostgres(
        scratch / "roomy",
        binaries=binaries_of("wheel"),
        settings={"max_connections": "160"},
        die_with_parent=True,
    )
    server.start()
    try:
        yield server
    finally:
        server.destroy()


@pytest.fixture
def furnished(roomy: EmbeddedPostgres) -> Database:
    """A migrated database, which goes when the server goes."""
    name = f"furnished_{next(_numbers)}"
    dsns = run_blocking(prepare(roomy, database=name))
    return Database(name, dsns, roomy.dsn(ADMIN, "postgres"))
