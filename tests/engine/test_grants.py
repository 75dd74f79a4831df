"""What each role may do, and what nobody may: change history, store bad amounts.

By the schema itself: whoever gets past the code still meets grants, triggers and checks.
"""

from collections.abc import Iterable

import asyncpg
import pytest

from bursar.bootstrap import QUERIES
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.migrate import migrate
from bursar.db.pool import open_pool
from bursar.engine.model import GROUP_COMMITS
from bursar.engine.postgres import PostgresStore
from bursar.engine.working_set import Changes
from tests.conftest import Database, drop, new_database
from tests.engine.rows import TABLES, row_of

HISTORY = ("journal", "journal_links", "transfers", "checkpoints")

# role: (letters, tables). S select, I insert, D delete. What is not here is not granted.
GRANTS = """
    api      SI    journal journal_links transfers group_commits deliveries holds payouts
    api      SI    incidents facts resolutions
    api      SID   idempotency_keys payout_references inbox
    api      S     journal_heads accounts attempts provider_keys merchants persons api_keys
    worker   SI    journal journal_links transfers incidents checkpoints facts attempts
    worker   SI    provider_keys
    worker   SID   group_commits deliveries
    worker   S     journal_heads accounts holds payouts inbox
    auditor  S     journal journal_links transfers incidents merchants persons group_commits
    auditor  S     deliveries checkpoints journal_heads accounts holds payouts attempts
    api      S     schema_migrations
    worker   S     schema_migrations
    auditor  S     schema_migrations
    auditor  S     idempotency_keys payout_references inbox provider_keys facts resolutions
"""
LETTERS = {"SELECT": "S", "INSERT": "I", "UPDATE": "U", "DELETE": "D"}
# role: what, table: columns. What a payout is about (who, to whom, how much) is in no line.
COLUMN_GRANTS = """
    both     UPDATE  journal_heads: seq link_seq hash
    both     UPDATE  accounts: debits_pending debits_posted credits_pending credits_posted
    both     UPDATE  holds: state ended_at
    both     UPDATE  payouts: state version next_attempt_at expires_at attempt_count
    both     UPDATE  payouts: retries_burned hold_id provider provider_ref provider_cost
    both     UPDATE  payouts: failure_code failure_reason amount_returned updated_at settled_at
    both     UPDATE  inbox: result tries next_try_at
    both     UPDATE  incidents: amount assigned_to closed_at closed_by note
    both     UPDATE  attempts: state lease_token lease_until ambiguous_at provider_ref code
    both     UPDATE  attempts: reason inquire_at inquiries proof_at sends resend_at frozen_at
    api      UPDATE  idempotency_keys: fingerprint outcome status body resource_id claimed_at
    api      UPDATE  payout_references: payout_id
    api      UPDATE  resolutions: verdict provider_ref evidence proposed_by proposed_at
    api      UPDATE  resolutions: confirmed_by confirmed_at
    worker   UPDATE  provider_keys: hold_id
    worker   SELECT  idempotency_keys: merchant_id key body claimed_at
    worker   UPDATE  idempotency_keys: body
    auditor  SELECT  api_keys: id prefix merchant_id person_id role created_at expires_at
    auditor  SELECT  api_keys: revoked_at
"""


async def _run(dsn: str, *statements: str) -> None:
    connection = await connect(dsn, name="tests")
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _refused(dsn: str, attack: str, error: type[Exception], name: str = "") -> None:
    """The server refuses `attack`, and for that reason."""
    try:
        await _run(dsn, attack)
    except error:
        return
    pytest.fail(f"not refused: {name or attack}")


