"""Postgres is killed again and again under load: no acknowledged write may be lost.

Clients in this process submit payouts through a real engine to an embedded Postgres on a real
disk. The server is killed at seeded moments, every second time in the middle of a COMMIT, and
started again.

    python -m soak.kills --kills 1000
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from bursar.bootstrap import QUERIES, RULES
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import PostgresFailed
from bursar.db.pool import Pool, open_pool
from bursar.db.postmaster import children
from bursar.db.prepare import prepare
from bursar.db.queries import load_queries
from bursar.engine.engine import Engine
from bursar.engine.errors import OutcomeUnknown, Overloaded
from bursar.engine.model import Origin, Request
from bursar.engine.postgres import PostgresStore
from bursar.identity.commands import CreateMerchant
from bursar.kit.clock import SystemClock
from bursar.kit.crashpoints import Side, Step
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.ledger.commands import FundAccount
from bursar.payouts.commands import CreatePayout
from bursar.payouts.verify import audit
from soak.schedule import silence
from soak.tally import positive

_SQL: Final = load_queries(__file__, "kills.sql")
MERCHANT: Final = f"mer_{1:032x}"
ORIGIN: Final = Origin("cli", "cor_soak")
CLIENTS: Final = 12
THINK_S: Final = 0.002
"""At most so long a client waits between two requests: else the disk fills, not the time."""
ALIVE_S: Final = (0.005, 0.05)
"""How long a server lives under load before it is killed."""
COMMIT_S: Final = 0.002
"""At most so long after a COMMIT was sent every fourth kill comes, and another fourth at once."""
FEWEST: Final = 5
"""Writes acknowledged in each life of the server before it may be killed."""
MORE: Final = 60
"""At most so many kills more, until a commit was ambiguous: about every sixth kill makes one."""
PATIENCE_S: Final = 60.0


@dataclass
class Report:
    """What happened. `faults` has a line for each thing that must not be."""

    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    ambiguous: int = 0
    resolved: int = 0
    committed: int = 0
    lost: int = 0
    unknown_to_client: int = 0
    refused: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The figures, for a person."""
        total = self.kills.total()
        kinds = ", ".join(f"{name} {times}" for name, times in self.kills.items())
        each = self.seconds / max(total, 1)
        yield f"kills: {total} ({kinds}) in {self.seconds:.0f} s, {each:.2f} s each"
        yield f"acknowledged writes: {self.acknowledged}, lost: {self.lost}"
        yield (
            f"ambiguous commits: {self.ambiguous}, resolved by tombstone: {self.resolved}; "
            f"{self.committed} had been committed, {self.resolved - self.committed} run again"
        )
        yield (
            f"answers without an outcome: {self.unknown_to_client}; refused with Retry-After, "
            f"nothing done: {self.refused}"
        )
        yield f"faults: {len(self.faults)}"
        yield from (f"  {fault}" for fault in self.faults[:20])


class WatchedStore(PostgresStore):
    """Notes what the tombstone said of every commit whose answer was lost."""

    asked: set[str]
    settled: dict[str, bool]

    async def entomb(self, group_id: str) -> bool:
        """As the store's own."""
        self.asked.add(group_id)
        committed = await super().entomb(group_id)
        self.settled[group_id] = committed
        return committed


class Aim:
    """Crash points that tell when a COMMIT is about to be sent."""

    def __init__(self) -> None:
        self.committing = asyncio.Event()

    def reach(self, step: Step, side: Side) -> None:
        """Nobody dies here."""
        if (step, side) == (Step.ENGINE_COMMIT, Side.BEFORE):
            self.committing.set()


