"""One checkout in a comparison: it measures what it is asked for, line by line.

Run as a file, with the checkout's `src` and root on PYTHONPATH: so an older checkout, which lacks
this file, is measured by it all the same.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import uvloop

from bench.http_api import send
from bench.http_load import Load
from bench.in_process import engine_latencies, engine_rate
from bench.laboratory import Laboratory, make_database, open_engine, open_laboratory, settle
from bench.processes import HOST, free_port, running
from bench.stopwatch import percentile
from bursar import bootstrap
from bursar.settings import Settings

CONNECTIONS = 128

Measurement = Callable[[], Awaitable[float]]


async def main(payouts: int, merchants: int, singles: int, requests: int) -> None:
    """Answer each line of standard input, the name of a measurement, with its figure."""
    with open_laboratory() as lab:
        async with AsyncExitStack() as stack:
            found = await _in_process(lab, stack, payouts, merchants, singles)
            found |= await _over_http(lab, stack, requests)
            for warm_up in found.values():
                await warm_up()
            print("ready", flush=True)
            loop = asyncio.get_running_loop()
            while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
                print(await found[line](), flush=True)


async def _in_process(
    lab: Laboratory, stack: AsyncExitStack, payouts: int, merchants: int, singles: int
) -> dict[str, Measurement]:
    database = await make_database(lab, "in_process", merchants=merchants)
    engine = await stack.enter_async_context(open_engine(database.dsns))
    many, hot = database.merchants, database.merchants[:1]

    async def latency() -> float:
        seconds = await engine_latencies(engine, hot, payouts=singles)
        return 1000 * percentile(seconds, 0.5)

    return {
        "hot": lambda: engine_rate(engine, hot, payouts=payouts),
        "many": lambda: engine_rate(engine, many, payouts=payouts),
        "latency": latency,
    }


async def _over_http(
    lab: Laboratory, stack: AsyncExitStack, requests: int
) -> Mapping[str, Measurement]:
    settings = Settings(data_dir=lab.directory, database_url=None)
    dsns = await bootstrap.prepare_database(settings, lab.server)
    demo = await bootstrap.ensure_demo(settings, dsns, known_key=None)
    await settle(dsns)
    port = free_port()
    told = {"BURSAR_DATA_DIR": str(lab.directory), "BURSAR_API_PORT": str(port)}
    log = lab.directory.parent / "api.log"
    await stack.enter_async_context(
        running("-m", "bursar", "api", settings=told, log=log, port=port)
    )
    times = iter(range(1_000_000))

    async def rate() -> float:
        load = Load(HOST, port, demo.api_key, CONNECTIONS, requests, f"against-{next(times)}")
        return (await send(load)).rate

    return {"http": rate}


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
