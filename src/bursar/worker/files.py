"""Appending lines to a file that must keep them, beside writers that may be killed at any byte."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bursar.kit.errors import BursarError

_BLOCK = 4096


class FileUnwritable(BursarError):
    """A file that a worker was told to append to can't be written."""

    code = "file_unwritable"
    status = 500
    title = "File unwritable"


def make_appendable(path: Path) -> None:
    """Make the file and its directories where they are absent.

    Raises `FileUnwritable`: better at the start than a warning for each line that is lost.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise FileUnwritable(f"{path} can't be opened for appending: {error.strerror}") from error


def append_lines(path: Path, lines: bytes) -> None:
    """Append whole lines, each with its line break, and return when the disk has them.

    What a killed writer left of a line is cut off first. One writer at a time: another, of this
    machine, waits. Raises OSError.
    """
    with path.open("a+b") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        whole = _end_of_last_line(file.fileno(), size)
        if whole < size:
            file.truncate(whole)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
        if size == 0:  # the file may be new: its name must last as well
            _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """The place after the last line break of a file of `size` bytes."""
    end = size
    while end:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
