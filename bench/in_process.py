"""The engine in this process against its two baselines; one connection; a hot account."""

import asyncio

from bench import row_at_a_time, set_based
from bench.laboratory import Database, Laboratory, make_database, open_engine
from bench.plan import Plan
from bench.report import Figure, Sample, Target
from bench.stopwatch import Stopwatch, percentile
from bench.workload import stream
from bursar.engine.engine import Engine

WAITERS = 128


async def engine_rate(
    engine: Engine, merchants: tuple[str, ...], *, payouts: int, waiters: int = WAITERS
) -> float:
    """Payouts per second that `waiters` callers get, each asking again once answered."""
    commands = stream(merchants, payouts)

    async def work() -> None:
        for command in commands:
            await engine.submit(command)

    watch = Stopwatch()
    await asyncio.gather(*(work() for _ in range(waiters)))
    return payouts / watch.seconds()


async def engine_latencies(
    engine: Engine, merchants: tuple[str, ...], *, payouts: int
) -> list[float]:
    """Seconds of each of `payouts` made one after the other."""
    seconds = []
    for command in stream(merchants, payouts):
        watch = Stopwatch()
        await engine.submit(command)
        seconds.append(watch.seconds())
    return seconds


async def in_process(lab: Laboratory, plan: Plan) -> list[Figure]:
    """Figures 1 to 3 of docs/benchmarks.md."""
    database = await make_database(lab, "in_process", merchants=plan.merchants)
    many = database.merchants
    hot = many[:1]
    figures = []
    async with open_engine(database.dsns) as engine:
        await engine_rate(engine, many, payouts=plan.payouts)
        await engine_rate(engine, hot, payouts=plan.payouts)
        figures.append(await _against_rows(engine, database, hot, plan, "one merchant"))
        figures.append(
            await _against_rows(engine, database, many, plan, f"{len(many):,} merchants")
        )
        figures += [
            await _against_sets(engine, database, hot, plan, waiters) for waiters in (128, 256)
        ]
        figures.append(await _latency(engine, database, hot, plan))
        figures.append(await _hot_account(engine, hot, many, plan))
    return figures


async def _against_rows(
    engine: Engine, database: Database, merchants: tuple[str, ...], plan: Plan, where: str
) -> Figure:
    dsn = database.dsns.api
    tried = {
        connections: await row_at_a_time.rate(
            dsn, merchants, connections=connections, payouts=plan.rows
        )
        for connections in plan.connections
    }
    best = max(tried, key=lambda connections: tried[connections])
    ours, theirs = [], []
    for _ in range(plan.repeats):
        ours.append(await engine_rate(engine, merchants, payouts=plan.payouts))
        theirs.append(await row_at_a_time.rate(dsn, merchants, connections=best, payouts=plan.rows))
    return Figure(
        f"in process, {where}",
        "/s",
        Sample(tuple(ours)),
        Sample(tuple(theirs)),
        f"row at a time, {best} connections (its best)",
        Target("at least", 5),
        f"{WAITERS} waiters",
    )


async def _against_sets(
    engine: Engine, database: Database, merchants: tuple[str, ...], plan: Plan, waiters: int
) -> Figure:
    ours, theirs = [], []
    payouts = plan.payouts // waiters * waiters
    for _ in range(plan.repeats):
        ours.append(await engine_rate(engine, merchants, payouts=payouts, waiters=waiters))
        theirs.append(
            await set_based.rate(database.dsns.api, merchants, group=waiters, payouts=payouts)
        )
    return Figure(
        "in process, one merchant",
        "/s",
        Sample(tuple(ours)),
        Sample(tuple(theirs)),
        f"set-based by hand, groups of {waiters}, rows prebuilt",
        Target("at least", 0.5),
        f"{waiters} waiters",
    )


async def _latency(
    engine: Engine, database: Database, merchants: tuple[str, ...], plan: Plan
) -> Figure:
    ours, theirs = [], []
    for _ in range(plan.repeats):
        mine = await engine_latencies(engine, merchants, payouts=plan.singles)
        rows = await row_at_a_time.latencies(database.dsns.api, merchants, payouts=plan.singles)
        ours.append(percentile(mine, 0.5) * 1000)
        theirs.append(percentile(rows, 0.5) * 1000)
    return Figure(
        "latency at one connection, p50",
        "ms",
        Sample(tuple(ours)),
        Sample(tuple(theirs)),
        "row at a time, 1 connection",
        Target("at most", 1.5),
    )


async def _hot_account(
    engine: Engine, hot: tuple[str, ...], many: tuple[str, ...], plan: Plan
) -> Figure:
    ours, theirs = [], []
    for _ in range(plan.repeats):
        ours.append(await engine_rate(engine, hot, payouts=plan.payouts))
        theirs.append(await engine_rate(engine, many, payouts=plan.payouts))
    return Figure(
        "hot account",
        "/s",
        Sample(tuple(ours)),
        Sample(tuple(theirs)),
        f"{len(many):,} merchants' accounts",
        Target("at least", 1),
        f"{WAITERS} waiters",
    )
