"""Whoever may write everything in the database, and knows how the chains are made.

The form of the chain is stated here once more, apart from the code that it judges.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from bursar.db.connection import Connection
from tests.verify.books import Hand


def _frames(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def link_hash(  # the parts of a link, in the order in which they are hashed
    previous: bytes,
    merchant_id: str,
    numbers: tuple[int, int, int],
    entries: Iterable[tuple[object, ...]],
    transfers: Iterable[tuple[object, ...]],
) -> bytes:
    """The hash of a link; `numbers` are its own, its first and its last entry's."""
    text = _frames(previous, merchant_id.encode(), *(str(number).encode() for number in numbers))
    for entry in entries:
        text += _frames(b"entry", msgspec.msgpack.encode(entry))
    for transfer in transfers:
        text += _frames(b"attachment", msgspec.msgpack.encode(transfer))
    return sha256(text).digest()


async def rechain(connection: Connection, merchant_id: str) -> None:
    """Make a merchant's chain agree with whatever its entries and transfers say now."""
    previous = bytes(32)
    links = await connection.fetch(
        "SELECT link_seq, first_seq, last_seq FROM journal_links "
        "WHERE merchant_id = $1 ORDER BY link_seq",
        merchant_id,
    )
    for link_seq, first_seq, last_seq in links:
        bounds = (merchant_id, first_seq, last_seq)
        entries = await connection.fetch(
            "SELECT * FROM journal WHERE merchant_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq",
            *bounds,
        )
        transfers = await connection.fetch(
            "SELECT * FROM transfers WHERE merchant_id = $1 AND journal_seq BETWEEN $2 AND $3 "
            "ORDER BY journal_seq, line",
            *bounds,
        )
        digest = link_hash(
            previous,
            merchant_id,
            (link_seq, first_seq, last_seq),
            map(tuple, entries),
            map(tuple, transfers),
        )
        await connection.execute(
            "UPDATE journal_links SET previous_hash = $3, hash = $4 "
            "WHERE merchant_id = $1 AND link_seq = $2",
            *(merchant_id, link_seq, previous, digest),
        )
        previous = digest
    await connection.execute(
        "UPDATE journal_heads SET hash = $2 WHERE merchant_id = $1", merchant_id, previous
    )


async def forge(hand: Hand, *statements: str) -> None:
    """Change rows, make every chain agree with them, and forget the checkpoints."""
    await hand.change(*statements)
    for (merchant_id,) in await hand.connection.fetch("SELECT merchant_id FROM journal_heads"):
        await rechain(hand.connection, merchant_id)
    await hand.change("DELETE FROM checkpoints")
