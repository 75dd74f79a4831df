"""The data directory as `bursar up` uses it: one owner at a time, logs, and the demo's key."""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bursar.cli.errors import CommandRefused
from bursar.db.account import server_account
from bursar.db.place import DataDir

LOG_BYTES_MAX: Final = 10_000_000
LOG_TAIL_BYTES: Final = 2_000


class DataDirLock:
    """Held by the one `bursar up` of a data directory; the kernel frees it when that dies."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "up.lock"
        self._handle: int | None = None

    def __enter__(self) -> Self:
        """Take the lock, or raise `CommandRefused` naming the process that has it."""
        try:
            DataDir(self._path.parent).make(server_account())
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CommandRefused(f"{self._path.parent} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._handle, 32).decode("ascii", "replace").strip() or "unknown"
            self._close()
            raise CommandRefused(
                f"bursar is already running on {self._path.parent} (process {owner}); stop it"
                " first, or choose another --data-dir"
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the lock. The file stays: removing it would let two processes hold 'the' lock."""
        self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def prepare_log(path: Path) -> None:
    """Make the log's directory; set a log that has grown large aside as `.old`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.old"))


def log_tail(path: Path, *, since: int = 0) -> str:
    """The end of a log for a message, of what was written from byte `since` on; may be empty."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(since, path.stat().st_size - LOG_TAIL_BYTES))
            return stream.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def write_demo_file(path: Path, *, api_url: str, api_key: str, merchant_id: str) -> None:
    """Leave the demo's key for `bursar pay`, readable by its owner only, whole or not at all."""
    document = {"api_url": api_url, "api_key": api_key, "merchant_id": merchant_id}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1)
    draft.replace(path)
