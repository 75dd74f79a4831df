"""The anchor file: what is wrong with it is said, and never taken for agreement."""

import asyncio
import json
import re
import struct
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from bursar.engine.checkpoints import AnchorDamaged
from tests.engine.wiring import SHOP
from tests.verify.books import Books, Hand
from tests.verify.forger import rechain

Heads = Mapping[str, tuple[int, int, str]]


def checkpoint_hash(previous: bytes, number: int, heads: Heads) -> bytes:
    """As the engine's README states it, once more."""
    parts = (previous, str(number).encode())
    text = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    for merchant_id, (seq, link_seq, digest) in sorted(heads.items()):
        text += msgspec.msgpack.encode((merchant_id, seq, link_seq, bytes.fromhex(digest)))
    return sha256(text).digest()


async def reseal(hand: Hand) -> None:
    """Make every stored checkpoint agree with the chains as they are now."""
    previous = bytes(32)
    for number, text in await hand.connection.fetch("SELECT id, heads FROM checkpoints ORDER BY 1"):
        heads = json.loads(text)
        for merchant_id, head in heads.items():
            digest = await hand.connection.fetchval(
                "SELECT hash FROM journal_links WHERE merchant_id = $1 AND link_seq = $2",
                *(merchant_id, head[1]),
            )
            head[2] = digest.hex()
        sealed = checkpoint_hash(previous, number, heads)
        await hand.connection.execute(
            "UPDATE checkpoints SET heads = $2, previous_hash = $3, hash = $4 WHERE id = $1",
            *(number, json.dumps(heads), previous, sealed),
        )
        previous = sealed


def test_the_form_of_a_checkpoint_is_the_one_written_down(anchor: Path) -> None:
    """Each line follows the one before, and its hash is of that and of its own heads."""
    previous = bytes(32)
    lines = [json.loads(line) for line in anchor.read_text().splitlines()]
    for number, line in enumerate(lines, start=1):
        assert line["id"] == number
        assert line["previous"] == previous.hex()
        previous = checkpoint_hash(previous, number, line["heads"])
        assert line["hash"] == previous.hex()
    assert set(lines[2]["heads"]) < set(lines[0]["heads"])


@pytest.fixture
def last_line(anchor: Path) -> Path:
    """The anchor without its other lines; the platform's chain had come to rest before it."""
    last = anchor.read_text().splitlines()[-1]
    assert "platform" not in json.loads(last)["heads"]
    anchor.write_text(f"{last}\n")
    return anchor


async def test_the_last_line_vouches_for_all_before(lived: Books, last_line: Path) -> None:
    """F91, I14: a chain at rest was rewritten, and every stored checkpoint with it."""
    async with lived.hand() as hand:
        clean = await hand.disagreement(last_line)
        await hand.change(
            "UPDATE journal SET actor = 'me' WHERE merchant_id = 'platform' AND seq = 2"
        )
        await rechain(hand.connection, "platform")
        await reseal(hand)
        alone = await hand.disagreement()
        anchored = await hand.disagreement(last_line)

    assert clean == alone == ""
    assert re.search(r"checkpoints \(id 3\): .*as in line 1 of checkpoints.jsonl", anchored)


def test_a_line_that_was_cut_off_is_left_out_and_told(lived: Books, anchor: Path) -> None:
    """A writer was killed in its last line: what came before still counts."""
    text = anchor.read_bytes()
    anchor.write_bytes(text[:-20])

    audit = asyncio.run(lived.audit(anchor))

    assert audit.disagreement is None
    assert audit.lines[2].startswith("anchor: 2 checkpoints")
    assert audit.lines[2].endswith("line 3 was cut off while it was written and left out")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"nonsense\n", "line 4 is damaged"),
        (b"\xff\xfe\n", "line 4 is damaged"),
        (b"{}\n", "line 4 is damaged"),
        (b'{"id":-1,"at":"","previous":"00","hash":"00","heads":{}}\n', "line 4 is damaged"),
        (
            b'{"id":4,"at":"","previous":"%(0)b","hash":"%(0)b","heads":{}}\n' % {b"0": b"0" * 64},
            "not that of its heads",
        ),
    ],
)
def test_a_damaged_line_is_an_error(lived: Books, anchor: Path, line: bytes, named: str) -> None:
    """What can't be read proves nothing, so it is not passed over."""
    anchor.write_bytes(anchor.read_bytes() + line)

    with pytest.raises(AnchorDamaged, match=named):
        asyncio.run(lived.audit(anchor))


def test_a_head_changed_in_the_file_is_an_error(lived: Books, anchor: Path) -> None:
    """A line carries the hash of its own heads."""
    first, *rest = anchor.read_text().splitlines()
    line = json.loads(first)
    line["heads"][SHOP][0] += 1
    anchor.write_text("\n".join((json.dumps(line), *rest, "")))

    with pytest.raises(AnchorDamaged, match="line 1 is damaged: its hash"):
        asyncio.run(lived.audit(anchor))


def test_an_empty_anchor_is_an_error(lived: Books, anchor: Path) -> None:
    """A file that was emptied must not pass for one that agrees."""
    anchor.write_bytes(b"")

    with pytest.raises(AnchorDamaged, match="no checkpoint"):
        asyncio.run(lived.audit(anchor))


def test_an_absent_anchor_is_an_error(lived: Books, anchor: Path) -> None:
    """A misspelt name must not pass for a file that agrees."""
    anchor.unlink()

    with pytest.raises(FileNotFoundError):
        asyncio.run(lived.audit(anchor))
