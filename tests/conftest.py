"""Servers and databases for every test that asks for them.

`postgres`   a started embedded server; one per pytest process and kind, never shared
`database`   a fresh, migrated database on it, with an address per role

A test marked `both_postgres` runs on the wheel's server and on Debian's.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from bursar.db.binaries import Binaries, system_binaries, wheel_binaries
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.migrate import migrate
from bursar.db.postmaster import process_mark
from bursar.db.prepare import drop_database, ensure_database, ensure_roles, role_dsns
from bursar.db.roles import ADMIN, Dsns

_TEMPLATE = "bursar_template"
_Result = TypeVar("_Result")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """One test's own database: its name, an address per role, and the server's admin's."""

    name: str
    dsns: Dsns
    admin_dsn: str


def run_blocking(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `work` to its end on a loop of its own, whether or not this thread has one."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test marked `both_postgres` its two servers."""
    if "postgres_kind" in metafunc.fixturenames and metafunc.definition.get_closest_marker(
        "both_postgres"
    ):
        metafunc.parametrize("postgres_kind", ["wheel", "debian"], scope="session")


class _OnePlatformAtATime(LoadScopeScheduling):  # type: ignore[misc]
    """Each test goes to the next free worker, but those with a platform all to the same one.

    Side by side, platforms under load would take each other's processors.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "e2e" if nodeid.startswith("tests/e2e/") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """How tests are dealt out where several processes run them."""
    return _OnePlatformAtATime(config, log)


@pytest.fixture(scope="session")
def postgres_kind() -> str:
    """Which server: `wheel` unless the test asks for both."""
    return "wheel"


def binaries_of(kind: str) -> Binaries:
    """The server binaries of a kind; skips the test, saying why, where they are absent."""
    found = wheel_binaries() if kind == "wheel" else system_binaries()
    if not found:
        pytest.skip(f"no {kind} Postgres on this machine")
    return found[0]


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory of this process that a server's account can enter, deleted at the end.

    pytest's own are closed to it. What killed runs left behind goes first.
    """
    base = Path(tempfile.gettempdir()) / f"bursar-tests-{os.getuid()}"
    base.mkdir(mode=0o711, exist_ok=True)
    for old in base.iterdir():
        if process_mark(int(old.name)) is None:
            shutil.rmtree(old, ignore_errors=True)
    own = base / str(os.getpid())
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(mode=0o711)
    yield own
    shutil.rmtree(own, ignore_errors=True)


class _Servers:
    """Starts a server of a kind when it is first asked for."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._started: dict[str, EmbeddedPostgres] = {}

    def of(self, kind: str) -> EmbeddedPostgres:
        if kind not in self._started:
            server = EmbeddedPostgres(
                self._scratch / kind, binaries=binaries_of(kind), die_with_parent=True
            )
            server.start()
            self._started[kind] = server
            run_blocking(_make_template(server))
        return self._started[kind]

    def stop(self) -> None:
        for server in self._started.values():
            server.destroy()


async def _make_template(server: EmbeddedPostgres) -> None:
    admin = await connect(server.dsn(ADMIN, "postgres"), name="tests")
    try:
        await ensure_roles(admin, server.passwords())
        await ensure_database(admin, _TEMPLATE)
    finally:
        await admin.close()
    await migrate(role_dsns(server.dsn(), server.passwords(), _TEMPLATE).owner)


@pytest.fixture(scope="session")
def _servers(scratch: Path) -> Iterator[_Servers]:
    servers = _Servers(scratch)
    yield servers
    servers.stop()


@pytest.fixture
def postgres(_servers: _Servers, postgres_kind: str) -> EmbeddedPostgres:
    """A running server with Bursar's roles. Shared by this process's tests: leave it running."""
    return _servers.of(postgres_kind)


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A fresh migrated database, cloned from a template in about 20 ms, dropped afterwards."""
    made = new_database(postgres)
    yield made
    run_blocking(drop(made))


def new_database(server: EmbeddedPostgres, *, template: str = _TEMPLATE) -> Database:
    """Clone `template` under a new name; the caller drops it, or lets the server's end do so."""
    name = f"bursar_test_{next(_numbers)}"
    run_blocking(_clone(server, name, template))
    admin_dsn = server.dsn(ADMIN, "postgres")
    return Database(name, role_dsns(admin_dsn, server.passwords(), name), admin_dsn)


async def _clone(server: EmbeddedPostgres, name: str, template: str) -> None:
    admin = await connect(server.dsn(ADMIN, "postgres"), name="tests")
    try:
        await ensure_database(admin, name, template=template)
    finally:
        await admin.close()


async def drop(database: Database) -> None:
    """Drop a database that `new_database` made."""
    admin = await connect(database.admin_dsn, name="tests")
    try:
        await drop_database(admin, database.name)
    finally:
        await admin.close()
