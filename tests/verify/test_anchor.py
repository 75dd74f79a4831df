"""The anchor file: what is wrong with it is said, and never taken for agreement."""

import asyncio
import json
from pathlib import Path

import pytest

from bursar.engine.checkpoints import AnchorDamaged
from tests.engine.wiring import SHOP
from tests.verify.books import Books


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
        (b'{"id":-1,"at":"","hash":"00","heads":{}}\n', "line 4 is damaged"),
        (b'{"id":4,"at":"","hash":"' + b"0" * 64 + b'","heads":{}}\n', "not that of its heads"),
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
