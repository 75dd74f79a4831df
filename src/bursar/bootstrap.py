"""Puts the pieces together: the only file that knows concrete classes.

The command line calls these functions and nothing below them, so that each command loads what it
needs and no more. Functions that are not `async` block until the process is told to stop.
"""

# ruff: noqa: PLC0415 - each process loads what it needs: `bursar keys` starts no web server
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvloop
from msgspec.structs import replace

from bursar.db.durability import assert_not_owner
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.migrate import assert_migrated, migrate, read_migrations
from bursar.db.pool import Pool, open_pool
from bursar.db.prepare import prepare, role_dsns
from bursar.db.queries import load_queries
from bursar.db.roles import API, AUDITOR, DATABASE, OWNER, WORKER, Dsns, load_or_make_passwords
from bursar.engine.engine import Engine
from bursar.engine.errors import AlreadyExecuted
from bursar.engine.group import GroupRules
from bursar.engine.model import Origin, Request
from bursar.engine.postgres import PostgresStore
from bursar.engine.queries import QUERIES as ENGINE_QUERIES
from bursar.engine.verify import Audit
from bursar.engine.wake import Listener, Notifier
from bursar.identity import model as identity
from bursar.identity import store as identity_store
from bursar.identity.commands import CreateApiKey, CreateMerchant, RevokeApiKey
from bursar.identity.errors import MerchantExists
from bursar.identity.model import Role, issue_key
from bursar.identity.store import KeyCache, KeyLine, find_principal, list_api_keys
from bursar.incidents import model as incidents
from bursar.kit.clock import Clock, SystemClock
from bursar.kit.crashpoints import CrashPoints, NoCrash, parse_crash_point
from bursar.kit.errors import BursarError
from bursar.kit.ids import SystemIds, SystemRandomness, new_secret
from bursar.ledger.commands import FundAccount
from bursar.ledger.model import ACCOUNTS, HOLDS, PENDING_LEGS, TRANSFERS
from bursar.ledger.store import QUERIES as LEDGER_QUERIES
from bursar.payouts import model as payouts
from bursar.payouts.store import QUERIES as PAYOUT_QUERIES
from bursar.rails.bank import webhooks as bank_webhooks
from bursar.rails.offramp import webhooks as offramp_webhooks
from bursar.rails.port import PayoutRail, WebhookVerifier
from bursar.settings import Settings
from bursar.worker.relay import FILE_SINK

DEMO_MERCHANT_ID = f"mer_{1:032x}"
DEMO_FEE_BPS = 20
DEMO_FUNDS_MINOR = {
    "EUR": 500_000_000,
    "USD": 100_000_000,
    "GBP": 100_000_000,
    "JPY": 1_000_000_000,
    "KWD": 100_000_000,
    "USDC": 1_000_000_000_000,
}
"What the demo merchant starts with, in minor units: enough for examples/payouts.csv ten times."

TABLES = (
    *(ACCOUNTS, HOLDS, TRANSFERS),
    *incidents.TABLES,
    *identity.TABLES,
    *payouts.TABLES,
)
RULES = GroupRules(
    tables=TABLES,
    child_sets=(PENDING_LEGS, *incidents.CHILD_SETS, *payouts.CHILD_SETS),
    attached=(TRANSFERS,),
)
QUERIES: Mapping[str, str] = {
    **ENGINE_QUERIES,
    **load_queries(incidents.__file__),
    **LEDGER_QUERIES,
    **identity_store.QUERIES,
    **PAYOUT_QUERIES,
}

VERIFIERS: Mapping[str, WebhookVerifier] = {
    bank_webhooks.PROVIDER_ID: bank_webhooks,
    offramp_webhooks.PROVIDER_ID: offramp_webhooks,
}
"How each provider signs and words its events."


class UnknownRole(BursarError):
    """The name is no role that a key can have."""

    code = "unknown_role"
    status = 422
    title = "Unknown role"


@dataclass(frozen=True)
class Demo:
    """The demo merchant and a key that works for it now."""

    merchant_id: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class Wired:
    """An engine, and the pool that its process reads from."""

    engine: Engine
    pool: Pool


def embedded_server(settings: Settings) -> EmbeddedPostgres | None:
    """The Postgres of the data directory, or None where `DATABASE_URL` names another one."""
    return None if settings.database_url is not None else EmbeddedPostgres(settings.data_dir)


async def prepare_database(settings: Settings, server: EmbeddedPostgres | None) -> Dsns:
    """Roles, database and migrations; safe at every start.

    On the started server, or on the one of `DATABASE_URL`, whose user must be allowed to create
    roles.
    """
    if server is not None:
        return await prepare(server)
    passwords = load_or_make_passwords(_passwords_file(settings))
    return await prepare(_given_url(settings), passwords=passwords)


