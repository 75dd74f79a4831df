"""A Postgres server of our own, for people who have none: found, made, started, recovered.

It is used only where no `DATABASE_URL` is given. Binaries: of the system (15 or newer) first,
then of the wheel. TCP on loopback with scram passwords, no Unix socket, checksums on, and
every setting that durability hangs on stays on.

A server outlives the process that started it when that is killed with `kill -9`. The next
`start()` on the same data directory finds it running, takes it over and becomes the one that
stops it. Where the server was killed as well, the next `start()` recovers from the log of
writes. Either way no acknowledged commit is lost. POSIX only.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from bursar.db.account import Account, server_account
from bursar.db.binaries import Binaries, choose_binaries
from bursar.db.errors import PostgresFailed
from bursar.db.place import PRIVATE_ROOT, DataDir
from bursar.db.postmaster import (
    accepts_clients,
    children,
    is_server,
    process_mark,
    read_pid_file,
)
from bursar.db.roles import ADMIN, DATABASE, load_or_make_passwords
from bursar.kit.clock import SystemClock

HOST = "127.0.0.1"
DURABLE_SETTINGS = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_SETTINGS = {
    **DURABLE_SETTINGS,
    "autovacuum_max_workers": "2",
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm may be tiny
    "jit": "off",
    "listen_addresses": HOST,
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "max_connections": "60",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "max_wal_size": "1GB",
    "max_worker_processes": "4",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "unix_socket_directories": "",
    "work_mem": "4MB",
}
_POLL_S = 0.02
_READY_S = 300  # replaying the log of writes after a crash takes its time
_STOP_S = 30
_INITDB_S = 120
_LOG_LIMIT_BYTES = 10_000_000
_TAIL_BYTES = 1_500
_PR_SET_PDEATHSIG = 1
# What a start may meet for a moment: dying backends of a killed server, a port just taken.
_PASSING = ("pre-existing shared memory block", "Address already in use", "address already in use")
_STARTS_MAX = 20
# Servers that this process started, by pid: one that nobody waits for stays a zombie.
_children: dict[int, subprocess.Popen[bytes]] = {}


class EmbeddedPostgres:
    """One cluster in one data directory. Its methods block; none is safe inside an event loop.

    `settings` override the defaults above. `die_with_parent` (Linux) ties the server's life to
    the thread that starts it: for tests, which must not leave servers behind.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries: Binaries | None = None,
        settings: Mapping[str, str] | None = None,
        private_root: Path = PRIVATE_ROOT,
        die_with_parent: bool = False,
    ) -> None:
        self._dir = DataDir(data_dir, private_root=private_root)
        self._binaries = binaries
        self._settings = {**_SETTINGS, **(settings or {})}
        self._die_with_parent = die_with_parent

    @property
    def pid(self) -> int | None:
        """The running server's process, or None."""
        cluster = self._cluster_or_none()
        file = read_pid_file(cluster) if cluster is not None else None
        if cluster is None or file is None:
            return None
        _reap(file.pid)
        return file.pid if is_server(file.pid, cluster) else None

    @property
    def data_dir(self) -> Path:
        """The directory with the passwords, the log and the pointer to the cluster."""
        return self._dir.path

    @property
    def cluster(self) -> Path:
        """The server's own directory. Raises PostgresFailed before the first start."""
        cluster = self._cluster_or_none()
        if cluster is None:
            raise PostgresFailed(f"no cluster was made in {self._dir.path} yet")
        return cluster

    def passwords(self) -> dict[str, str]:
        """Each role's password; made on the first call."""
        return load_or_make_passwords(self._dir.passwords)

    def dsn(self, role: str = ADMIN, database: str = DATABASE) -> str:
        """How `role` reaches `database`. Holds the password: never log it."""
        memory = self._dir.recall()
        if memory is None or memory.port is None:
            raise PostgresFailed("the embedded server was never started")
        secret = quote(self.passwords()[role], safe="")
        return f"postgresql://{role}:{secret}@{HOST}:{memory.port}/{database}?sslmode=disable"

    def start(self) -> None:
        """Return with the server accepting connections; a running one is attached to.

        Raises PostgresFailed with the end of the server's log, or PostgresNotFound.
        """
        account = server_account()
        self._dir.make(account)
        with self._dir.locked():
            memory = self._dir.recall() or self._dir.new_place(account)
            self._dir.remember(memory)
            cluster = self.cluster
            running = self.pid
            if running is not None and self._wait_ready(cluster, running):
                if not memory.owner_lives:
                    memory = memory.owned_by_us()
                file = read_pid_file(cluster)
                self._dir.remember(replace(memory, port=file.port if file else memory.port))
                return
            binaries = self._usable_binaries(cluster, account)
            if not cluster.is_dir():
                self._make_cluster(cluster, binaries, account)
            # The process named there is no server of this cluster, or was one and has died.
            (cluster / "postmaster.pid").unlink(missing_ok=True)
            self._launch_until_ready(cluster, binaries, account)

    def stop(self, *, force: bool = False) -> None:
        """Stop the server cleanly, open transactions rolled back. No-op where it is not running.

        A server that another living process started or took over is left alone, unless forced.
        """
        memory = self._dir.recall()
        if memory is None or not (force or memory.owner_is_us):
            return
        with self._dir.locked():
            for number in (signal.SIGINT, signal.SIGQUIT):
                pid = self.pid
                if pid is None:
                    return
                os.kill(pid, number)
                if self._gone_within(pid, _STOP_S):
                    return
        raise PostgresFailed(f"server {self.pid} did not stop")

    def kill(self) -> None:
        """SIGKILL the server and its backends: what a power cut leaves of them. For tests."""
        pid = self.pid
        if pid is None:
            return
        for each in (pid, *children(pid)):
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not self._gone_within(pid, _STOP_S):
            raise PostgresFailed(f"server {pid} survived SIGKILL")

    def destroy(self) -> None:
        """Stop the server and delete its cluster. Cannot be undone; for tests."""
        self.stop(force=True)
        memory = self._dir.recall()
        if memory is not None:
            self._dir.forget(memory)

    def _cluster_or_none(self) -> Path | None:
        memory = self._dir.recall()
        return self._dir.place_of(memory) / "cluster" if memory is not None else None

    def _usable_binaries(self, cluster: Path, account: Account | None) -> Binaries:
        version = cluster / "PG_VERSION"
        major = int(version.read_text(encoding="ascii")) if version.exists() else None
        binaries = self._binaries or choose_binaries(major)
        if major not in (None, binaries.major):
            raise PostgresFailed(
                f"the cluster is of Postgres {major}, the given binaries of {binaries.major}"
            )
        return self._dir.reachable(binaries, account)

    def _make_cluster(self, cluster: Path, binaries: Binaries, account: Account | None) -> None:
        """Run initdb beside the final path and rename: half a cluster is never taken for one."""
        draft = cluster.with_name("cluster.new")
        shutil.rmtree(draft, ignore_errors=True)
        secret = cluster.with_name("initdb.password")
        secret.unlink(missing_ok=True)
        handle = os.open(secret, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(self.passwords()[ADMIN])
        if account is not None:
            os.chown(secret, account.uid, account.gid)
        command = [str(binaries.initdb), "-D", str(draft), "-U", ADMIN, "--pwfile", str(secret)]
        command += ["--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C"]
        try:
            done = subprocess.run(  # noqa: S603 - our own arguments
                command,
                capture_output=True,
                text=True,
                timeout=_INITDB_S,
                check=False,
                cwd=cluster.parent,
                env=_environment(),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        finally:
            secret.unlink()
        if done.returncode != 0:
            raise PostgresFailed(f"initdb failed: {(done.stderr or done.stdout)[-_TAIL_BYTES:]}")
        draft.rename(cluster)

    def _launch_until_ready(
        self, cluster: Path, binaries: Binaries, account: Account | None
    ) -> None:
        memory = self._dir.recall()
        if memory is None:
            raise PostgresFailed("the data directory lost its memory during the start")
        port = memory.port
        for _ in range(_STARTS_MAX):
            port = port if port is not None and _is_free(port) else _free_port()
            self._dir.remember(replace(memory, port=port).owned_by_us())
            pid, written = self._launch(cluster, binaries, account, port)
            if self._wait_ready(cluster, pid):
                return
            tail = self._log_since(written)
            if not any(words in tail for words in _PASSING):
                raise PostgresFailed(f"the server did not start: {tail[-_TAIL_BYTES:]}")
            time.sleep(_POLL_S * 10)
        raise PostgresFailed(f"the server did not start in {_STARTS_MAX} tries")

    def _launch(
        self, cluster: Path, binaries: Binaries, account: Account | None, port: int
    ) -> tuple[int, int]:
        """Start the server process; returns it and how long its log was before."""
        settings = {**self._settings, "port": str(port)}
        flags = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        if self._dir.log.exists() and self._dir.log.stat().st_size > _LOG_LIMIT_BYTES:
            self._dir.log.replace(self._dir.log.with_suffix(".log.old"))
        with self._dir.log.open("ab") as log:
            written = log.tell()
            server = subprocess.Popen(  # noqa: S603 - our own arguments
                [str(binaries.postgres), "-D", str(cluster), *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cluster.parent,
                env=_environment(),
                start_new_session=True,
                preexec_fn=_parent_death_signal() if self._die_with_parent else None,  # noqa: PLW1509 - one system call
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        _children[server.pid] = server
        return server.pid, written

    def _wait_ready(self, cluster: Path, pid: int) -> bool:
        """Wait until server `pid` lets clients in. False: it ended; its log may say why.

        For some milliseconds after SIGKILL a server still looks alive, its pid file says ready and
        the kernel still completes connections to it. So it is asked, and looked at afterwards.
        """
        clock = SystemClock()
        deadline = clock.monotonic() + _READY_S
        while clock.monotonic() < deadline:
            file = read_pid_file(cluster)
            port = file.port if file is not None and file.pid == pid and file.ready else None
            ready = port is not None and accepts_clients(HOST, port)
            _reap(pid)
            alive = process_mark(pid) is not None
            if ready or not alive:
                return alive
            time.sleep(_POLL_S)
        raise PostgresFailed(f"the server was not ready after {_READY_S} s: see {self._dir.log}")

    def _gone_within(self, pid: int, seconds: float) -> bool:
        """Wait for the process itself: the pid file goes a little earlier."""
        for _ in range(int(seconds / _POLL_S)):
            gone = process_mark(pid) is None
            _reap(pid)  # after the look: who dies in between is a zombie to the next one
            if gone:
                return True
            time.sleep(_POLL_S)
        return False

    def _log_since(self, position: int) -> str:
        with self._dir.log.open("rb") as log:
            log.seek(position)
            return log.read().decode("utf-8", "replace")


def _reap(pid: int) -> None:
    """If `pid` is a dead child of ours, let the kernel forget it."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        _children.pop(pid, None)


def _environment() -> dict[str, str]:
    """A clean environment: a stray PGDATA, PGPORT or locale must not reach the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _parent_death_signal() -> Callable[[], object] | None:
    """A call for the child, between fork and exec, that ties its life to its parent's."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return lambda: library.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
