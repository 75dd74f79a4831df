"""One database, one bank, and the processes that are killed between them.

Every case has a world of its own, so that cases can run side by side.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from bursar.bootstrap import QUERIES, RULES
from bursar.db.connection import connect
from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.engine.model import Command
from bursar.engine.postgres import PostgresStore
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.payouts.verify import audit
from bursar.settings import SANDBOX_BANK_API_KEY, SANDBOX_OFFRAMP_API_KEY
from tests.conftest import Database
from tests.crash.aim import AimedProxy, aimed_proxy_before
from tests.e2e.platform import free_port
from tests.engine.proxy import Cut

KILLED: Final = -9
_START_S: Final = 60.0
_END_S: Final = 120.0
_LOOK_S: Final = 0.05
ROOT: Final = Path(__file__).resolve().parents[2]

_PROVIDERS: Final = {"bank": SANDBOX_BANK_API_KEY, "offramp": SANDBOX_OFFRAMP_API_KEY}

Document = dict[str, Any]


class Nursery:
    """Starts processes, and knows when each has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ended: dict[str, asyncio.Future[int]] = {}
        self._number = 0

    async def listen(self) -> None:
        """Take in who has ended, until the nursery has."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            self._ended[said["name"]].set_result(said["code"])
        for ended in self._ended.values():  # the nursery's end is everybody's
            if not ended.done():
                ended.set_result(KILLED)

    def start(
        self, *arguments: str, environment: Mapping[str, str], log: Path
    ) -> asyncio.Future[int]:
        """Run `bursar ARGUMENTS` or `sim ARGUMENTS`; the future gets its exit code."""
        assert self._process.stdin is not None
        self._number += 1
        name = f"{arguments[0]}-{self._number}"
        ended = self._ended[name] = asyncio.get_running_loop().create_future()
        order = {
            "name": name,
            "arguments": arguments,
            "environment": dict(environment),
            "log": str(log),
        }
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return ended

    async def kill(self, process: asyncio.Future[int]) -> None:
        """End a process that `start` started, if it still runs."""
        assert self._process.stdin is not None
        name = next(name for name, ended in self._ended.items() if ended is process)
        if not process.done() and not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps({"name": name}).encode() + b"\n")
        await asyncio.shield(process)


@asynccontextmanager
async def nursery_open() -> AsyncIterator[Nursery]:
    """A nursery; at the end everything that it started dies with it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BURSAR_", "DATABASE"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.crash.nursery"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    nursery = Nursery(process)
    listening = asyncio.create_task(nursery.listen())
    try:
        yield nursery
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listening


