"""Facts about a running server: its pid file, and whether that process truly is one.

A pid alone proves nothing. After `kill -9` it may be a zombie that nobody reaps, and after a
reboot it may belong to any other program; both made other runners wait for ever. An open port
proves nothing either: the kernel completes connections for a process that is about to die.
"""

import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PID_LINE, _PORT_LINE, _STATUS_LINE = 0, 3, 7
_ANSWER_S = 1.0
# StartupMessage of the frontend/backend protocol, version 3.0, for any user and database.
_GREETING = b"user\0postgres\0database\0postgres\0\0"
_STARTUP = struct.pack(">II", 8 + len(_GREETING), 3 << 16) + _GREETING
_ASKS_FOR_PASSWORD, _REFUSES = b"R", b"E"
_NOT_NOW = b"\0C57P03\0"  # SQLSTATE cannot_connect_now: starting, recovering, shutting down


@dataclass(frozen=True)
class PidFile:
    """What `postmaster.pid` says. `port` and `status` are unset while the server starts."""

    pid: int
    port: int | None
    status: str

    @property
    def ready(self) -> bool:
        """Whether the server says that it accepts connections."""
        return self.status == "ready"


def read_pid_file(cluster: Path) -> PidFile | None:
    """The cluster's pid file, or None where it is absent or not yet written."""
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        pid = int(lines[_PID_LINE])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    port = lines[_PORT_LINE].strip() if len(lines) > _PORT_LINE else ""
    status = lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""
    return PidFile(pid, int(port) if port.isdigit() else None, status)


def process_mark(pid: int) -> str | None:
    """A text that no later process of the same pid shares; None for a dead or zombie one."""
    if _PROC.joinpath("self/stat").exists():
        try:
            stat = _PROC.joinpath(str(pid), "stat").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name in parentheses may hold anything; the fields follow its last parenthesis.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    answer = _ps(["-o", "stat=,lstart=", "-p", str(pid)])
    return None if not answer or answer.startswith("Z") else answer


def is_server(pid: int, cluster: Path) -> bool:
    """Whether `pid` is a living server of `cluster` (a server's working directory is its own)."""
    if process_mark(pid) is None:
        return False
    if _PROC.joinpath("self/stat").exists():
        try:
            return _PROC.joinpath(str(pid), "cwd").readlink() == cluster.resolve()
        except (FileNotFoundError, ProcessLookupError):
            return False
        except PermissionError:
            return False  # another account's process: never ours
    return str(cluster) in _ps(["-o", "command=", "-p", str(pid)])


def accepts_clients(host: str, port: int) -> bool:
    """Whether a server there lets clients in; nobody logs in. Waits for at most 2 s."""
    with socket.socket() as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect((host, port))
            probe.sendall(_STARTUP)
            answer = probe.recv(1024)
        except OSError:
            return False
    kind = answer[:1]
    return kind == _ASKS_FOR_PASSWORD or (kind == _REFUSES and _NOT_NOW not in answer)


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that still live."""
    if _PROC.joinpath("self/stat").exists():
        numbers = [entry for entry in _PROC.iterdir() if entry.name.isdigit()]
        return [int(entry.name) for entry in numbers if _parent(entry) == pid]
    rows = (line.split() for line in _ps(["-axo", "pid=,ppid="]).splitlines())
    return [int(row[0]) for row in rows if int(row[1]) == pid]


def _parent(entry: Path) -> int | None:
    try:
        stat = (entry / "stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _ps(arguments: list[str]) -> str:
    return subprocess.run(  # noqa: S603 - fixed arguments
        ["/bin/ps", *arguments], capture_output=True, text=True, check=False
    ).stdout.strip()