async def _fetch(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await connect(dsn, name="tests")
    try:
        rows: list[asyncpg.Record] = await connection.fetch(query)
        return rows
    finally:
        await connection.close()


@pytest.fixture
async def filled(database: Database) -> Database:
    """A database with one row in every table."""
    pool = await open_pool(database.dsns.owner, size=1, name="tests")
    try:
        session = await PostgresStore(pool, QUERIES).begin()
        for table in TABLES:
            if f"claim_{table.name}" in QUERIES:
                await session.claim(table, [row_of(table, 1)])
        inserts = {
            table: [row_of(table, 1)]
            for table in TABLES
            if f"insert_{table.name}" in QUERIES or table is GROUP_COMMITS
        }
        await session.write(Changes({}, {**inserts}, {}, frozenset()))
        await session.commit()
        await pool.execute(
            "INSERT INTO checkpoints VALUES (1, sha256('x'), sha256('x'), '[]', now())"
        )
        await pool.close()
    finally:
        pool.terminate()
    return database


async def test_the_grants_are_these(database: Database) -> None:
    """I15: a grant that nobody wrote down here was not meant."""
    wanted: dict[tuple[str, str], str] = {}
    for line in GRANTS.split("\n"):
        role, letters, *tables = line.split() or ("", "")
        wanted |= {(f"bursar_{role}", table): letters for table in tables}
    found: dict[tuple[str, str], set[str]] = {}
    rows = await _fetch(
        database.dsns.owner,
        "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants "
        "WHERE table_schema = 'public' AND grantee <> 'bursar_owner'",
    )
    for grantee, table, privilege in rows:
        found.setdefault((grantee, table), set()).add(LETTERS.get(privilege, privilege))
    assert found == {place: set(letters) for place, letters in wanted.items()}


async def test_the_grants_on_columns_are_these(database: Database) -> None:
    """I15, F91: what identifies a key is seen by the API alone; nobody rewrites who is paid."""
    wanted: set[tuple[str, str, str]] = set()
    for line in COLUMN_GRANTS.split("\n"):
        start, _, columns = line.partition(":")
        role, privilege, table = start.split() or ("", "", "")
        roles = ("api", "worker") if role == "both" else (role,)
        wanted |= {
            (f"bursar_{name}", privilege, f"{table}.{column}")
            for name in roles
            for column in columns.split()
        }
    rows = await _fetch(
        database.dsns.owner,
        "SELECT grantee::text, table_name || '.' || column_name, privilege_type "
        "FROM information_schema.column_privileges c "
        "WHERE table_schema = 'public' AND grantee <> 'bursar_owner' AND NOT EXISTS ("
        "  SELECT FROM information_schema.role_table_grants t WHERE t.grantee = c.grantee"
        "  AND t.table_name = c.table_name AND t.privilege_type = c.privilege_type)",
    )
    assert {(grantee, privilege, column) for grantee, column, privilege in rows} == wanted


def _dsns(database: Database) -> list[str]:
    """Of every role that a process runs as."""
    return [database.dsns.api, database.dsns.worker, database.dsns.auditor]


ATTACKS_ON_HISTORY = [
    attack
    for table in HISTORY
    for column in ["hash" if table == "journal_links" else "at"]
    for attack in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table}",
    )
]


@pytest.mark.both_postgres
async def test_no_process_can_change_history(filled: Database) -> None:
    """I15, F91: UPDATE, DELETE and TRUNCATE of what was written once."""
    for dsn in _dsns(filled):
        for attack in ATTACKS_ON_HISTORY:
            await _refused(dsn, attack, asyncpg.InsufficientPrivilegeError)


@pytest.mark.both_postgres
async def test_not_even_the_owner_changes_history(filled: Database) -> None:
    """I15, F91: a trigger refuses whoever has more than the grants."""
    for attack in ATTACKS_ON_HISTORY:
        await _refused(filled.dsns.owner, attack, asyncpg.RestrictViolationError)


async def test_nobody_creates_where_an_old_server_let_everybody(postgres: EmbeddedPostgres) -> None:
    """I15: before version 15 every role could create in the schema of every database."""
    old = new_database(postgres, template="template1")
    try:
        superuser = old.admin_dsn.replace("/postgres?", f"/{old.name}?")
        await _run(superuser, "GRANT CREATE ON SCHEMA public TO PUBLIC")
        await migrate(old.dsns.owner)
        for dsn in _dsns(old):
            await _refused(dsn, "CREATE TABLE mine (x int)", asyncpg.InsufficientPrivilegeError)
    finally:
        await drop(old)


@pytest.mark.both_postgres
async def test_no_process_defines_anything(database: Database) -> None:
    """F56: no DDL at run time, no way around a trigger, no files, no other session's end."""
    attacks = (
        "CREATE TABLE mine (x int)",
        "CREATE TEMP TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX ON journal (kind)",
        "ALTER TABLE journal ADD COLUMN x int",
        "ALTER TABLE journal DISABLE TRIGGER append_only",
        "ALTER TABLE accounts DROP CONSTRAINT account_not_overdrawn",
        "DROP TABLE journal",
        "DROP TRIGGER append_only ON journal",
        "ALTER FUNCTION refuse_change() RENAME TO allow_change",
        "SET session_replication_role = replica",
        "SET ROLE bursar_owner",
        "CREATE ROLE mine",
        "COPY journal TO PROGRAM 'true'",
        "COPY journal TO '/tmp/journal'",
        "SELECT pg_read_file('PG_VERSION')",
        "ALTER SYSTEM SET fsync = off",
    )
    for dsn in _dsns(database):
        for attack in attacks:
            await _refused(dsn, attack, asyncpg.InsufficientPrivilegeError)


def _insert(table: str, values: Iterable[tuple[str, str]]) -> str:
    names, texts = zip(*values, strict=True)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(texts)})"


def _transfer(**changed: str) -> str:
    values = {
        "merchant_id": "'mer_1'",
        "journal_seq": "1",
        "line": "0",
        "id": "'tr_x'",
        "kind": "'posted'",
        "recipe": "'fund'",
        "subject_id": "'x'",
        "debit": "'a'",
        "credit": "'b'",
        "amount": "1",
        "currency": "'EUR'",
        "hold_id": "NULL",
        "pending_id": "NULL",
        "at": "now()",
        **changed,
    }
    return _insert("transfers", values.items())


