"""The statements of the engine's tables: columns in the rows' order, on every Postgres we know."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import bursar
from bursar.bootstrap import QUERIES, RULES
from bursar.db.connection import connect
from bursar.db.pool import open_pool
from bursar.engine.model import GROUP_COMMITS, Table
from bursar.engine.postgres import COPY_ROWS_MIN, PostgresStore
from bursar.engine.working_set import Changes
from tests.conftest import Database
from tests.engine.rows import TABLES, changed_row, row_of

# Columns that a row keeps for ever, so that no UPDATE writes them. All others are written.
NEVER_CHANGED: Mapping[str, set[str]] = {
    "idempotency_keys": {"merchant_id", "key"},
    "journal_heads": {"merchant_id"},
    "payout_references": {"merchant_id", "reference"},
    "inbox": {"provider", "event_id", "body", "received_at"},
    "accounts": {"address", "merchant_id", "role", "currency", "limited"},
    "holds": {"id", "merchant_id", "subject_id", "created_at"},
    "payouts": {
        *("id", "merchant_id", "reference", "amount", "currency", "fee", "description"),
        *("beneficiary_name", "beneficiary_iban", "priority", "metadata", "due_at"),
        *("max_retries", "created_at", "correlation_id"),
    },
    "attempts": {
        *("id", "merchant_id", "payout_id", "number", "provider", "provider_key", "hold_id"),
        *("amount", "currency", "begun_at"),
    },
    "incidents": {
        *("id", "merchant_id", "kind", "subject_id", "currency", "detail", "opened_at"),
    },
    "resolutions": {"attempt_id", "merchant_id", "payout_id", "amount", "currency"},
    "api_keys": {
        *("id", "key_hash", "prefix", "merchant_id", "person_id", "role", "created_at"),
        "expires_at",
    },
}
# Rows that never change are read without a lock.
NEVER_LOCKED = {"merchants", "persons"}
STATEMENT = re.compile(r"(peek|lock|insert|update|claim|release)_(\w+)")


def _text(name: str) -> str:
    """A statement without comments, in single spaces."""
    return " ".join(re.sub(r"--[^\n]*", "", QUERIES[name]).split())


def _names(listed: str) -> list[str]:
    """`t.a, b` as ["a", "b"]."""
    return [part.strip().rpartition(".")[2] for part in listed.split(",")]


def _statements(verb: str) -> list[tuple[str, Table[Any]]]:
    tables = {table.name: table for table in TABLES}
    made = {f"{verb}_{name}": table for name, table in tables.items()}
    return [(name, made[name]) for name in QUERIES if name in made]


@pytest.mark.parametrize(("name", "table"), [*_statements("peek"), *_statements("lock")])
def test_reads_select_the_row_in_order(name: str, table: Table[Any]) -> None:
    """A row is built from its columns by place, so a swap of two is found here."""
    text = _text(name)
    found = re.match(r"SELECT (.+?) FROM (\w+)", text)
    assert found is not None
    assert found[2] == table.name
    assert _names(found[1]) == list(table.columns)
    ordered = re.search(r"ORDER BY (.+?)(?= FOR |$)", text)
    assert ordered is not None
    assert _names(ordered[1]) == list(table.key)
    locks = name.startswith("lock_") and table.name not in NEVER_LOCKED
    assert ("FOR NO KEY UPDATE" in text) == locks


@pytest.mark.parametrize("child", RULES.child_sets, ids=lambda child: child.name)
def test_child_sets_select_the_row_in_order(child: Any) -> None:
    """As any read; their parents hold the lock."""
    found = re.match(r"SELECT (.+?) FROM (\w+)", _text(f"children_{child.name}"))
    assert found is not None
    assert found[2] == child.table.name
    assert _names(found[1]) == list(child.table.columns)


@pytest.mark.parametrize(("name", "table"), [*_statements("insert"), *_statements("claim")])
def test_inserts_name_the_row_in_order(name: str, table: Table[Any]) -> None:
    """And take one array per column."""
    if table is GROUP_COMMITS:
        return
    text = _text(name)
    found = re.match(r"INSERT INTO (\w+) \((.+?)\) SELECT \* FROM unnest\((.+?)\)", text)
    assert found is not None
    assert found[1] == table.name
    assert _names(found[2]) == list(table.columns)
    numbers = [int(number) for number in re.findall(r"\$(\d+)::", found[3])]
    assert numbers == list(range(1, len(table.columns) + 1))
    if name.startswith("claim_"):
        claimed = re.search(r"AS new \((.+?)\) ORDER BY (.+?) ON CONFLICT DO NOTHING (.+)$", text)
        assert claimed is not None
        assert _names(claimed[1]) == list(table.columns)
        assert _names(claimed[2]) == list(table.key)
        assert _names(claimed[3].removeprefix("RETURNING ")) == list(table.key)


def _updated(table: Table[Any]) -> set[str]:
    found = re.search(r" SET (.+?) FROM unnest", _text(f"update_{table.name}"))
    assert found is not None
    pairs = [part.split(" = new.") for part in found[1].split(", ")]
    assert all(left == right for left, right in pairs)
    return {left for left, _ in pairs}


@pytest.mark.parametrize(("name", "table"), _statements("update"))
def test_updates_write_all_that_may_change(name: str, table: Table[Any]) -> None:
    """A column is either said to be never changed, or written: none is forgotten."""
    found = re.search(r"AS new \((.+?)\)", _text(name))
    assert found is not None
    assert _names(found[1]) == list(table.columns)
    assert _updated(table) == set(table.columns) - NEVER_CHANGED[table.name]
    assert re.search(r"RETURNING \S+$", _text(name))


def test_every_table_is_spoken_of_by_its_name() -> None:
    """A statement whose name fits the pattern has a table behind it."""
    tables = {table.name for table in TABLES}
    for name in QUERIES:
        found = STATEMENT.fullmatch(name)
        if found is not None and name not in {"insert_checkpoint", "release_migrations"}:
            assert found[2] in tables, name


def test_every_statement_is_used() -> None:
    """By its name in some Python file, or by the store's rule for a table's statements."""
    root = Path(bursar.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    by_rule = {f"children_{child.name}" for child in RULES.child_sets}
    by_rule |= {
        f"{verb}_{table.name}"
        for table in TABLES
        for verb in ("peek", "lock", "insert", "update", "claim", "release")
    }
    queues = {f"due_{queue}" for queue in re.findall(r"\"(\w+)\"", source)}
    unused = {
        name
        for name in set(QUERIES) - by_rule - queues
        if not re.search(rf"[\"'.]{name}\b", source)
    }
    assert unused == set()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """A store on the server that the test asks for."""
    pool = await open_pool(database.dsns.owner, size=1, name="tests")
    try:
        yield PostgresStore(pool, QUERIES)
        await pool.close()
    finally:
        pool.terminate()


@pytest.mark.both_postgres
async def test_every_statement_is_understood(database: Database) -> None:
    """Parsed and planned by the server, with the types of its parameters and columns."""
    connection = await connect(database.dsns.owner, name="tests")
    try:
        for name, text in QUERIES.items():
            statement = await connection.prepare(text)
            assert statement is not None, name
    finally:
        await connection.close()


async def _stored(store: PostgresStore, table: Table[Any]) -> list[Any]:
    order = ", ".join(table.key)
    async with store._pool.acquire() as connection:
        records = await connection.fetch(
            f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {order}"
        )
    return [table.load(*record) for record in records]


@pytest.mark.both_postgres
@pytest.mark.parametrize("count", [2, COPY_ROWS_MIN], ids=["insert", "copy"])
async def test_rows_come_back_as_they_went(store: PostgresStore, count: int) -> None:
    """By INSERT and by COPY, every field of every table; then every field that may change."""
    rows = {table: [row_of(table, number) for number in range(1, count + 1)] for table in TABLES}
    commits = rows.pop(GROUP_COMMITS)
    session = await store.begin()
    for table in list(rows):
        if f"claim_{table.name}" in QUERIES:
            await session.claim(table, rows[table])
    inserts = {table: rows[table] for table in rows if f"insert_{table.name}" in QUERIES}
    await session.write(Changes({}, {**inserts, GROUP_COMMITS: commits}, {}, frozenset()))
    await session.commit()
    for table, made in {**rows, GROUP_COMMITS: commits}.items():
        there = [row for row in await _stored(store, table) if row in made or _is_ours(table, row)]
        assert there == sorted(made, key=table.key_of), table
    changed = {
        table: [changed_row(table, number, _updated(table)) for number in range(1, count + 1)]
        for table in rows
        if f"update_{table.name}" in QUERIES
    }
    session = await store.begin()
    await session.write(Changes({**changed}, {}, {}, frozenset()))
    await session.commit()
    session = await store.begin()
    for table, made in changed.items():
        keys = sorted(map(table.key_of, made))
        assert await session.lock(table, keys) == sorted(made, key=table.key_of), table
    await session.rollback()


def _is_ours(table: Table[Any], row: Any) -> bool:
    return not (table.name == "journal_heads" and row.merchant_id == "platform")
