"""The embedded server: made, stopped, killed, found again, by root and by a plain user."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from bursar.db.binaries import Binaries
from bursar.db.connection import CONNECTION_ERRORS, connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import PostgresFailed, PostgresNotFound
from bursar.db.place import PRIVATE_ROOT
from bursar.db.postmaster import accepts_clients, is_server, process_mark, read_pid_file
from bursar.db.roles import ADMIN
from tests.conftest import binaries_of, run_blocking

Make = Callable[..., EmbeddedPostgres]
pytestmark = pytest.mark.both_postgres
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which drops to other users")


@pytest.fixture
def make(scratch: Path, request: pytest.FixtureRequest, postgres_kind: str) -> Iterator[Make]:
    """Make embedded servers on one data directory, destroyed at the end."""
    made: list[EmbeddedPostgres] = []
    data_dir = scratch / f"{request.node.originalname}-{postgres_kind}"

    def make(path: Path = data_dir) -> EmbeddedPostgres:
        server = EmbeddedPostgres(path, binaries=binaries_of(postgres_kind), die_with_parent=True)
        made.append(server)
        return server

    yield make
    for server in made:
        server.destroy()


def ask(server: EmbeddedPostgres, statement: str) -> object:
    """Run one statement as the admin; returns the first value."""

    async def work() -> object:
        connection = await connect(server.dsn(ADMIN, "postgres"), name="test")
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return run_blocking(work())


def test_a_cluster_is_made_stopped_and_started_with_its_data(make: Make) -> None:
    """Start and stop are idempotent; the port and the data stay."""
    server = make()
    server.start()
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT 42 AS n")
    address = server.dsn(ADMIN, "postgres")

    server.stop()
    server.stop()

    assert server.pid is None
    server.start()
    assert server.dsn(ADMIN, "postgres") == address
    assert ask(server, "SELECT n FROM kept") == 42


def test_it_is_durable_private_and_small(make: Make) -> None:
    """F55: checksums and durable settings; loopback only; passwords for their owner alone."""
    server = make()
    server.start()

    for name, expected in {
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
        "server_encoding": "UTF8",
        "synchronous_commit": "on",
        "unix_socket_directories": "",
    }.items():
        assert ask(server, f"SHOW {name}") == expected, name
    assert ask(server, "SELECT datcollate FROM pg_database WHERE datname = 'template1'") == "C"
    assert stat.S_IMODE((server.data_dir / "passwords.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700
    host = server.dsn(ADMIN, "postgres").partition("@")[2]
    with pytest.raises(asyncpg.InvalidPasswordError):
        run_blocking(connect(f"postgresql://{ADMIN}:wrong@{host}", name="test"))


def test_acknowledged_commits_survive_a_kill(make: Make) -> None:
    """F55: SIGKILL of server and backends while one writes; all that was answered is there."""
    server = make()
    server.start()
    ask(server, "CREATE TABLE acknowledged (n integer PRIMARY KEY)")

    async def write_until_killed() -> int:
        connection = await connect(server.dsn(ADMIN, "postgres"), name="test")
        count = 0
        try:
            while True:
                await connection.execute("INSERT INTO acknowledged VALUES ($1)", count)
                count += 1
                if count == 50:
                    server.kill()
        except CONNECTION_ERRORS:
            return count
        finally:
            connection.terminate()

    acknowledged = run_blocking(write_until_killed())
    assert acknowledged >= 50
    server.start()

    stored = ask(server, "SELECT count(*) FROM acknowledged")
    assert stored in (acknowledged, acknowledged + 1)  # the last one's answer may be lost


def test_a_kill_of_the_server_alone_is_recovered(make: Make) -> None:
    """Its orphaned backends may hold the shared memory for a moment; the start waits."""
    server = make()
    server.start()
    pid = server.pid
    assert pid is not None

    os.kill(pid, signal.SIGKILL)
    server.start()

    assert server.pid != pid
    assert ask(server, "SELECT 1") == 1


def test_a_server_that_dies_during_the_start_is_replaced(make: Make) -> None:
    """Killed, it looks alive and its port open for a moment; stopped, for as long as we like."""
    server = make()
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()

    server.start()

    believed = killer.is_alive()
    killer.join()
    assert not believed
    assert server.pid not in (pid, None)
    assert ask(server, "SELECT 1") == 1


def test_only_an_answer_proves_a_server(make: Make) -> None:
    """A port that only completes connections lets nobody in, no more than a closed one."""
    server = make()
    server.start()
    port = int(server.dsn(ADMIN, "postgres").rpartition(":")[2].partition("/")[0])

    assert accepts_clients("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = silent.getsockname()[1]
        assert not accepts_clients("127.0.0.1", nobody)
    assert not accepts_clients("127.0.0.1", nobody)


def test_a_second_owner_attaches_and_does_not_stop_it(make: Make) -> None:
    """Only who started a server stops it, unless forced."""
    first, second = make(), make()
    first.start()
    pid = first.pid
    memory = json.loads((first.data_dir / "embedded.json").read_text(encoding="utf-8"))
    memory |= {"owner_pid": os.getppid(), "owner_mark": process_mark(os.getppid())}
    (first.data_dir / "embedded.json").write_text(json.dumps(memory), encoding="utf-8")

    second.start()
    second.stop()

    assert second.pid == pid
    second.stop(force=True)
    assert second.pid is None
    first.stop()


def test_the_server_of_a_killed_process_is_taken_over(make: Make) -> None:
    """A server outlives its parent's SIGKILL; who starts next finds it, and stops it."""
    server = make()
    server.start()  # settles the place, so that the child only launches
    server.stop()
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from bursar.db.embedded import EmbeddedPostgres;"
        "EmbeddedPostgres(Path(sys.argv[1])).start();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(server.data_dir)], check=False)

    assert done.returncode == -signal.SIGKILL
    left = server.pid
    assert left is not None
    server.start()
    assert server.pid == left
    assert ask(server, "SELECT 1") == 1
    server.stop()
    assert server.pid is None


