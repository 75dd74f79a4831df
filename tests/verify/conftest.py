"""Lived-in books, made once. Tests change them inside a transaction that is rolled back."""

from pathlib import Path

import pytest

from tests.conftest import new_database, run_blocking
from tests.verify.books import Books, live_every_life


@pytest.fixture(scope="session")
def lived(_servers: object, tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Every life a payout can have, with three checkpoints."""
    server = _servers.of("wheel")  # type: ignore[attr-defined]
    anchor = tmp_path_factory.mktemp("anchor") / "checkpoints.jsonl"
    made = Books(new_database(server), anchor)
    run_blocking(live_every_life(made))
    return made


@pytest.fixture
def anchor(lived: Books, tmp_path: Path) -> Path:
    """A copy of the anchor, to be damaged."""
    copy = tmp_path / lived.anchor.name
    copy.write_bytes(lived.anchor.read_bytes())
    return copy
