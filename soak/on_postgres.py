"""Seeded schedules over a real Postgres: the product's own SQL, locks and constraints.

The same scenarios, faults and checks as over the twin, in the same virtual time, one database
for each seed. Transactions overlap, wait for each other's rows and pass locked ones over. The
order in which the server answers is real, so a seed is the same scenario each time, but not the
same trace.

    python -m soak.on_postgres --postgres 20
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import asyncpg

from bursar.bootstrap import QUERIES
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.migrate import migrate
from bursar.db.prepare import drop_database, ensure_database, ensure_roles, role_dsns
from bursar.db.queries import load_queries
from bursar.db.roles import ADMIN, OWNER
from bursar.engine.model import GroupCommit, Table
from bursar.engine.postgres import PostgresStore
from bursar.engine.store import Session
from bursar.kit.clock import SystemClock
from bursar.payouts.memory import new_store
from bursar.payouts.store import PostgresReads
from bursar.payouts.verify import audit
from soak.lines import Lines
from soak.loop import VirtualClock
from soak.real_loop import LockWatch, RealLoop
from soak.schedule import Result, Schedule, played, run_on, silence
from soak.store import Commit, Database, Process
from soak.swarm import expected_faults
from soak.tally import Tally, Thousands, lacking, missing_lines, positive
from soak.tape import Tape
from soak.world import Violation

_SQL: Final = load_queries(__file__, "on_postgres.sql")
TEMPLATE: Final = "bursar_soak_template"
ROLE: Final = "bursar_soak"
MOMENT_S: Final = 1e-4
LINES_MAX: Final = 100


class BarrierStore(PostgresStore):
    """Lets nobody act on a commit before it has been seen."""

    async def entomb(self, group_id: str) -> bool:
        """As the store's own, and a moment: none passes while a COMMIT is not yet answered.

        The server lets go of a transaction's locks before it answers, and so somebody else may
        learn first that it was committed.
        """
        committed = await super().entomb(group_id)
        await asyncio.sleep(MOMENT_S)
        return committed


class PostgresDatabase(Database):
    """A real database. `memory` is a copy of its rows, made from what was seen to commit."""

    def __init__(self, loop: RealLoop, dsn: str, queries: Mapping[str, str]) -> None:
        super().__init__(new_store(VirtualClock(loop)))
        self.lines = Lines(loop, self._now, dsn, ROLE)
        self._owners = Lines(loop, self._now, dsn, OWNER)
        self.store = self._store = BarrierStore(cast("Any", self.lines), queries)
        self._founder = PostgresStore(cast("Any", self._owners), QUERIES)
        self.reads = PostgresReads(cast("Any", self.lines))
        self.pool = self.lines
        self.tables: dict[str, Table[Any]] = {}
        self.refused: list[str] = []
        """Commits that the server itself did not make, or did not answer."""

    def _now(self) -> datetime:
        return self.memory.clock.wall()

    async def begin(self, process: Process, *, patience_s: float | None) -> Session:
        """As the store's own; only the schema's owner can make merchants."""
        store = self._founder if process.label == "found" else self._store
        return await store.begin(patience_s=patience_s)

    async def finish(self, session: Session, commit: Commit) -> None:
        """Commit, and copy what was written."""
        try:
            await session.commit()
        except Exception as error:
            self.refused.append(f"{commit.node}: {error!r}, {error.__cause__!r}")
            raise
        written = [(table, row) for table, _, row in commit.updated]
        for table, row in (*commit.inserted, *written):
            self.tables[table.name] = table
            self.memory.tables.setdefault(table.name, {})[table.key_of(row)] = row
        self.on_commit(commit)

    async def cut(self, session: Session) -> None:
        """Close the connection: the server rolls back, even if a statement still runs."""
        cast("Any", session)._connection.terminate()  # noqa: SLF001 - nothing else has it
        await session.rollback()

    async def passed_over(
        self, queue: str, limit: int, arguments: Mapping[str, Any], due: Sequence[str]
    ) -> bool:
        """What is due, by the copy, but was locked: polling would find it later."""
        if len(due) == limit:
            return False
        expected = await self.memory.take_due(queue, limit, arguments)
        return not set(expected) <= set(due)

    async def differing(self) -> list[str]:
        """The tables whose rows are not those that were seen to be committed."""
        found = []
        async with self.lines.acquire() as line:
            for name, table in sorted(self.tables.items()):
                text = await line.fetchval(_SQL["whole_table_text"], name, list(table.columns))
                rows = [table.load(*record) for record in await line.fetch(text)]
                # Of a group that was settled as lost, only the server knows.
                kept = {table.key_of(row): row for row in rows if not _is_tombstone(row)}
                if kept != self.memory.tables[name]:
                    found.append(name)
        return found

    def close(self) -> None:
        """Drop all connections."""
        self.lines.close()
        self._owners.close()


def _is_tombstone(row: Any) -> bool:
    return isinstance(row, GroupCommit) and row.tombstone


class Server:
    """A started server with a template of what each schedule begins with."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        """Blocks, some tenths of a second."""
        self._server = server
        self._admin_dsn = server.dsn(ADMIN, "postgres")
        asyncio.run(self._make_template())
        self._watch = LockWatch(self._admin_dsn)
        self.lock_waits = 0

    async def _make_template(self) -> None:
        async with self._admin() as admin:
            await ensure_roles(admin, self._server.passwords())
            await admin.execute(_SQL["make_role"])
            await drop_database(admin, TEMPLATE)
            await ensure_database(admin, TEMPLATE)
        await migrate(role_dsns(self._admin_dsn, self._server.passwords(), TEMPLATE).owner)
        async with self._admin(TEMPLATE) as admin:
            await admin.execute(_SQL["make_clock"])

    @asynccontextmanager
    async def _admin(self, database: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        admin = await connect(self.dsn(database), name="soak")
        try:
            yield admin
        finally:
            await admin.close()

    def run(self, seed: int, *, queries: Mapping[str, str] = QUERIES) -> Result:
        """Play one schedule in a database of its own. Call within `silence`.

        `queries` are the statements of the processes.

        At the end the database is compared with what was seen to be committed, and audited as
        `bursar verify` does.
        """
        name = f"bursar_soak_{seed}"
        asyncio.run(self._create(name))
        loop = self.loop()
        try:
            result = run_on(loop, _play(loop, seed, self.dsn(name), queries))
            self.lock_waits += loop.patient.lock_waits
            if result.violation is None:
                result.violation = asyncio.run(self._audit(name))
        finally:
            asyncio.run(self._drop(name))
        return result

    async def _create(self, name: str) -> None:
        async with self._admin() as admin:
            await drop_database(admin, name)
            await ensure_database(admin, name, template=TEMPLATE)

    async def _drop(self, name: str) -> None:
        async with self._admin() as admin:
            await drop_database(admin, name)

    async def _audit(self, name: str) -> Violation | None:
        dsns = role_dsns(self._admin_dsn, self._server.passwords(), name)
        found = (await audit(dsns.auditor, anchor=None)).disagreement
        return None if found is None else Violation("verify", found)

    def loop(self) -> RealLoop:
        """A new loop, which stands still while this server works."""
        return RealLoop(self._watch)

    def dsn(self, database: str) -> str:
        """The admin's address of a database."""
        return self._server.dsn(ADMIN, database)

    def close(self) -> None:
        """Let go of what watches the server; the server goes on."""
        self._watch.close()