class Run:
    """One server, one engine, some clients, and whoever kills the server."""

    def __init__(self, server: EmbeddedPostgres, seed: int) -> None:
        self.report = Report()
        self._server = server
        self._chance = random.Random(seed)
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._aim = Aim()
        self._stop = False
        self._acknowledged: list[str] = []
        self._checked = 0

    async def play(self, kills: int, *, progress: bool) -> Report:
        """Kill `kills` times, then compare everything with the database.

        And a few times more, up to `MORE`, until a commit was ambiguous.
        """
        began = self._clock.monotonic()
        dsns = await prepare(self._server)
        async with AsyncExitStack() as stack:
            pool = await open_pool(dsns.owner, size=4, name="soak")
            stack.callback(pool.terminate)
            store = WatchedStore(pool, QUERIES)
            store.asked, store.settled = set(), {}
            engine = self._engine(store)
            await self._furnish(engine)
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(self._client(engine, number))
                for number in range(kills + MORE):
                    if number >= kills and store.asked:
                        break
                    async with asyncio.timeout(PATIENCE_S):
                        await self._kill(number)
                    await self._compare(pool)
                    if progress:
                        self._tell(number + 1, max(number + 1, kills))
                self._stop = True
            await engine.close()
            await self._judge(pool, store)
        found = await audit(dsns.auditor, anchor=None)
        if found.disagreement is not None:
            self.report.faults.append(f"verify: {found.disagreement}")
        self.report.seconds = self._clock.monotonic() - began
        return self.report

    def _engine(self, store: PostgresStore) -> Engine:
        return Engine(
            store,
            RULES,
            clock=self._clock,
            ids=self._ids,
            randomness=SystemRandomness(),
            crash=self._aim,
        )

    async def _furnish(self, engine: Engine) -> None:
        await engine.submit(
            CreateMerchant(
                origin=ORIGIN,
                merchant_id=MERCHANT,
                name="Shop",
                currencies=("EUR",),
                payout_fee_bps=0,
            )
        )
        await engine.submit(
            FundAccount(origin=ORIGIN, merchant_id=MERCHANT, currency="EUR", amount=10**12)
        )

    async def _client(self, engine: Engine, number: int) -> None:
        """Write after write, each repeated under its key until it is acknowledged."""
        chance = random.Random(number)
        count = 0
        while not self._stop:
            count += 1
            await self._write(engine, f"c{number}-{count}")
            await asyncio.sleep(chance.uniform(0, THINK_S))

    async def _write(self, engine: Engine, key: str) -> None:
        payout_id = self._ids.new("po")
        doubtful = False
        while True:
            try:
                reply = await engine.submit(self._create(key, payout_id))
            except OutcomeUnknown:
                self.report.unknown_to_client += 1
                doubtful = True
            except Overloaded:
                self.report.refused += 1
            else:
                if reply.replayed and not doubtful:
                    self.report.faults.append(f"{key}: refused as not done, and was done")
                self._acknowledged.append(reply.resource_id or "")
                return
            await asyncio.sleep(0.05)

    def _create(self, key: str, payout_id: str) -> CreatePayout:
        return CreatePayout(
            origin=ORIGIN,
            request=Request(MERCHANT, key, key.encode()),
            merchant_id=MERCHANT,
            payout_id=payout_id,
            reference=key,
            amount=1,
            currency="EUR",
            fee=0,
            beneficiary_name="Ana Silva",
            beneficiary_iban="DE89370400440532013000",
            description="",
            priority=1,
            due_at=None,
            max_retries=0,
            metadata={},
        )

    async def _kill(self, number: int) -> None:
        """Let the server live for a moment under load, then end it, and start it again."""
        enough = len(self._acknowledged) + FEWEST
        while len(self._acknowledged) < enough:  # noqa: ASYNC110 - clients in this loop
            await asyncio.sleep(0.005)
        await asyncio.sleep(self._chance.uniform(*ALIVE_S))
        kind = ("all", "postmaster", "immediate")[number % 3]
        victims = await asyncio.to_thread(self._victims, kind)
        if number % 2:  # in the middle of a COMMIT
            self._aim.committing.clear()
            await self._aim.committing.wait()
            if number % 4 == 1:
                await asyncio.sleep(self._chance.uniform(0, COMMIT_S))
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT if kind == "immediate" else signal.SIGKILL)
        self.report.kills[kind] += 1
        await asyncio.to_thread(self._await_end)
        await asyncio.to_thread(self._server.start)

    def _victims(self, kind: str) -> list[int]:
        """The server alone, or its backends too: then nobody is left to finish anything."""
        pid = self._server.pid
        if pid is None:
            raise PostgresFailed("the server ended by itself")
        return [pid, *children(pid)] if kind == "all" else [pid]

    def _await_end(self) -> None:
        for _ in range(3000):
            if self._server.pid is None:
                return
            time.sleep(0.01)
        raise PostgresFailed("the server outlived its end")

    async def _compare(self, pool: Pool) -> None:
        """F49, I25: what was acknowledged before the kill is there after it."""
        mine = self._acknowledged[self._checked :]
        await self._missing(pool, mine)
        self._checked += len(mine)

    async def _missing(self, pool: Pool, ids: list[str]) -> None:
        rows = await _patiently(pool, _SQL["present"], ids)
        missing = set(ids) - {row["id"] for row in rows}
        self.report.lost += len(missing)
        self.report.faults += [f"acknowledged and lost: {one}" for one in sorted(missing)]

    async def _judge(self, pool: Pool, store: WatchedStore) -> None:
        """F49, I25: all that was acknowledged is there, nothing else is, no tombstone has lied."""
        report = self.report
        report.acknowledged = len(self._acknowledged)
        report.ambiguous, report.resolved = len(store.asked), len(store.settled)
        report.committed = sum(store.settled.values())
        if not report.ambiguous:
            report.faults.append("no commit was ambiguous: nothing is proven of such")
        if len(set(self._acknowledged)) != report.acknowledged:
            report.faults.append("one payout was acknowledged for two keys")
        report.lost = 0
        await self._missing(pool, self._acknowledged)
        (row,) = await _patiently(pool, _SQL["payouts"])
        if row[0] != report.acknowledged:
            report.faults.append(f"{row[0]} payouts for {report.acknowledged} acknowledged")
        unresolved = store.asked - set(store.settled)
        report.faults += [f"never resolved: {one}" for one in sorted(unresolved)]
        rows = await _patiently(pool, _SQL["groups"], sorted(store.settled))
        found = {group: not tombstone for group, tombstone in rows}
        report.faults += [
            f"{group}: resolved as {'committed' if said else 'lost'}, the database differs"
            for group, said in store.settled.items()
            if found.get(group) is not said
        ]

    def _tell(self, done: int, kills: int) -> None:
        text = f"\r{done}/{kills} kills, {len(self._acknowledged)} acknowledged"
        print(text, end="", file=sys.stderr, flush=True)