@dataclass
class World:
    """Where one case happens. `api_keys` are of two persons of the merchant `merchant_id`."""

    nursery: Nursery
    database: Database
    directory: Path
    merchant_id: str
    api_keys: Sequence[str]
    api_port: int
    sim_port: int
    stack: AsyncExitStack
    started: list[asyncio.Future[int]] = field(default_factory=list)
    behind: dict[str, str] = field(default_factory=dict)
    http: httpx.AsyncClient = field(init=False)

    @property
    def api_url(self) -> str:
        """Where the API of this world listens."""
        return f"http://127.0.0.1:{self.api_port}"

    async def start_bank(self, **knobs: float) -> None:
        """The simulated bank, which is never killed."""
        settings = [text for one in knobs.items() for text in ("--knob", "{}={}".format(*one))]
        bank = self.nursery.start(
            *("sim", "--port", str(self.sim_port), "--data", str(self.directory / "bank")),
            *("--callback", f"{self.api_url}/webhooks/provider", *settings),
            environment={"PATH": os.environ["PATH"]},
            log=self.directory / "sim.log",
        )
        self.started.append(bank)
        await listening(self.sim_port)

    async def start_api(self, crash_at: str | None = None) -> asyncio.Future[int]:
        """An API that answers, and dies where it is told to."""
        ended = self._start("api", self.database.dsns.api, crash_at)
        await listening(self.api_port)
        return ended

    async def start_worker(self, crash_at: str | None = None) -> asyncio.Future[int]:
        """A worker that dies where it is told to."""
        return self._start("worker", self.database.dsns.worker, crash_at)

    def _start(self, name: str, dsn: str, crash_at: str | None) -> asyncio.Future[int]:
        environment = {
            "PATH": os.environ["PATH"],
            "BURSAR_DATA_DIR": str(self.directory),
            "BURSAR_API_PORT": str(self.api_port),
            "BURSAR_SIM_PORT": str(self.sim_port),
            "BURSAR_PROCESS_DSN": self.behind.get(name, dsn),
            "BURSAR_POOL_SIZE": "2",
            "BURSAR_WORKER_CONCURRENCY": "4",
        }
        if crash_at is not None:
            environment["BURSAR_CRASH_AT"] = crash_at
        log = self.directory / f"{name}.log"
        process = self.nursery.start(name, environment=environment, log=log)
        self.started.append(process)
        return process

    async def put_proxy(self, name: str, cut: Cut, commands: Collection[str]) -> AimedProxy:
        """Lead the process `name` to its database through a proxy that cuts these commands."""
        proxy, self.behind[name] = await self.stack.enter_async_context(
            aimed_proxy_before(getattr(self.database.dsns, name), cut, commands)
        )
        return proxy

    async def post(
        self, path: str, body: Document, key: str, *, by: int = 0
    ) -> httpx.Response | None:
        """A write of person `by` under an idempotency key; None if no answer came."""
        headers = {"Authorization": f"Bearer {self.api_keys[by]}", "Idempotency-Key": key}
        with suppress(httpx.TransportError):
            return await self.http.post(f"{self.api_url}{path}", json=body, headers=headers)
        return None

    async def submit(self, *commands: Command[Any]) -> list[Any]:
        """Run commands beside the processes, in order, over an engine of our own."""
        pool = await open_pool(self.database.dsns.owner, size=2, name="tests")
        engine = Engine(
            PostgresStore(pool, QUERIES),
            RULES,
            clock=SystemClock(),
            ids=SystemIds(),
            randomness=SystemRandomness(),
        )
        try:
            return [await engine.submit(command) for command in commands]
        finally:
            await engine.close()
            await pool.close()

    async def rows(self, sql: str) -> list[asyncpg.Record]:
        """What a statement finds."""
        connection = await connect(self.database.dsns.owner, name="tests")
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    async def until(self, sql: str, holds: Callable[[list[asyncpg.Record]], bool]) -> None:
        """Return when what a statement finds fulfils a condition."""
        connection = await connect(self.database.dsns.owner, name="tests")
        try:
            async with asyncio.timeout(_END_S):
                while not holds(await connection.fetch(sql)):  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(_LOOK_S)
        finally:
            await connection.close()

    async def turn(self, provider: str, **knobs: float) -> None:
        """Set knobs of a running provider."""
        url = f"http://127.0.0.1:{self.sim_port}/{provider}/knobs"
        headers = {"Authorization": f"Bearer {_PROVIDERS[provider]}"}
        (await self.http.put(url, json=knobs, headers=headers)).raise_for_status()

    async def statement(self) -> list[Document]:
        """What bank and off-ramp truly executed."""
        lines: list[Document] = []
        for provider, key in _PROVIDERS.items():
            url = f"http://127.0.0.1:{self.sim_port}/{provider}/statement"
            headers = {"Authorization": f"Bearer {key}"}
            reply = await self.http.get(url, params={"after": 0}, headers=headers)
            lines += reply.raise_for_status().json()["lines"]
        return lines

    async def verified(self) -> None:
        """`bursar verify` finds nothing, also against the checkpoints that a worker exported."""
        anchor = self.directory / "checkpoints.jsonl"
        found = await audit(self.database.dsns.auditor, anchor=anchor if anchor.exists() else None)
        assert found.disagreement is None, found.disagreement


@asynccontextmanager
async def world_open(
    nursery: Nursery,
    database: Database,
    directory: Path,
    *,
    merchant_id: str,
    api_keys: Sequence[str],
) -> AsyncIterator[World]:
    """A world without processes. Those that are started live until the world ends."""
    await asyncio.to_thread(directory.mkdir)
    async with AsyncExitStack() as stack:
        world = World(
            nursery, database, directory, merchant_id, api_keys, free_port(), free_port(), stack
        )
        world.http = await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
        try:
            yield world
        finally:
            await asyncio.gather(*map(nursery.kill, world.started))


async def listening(port: int) -> None:
    """Return when somebody accepts connections there."""
    async with asyncio.timeout(_START_S):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(_LOOK_S / 2)