class OverPostgres(Schedule):
    """A schedule whose database is a server's."""

    def __init__(self, tape: Tape, database: PostgresDatabase, loop: RealLoop) -> None:
        super().__init__(loop, tape, {}, database)
        database.memory.clock = self.world.database_clock
        self._postgres = database

    async def play(self) -> None:
        """As over the twin; then the rows are compared with what was seen to be committed."""
        await super().play()
        for refusal in self._postgres.refused:
            self.world.broken("commit", refusal)
        differing = await self._postgres.differing()
        if differing:
            self.world.broken("I12", f"{', '.join(differing)}: not the rows that were committed")
        self._postgres.close()


async def _play(loop: RealLoop, seed: int, dsn: str, queries: Mapping[str, str]) -> Result:
    tape = Tape(seed)
    return await played(OverPostgres(tape, PostgresDatabase(loop, dsn, queries), loop), tape)


@contextmanager
def server() -> Iterator[Server]:
    """A server of our own, in a directory that its account can enter, deleted at the end."""
    directory = Path(tempfile.mkdtemp(prefix="bursar-soak-"))
    directory.chmod(0o711)
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # connections end, as they must
    embedded = EmbeddedPostgres(directory, die_with_parent=True)
    try:
        embedded.start()
        ours = Server(embedded)
        yield ours
        ours.close()
    finally:
        embedded.destroy()
        shutil.rmtree(directory, ignore_errors=True)


def play(seeds: Sequence[int], thousands: Thousands) -> Tally:
    """Play some seeds, one after the other, on a server of our own; print what fails."""
    tally = Tally()
    with server() as ours, silence():
        for seed in seeds:
            result = ours.run(seed)
            one = Tally()
            one.take(result)
            tally.add(one)
            thousands.add(seed, one)
            if result.violation is not None:
                print("\n".join(("", *result.lines[-LINES_MAX:])))
            text = f"\r{tally.schedules} schedules, {len(tally.violations)} violations"
            print(text, end="", file=sys.stderr, flush=True)
        waits = ours.lock_waits
    print(file=sys.stderr)
    print(f"{tally.commits} commits; {waits} times everybody waited for somebody's row")
    return tally


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `./dev soak` takes for this."""
    parser.add_argument("--postgres", type=positive, help="so many schedules over a real Postgres")


def run(asked: argparse.Namespace) -> int | None:
    """Exit code 1 if an invariant was broken, or a fault is lacking; None if nothing was asked."""
    if asked.postgres is None:
        return None
    clock = SystemClock()
    began = clock.monotonic()
    thousands = Thousands(asked.seed, tuple(expected_faults()))
    tally = play(range(asked.seed, asked.seed + asked.postgres), thousands)
    seconds = clock.monotonic() - began
    print(f"{tally.schedules} schedules over Postgres in {seconds:.0f} s")
    print(f"violations: {len(tally.violations)}")
    for seed, detail in tally.violations:
        print(f"  seed {seed}: {detail}")
    for line in missing_lines(thousands, tally):
        print(line)
    return 1 if tally.violations or lacking(thousands, tally) else 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m soak.on_postgres", description=__doc__)
    add_arguments(_parser)
    _parser.add_argument("--seed", type=int, default=0, help="the first one")
    _code = run(_parser.parse_args())
    if _code is None:
        _parser.error("how many? See --postgres")
    sys.exit(_code)
