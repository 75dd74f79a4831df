"""Which system account runs the server.

Postgres refuses to run as root. Started by root, it runs as `postgres` where that account
exists, else as `nobody`. No directory is ever opened wider for that account: where it cannot
enter the data directory, the cluster is kept elsewhere (see `embedded.py`).
"""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bursar.db.errors import PostgresFailed

_CANDIDATES = ("postgres", "nobody")
_CHECK_TIMEOUT_S = 30


@dataclass(frozen=True)
class Account:
    """A system account to run as."""

    name: str
    uid: int
    gid: int

    def can_enter(self, directory: Path) -> bool:
        """Whether this account may pass through `directory`; asked of the kernel."""
        return self._succeeds(["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)])

    def can_run(self, program: Path) -> bool:
        """Whether this account can start `program` with its libraries."""
        return self._succeeds([str(program), "--version"])

    def _succeeds(self, command: Sequence[str]) -> bool:
        try:
            done = subprocess.run(  # noqa: S603 - the shell's cd, or a server's --version
                command,
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_CHECK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def server_account() -> Account | None:
    """The account that the server must run as, or None to run it as ourselves.

    Raises PostgresFailed for root on a system without any unprivileged account.
    """
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise PostgresFailed("Postgres cannot run as root, and there is no account to run it as")
