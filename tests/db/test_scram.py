"""Verifiers instead of passwords: the server takes them, and never sees a password."""

from pathlib import Path

import asyncpg
import pytest

from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import RolePasswordsDiffer
from bursar.db.prepare import ensure_roles, prepare
from bursar.db.roles import ADMIN, ROLE_TIMEOUTS
from bursar.db.scram import is_verifier_of, make_verifier
from tests.conftest import Database, binaries_of

# The example of RFC 7677, section 3: user "user", password "pencil". Its messages give the salt and
# the count; the keys are those with which its client proof and server signature come out.
RFC_VERIFIER = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_the_published_example() -> None:
    """RFC 7677: whoever knows `pencil` gets in, nobody else."""
    assert is_verifier_of(RFC_VERIFIER, "pencil")
    assert not is_verifier_of(RFC_VERIFIER, "Pencil")


def test_each_has_a_salt_of_its_own() -> None:
    """Equal passwords don't show as equal."""
    first, second = make_verifier("secret"), make_verifier("secret")
    assert first != second
    assert is_verifier_of(first, "secret")
    assert is_verifier_of(second, "secret")


@pytest.mark.parametrize("other", ["", "secret", "md5" + "0" * 32, "SCRAM-SHA-256$x:y$z:w"])
def test_what_is_no_such_verifier(other: str) -> None:
    """It is replaced, not believed."""
    assert not is_verifier_of(other, "secret")


@pytest.mark.parametrize("password", ["", "p\u00e4ss", "pass\nword", "pass\x7f"])
def test_a_password_that_clients_would_rewrite_is_refused(password: str) -> None:
    """Clients normalise it (RFC 4013) before they use it; we would not."""
    with pytest.raises(ValueError, match="printable ASCII"):
        make_verifier(password)


async def _verifiers(admin: asyncpg.Connection) -> dict[str, str]:
    rows = await admin.fetch(
        "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY($1)", list(ROLE_TIMEOUTS)
    )
    return dict(map(tuple, rows))


async def _enters(dsn: str) -> str:
    connection = await connect(dsn, name="test")
    try:
        role: str = await connection.fetchval("SELECT current_user")
        return role
    finally:
        await connection.close()


@pytest.mark.both_postgres
async def test_a_password_in_use_is_replaced_only_to_rotate(
    postgres: EmbeddedPostgres, database: Database
) -> None:
    """`migrate` from a machine that does not know the passwords locks nobody out."""
    secrets = postgres.passwords()
    other = secrets | {"bursar_api": "another"}
    admin = await connect(database.admin_dsn, name="test")
    try:
        before = await _verifiers(admin)
        await ensure_roles(admin, secrets)
        await ensure_roles(admin, secrets, rotate=True)
        assert await _verifiers(admin) == before
        with pytest.raises(RolePasswordsDiffer, match=r"^bursar_api: .*roles.json.*--rotate-pass"):
            await prepare(database.admin_dsn, passwords=other, database=database.name)
        assert await _verifiers(admin) == before
        assert await _enters(database.dsns.api) == "bursar_api"
        await ensure_roles(admin, other, rotate=True)
        changed = await _verifiers(admin)
        assert {role for role in before if changed[role] != before[role]} == {"bursar_api"}
        with pytest.raises(asyncpg.InvalidPasswordError):
            await _enters(database.dsns.api)
        await admin.execute("ALTER ROLE bursar_api PASSWORD NULL")
        await ensure_roles(admin, secrets)
        assert await _enters(database.dsns.api) == "bursar_api"
    finally:
        await ensure_roles(admin, secrets, rotate=True)
        await admin.close()


@pytest.mark.both_postgres
async def test_an_admin_who_sees_no_verifiers_leaves_them(
    postgres: EmbeddedPostgres, database: Database
) -> None:
    """On a hosted server the admin is no superuser: it can't compare, so it keeps what is there."""
    admin = await connect(database.admin_dsn, name="test")
    roles = ", ".join(ROLE_TIMEOUTS)
    try:
        before = await _verifiers(admin)
        await admin.execute(f"CREATE ROLE boss CREATEROLE; GRANT {roles} TO boss WITH ADMIN OPTION")
        await admin.execute("SET ROLE boss")
        await ensure_roles(admin, postgres.passwords())
        await admin.execute("RESET ROLE")
        assert await _verifiers(admin) == before
        await admin.execute("SET ROLE boss")
        await ensure_roles(admin, postgres.passwords(), rotate=True)
        await admin.execute("RESET ROLE")
        after = await _verifiers(admin)
    finally:
        await admin.execute("RESET ROLE; DROP ROLE IF EXISTS boss")
        await admin.close()
    assert all(after[role] != before[role] for role in before)
    assert await _enters(database.dsns.worker) == "bursar_worker"


async def test_no_password_stands_in_the_log(scratch: Path) -> None:
    """A server that logs every statement with its parameters never learns one."""
    server = EmbeddedPostgres(
        scratch / "talkative",
        binaries=binaries_of("wheel"),
        settings={"log_statement": "all", "log_min_duration_statement": "0"},
        die_with_parent=True,
    )
    server.start()
    try:
        dsns = await prepare(server)
        assert await _enters(dsns.api) == "bursar_api"
        secrets = server.passwords()
        log = (server.data_dir / "postgres.log").read_text(encoding="utf-8")
    finally:
        server.destroy()

    assert "ALTER ROLE bursar_api PASSWORD 'SCRAM-SHA-256$4096:" in log
    assert set(secrets) == {ADMIN, *ROLE_TIMEOUTS}
    assert [role for role, secret in secrets.items() if secret in log] == []
