"""How checkpoints are read: by key, and never many large ones at once."""

import asyncio
from pathlib import Path

import pytest

from bursar.engine import checkpoints
from bursar.engine.queries import QUERIES
from bursar.engine.verify import compare
from tests.verify.books import Books

SEQ_SCANS = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'journal_links'"


async def test_sealed_heads_are_looked_up_by_key(lived: Books, anchor: Path) -> None:
    """I14: a day has 86,400 checkpoints; each batch of them must not read all links."""
    checks = [checkpoints.stored, checkpoints.anchored(anchor)]
    async with lived.hand() as hand:
        before = await hand.connection.fetchval(SEQ_SCANS)
        audit = await compare(hand.connection, checks)
        after = await hand.connection.fetchval(SEQ_SCANS)
        joins = [
            await hand.connection.fetchval(f"SHOW enable_{name}")
            for name in ("nestloop", "seqscan")
        ]

    assert audit.disagreement is None
    assert after == before
    assert joins == ["off", "on"]


def test_large_checkpoints_come_one_by_one(lived: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may list every merchant; with all in one batch or each in its own the audit agrees."""
    whole = asyncio.run(lived.audit())
    monkeypatch.setattr(checkpoints, "_HEADS_BYTES", 1)
    monkeypatch.setattr(checkpoints, "_BATCH", 2)
    single = asyncio.run(lived.audit())

    assert single.disagreement is None
    assert single.lines == whole.lines


@pytest.mark.parametrize(("heads_bytes", "ids"), [(1, [1]), (10**6, [1, 2, 3])])
async def test_a_fetch_has_a_bound_in_bytes(lived: Books, heads_bytes: int, ids: list[int]) -> None:
    """The first fits always."""
    async with lived.hand() as hand:
        rows = await hand.connection.fetch(QUERIES["verify_checkpoints"], 1, heads_bytes)

    assert [row["id"] for row in rows] == ids