def test_a_stale_pid_file_does_not_stop_the_start(make: Make) -> None:
    """After a reboot the number may belong to anybody: here, to this very test's parent."""
    server = make()
    server.start()
    text = (server.cluster / "postmaster.pid").read_text(encoding="utf-8")
    server.kill()
    lines = [str(os.getppid()), *text.splitlines()[1:]]
    (server.cluster / "postmaster.pid").write_text("\n".join(lines), encoding="utf-8")

    assert server.pid is None
    server.start()

    assert ask(server, "SELECT 1") == 1


def test_a_zombie_is_no_server(make: Make) -> None:
    """A killed child that nobody has reaped still has a pid and still answers signal 0."""
    server, observer = make(), make()
    server.start()
    file = read_pid_file(server.cluster)
    assert file is not None

    os.kill(file.pid, signal.SIGKILL)
    # Not reaped: only `server` holds the child, and it is not asked.
    while process_mark(file.pid) is not None:
        pass

    os.kill(file.pid, 0)
    assert not is_server(file.pid, observer.cluster)
    assert observer.pid is None
    observer.start()
    assert ask(observer, "SELECT 1") == 1
    server.stop()


def test_a_taken_port_is_given_up(make: Make) -> None:
    """Another program may have taken the remembered port while the server was down."""
    server = make()
    server.start()
    address = server.dsn(ADMIN, "postgres")
    port = int(address.rpartition(":")[2].partition("/")[0])
    server.stop()

    with socket.create_server(("127.0.0.1", port)):
        server.start()

    assert server.dsn(ADMIN, "postgres") != address
    assert ask(server, "SELECT 1") == 1


def test_half_a_cluster_is_made_anew(make: Make) -> None:
    """A kill during initdb leaves `cluster.new`, which is never taken for a cluster."""
    server = make()
    server.start()
    server.stop()
    server.cluster.rename(server.cluster.with_name("cluster.new"))

    server.start()

    assert ask(server, "SELECT 1") == 1
    assert not server.cluster.with_name("cluster.new").exists()


