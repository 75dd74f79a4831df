"""Any one byte of any hashed field, changed: found."""

import asyncio
from datetime import datetime, timedelta

import asyncpg
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bursar.db.connection import Connection
from tests.verify.books import Books

HASHED = (
    *((("journal"), column) for column in (
        "merchant_id", "seq", "kind", "subject_id", "actor", "correlation_id", "at", "body",
    )),
    *((("transfers"), column) for column in (
        "merchant_id", "journal_seq", "line", "id", "kind", "recipe", "subject_id", "debit",
        "credit", "amount", "currency", "hold_id", "pending_id", "at",
    )),
    *((("journal_links"), column) for column in (
        "merchant_id", "link_seq", "first_seq", "last_seq", "previous_hash", "hash",
    )),
    *((("journal_heads"), column) for column in ("merchant_id", "seq", "link_seq", "hash")),
    *((("checkpoints"), column) for column in ("id", "previous_hash", "hash", "heads")),
)  # fmt: skip
ROWS = {
    "journal": "journal ORDER BY merchant_id, seq",
    "transfers": "transfers ORDER BY merchant_id, journal_seq, line",
    "journal_links": "journal_links ORDER BY merchant_id, link_seq",
    "journal_heads": "journal_heads WHERE seq > 0 ORDER BY merchant_id",
    "checkpoints": "checkpoints ORDER BY id",
}
CONSTRAINTS = (
    "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) "
    "FROM pg_constraint WHERE contype = 'c' AND conrelid IN "
    "('journal'::regclass, 'transfers'::regclass, 'journal_links'::regclass, "
    "'checkpoints'::regclass)"
)


def _flipped(value: object, place: int) -> object:
    """The value with one bit changed: of a byte of a text, of a number, of a time."""
    match value:
        case None:
            return "x"
        case str():
            text = bytearray(value.encode() or b"\x01")
            text[place % len(text)] ^= 1
            return text.decode(errors="replace").replace("\0", "\1")
        case bytes():
            octets = bytearray(value)
            octets[place % len(octets)] ^= 1 << place % 8
            return bytes(octets)
        case int():
            return value ^ (1 << place % 16)
        case datetime():
            return value + timedelta(microseconds=1 << place % 16)
    raise AssertionError(type(value))


async def _flip(connection: Connection, table: str, column: str, row: int, place: int) -> None:
    count = await connection.fetchval(f"SELECT count(*) FROM (SELECT FROM {ROWS[table]}) x")
    found = await connection.fetchrow(
        f"SELECT ctid, {column} FROM {ROWS[table]} OFFSET $1 LIMIT 1", row % count
    )
    assert found is not None
    ctid, value = found
    await connection.execute(
        f"UPDATE {table} SET {column} = $1 WHERE ctid = $2", _flipped(value, place), ctid
    )


async def _found_after_flip(books: Books, field: tuple[str, str], row: int, place: int) -> str:
    """Drop the constraints, which hold no superuser; flip; verify; take all of it back."""
    async with books.hand() as hand:
        for (statement,) in await hand.connection.fetch(CONSTRAINTS):
            await hand.connection.execute(statement)
        await _flip(hand.connection, *field, row, place)
        return await hand.disagreement()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(field=st.sampled_from(HASHED), row=st.integers(0, 10**6), place=st.integers(0, 10**6))
def test_any_changed_byte_is_found(
    lived: Books, field: tuple[str, str], row: int, place: int
) -> None:
    """F91, I2, I14: whatever the row, the field and the byte."""
    try:
        found = asyncio.run(_found_after_flip(lived, field, row, place))
    except asyncpg.UniqueViolationError:
        assume(False)
    else:
        assert found, (field, row, place)
