"""Puts the pieces together: the only file that knows concrete classes.

The command line calls these functions and nothing below them, so that each command loads what it
needs and no more. Functions that are not `async` block until the process is told to stop.
"""

# ruff: noqa: ARG001
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bursar.db.embedded import EmbeddedPostgres
from bursar.db.prepare import prepare, role_dsns
from bursar.db.roles import API, AUDITOR, DATABASE, OWNER, WORKER, Dsns, load_or_make_passwords
from bursar.kit.errors import BursarError
from bursar.settings import Settings

DEMO_FUNDS_MINOR = {
    "EUR": 500_000_000,
    "USD": 100_000_000,
    "GBP": 100_000_000,
    "JPY": 1_000_000_000,
    "KWD": 100_000_000,
    "USDC": 1_000_000_000_000,
}
"What the demo merchant starts with, in minor units: enough for examples/payouts.csv many times."


class NotWired(BursarError):
    """This build has no such part yet."""

    code = "not_wired"
    status = 501
    title = "Not wired"


@dataclass(frozen=True)
class Demo:
    """The demo merchant and a key that works for it now."""

    merchant_id: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class KeyLine:
    """An API key as `bursar keys list` shows it; the key itself is not kept anywhere."""

    key_id: str
    merchant_id: str
    role: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Verdict:
    """What `bursar verify` found: a line for each thing checked, and the first disagreement."""

    lines: tuple[str, ...]
    disagreement: str | None


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


async def ensure_demo(settings: Settings, dsns: Dsns, *, known_key: str | None) -> Demo:
    """The demo merchant with its accounts and `DEMO_FUNDS_MINOR`, and a key that works.

    Made once, by commands through the engine. The key is `known_key` if it still works, else a
    new one.
    """
    raise NotWired("the demo merchant cannot be made yet")


def serve_api(settings: Settings) -> None:
    """Run the API on the settings' host and port until SIGTERM or SIGINT."""
    raise NotWired("the API is not part of this build yet")


def serve_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; it finishes the calls that it has begun."""
    raise NotWired("the worker is not part of this build yet")


async def verify_books(settings: Settings, *, anchor: Path | None) -> Verdict:
    """Replay everything as the auditor: balances, states, chains; against `anchor` if given."""
    raise NotWired("verify is not part of this build yet")


async def create_key(settings: Settings, *, merchant_id: str, person: str, role: str) -> str:
    """A new API key of the merchant, shown only now. Raises `BursarError` for unknown names."""
    raise NotWired("keys are not part of this build yet")


async def revoke_key(settings: Settings, key_id: str) -> None:
    """Make the key useless from the next request on. Raises `BursarError` if it is unknown."""
    raise NotWired("keys are not part of this build yet")


async def list_keys(settings: Settings, *, merchant_id: str | None) -> list[KeyLine]:
    """The keys, of one merchant or of all, oldest first."""
    raise NotWired("keys are not part of this build yet")


def _passwords_file(settings: Settings) -> Path:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return settings.data_dir / "roles.json"


def _given_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise ValueError("no DATABASE_URL was given")
    return settings.database_url.get_secret_value()
