"""The hash chain over a merchant's journal. Pure.

A link covers what one group wrote for one merchant: its journal entries and its transfers. The
hash is SHA-256 over the previous link's hash and a self-delimiting encoding of every field, so no
field can be moved, changed, added or left out without breaking every later link.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from bursar.engine.model import JournalEntry, JournalHead, JournalLink, Row
from bursar.kit.canonical import length_prefixed

GENESIS = b"\0" * 32


_encoder = msgspec.msgpack.Encoder()


def encode_row(row: Row) -> bytes:
    """Every field of a row in order, as a MessagePack array.

    Each value carries its type and length, integers take their shortest form and times are
    timestamps to the nanosecond, so equal rows have equal bytes and different rows don't.
    """
    return _encoder.encode(msgspec.structs.astuple(row))


def link(
    head: JournalHead,
    link_seq: int,
    previous_hash: bytes,
    entries: Sequence[JournalEntry],
    attachments: Iterable[Row],
) -> JournalLink:
    """The next link of a chain over `entries` (in order) and the rows that belong to them."""
    first_seq, last_seq = entries[0].seq, entries[-1].seq
    digest = sha256(
        length_prefixed(
            [
                previous_hash,
                head.merchant_id.encode(),
                b"%d" % link_seq,
                b"%d" % first_seq,
                b"%d" % last_seq,
            ]
        )
    )
    for entry in entries:
        digest.update(length_prefixed([b"entry", encode_row(entry)]))
    for row in attachments:
        digest.update(length_prefixed([b"attachment", encode_row(row)]))
    return JournalLink(
        merchant_id=head.merchant_id,
        link_seq=link_seq,
        first_seq=first_seq,
        last_seq=last_seq,
        previous_hash=previous_hash,
        hash=digest.digest(),
    )


def checkpoint_hash(previous_hash: bytes, number: int, heads: Iterable[JournalHead]) -> bytes:
    """One hash over a checkpoint's heads, in merchant order, and over all checkpoints before it.

    Each lists the heads that moved, so together they cover where every chain stands.
    """
    digest = sha256(length_prefixed([previous_hash, b"%d" % number]))
    for head in sorted(heads, key=lambda row: row.merchant_id):
        digest.update(encode_row(head))
    return digest.digest()
