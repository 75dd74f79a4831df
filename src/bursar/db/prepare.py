"""From an empty server to a migrated database that each process reaches as its own role."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from bursar.db.connection import Connection, connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import RolePasswordsDiffer
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


async def ensure_roles(
    admin: Connection, passwords: Mapping[str, str], *, rotate: bool = False
) -> None:
    """Create what is missing of the roles, with its password, and set every role's timeouts.

    `admin` may create roles. Passwords go as verifiers. The password of a role that is there is in
    use by whoever runs: it is replaced only to `rotate`. Else, where `admin` may read verifiers (a
    superuser), a password that differs raises RolePasswordsDiffer before anything is changed.
    """
    readable: bool = await admin.fetchval(_QUERIES["verifiers_are_readable"])
    known: dict[str, str | None] = {}
    for role in ROLE_TIMEOUTS:
        if await admin.fetchval(_QUERIES["role_exists"], role):
            known[role] = (
                await admin.fetchval(_QUERIES["role_verifier"], role) if readable else None
            )
    fits = {role for role, text in known.items() if text and is_verifier_of(text, passwords[role])}
    others = sorted(role for role, text in known.items() if text and role not in fits)
    if others and not rotate:
        raise _passwords_differ(", ".join(others))
    for role, timeouts in ROLE_TIMEOUTS.items():
        async with admin.transaction():
            if role not in known:
                await _run_text(admin, "create_role_text", role)
            # One that is there without a password, nobody can be using.
            unset = role not in known or (readable and not known[role])
            if unset or (rotate and role not in fits):
                verifier = make_verifier(passwords[role])
                await _run_text(admin, "role_password_text", role, verifier)
            for name, value in (
                ("statement_timeout", timeouts.statement),
                ("lock_timeout", timeouts.lock),
                ("idle_in_transaction_session_timeout", timeouts.idle_in_transaction),
            ):
                await _run_text(admin, "role_setting_text", role, name, value)


def _passwords_differ(roles: str) -> RolePasswordsDiffer:
    return RolePasswordsDiffer(
        f"{roles}: there already, with another password than the one in roles.json of this data "
        "directory. Nothing was changed. Copy roles.json from where they were made, or replace "
        "the passwords with `bursar migrate --rotate-passwords`: every process that uses the old "
        "ones must then be given the new"
    )


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
    rotate: bool = False,
) -> Dsns:
    """Roles, database and migrations; safe to run at every start, by several processes.

    `server` is a started embedded server, or the address of an admin on a server of yours, in
    which case `passwords` names a password per role. `rotate` replaces those of roles that are
    there. Raises RolePasswordsDiffer, and what `migrate` raises.
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
        await ensure_roles(admin, secrets, rotate=rotate)
        await ensure_database(admin, database)
    finally:
        await admin.close()
    dsns = role_dsns(admin_dsn, secrets, database)
    try:
        await migrate(dsns.owner)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise _passwords_differ(OWNER) from error
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
