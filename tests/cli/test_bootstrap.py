"""What `bursar up` makes in the database: once, whatever happened before."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bursar import bootstrap
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.pool import Pool, open_pool
from bursar.db.roles import API, AUDITOR, Dsns
from bursar.identity.errors import UnknownApiKey, UnknownMerchant
from bursar.kit.ids import is_id
from bursar.settings import Settings, load_settings
from tests.conftest import run_blocking


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[EmbeddedPostgres]:
    """A server of its own: these tests set its roles' passwords."""
    made = EmbeddedPostgres(scratch / "bootstrap", die_with_parent=True)
    made.start()
    yield made
    made.destroy()


@pytest.fixture
def settings(server: EmbeddedPostgres) -> Settings:
    """Of the data directory that has the server."""
    return load_settings(data_dir=server.data_dir)


@pytest.fixture
async def dsns(server: EmbeddedPostgres, settings: Settings) -> AsyncIterator[Dsns]:
    """A prepared database, dropped afterwards."""
    yield await bootstrap.prepare_database(settings, server)
    admin = await connect(server.dsn(database="postgres"), name="tests")
    await admin.execute("DROP DATABASE bursar WITH (FORCE)")
    await admin.close()


async def funds(dsn: str) -> dict[str, int]:
    """What each currency's available account has, as the auditor sees it."""
    auditor = await connect(dsn, name="tests")
    rows = await auditor.fetch(
        "SELECT currency, credits_posted FROM accounts WHERE role = 'available'"
    )
    await auditor.close()
    return {row["currency"]: row["credits_posted"] for row in rows}


async def test_the_demo_is_made_once(settings: Settings, dsns: Dsns) -> None:
    """F83: a start is no reason to fund again; a key that works is kept."""
    first = await bootstrap.ensure_demo(settings, dsns, known_key=None)
    again = await bootstrap.ensure_demo(settings, dsns, known_key=first.api_key)
    assert again == first
    assert is_id(first.merchant_id, "mer")
    assert first.api_key not in repr(first)
    assert await funds(dsns.auditor) == bootstrap.DEMO_FUNDS_MINOR


async def test_a_lost_or_revoked_demo_key_is_replaced(settings: Settings, dsns: Dsns) -> None:
    """Only its hash is kept, so it can't be shown again."""
    first = await bootstrap.ensure_demo(settings, dsns, known_key=None)
    for known in (None, "", "sk_sandbox_nonsense", first.api_key[:-1] + "\u00e9"):
        made = await bootstrap.ensure_demo(settings, dsns, known_key=known)
        assert made.api_key != first.api_key
    (line, *_) = await bootstrap.list_keys(settings, merchant_id=first.merchant_id)
    await bootstrap.revoke_key(settings, line.id)
    assert (await bootstrap.ensure_demo(settings, dsns, known_key=first.api_key)) != first
    assert await funds(dsns.auditor) == bootstrap.DEMO_FUNDS_MINOR


async def test_keys_of_what_is_not_there(settings: Settings, dsns: Dsns) -> None:
    """Refused by name; nothing is made."""
    with pytest.raises(UnknownMerchant):
        await bootstrap.create_key(settings, merchant_id="mer_x", person="Ann", role="operator")
    for role in ("king", "system", ""):
        with pytest.raises(bootstrap.UnknownRole):
            await bootstrap.create_key(settings, merchant_id="mer_x", person="Ann", role=role)
    with pytest.raises(UnknownApiKey):
        await bootstrap.revoke_key(settings, "key_x")
    assert await bootstrap.list_keys(settings, merchant_id=None) == []


async def test_a_database_that_is_given_gets_the_same_roles(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Every process derives its role's address from the one that was given."""
    given = load_settings(data_dir=tmp_path, database_url=server.dsn(database="postgres"))
    assert bootstrap.embedded_server(given) is None
    assert bootstrap.process_dsn(given, API) == server.dsn(database="postgres")
    made = await bootstrap.prepare_database(given, None)
    assert bootstrap.process_dsn(given, API) == made.api
    auditor = await connect(bootstrap.process_dsn(given, AUDITOR), name="tests")
    assert await auditor.fetchval("SELECT current_user") == AUDITOR
    await auditor.close()
    run_blocking(bootstrap.prepare_database(given, None))  # safe at every start


def test_a_process_that_was_given_its_address_reads_no_passwords(tmp_path: Path) -> None:
    """Neither the file of all roles nor the admin's address; without one, both still work."""
    own = "postgresql://bursar_api:x@db.example/bursar"
    given = load_settings(data_dir=tmp_path / "data", process_dsn=own)
    assert bootstrap.own_dsn(given, API) == own
    assert not (tmp_path / "data").exists()
    by_hand = load_settings(data_dir=tmp_path / "data", database_url="postgresql://db.example/b")
    assert bootstrap.own_dsn(by_hand, API) == "postgresql://db.example/b"


async def test_an_engine_that_cannot_open_leaves_no_connection(
    settings: Settings, dsns: Dsns
) -> None:
    """The second pool fails: the first is closed again."""
    opened: list[Pool] = []

    async def second_fails(dsn: str, /, *, size: int, name: str) -> Pool:
        if opened:
            raise ConnectionRefusedError
        opened.append(await open_pool(dsn, size=size, name=name))
        return opened[0]

    with pytest.raises(ConnectionRefusedError):
        async with bootstrap.open_engine(settings, dsns.api, name="tests", open_pool=second_fails):
            raise AssertionError
    assert opened[0].is_closing()