async def migrate_database(settings: Settings) -> int:
    """`bursar migrate`: make the database of `DATABASE_URL` fit this code; returns its migration.

    Its user is an admin who may create roles, or bursar_owner once they are there: then only the
    migrations are applied, in the database that the address names. Raises what `migrate` raises.
    """
    url = _given_url(settings)
    if urlsplit(url).username == OWNER:
        await migrate(url)
    else:
        await prepare_database(settings, None)
    return len(read_migrations())


async def assert_fit_to_serve(pool: Pool) -> None:
    """Refuse to serve as the schema's owner, or on a schema that is not this code's.

    Raises UnsafeDatabase or MigrationFailed. That commits are durable, the pool has seen to.
    """
    async with pool.acquire() as connection:
        await assert_not_owner(connection)
        await assert_migrated(connection)


def process_dsn(settings: Settings, role: str) -> str:
    """How a process reaches the database as `role`. Holds a password: never log it.

    With `DATABASE_URL`, the role's password is the one that `bursar up` made in the data
    directory; where there is none, the address is taken as it stands. Without it, the embedded
    server's; raises `PostgresFailed` if that was never started.
    """
    if settings.database_url is None:
        return EmbeddedPostgres(settings.data_dir).dsn(role)
    if not _passwords_file(settings).exists():
        return _given_url(settings)
    passwords = load_or_make_passwords(_passwords_file(settings))
    dsns = role_dsns(_given_url(settings), passwords, DATABASE)
    return {OWNER: dsns.owner, API: dsns.api, WORKER: dsns.worker, AUDITOR: dsns.auditor}[role]


def own_dsn(settings: Settings, role: str) -> str:
    """The address that an API or worker was given for itself, else `process_dsn` of its role."""
    given = settings.process_dsn
    return process_dsn(settings, role) if given is None else given.get_secret_value()


@asynccontextmanager
async def open_engine(
    settings: Settings,
    dsn: str,
    *,
    name: str,
    crash: CrashPoints | None = None,
) -> AsyncIterator[Wired]:
    """An engine over Postgres for as long as the block lasts; `name` is in pg_stat_activity."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(dsn, size=settings.pool_size, name=name)
        stack.push_async_callback(_close, pool)
        # Commits have connections of their own, so that reads can't keep a group waiting (F53).
        commits = await open_pool(dsn, size=2, name=f"{name} commits")
        stack.push_async_callback(_close, commits)
        notifier = Notifier(dsn, SystemClock(), name=f"{name} notify")
        stack.push_async_callback(notifier.close)
        engine = Engine(
            PostgresStore(commits, QUERIES),
            _rules(settings),
            clock=SystemClock(),
            ids=SystemIds(),
            randomness=SystemRandomness(),
            on_wake=notifier.notify,
            group_max=settings.engine_group_max,
            queue_max=settings.engine_queue_max,
            crash=crash,
        )
        stack.push_async_callback(engine.close)
        yield Wired(engine, pool)


async def _close(pool: Pool) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(pool.close(), timeout=3)


async def ensure_demo(settings: Settings, dsns: Dsns, *, known_key: str | None) -> Demo:
    """The demo merchant with its accounts and `DEMO_FUNDS_MINOR`, and a key that works.

    Made once, by commands through the engine. The key is `known_key` if it still works, else a
    new one.
    """
    async with open_engine(settings, dsns.owner, name="bursar up") as wired:
        origin = _origin()
        with suppress(MerchantExists):
            await wired.engine.submit(
                CreateMerchant(
                    origin=origin,
                    merchant_id=DEMO_MERCHANT_ID,
                    name="Demo merchant",
                    currencies=tuple(DEMO_FUNDS_MINOR),
                    payout_fee_bps=DEMO_FEE_BPS,
                )
            )
        for currency, amount in DEMO_FUNDS_MINOR.items():
            request = Request(DEMO_MERCHANT_ID, f"demo-funds-{currency}", b"demo funds")
            with suppress(AlreadyExecuted):
                await wired.engine.submit(
                    FundAccount(
                        origin=origin,
                        request=request,
                        merchant_id=DEMO_MERCHANT_ID,
                        currency=currency,
                        amount=amount,
                    )
                )
        if known_key is not None and await _works(settings, wired.pool, known_key):
            return Demo(DEMO_MERCHANT_ID, known_key)
        key = await _make_key(
            settings, wired, merchant_id=DEMO_MERCHANT_ID, person="demo", role=Role.FINANCE_OPS
        )
        return Demo(DEMO_MERCHANT_ID, key)


async def _works(settings: Settings, pool: Pool, text: str) -> bool:
    key_hash = identity.hash_of(text, mode=settings.mode)
    principal = await find_principal(pool, key_hash) if key_hash is not None else None
    return principal is not None and principal.merchant_id == DEMO_MERCHANT_ID


async def _make_key(
    settings: Settings, wired: Wired, *, merchant_id: str | None, person: str, role: Role
) -> str:
    ids = SystemIds()
    issued = issue_key(settings.mode, new_secret())
    await wired.engine.submit(
        CreateApiKey(
            origin=_origin(),
            key_id=ids.new("key"),
            key_hash=issued.key_hash,
            prefix=issued.prefix,
            merchant_id=merchant_id,
            person_id=ids.new("per"),
            person_name=person,
            role=role,
        )
    )
    return issued.text


def _rules(settings: Settings) -> GroupRules:
    sinks = () if settings.journal_export is None else (FILE_SINK,)
    return replace(RULES, sinks=sinks)


def _origin() -> Origin:
    """The person at the command line, who acts as the platform."""
    return Origin("cli", SystemIds().new("cor"))


def _crash_points(settings: Settings) -> CrashPoints:
    return NoCrash() if settings.crash_at is None else parse_crash_point(settings.crash_at)


def serve_api(settings: Settings) -> None:
    """Run the API on the settings' host and port until SIGTERM or SIGINT."""
    _configure_logging(settings.log_level)
    uvloop.run(_serve_api(settings))


