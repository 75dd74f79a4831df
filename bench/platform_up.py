"""`bursar up`: what the idle platform weighs, and payouts from request to settled."""

import asyncio
import json

import asyncpg

from bench.http_api import send
from bench.http_load import Load
from bench.laboratory import SQL, Laboratory, temporary_directory
from bench.plan import Plan
from bench.processes import HOST, family, free_port, memory_mb, running
from bench.report import Figure, Sample, Target
from bench.stopwatch import Stopwatch
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.roles import AUDITOR

_IDLE_S = 3.0
_LOOK_S = 0.05
_DEADLINE_S = 300.0


class NotSettled(Exception):
    """Payouts were still open at the deadline."""


async def platform_up(_lab: Laboratory, plan: Plan) -> list[Figure]:
    """Figures 5 and 7 of docs/benchmarks.md, on a platform and a server of its own."""
    api, sim = free_port(), free_port()
    with temporary_directory() as directory:
        data = directory / "data"
        arguments = ("up", "--data-dir", str(data), "--sim-knob", "decline=0")
        ports = ("--api-port", str(api), "--sim-port", str(sim))
        log = directory / "up.log"
        async with running(
            *("-m", "bursar", *arguments, *ports), settings={}, log=log, port=api
        ) as process:
            await asyncio.sleep(_IDLE_S)
            idle = [memory_mb(pid) for pid in family(process.pid)]
            demo = json.loads((data / "demo.json").read_bytes())
            connection = await connect(EmbeddedPostgres(data).dsn(AUDITOR), name="bench")
            try:
                rates = [
                    await _settled_rate(connection, api, demo["api_key"], plan, repeat)
                    for repeat in range(plan.repeats)
                ]
            finally:
                await connection.close()
            busy = sum(memory_mb(pid) for pid in family(process.pid))
    return [
        Figure(
            "settled end to end",
            "/s",
            Sample(tuple(rates)),
            note=f"{plan.settled:,} payouts, 128 connections, one worker, simulated bank",
        ),
        Figure(
            "idle platform, PSS of all processes",
            "MB",
            Sample((sum(idle),)),
            target=Target("at most", 300),
            note=f"{len(idle)} processes; {busy:.0f} MB after the load",
        ),
    ]


async def _settled_rate(
    connection: asyncpg.Connection, port: int, api_key: str, plan: Plan, repeat: int
) -> float:
    """Payouts per second from the first request until the last is settled."""
    before = await _settled(connection)
    watch = Stopwatch()
    connections = min(128, plan.settled)
    await send(Load(HOST, port, api_key, connections, plan.settled, f"settle-{repeat}"))
    while await _settled(connection) < before + plan.settled:
        if watch.seconds() > _DEADLINE_S:
            raise NotSettled(str(await _counts(connection)))
        await asyncio.sleep(_LOOK_S)
    return plan.settled / watch.seconds()


async def _settled(connection: asyncpg.Connection) -> int:
    return (await _counts(connection)).get("settled", 0)


async def _counts(connection: asyncpg.Connection) -> dict[str, int]:
    records = await connection.fetch(SQL["count_payouts"])
    return {record[0]: record[1] for record in records}