def test_a_lost_cluster_is_named_and_not_replaced(make: Make) -> None:
    """An empty cluster in place of one with money in it would look like a fresh start."""
    server = make()
    server.start()
    server.stop()
    place = server.cluster.parent
    place.rename(place.with_name("moved"))

    with pytest.raises(PostgresFailed, match="does not exist"):
        make().start()

    place.with_name("moved").rename(place)


def test_a_cluster_of_another_version_is_refused(make: Make) -> None:
    """Postgres cannot read another major's files; say so instead of its log's last line."""
    server = make()
    server.start()
    server.stop()
    version = server.cluster / "PG_VERSION"
    kept = version.read_text(encoding="ascii")
    version.write_text("9\n", encoding="ascii")

    with pytest.raises(PostgresFailed, match="of Postgres 9, the given binaries of"):
        server.start()
    with pytest.raises(PostgresNotFound, match="made by Postgres 9"):
        EmbeddedPostgres(server.data_dir).start()

    version.write_text(kept, encoding="ascii")


def test_a_setting_that_does_not_exist_is_reported(scratch: Path, postgres_kind: str) -> None:
    """The error carries the server's own words."""
    server = EmbeddedPostgres(
        scratch / f"odd-{postgres_kind}",
        binaries=binaries_of(postgres_kind),
        settings={"no_such_setting": "1"},
        die_with_parent=True,
    )

    with pytest.raises(PostgresFailed, match="no_such_setting"):
        server.start()

    server.destroy()


@as_root
def test_root_opens_no_directory(make: Make, tmp_path: Path) -> None:
    """Where the server's account cannot enter, the cluster goes elsewhere; modes stay."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = {path: path.stat().st_mode for path in (closed, *closed.parents)}
    server = make(closed / "data")

    server.start()

    assert ask(server, "SELECT 1") == 1
    assert {path: path.stat().st_mode for path in before} == before
    assert server.cluster.is_relative_to(PRIVATE_ROOT)
    assert server.cluster.stat().st_uid != 0
    place = server.cluster.parent
    server.destroy()
    assert not place.exists()


@as_root
def test_binaries_that_the_account_cannot_run_are_copied(
    tmp_path: Path, scratch: Path, postgres_kind: str
) -> None:
    """A virtual environment below root's own directory is closed to the server's account."""
    found = binaries_of(postgres_kind)
    if found.origin != "wheel":
        pytest.skip("only a wheel's binaries can be moved")
    closed = tmp_path / "venv"
    closed.mkdir(mode=0o700)
    package = found.bin_dir.parents[1]
    for part in package.parent.glob(f"{package.name}*"):
        subprocess.run(["cp", "-r", str(part), str(closed)], check=True)
    bin_dir = closed / found.bin_dir.relative_to(package.parent)
    hidden = Binaries(bin_dir, found.major, "wheel")
    private = scratch / "private"
    server = EmbeddedPostgres(
        scratch / "hidden", binaries=hidden, private_root=private, die_with_parent=True
    )

    server.start()

    assert ask(server, "SELECT 1") == 1
    assert [path.name.split("-")[0] for path in private.iterdir()] == ["postgres"]
    server.destroy()


@as_root
def test_a_plain_user_runs_it_as_itself(scratch: Path, postgres_kind: str) -> None:
    """The same code without root, in a process that has dropped its rights."""
    binaries = binaries_of(postgres_kind)
    home = scratch / f"plain-{postgres_kind}"
    home.mkdir()
    os.chown(home, 65534, 65534)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.environ["HOME"] = str(home)
            server = EmbeddedPostgres(home / "data", binaries=binaries, die_with_parent=True)
            server.start()
            status = 0 if ask(server, "SELECT 1") == 1 else 2
            server.kill()
            server.start()
            status = status or (0 if ask(server, "SELECT 2") == 2 else 3)
            server.stop()
        except BaseException:  # noqa: BLE001 - a forked child must not return into pytest
            traceback.print_exc()
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (home / "data/postgres/cluster").stat().st_uid == 65534
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700


async def test_two_starts_at_once_give_one_server(make: Make) -> None:
    """The lock file: the second waits and attaches."""
    first, second = make(), make()

    await asyncio.gather(asyncio.to_thread(first.start), asyncio.to_thread(second.start))

    assert first.pid == second.pid is not None