async def _serve_api(settings: Settings) -> None:
    import uvicorn

    from bursar.api.app import create_app
    from bursar.api.deps import Deps, WebhookSource

    clock, crash = SystemClock(), _crash_points(settings)
    dsn = own_dsn(settings, API)
    async with open_engine(settings, dsn, name="bursar api", crash=crash) as wired:
        await assert_fit_to_serve(wired.pool)
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
    """Run a worker until SIGTERM or SIGINT; it finishes the calls that it has begun."""
    _configure_logging(settings.log_level)
    uvloop.run(_serve_worker(settings))


async def _serve_worker(settings: Settings) -> None:
    from bursar.payouts.jobs import Jobs
    from bursar.payouts.store import PostgresReads
    from bursar.worker.main import TOPICS, Worker

    clock, ids, dsn = SystemClock(), SystemIds(), own_dsn(settings, WORKER)
    crash = _crash_points(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    rails_open = _open_rails(settings, clock)
    engine = open_engine(settings, dsn, name="bursar worker", crash=crash)
    async with rails_open as rails, engine as wired, _housekeeping_pool(dsn) as housekeeping:
        await assert_fit_to_serve(wired.pool)
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
            anchor=settings.data_dir / "checkpoints.jsonl",
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
        await _close(pool)


def _configure_logging(level: str) -> None:
    """One JSON line per event on standard error, with what the context has bound."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def verify_books(settings: Settings, *, anchor: Path | None) -> Audit:
    """Replay everything as the auditor: balances, states, chains; against `anchor` if given.

    Raises `AnchorDamaged` for a checkpoint file that can't be read.
    """
    from bursar.payouts.verify import audit

    return await audit(process_dsn(settings, AUDITOR), anchor=anchor)


async def create_key(settings: Settings, *, merchant_id: str, person: str, role: str) -> str:
    """A new API key of the merchant, shown only now.

    Raises `UnknownMerchant`, or `UnknownRole` for a role that no key can have.
    """
    roles = [known.value for known in Role if known is not Role.SYSTEM]
    if role not in roles:
        raise UnknownRole(f"{role!a} is no role: there are {', '.join(roles)}")
    async with open_engine(settings, process_dsn(settings, OWNER), name="bursar keys") as wired:
        return await _make_key(
            settings, wired, merchant_id=merchant_id, person=person, role=Role(role)
        )


async def revoke_key(settings: Settings, key_id: str) -> None:
    """Make the key useless within a second. Raises `UnknownApiKey`."""
    async with open_engine(settings, process_dsn(settings, OWNER), name="bursar keys") as wired:
        await wired.engine.submit(RevokeApiKey(origin=_origin(), key_id=key_id))


async def list_keys(settings: Settings, *, merchant_id: str | None) -> list[KeyLine]:
    """The keys, of one merchant or of all, oldest first."""
    pool = await open_pool(process_dsn(settings, API), size=1, name="bursar keys")
    try:
        return await list_api_keys(pool, merchant_id)
    finally:
        await pool.close()


def _passwords_file(settings: Settings) -> Path:
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.data_dir / "roles.json"


def _given_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise ValueError("no DATABASE_URL was given")
    return settings.database_url.get_secret_value()
