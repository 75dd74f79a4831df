"""Checkpoints, the pruning of commit marks, and the relay of the journal, on real Postgres."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from msgspec.structs import replace

from bursar.bootstrap import QUERIES, RULES
from bursar.db.connection import Connection, connect
from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.engine.model import Origin
from bursar.engine.postgres import PostgresStore
from bursar.identity.commands import CreateMerchant
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SeededIds
from bursar.payouts.verify import audit
from bursar.worker import housekeeping
from bursar.worker.files import FileUnwritable
from bursar.worker.housekeeping import Sealer, blank_replies, prune, run_sealer
from bursar.worker.relay import FILE_SINK, relay_once
from tests.conftest import Database

T = TypeVar("T")


def _create(number: int) -> CreateMerchant:
    return CreateMerchant(
        origin=Origin("test", "cor"),
        merchant_id=f"mer_{number:032x}",
        name="M",
        currencies=("EUR",),
        payout_fee_bps=0,
    )


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[Engine]:
    """An engine as the owner, who may make merchants."""
    ids = SeededIds(1)
    owner = await open_pool(database.dsns.owner, size=2, name="test")
    made = Engine(
        PostgresStore(owner, QUERIES), RULES, clock=SystemClock(), ids=ids, randomness=ids
    )
    yield made
    await made.close()
    await owner.close()


async def _sealer(database: Database, anchor: Path | None) -> tuple[Connection, Sealer]:
    connection = await connect(database.dsns.worker, name="test")
    sealer = await Sealer.take_over(connection, anchor)
    assert sealer is not None
    return connection, sealer


async def _eventually(ask: Callable[[], Awaitable[T | None]]) -> T:
    """What `ask` gives once it gives something."""
    for _ in range(2000):
        if found := await ask():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError


def _lines(anchor: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in anchor.read_text().splitlines()]


async def test_a_checkpoint_lists_the_heads_that_moved(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    """I14: made when one moved, exported outside the database, each with the hash before it."""
    anchor = tmp_path / "checkpoints.jsonl"
    connection, sealer = await _sealer(database, anchor)
    await engine.submit(_create(1))
    assert await sealer.seal() == 1
    assert await sealer.seal() is None
    await engine.submit(_create(2))
    assert await sealer.seal() == 2
    stored = await connection.fetch("SELECT * FROM checkpoints ORDER BY id")
    await connection.close()

    first, second = _lines(anchor)
    assert set(first["heads"]) == {"platform", f"mer_{1:032x}"}
    assert set(second["heads"]) == {"platform", f"mer_{2:032x}"}
    assert second["heads"]["platform"][0] == 2
    assert first["previous"] == "0" * 64
    assert second["previous"] == first["hash"]
    assert [(row["id"], row["hash"].hex()) for row in stored] == [
        (line["id"], line["hash"]) for line in (first, second)
    ]


async def test_one_seals_and_the_next_takes_over(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    """F92, I14: with its connection ends its right; a successor starts with all heads."""
    anchor = tmp_path / "checkpoints.jsonl"
    first, sealer = await _sealer(database, anchor)
    second = await connect(database.dsns.worker, name="test")
    await engine.submit(_create(1))
    assert await sealer.seal() == 1
    assert await Sealer.take_over(second, anchor) is None

    first.terminate()
    successor = await _eventually(lambda: Sealer.take_over(second, anchor))
    await engine.submit(_create(2))
    assert await successor.seal() == 2
    with pytest.raises(asyncpg.InterfaceError):
        await sealer.seal()
    await second.close()

    lines = _lines(anchor)
    assert len(lines[1]["heads"]) == 3
    assert lines[1]["previous"] == lines[0]["hash"]
    assert (await audit(database.dsns.auditor, anchor=anchor)).disagreement is None


END_THE_SEALER = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' "
    "AND granted AND database = (SELECT oid FROM pg_database WHERE datname = $1)"
)


async def test_two_workers_seal_once_whatever_ends(
    database: Database, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F92, I14: the backend of the one that seals is ended; sealing goes on, and nothing twice."""
    monkeypatch.setattr(housekeeping, "SEAL_EVERY_S", 0.01)
    anchor = tmp_path / "checkpoints.jsonl"
    pools = [await open_pool(database.dsns.worker, size=1, name="test") for _ in range(2)]
    tasks = [asyncio.create_task(run_sealer(pool, anchor, SystemClock())) for pool in pools]
    admin = await connect(database.admin_dsn, name="test")

    async def sealed(number: int) -> bool:
        return anchor.exists() and _create(number).merchant_id in anchor.read_text()

    async def end_the_one_that_seals() -> int:
        count: int = await admin.fetchval(END_THE_SEALER, database.name)
        return count

    try:
        for number in range(1, 4):
            await engine.submit(_create(number))
            await _eventually(partial(sealed, number))
            assert await _eventually(end_the_one_that_seals) == 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await admin.close()
        for pool in pools:
            pool.terminate()

    lines = _lines(anchor)
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert (await audit(database.dsns.auditor, anchor=anchor)).disagreement is None


