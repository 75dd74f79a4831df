"""The processes that serve until they are told to stop: the API and the worker."""

# ruff: noqa: PLC0415 - a worker starts no web server, and an API loads no rails
import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
import uvloop

from bursar.bootstrap.database import assert_fit_to_serve, own_dsn
from bursar.bootstrap.engines import EngineFactory, close, crash_points, open_engine
from bursar.bootstrap.schema import QUERIES, VERIFIERS
from bursar.db.pool import Pool, open_pool
from bursar.db.roles import API, WORKER
from bursar.engine.postgres import PostgresStore
from bursar.engine.wake import Listener
from bursar.identity.store import KeyCache, find_principal
from bursar.kit.clock import Clock, SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.rails.bank import webhooks as bank_webhooks
from bursar.rails.offramp import webhooks as offramp_webhooks
from bursar.rails.port import PayoutRail
from bursar.settings import Settings, SettingsInvalid, api_problems, worker_problems
from bursar.worker.relay import FILE_SINK

log = structlog.get_logger(__name__)


def serve_api(settings: Settings, open_engine: EngineFactory = open_engine) -> None:
    """Run the API on the settings' host and port until SIGTERM or SIGINT.

    Raises `SettingsInvalid` in production for a webhook secret that everybody knows.
    """
    _refuse(api_problems(settings))
    uvloop.run(_serve_api(settings, open_engine))


async def _serve_api(settings: Settings, open_engine: EngineFactory) -> None:
    import uvicorn

    from bursar.api.app import create_app
    from bursar.api.deps import Deps, WebhookSource

    clock, crash = SystemClock(), crash_points(settings)
    dsn = own_dsn(settings, API)
    async with open_engine(settings, dsn, name="bursar api", crash=crash) as wired:
        await assert_fit_to_serve(wired.pool, API)
        secrets = {
            bank_webhooks.PROVIDER_ID: settings.bank_webhook_secret,
            offramp_webhooks.PROVIDER_ID: settings.offramp_webhook_secret,
        }
        deps = Deps(
            engine=wired.engine,
            pool=wired.pool,
            keys=KeyCache(partial(find_principal, wired.pool), clock),
            clock=clock,
            ids=SystemIds(),
            webhooks={
                provider: WebhookSource(secrets[provider].get_secret_value(), verifier)
                for provider, verifier in VERIFIERS.items()
            },
            mode=settings.mode,
            body_bytes_max=settings.body_bytes_max,
            crash=crash,
        )
        config = uvicorn.Config(
            create_app(deps),
            host=settings.api_host,
            port=settings.api_port,
            http="httptools",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        await uvicorn.Server(config).serve()


def serve_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; it finishes the calls that it has begun.

    Raises `SettingsInvalid` in production for a provider's address or key that is not given.
    """
    _refuse(worker_problems(settings))
    uvloop.run(_serve_worker(settings))


async def _serve_worker(settings: Settings) -> None:
    from bursar.payouts.jobs import Jobs
    from bursar.payouts.store import PostgresReads
    from bursar.worker.main import TOPICS, Worker

    clock, ids, dsn = SystemClock(), SystemIds(), own_dsn(settings, WORKER)
    crash = crash_points(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    rails_open = _open_rails(settings, clock)
    engine = open_engine(settings, dsn, name="bursar worker", crash=crash)
    async with rails_open as rails, engine as wired, _housekeeping_pool(dsn) as housekeeping:
        await assert_fit_to_serve(wired.pool, WORKER)
        if settings.journal_export is None:
            await _warn_of_waiting_entries(wired.pool)
        jobs = Jobs(
            engine=wired.engine,
            reads=PostgresReads(wired.pool),
            rails={rail.name: rail for rail in rails},
            verifiers=VERIFIERS,
            clock=clock,
            ids=ids,
            randomness=SystemRandomness(),
            worker_id=ids.new("wrk"),
            crash=crash,
        )
        worker = Worker(
            jobs,
            PostgresStore(wired.pool, QUERIES),
            housekeeping,
            Listener(dsn, clock, TOPICS, name="bursar worker listen"),
            clock=clock,
            concurrency=settings.worker_concurrency,
            poll_s=settings.worker_poll_s,
            anchor=settings.anchor_file,
            journal_export=settings.journal_export,
        )
        await worker.run(stop)


@asynccontextmanager
async def _open_rails(settings: Settings, clock: Clock) -> AsyncIterator[tuple[PayoutRail, ...]]:
    """The ways out, in order of preference, for as long as the block lasts."""
    from bursar.rails.bank.adapter import BankRail
    from bursar.rails.offramp.adapter import OfframpRail
    from bursar.rails.transport import HttpxTransport

    connections = settings.worker_concurrency * 2
    bank = HttpxTransport(settings.provider_url, clock=clock, connections_max=connections)
    offramp = HttpxTransport(
        settings.offramp_provider_url, clock=clock, connections_max=connections
    )
    async with bank, offramp:
        yield (
            BankRail(bank, api_key=settings.bank_api_key.get_secret_value()),
            OfframpRail(offramp, api_key=settings.offramp_api_key.get_secret_value()),
        )


@asynccontextmanager
async def _housekeeping_pool(dsn: str) -> AsyncIterator[Pool]:
    """Connections that no due work waits for: the sealer keeps one of them."""
    pool = await open_pool(dsn, size=2, name="bursar worker housekeeping")
    try:
        yield pool
    finally:
        await close(pool)


async def _warn_of_waiting_entries(pool: Pool) -> None:
    """Others mark entries for the export, and this worker writes none: they would pile up."""
    async with pool.acquire() as connection:
        waiting = await connection.fetch(QUERIES["deliveries_waiting"], FILE_SINK, 1)
    if waiting:
        log.warning(
            "journal_entries_wait_for_export",
            why="BURSAR_JOURNAL_EXPORT is set for those who write, and not for this worker",
        )


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SettingsInvalid(problems)
