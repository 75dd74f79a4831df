"""A server with room for many worlds side by side."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.db.embedded import EmbeddedPostgres
from bursar.db.prepare import prepare
from bursar.db.roles import ADMIN
from tests.conftest import Database, binaries_of, run_blocking


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
    name = "furnished"
    dsns = run_blocking(prepare(roomy, database=name))
    return Database(name, dsns, roomy.dsn(ADMIN, "postgres"))
