"""Refusing to start on a database that could lose money or wait for ever (F55, F57).

And as a role that could change the schema or the past (I15).
"""

from collections.abc import Mapping

from bursar.db.binaries import OLDEST_MAJOR
from bursar.db.connection import Connection
from bursar.db.errors import UnsafeDatabase
from bursar.db.queries import load_queries

_QUERIES = load_queries(__file__)
_MUST_BE: Mapping[str, frozenset[str]] = {
    "fsync": frozenset({"on"}),
    "full_page_writes": frozenset({"on"}),
    # remote_apply waits for the standbys as well; local and remote_write promise less than on.
    "synchronous_commit": frozenset({"on", "remote_apply"}),
}
_MUST_BE_SET = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


async def assert_durable(connection: Connection) -> None:
    """Raise UnsafeDatabase, naming every fault, unless this session may carry money.

    Looks at what is in force for the connected role: durable settings on, the three timeouts
    not zero, no superuser, and a server that is new enough.
    """
    rows = await connection.fetch(_QUERIES["durability"])
    settings = {row["name"]: row["setting"] for row in rows}
    faults = [
        f"{name} is {settings[name]}"
        for name, allowed in _MUST_BE.items()
        if settings[name] not in allowed
    ]
    faults += [f"{name} is not set for this role" for name in _MUST_BE_SET if settings[name] == "0"]
    if int(settings["server_version_num"]) < OLDEST_MAJOR * 10_000:
        faults.append(f"the server is older than Postgres {OLDEST_MAJOR}")
    if await connection.fetchval(_QUERIES["role_is_superuser"]):
        faults.append("the role is a superuser")
    if faults:
        raise UnsafeDatabase("; ".join(faults))


async def assert_not_owner(connection: Connection) -> None:
    """Raise UnsafeDatabase if the connected role owns the schema, or can become its owner.

    For what serves: no grant or trigger holds an owner. A schema that is not there has none.
    """
    role = await connection.fetchval(_QUERIES["role_of_owner_rights"])
    if role is not None:
        raise UnsafeDatabase(
            f"{role} has the rights of the schema's owner: the API must connect as bursar_api, "
            "a worker as bursar_worker"
        )


async def assert_role(connection: Connection, role: str) -> None:
    """Raise UnsafeDatabase unless the connected role is `role` or a member of it.

    Another of our roles may enter the database and read, and would fail at its first write.
    """
    found = await connection.fetchval(_QUERIES["role_that_is_not"], role)
    if found is not None:
        raise UnsafeDatabase(f"this process must connect as {role}, not as {found}")