async def test_what_could_not_be_exported_is_covered_by_the_next_line(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    """F54, I14: with a full disk sealing goes on; later lines vouch for those left out."""
    anchor = tmp_path / "there" / "checkpoints.jsonl"
    connection, sealer = await _sealer(database, anchor)
    for number in (1, 2):
        await engine.submit(_create(number))
        assert await sealer.seal() == number
    anchor.parent.mkdir()
    await engine.submit(_create(3))
    assert await sealer.seal() == 3
    await connection.close()

    (line,) = _lines(anchor)
    assert line["id"] == 3
    assert set(line["heads"]) == {"platform", f"mer_{3:032x}"}
    assert (await audit(database.dsns.auditor, anchor=anchor)).disagreement is None


async def test_a_takeover_in_one_process_seals_what_moved(
    database: Database, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F92: a connection that is lost each minute must not store all merchants each minute."""
    monkeypatch.setattr(housekeeping, "SEAL_EVERY_S", 0.01)
    anchor = tmp_path / "new" / "place" / "checkpoints.jsonl"
    pool = await open_pool(database.dsns.worker, size=1, name="test")
    admin = await connect(database.admin_dsn, name="test")
    task = asyncio.create_task(run_sealer(pool, anchor, SystemClock()))

    async def sealed(number: int) -> bool:
        return anchor.exists() and _create(number).merchant_id in anchor.read_text()

    async def end_the_one_that_seals() -> int:
        count: int = await admin.fetchval(END_THE_SEALER, database.name)
        return count

    try:
        for number in (1, 2):
            await engine.submit(_create(number))
            await _eventually(partial(sealed, number))
            await _eventually(end_the_one_that_seals)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await admin.close()
        pool.terminate()

    assert set(_lines(anchor)[-1]["heads"]) == {"platform", f"mer_{2:032x}"}
    assert (await audit(database.dsns.auditor, anchor=anchor)).disagreement is None


async def test_a_right_to_seal_that_was_half_taken_does_not_return_to_the_pool(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F92: the lock was had, then taking over failed: nobody could seal as long as it is held."""
    monkeypatch.setattr(housekeeping, "SEAL_EVERY_S", 0.01)
    broken = dict(QUERIES) | {"last_checkpoint": "SELECT id, hash FROM no_such_table"}
    monkeypatch.setattr(housekeeping, "QUERIES", broken)
    pool = await open_pool(database.dsns.worker, size=1, name="test")
    rival = await connect(database.dsns.worker, name="test")
    task = asyncio.create_task(run_sealer(pool, None, SystemClock()))
    try:
        await asyncio.sleep(0.1)
        monkeypatch.setattr(housekeeping, "SEAL_EVERY_S", 3600.0)

        async def taken() -> bool | None:
            got: bool = await rival.fetchval(QUERIES["take_seal"])
            return got

        assert await _eventually(taken)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await rival.close()
        pool.terminate()


async def test_whoever_stands_by_keeps_its_connection(database: Database) -> None:
    """A worker that finds another sealing asks each second: not by a new connection each time."""
    first, _sealer_of_first = await _sealer(database, None)
    pool = await open_pool(database.dsns.worker, size=1, name="test")
    pid = await pool.fetchval("SELECT pg_backend_pid()")
    try:
        await housekeeping._seal_while_ours(pool, None, SystemClock(), {})
        assert await pool.fetchval("SELECT pg_backend_pid()") == pid
    finally:
        await first.close()
        pool.terminate()


async def test_a_checkpoint_file_that_cannot_be_written_stops_the_sealer(
    tmp_path: Path,
) -> None:
    """I14: else a worker would run for months and export nothing."""
    (tmp_path / "file").write_bytes(b"")
    pool: Any = None
    for anchor in (tmp_path / "file" / "checkpoints.jsonl", tmp_path):
        with pytest.raises(FileUnwritable, match="can't be opened for appending"):
            await run_sealer(pool, anchor, SystemClock())


async def test_old_commit_marks_go_a_batch_at_a_time(database: Database) -> None:
    """A backlog of any size is worked off within the role's statement time-out; new ones stay."""
    owner = await connect(database.dsns.owner, name="test")
    await owner.execute(
        "INSERT INTO group_commits SELECT 'old' || n, false, clock_timestamp() - interval '2 hours'"
        " FROM generate_series(1, 25) AS n; "
        "INSERT INTO group_commits VALUES ('new', false, clock_timestamp())"
    )
    pool = await open_pool(database.dsns.worker, size=1, name="test")
    try:
        first = await pool.execute(QUERIES["prune_group_commits"], 5)
        assert await prune(pool, batch=10) == 20
        assert await pool.fetchval("SELECT array_agg(group_id) FROM group_commits") == ["new"]
        assert await prune(pool, batch=10) == 0
    finally:
        pool.terminate()
        await owner.close()
    assert first == "DELETE 5"


async def test_replies_too_old_to_be_replayed_are_blanked(database: Database) -> None:
    """I10: those of 24 hours and an hour more are whole; the key and its outcome stay."""
    owner = await connect(database.dsns.owner, name="test")
    await owner.execute(
        "INSERT INTO idempotency_keys SELECT 'mer_1', 'k' || hours, 'f', 'executed', 201, 'body', "
        "'po_' || hours, clock_timestamp() - make_interval(hours => hours, mins => -1) "
        "FROM unnest(ARRAY[1, 25, 26, 27, 500, 20 * 24, 60 * 24]) AS hours"
    )
    pool = await open_pool(database.dsns.worker, size=1, name="test")

    async def whole() -> set[str]:
        rows = await owner.fetch("SELECT key FROM idempotency_keys WHERE body = 'body'")
        return {row["key"] for row in rows}

    try:
        done = await blank_replies(pool, None, batch=1)
        assert await whole() == {"k1", "k25", f"k{60 * 24}"}
        await owner.execute("UPDATE idempotency_keys SET body = 'body' WHERE key = 'k500'")
        assert await blank_replies(pool, done) >= done
        assert "k500" in await whole()
        kept = await owner.fetchrow("SELECT * FROM idempotency_keys WHERE key = 'k27'")
    finally:
        await owner.close()
        pool.terminate()
    assert kept is not None
    assert (kept["outcome"], kept["status"], kept["resource_id"]) == ("executed", 201, "po_27")


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
        # The crash: the file has the lines, and half a line; the rows are still there.
        with export.open("ab") as file:
            file.write(b'{"actor":"te')
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