async def _patiently(pool: Pool, sql: str, *arguments: object) -> list[Any]:
    """What a read finds, asked again while the connections of a dead server are found out."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                rows: list[Any] = await pool.fetch(sql, *arguments)
                return rows
            await asyncio.sleep(0.02)


@contextmanager
def _server() -> Iterator[EmbeddedPostgres]:
    """A server in a directory that its account can enter, deleted at the end."""
    directory = Path(tempfile.mkdtemp(prefix="bursar-kills-"))
    directory.chmod(0o711)
    server = EmbeddedPostgres(directory, die_with_parent=True)
    try:
        server.start()
        yield server
    finally:
        server.destroy()
        shutil.rmtree(directory, ignore_errors=True)


def play(kills: int, *, seed: int = 1, progress: bool = False) -> Report:
    """Kill a server of our own `kills` times under load, or a few more: see `Run.play`.

    Blocks; about 0.4 s a kill.
    """
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # it misses its server, as it must
    with _server() as server, silence():
        return asyncio.run(Run(server, seed).play(kills, progress=progress))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `./dev soak` takes for this."""
    parser.add_argument("--kills", type=positive, help="kill Postgres so often under load")


def run(asked: argparse.Namespace) -> int | None:
    """Exit code 1 if a write was lost or a commit not resolved; None if nothing was asked."""
    if asked.kills is None:
        return None
    report = play(asked.kills, seed=asked.seed, progress=True)
    print(file=sys.stderr)
    print("\n".join(report.lines()))
    return 1 if report.faults else 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m soak.kills", description=__doc__)
    add_arguments(_parser)
    _parser.add_argument("--seed", type=int, default=1, help="of the moments")
    _code = run(_parser.parse_args())
    if _code is None:
        _parser.error("how many? See --kills")
    sys.exit(_code)
