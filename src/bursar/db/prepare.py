"""From an empty server to a migrated database that each process reaches as its own role."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from bursar.db.connection import Connection, connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.migrate import migrate
from bursar.db.queries import load_queries
from bursar.db.roles import (
    ADMIN,
    API,
    AUDITOR,
    DATABASE,
    OWNER,
    ROLE_TIMEOUTS,
    WORKER,
    Dsns,
)
from bursar.db.scram import is_verifier_of, make_verifier

_QUERIES = load_queries(__file__)
_EMPTY_TEMPLATE = "template1"


async def ensure_roles(admin: Connection, passwords: Mapping[str, str]) -> None:
    """Create what is missing of the roles, and set every role's password and timeouts.

    `admin` may create roles. Passwords go as verifiers. Who may read those that are there (a
    superuser) sets only what differs, so running it again changes nothing.
    """
    readable: bool = await admin.fetchval(_QUERIES["verifiers_are_readable"])
    for role, timeouts in ROLE_TIMEOUTS.items():
        if not await admin.fetchval(_QUERIES["role_exists"], role):
            await _run_text(admin, "create_role_text", role)
        known = await admin.fetchval(_QUERIES["role_verifier"], role) if readable else None
        if known is None or not is_verifier_of(known, passwords[role]):
            await _run_text(admin, "role_password_text", role, make_verifier(passwords[role]))
        for name, value in (
            ("statement_timeout", timeouts.statement),
            ("lock_timeout", timeouts.lock),
            ("idle_in_transaction_session_timeout", timeouts.idle_in_transaction),
        ):
            await _run_text(admin, "role_setting_text", role, name, value)


async def ensure_database(
    admin: Connection, database: str, *, template: str = _EMPTY_TEMPLATE
) -> None:
    """Create `database`, owned by bursar_owner, which only Bursar's roles may enter."""
    await _run_text(admin, "grant_role_text", OWNER)
    if not await admin.fetchval(_QUERIES["database_exists"], database):
        await _run_text(admin, "create_database_text", database, OWNER, template)
    await _run_text(admin, "close_database_text", database)
    for role in ROLE_TIMEOUTS:
        await _run_text(admin, "open_database_text", database, role)


async def drop_database(admin: Connection, database: str) -> None:
    """Drop `database` with everything in it, throwing out whoever is connected."""
    await _run_text(admin, "drop_database_text", database)


async def prepare(
    server: EmbeddedPostgres | str,
    *,
    passwords: Mapping[str, str] | None = None,
    database: str = DATABASE,
) -> Dsns:
    """Roles, database and migrations; safe to run at every start, by several processes.

    `server` is a started embedded server, or the address of an admin on a server of yours, in
    which case `passwords` names a password per role. Raises what `migrate` raises.
    """
    if isinstance(server, EmbeddedPostgres):
        admin_dsn, secrets = server.dsn(ADMIN, "postgres"), server.passwords()
    else:
        if passwords is None:
            raise ValueError("a server of your own needs a password for each role")
        admin_dsn, secrets = server, dict(passwords)
    admin = await connect(admin_dsn, name="bursar prepare")
    try:
        # Held until the connection closes: two processes may prepare at once.
        await admin.fetchval(_QUERIES["lock_migrations"])
        await ensure_roles(admin, secrets)
        await ensure_database(admin, database)
    finally:
        await admin.close()
    dsns = role_dsns(admin_dsn, secrets, database)
    await migrate(dsns.owner)
    return dsns


def role_dsns(admin_dsn: str, passwords: Mapping[str, str], database: str) -> Dsns:
    """The admin's address with each role's name and password, and `database`, in place."""
    parts = urlsplit(admin_dsn)
    server = parts.netloc.rpartition("@")[2]

    def of(role: str) -> str:
        netloc = f"{role}:{quote(passwords[role], safe='')}@{server}"
        return urlunsplit((parts.scheme, netloc, f"/{database}", parts.query, ""))

    return Dsns(owner=of(OWNER), api=of(API), worker=of(WORKER), auditor=of(AUDITOR))


async def _run_text(admin: Connection, query: str, *arguments: str) -> None:
    """Have the server quote the arguments into a statement, and run it."""
    text = await admin.fetchval(_QUERIES[query], *arguments)
    if text is not None:
        await admin.execute(text)
