"""The database of a process: which server, prepared how, reached as which role."""

from pathlib import Path
from urllib.parse import urlsplit

from bursar.db.durability import assert_not_owner, assert_role
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.migrate import assert_migrated, migrate, read_migrations
from bursar.db.pool import Pool
from bursar.db.prepare import prepare, role_dsns
from bursar.db.roles import API, AUDITOR, DATABASE, OWNER, WORKER, Dsns, load_or_make_passwords
from bursar.settings import Settings, SettingsInvalid, database_problems


def embedded_server(settings: Settings) -> EmbeddedPostgres | None:
    """The Postgres of the data directory, or None where `DATABASE_URL` names another one."""
    return None if settings.database_url is not None else EmbeddedPostgres(settings.data_dir)


async def prepare_database(
    settings: Settings, server: EmbeddedPostgres | None, *, rotate: bool = False
) -> Dsns:
    """Roles, database and migrations; safe at every start.

    On the started server, or on the one of `DATABASE_URL`, whose user must be allowed to create
    roles. `rotate` gives roles that are there the passwords of this data directory. Raises what
    `prepare` of db raises.
    """
    if server is not None:
        return await prepare(server)
    passwords = load_or_make_passwords(_passwords_file(settings))
    return await prepare(_given_url(settings), passwords=passwords, rotate=rotate)


async def migrate_database(settings: Settings, *, rotate: bool = False) -> int:
    """`bursar migrate`: make the database of `DATABASE_URL` fit this code; returns its migration.

    Its user is an admin who may create roles, or bursar_owner once they are there: then only the
    migrations are applied, in the database that the address names, and `rotate` is refused with
    `SettingsInvalid`. Raises what `prepare_database` raises.
    """
    url = _given_url(settings)
    if urlsplit(url).username != OWNER:
        await prepare_database(settings, None, rotate=rotate)
    elif rotate:
        why = f"DATABASE_URL must name an admin: {OWNER} may not give roles their passwords"
        raise SettingsInvalid([why])
    else:
        await migrate(url)
    return len(read_migrations())


async def assert_fit_to_serve(pool: Pool, role: str) -> None:
    """Refuse to serve as another than `role`, as the schema's owner, or on another schema.

    Raises UnsafeDatabase or MigrationFailed. That commits are durable, the pool has seen to.
    """
    async with pool.acquire() as connection:
        await assert_not_owner(connection)
        await assert_role(connection, role)
        await assert_migrated(connection)


def process_dsn(settings: Settings, role: str) -> str:
    """How a process reaches the database as `role`. Holds a password: never log it.

    With `DATABASE_URL`, the role's password is the one that `bursar up` made in the data
    directory; where there is none, the address is taken as it stands. Without it, the embedded
    server's; raises `PostgresFailed` if that was never started, and `SettingsInvalid` in
    production, which has none.
    """
    if settings.database_url is None:
        if problems := database_problems(settings):
            raise SettingsInvalid(problems)
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


def _passwords_file(settings: Settings) -> Path:
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return settings.data_dir / "roles.json"


def _given_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise ValueError("no DATABASE_URL was given")
    return settings.database_url.get_secret_value()
