"""The API's process over HTTP against the same process with a constant reply."""

import asyncio
import sys

import msgspec

from bench.http_load import Load, Result
from bench.laboratory import Laboratory, settle
from bench.plan import Plan
from bench.processes import HOST, environment, free_port, running
from bench.report import Figure, Sample, Target
from bursar import bootstrap
from bursar.settings import Settings

CONNECTIONS = (1, 32, 128)


class LoadFailed(Exception):
    """Some replies were not 201."""


async def send(load: Load) -> Result:
    """Run the load generator. Raises `LoadFailed` unless every reply is 201."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.http_load"),
        env=environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    written, _ = await process.communicate(msgspec.json.encode(load))
    result = msgspec.json.decode(written, type=Result)
    if result.statuses != {"201": load.requests}:
        raise LoadFailed(f"{load.requests} requests were answered {result.statuses}")
    return result


async def over_http(lab: Laboratory, plan: Plan) -> list[Figure]:
    """Figure 4 of docs/benchmarks.md."""
    settings = Settings(data_dir=lab.directory, database_url=None)
    dsns = await bootstrap.prepare_database(settings, lab.server)
    demo = await bootstrap.ensure_demo(settings, dsns, known_key=None)
    await settle(dsns)
    real, constant = free_port(), free_port()
    logs = lab.directory.parent

    def told(port: int) -> dict[str, str]:
        return {"BURSAR_DATA_DIR": str(lab.directory), "BURSAR_API_PORT": str(port)}

    figures = []
    async with (
        running("-m", "bursar", "api", settings=told(real), log=logs / "api.log", port=real),
        running(
            *("-m", "bench.constant_api"),
            settings=told(constant),
            log=logs / "constant.log",
            port=constant,
        ),
    ):
        for connections in CONNECTIONS:
            requests = plan.requests if connections > 1 else max(8, plan.requests // 8)
            ours: list[Result] = []
            theirs: list[Result] = []
            for repeat in range(-1, plan.repeats):
                for port, results in ((real, ours), (constant, theirs)):
                    tag = f"http-{connections}-{repeat}"
                    load = Load(HOST, port, demo.api_key, connections, requests, tag)
                    result = await send(load)
                    if repeat >= 0:
                        results.append(result)
            figures.append(_figure(connections, ours, theirs))
    return figures


def _figure(connections: int, ours: list[Result], theirs: list[Result]) -> Figure:
    p50 = Sample(tuple(result.p50_ms for result in ours)).value
    p99 = Sample(tuple(result.p99_ms for result in ours)).value
    return Figure(
        f"POST /payouts, {connections} connection{'s' if connections > 1 else ''}",
        "/s",
        Sample(tuple(result.rate for result in ours)),
        Sample(tuple(result.rate for result in theirs)),
        "same route, constant reply",
        Target("at least", 0.5) if connections == max(CONNECTIONS) else None,
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
    )