def _account(**changed: str) -> str:
    values = {
        "address": "'x'",
        "merchant_id": "'mer_1'",
        "role": "'available'",
        "currency": "'EUR'",
        "limited": "true",
        "debits_pending": "0",
        "debits_posted": "0",
        "credits_pending": "0",
        "credits_posted": "0",
        **changed,
    }
    return _insert("accounts", values.items())


MAX = str(2**63 - 1)
NONSENSE = {
    "a transfer of nothing": _transfer(amount="0"),
    "a negative transfer": _transfer(amount="-1"),
    "a transfer to itself": _transfer(credit="'a'"),
    "a transfer of a new kind": _transfer(kind="'gift'"),
    "a pending transfer without a hold": _transfer(kind="'pending'"),
    "a posted transfer with a hold": _transfer(hold_id="'hd_1'"),
    "an end of nothing": _transfer(kind="'void'", hold_id="'hd_1'"),
    "a beginning that ends something": _transfer(
        kind="'pending'", hold_id="'hd_1'", pending_id="'tr_1'"
    ),
    "a negative counter": _account(debits_pending="-1", limited="false"),
    "an overdrawn account": _account(debits_posted="1"),
    "an account overdrawn by holds": _account(debits_pending="6", credits_posted="5"),
    "a hold with an end that is active": "UPDATE holds SET ended_at = now()",
    "a hold without an end that is over": "UPDATE holds SET state = 'voided'",
    "a payout of nothing": "UPDATE payouts SET amount = 0",
    "a negative fee": "UPDATE payouts SET fee = -1",
    "more returned than paid": "UPDATE payouts SET amount_returned = amount + 1",
    "less than nothing returned": "UPDATE payouts SET amount_returned = -1",
    "an attempt of nothing": "UPDATE attempts SET amount = 0",
    "an attempt of no payout": "UPDATE attempts SET payout_id = 'po_nobody'",
    "an incident that nobody closed": "UPDATE incidents SET closed_by = NULL",
    "a debt of nothing": "UPDATE incidents SET kind = 'merchant_owes', amount = 0",
    "a resolution by one person": "UPDATE resolutions SET confirmed_by = proposed_by",
    "a resolution confirmed by nobody": "UPDATE resolutions SET confirmed_by = NULL",
    "a resolution that says maybe": "UPDATE resolutions SET verdict = 'perhaps'",
    "an execution without a reference": "UPDATE resolutions SET provider_ref = NULL",
    "a resolution of no attempt": "UPDATE resolutions SET attempt_id = 'pa_nobody'",
    "a chain that ends before it begins": "UPDATE journal_heads SET seq = -1",
    "a short hash": "UPDATE journal_heads SET hash = '\\x00'",
    "a key of an unknown outcome": "UPDATE idempotency_keys SET outcome = 'perhaps'",
}


async def test_the_schema_refuses_nonsense(filled: Database) -> None:
    """F73, F80, I3: CHECKs repeat what the code decides, also for the schema's owner."""
    for name, attack in NONSENSE.items():
        refused = asyncpg.IntegrityConstraintViolationError
        await _refused(filled.dsns.owner, attack, refused, name)


async def test_the_schema_refuses_what_does_not_fit(filled: Database) -> None:
    """F70: no amount wraps around."""
    for attack in (_transfer(amount=str(2**63)), _account(credits_posted=f"{MAX}::bigint + 1")):
        await _refused(filled.dsns.owner, attack, asyncpg.NumericValueOutOfRangeError)


_SECOND = {
    "active hold": _insert(
        "holds",
        [
            ("id", "'hd_new'"),
            ("merchant_id", "'mer_1'"),
            ("subject_id", "'subject_id_1'"),
            ("state", "'active'"),
            ("created_at", "now()"),
        ],
    ),
    "open attempt": """
        INSERT INTO attempts
        SELECT (jsonb_populate_record(a, jsonb_build_object(
            'id', 'pa_' || n, 'number', 100 + n, 'state', 'sending'))).*
        FROM attempts a, generate_series(8, 9) n""",
    "open debt": """
        INSERT INTO incidents
        SELECT (jsonb_populate_record(i, jsonb_build_object(
            'id', 'inc_' || n, 'kind', 'merchant_owes', 'closed_at', null, 'closed_by', null))).*
        FROM incidents i, generate_series(8, 9) n""",
    "end of a hold": _transfer(kind="'post'", hold_id="'hd_1'", pending_id="'pending_id_1'"),
    "payout of a reference": """
        INSERT INTO payout_references
        SELECT merchant_id, reference, 'po_2' FROM payout_references""",
    "account of a role": """
        INSERT INTO accounts
        SELECT (jsonb_populate_record(a, '{"address": "other"}')).* FROM accounts a""",
}


async def test_the_schema_refuses_a_second_one(filled: Database) -> None:
    """F32, I4, I6, I9: uniqueness does not hang on the code."""
    for name, attack in _SECOND.items():
        await _refused(filled.dsns.owner, attack, asyncpg.UniqueViolationError, name)
