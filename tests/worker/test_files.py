"""Lines appended to a file, beside others and after crashes."""

import fcntl
import threading
from pathlib import Path

import pytest

from bursar.worker.files import append_lines, make_appendable


@pytest.mark.parametrize("size", [1, 20, 4095, 4096, 4097, 10_000])
def test_half_a_line_gives_way(tmp_path: Path, size: int) -> None:
    """F92: a writer was killed in its line; what it left would make the file unreadable."""
    file = tmp_path / "lines.jsonl"
    for before in (b"", b"first\n", b"first\n" + b"x" * 9_000 + b"\n"):
        file.write_bytes(before + b"h" * size)

        append_lines(file, b"whole\n")

        assert file.read_bytes() == before + b"whole\n"


def test_another_writer_is_waited_for(tmp_path: Path) -> None:
    """F92: what a second writer has half written is not a torn line: it must not be cut off."""
    path = tmp_path / "lines.jsonl"
    with path.open("ab") as rival:
        fcntl.flock(rival.fileno(), fcntl.LOCK_EX)
        rival.write(b"the rival's ")
        rival.flush()
        writer = threading.Thread(target=append_lines, args=(path, b"ours\n"))
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
        rival.write(b"line\n")
    writer.join(10)
    assert path.read_bytes() == b"the rival's line\nours\n"


def test_a_file_is_made_with_its_directories_and_kept(tmp_path: Path) -> None:
    """A second start finds what the first has written."""
    path = tmp_path / "a" / "b" / "lines.jsonl"
    make_appendable(path)
    append_lines(path, b"one\n")
    make_appendable(path)
    assert path.read_bytes() == b"one\n"
