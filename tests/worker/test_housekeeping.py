"""Checkpoints, the pruning of commit marks, and the relay of the journal, on real Postgres."""

import json
from pathlib import Path

from msgspec.structs import replace

from bursar.bootstrap import QUERIES, RULES
from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.engine.model import Origin
from bursar.engine.postgres import PostgresStore
from bursar.identity.commands import CreateMerchant
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SeededIds
from bursar.worker.housekeeping import seal
from bursar.worker.relay import FILE_SINK, relay_once
from tests.conftest import Database


def _create(number: int) -> CreateMerchant:
    return CreateMerchant(
        origin=Origin("test", "cor"),
        merchant_id=f"mer_{number:032x}",
        name="M",
        currencies=("EUR",),
        payout_fee_bps=0,
    )


async def test_seal_exports_each_new_state_of_the_chains_once(
    database: Database, tmp_path: Path
) -> None:
    """A checkpoint is made when a head moved, and stands in the file outside the database."""
    anchor = tmp_path / "checkpoints.jsonl"
    ids = SeededIds(1)
    pool = await open_pool(database.dsns.worker, size=2, name="test")
    owner = await open_pool(database.dsns.owner, size=2, name="test")
    engine = Engine(
        PostgresStore(owner, QUERIES), RULES, clock=SystemClock(), ids=ids, randomness=ids
    )
    try:
        await engine.submit(_create(1))
        first = await seal(pool, anchor, None)
        assert await seal(pool, anchor, first) == first
        await engine.submit(_create(2))
        second = await seal(pool, anchor, first)
    finally:
        await engine.close()
        await pool.close()
        await owner.close()

    lines = [json.loads(line) for line in anchor.read_text().splitlines()]
    assert [line["hash"] for line in lines] == [first.hex(), second.hex()]
    assert lines[1]["heads"]["platform"][0] == 2


async def test_the_relay_hands_over_every_entry_and_repeats_after_a_crash(
    database: Database, tmp_path: Path
) -> None:
    """Gaps are impossible, duplicates are not: rows go only after the file has the line (F5)."""
    export = tmp_path / "journal.jsonl"
    ids = SeededIds(1)
    pool = await open_pool(database.dsns.worker, size=2, name="test")
    owner = await open_pool(database.dsns.owner, size=2, name="test")
    engine = Engine(
        PostgresStore(owner, QUERIES),
        replace(RULES, sinks=(FILE_SINK,)),
        clock=SystemClock(),
        ids=ids,
        randomness=ids,
    )
    try:
        for number in range(3):
            await engine.submit(_create(number))
        waiting = await pool.fetch("SELECT * FROM deliveries")
        assert await relay_once(pool, export) == 3
        assert await relay_once(pool, export) == 0
        # The crash: the file has the lines, the rows are still there.
        await owner.executemany(
            "INSERT INTO deliveries VALUES ($1, $2, $3)", [tuple(row) for row in waiting]
        )
        assert await relay_once(pool, export) == 3
    finally:
        await engine.close()
        await pool.close()
        await owner.close()

    lines = [json.loads(line) for line in export.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3, 1, 2, 3]
    assert lines[0]["kind"] == "merchant.created"
    assert lines[0]["body"]["currencies"] == ["EUR"]
