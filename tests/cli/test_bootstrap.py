"""What `bursar up` makes in the database, once; and what processes do with it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from bursar import bootstrap
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import RolePasswordsDiffer
from bursar.db.pool import Pool, open_pool
from bursar.db.prepare import prepare
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
    await prepare(server)
    with pytest.raises(RolePasswordsDiffer):
        await bootstrap.prepare_database(given, None)
    made = await bootstrap.prepare_database(given, None, rotate=True)
    assert bootstrap.process_dsn(given, API) == made.api
    auditor = await connect(bootstrap.process_dsn(given, AUDITOR), name="tests")
    assert await auditor.fetchval("SELECT current_user") == AUDITOR
    await auditor.close()
    run_blocking(bootstrap.prepare_database(given, None))  # safe at every start
    await prepare(server, rotate=True)  # the other tests' processes have the server's own


async def test_the_command_rotates_passwords(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Who lost roles.json can go on; without being asked, no running process is locked out."""
    await prepare(server)
    address = server.dsn(database="postgres")
    where = ("--data-dir", str(tmp_path))
    async with bursar("migrate", *where, DATABASE_URL=address) as refused:
        await refused.communicate()
    assert refused.returncode == 1
    async with bursar("migrate", "--rotate-passwords", *where, DATABASE_URL=address) as rotated:
        await rotated.communicate()
    assert rotated.returncode == 0
    given = load_settings(data_dir=tmp_path, database_url=address)
    auditor = await connect(bootstrap.process_dsn(given, AUDITOR), name="tests")
    await auditor.close()
    await prepare(server, rotate=True)  # the other tests' processes have the server's own


def test_a_process_that_was_given_its_address_reads_no_passwords(tmp_path: Path) -> None:
    """Neither the file of all roles nor the admin's address; without one, both still work."""
    own = "postgresql://bursar_api:x@db.example/bursar"
    given = load_settings(data_dir=tmp_path / "data", process_dsn=own)
    assert bootstrap.own_dsn(given, API) == own
    assert not (tmp_path / "data").exists()
    by_hand = load_settings(data_dir=tmp_path / "data", database_url="postgresql://db.example/b")
    assert bootstrap.own_dsn(by_hand, API) == "postgresql://db.example/b"


@asynccontextmanager
async def bursar(*arguments: str, **told: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of the command line, ended with the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BURSAR_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bursar", *arguments),
        env=kept | told,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process sets no event of ours
            await asyncio.sleep(0.05)


async def test_a_key_of_the_platform_sees_what_belongs_to_no_merchant(
    settings: Settings, dsns: Dsns, unused_tcp_port: int
) -> None:
    """Without one, nobody could see and close the platform's alerts. Only the key is printed."""
    where = ("--data-dir", str(settings.data_dir))
    options = ("--platform", "--person", "Root")
    async with bursar("keys", "create", *options, *where) as making:
        key, _ = await making.communicate()
    assert making.returncode == 0
    assert len(key.split()) == 1
    owner = await connect(dsns.owner, name="tests")
    await owner.execute(
        "INSERT INTO incidents VALUES ('inc_1', 'platform', 'unmatched_event', 'evt_1', 7, 'EUR',"
        " '', now())"
    )
    await owner.close()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    headers = {"Authorization": f"Bearer {key.decode().strip()}"}
    told = {"BURSAR_API_PORT": str(unused_tcp_port)}
    async with bursar("api", *where, **told), httpx.AsyncClient(headers=headers) as client:

        async def answers() -> bool:
            try:
                return (await client.get(f"{url}/health")).status_code == 200
            except httpx.TransportError:
                return False

        await within(20, answers)
        listed = await client.get(f"{url}/payouts/ops/alerts")
        assert [alert["id"] for alert in listed.json()["data"]] == ["inc_1"]
        mine = await client.get(f"{url}/payouts")
        assert mine.json()["code"] == "merchant_scope_required"


async def test_a_merchant_and_its_keys_are_made_from_the_command_line(
    settings: Settings, dsns: Dsns
) -> None:
    """All that production needs before its first payout; `keys list` names the person."""
    where = ("--data-dir", str(settings.data_dir))

    async def says(*arguments: str) -> list[str]:
        async with bursar(*arguments, *where) as process:
            out, log = await process.communicate()
        assert process.returncode == 0, log
        return out.decode().splitlines()

    codes = ("--currency", "USD", "--currency", "EUR", "--currency", "USD")
    (made,) = await says("merchants", "create", "--name", "Shop", *codes, "--fee-bps", "15")
    assert is_id(made, "mer")
    (listed,) = await says("merchants", "list")
    assert listed.startswith(f"{made}  Shop  EUR,USD  15 bps  ")
    assert await funds(dsns.auditor) == {"EUR": 0, "USD": 0}
    for _ in range(2):
        await says("keys", "create", "--merchant", made, "--person", "Ann Lee")
    one, two = await says("keys", "list")
    ids = [line.split("  ")[3] for line in (one, two)]
    assert ids[0] == ids[1]
    assert is_id(ids[0], "per")
    assert f"{made}  {ids[0]}  Ann Lee  merchant_admin  " in one


async def test_the_worker_appends_checkpoints_where_it_was_told(
    settings: Settings, dsns: Dsns, tmp_path: Path
) -> None:
    """I14: outside the data directory, which somebody who rewrites the books may rewrite too."""
    await bootstrap.ensure_demo(settings, dsns, known_key=None)
    anchor = tmp_path / "elsewhere.jsonl"

    async def sealed() -> bool:
        return anchor.exists() and anchor.read_text().endswith("\n")

    where = ("--data-dir", str(settings.data_dir))
    async with bursar("worker", *where, BURSAR_ANCHOR=str(anchor)):
        await within(20, sealed)
    assert json.loads(anchor.read_text().splitlines()[0])
    assert not (settings.data_dir / "checkpoints.jsonl").exists()


@pytest.mark.parametrize("exports", [True, False])
async def test_a_worker_without_the_export_says_that_entries_wait_for_it(
    settings: Settings, dsns: Dsns, tmp_path: Path, *, exports: bool
) -> None:
    """I12: one process marks entries for the file; if no worker writes them, they pile up."""
    export = tmp_path / "journal.jsonl"
    others = load_settings(data_dir=settings.data_dir, journal_export=export if exports else None)
    await bootstrap.ensure_demo(others, dsns, known_key=None)
    anchor = tmp_path / "anchor.jsonl"

    async def works() -> bool:
        return anchor.exists() and bool(anchor.read_text())

    where = ("--data-dir", str(settings.data_dir))
    async with bursar("worker", *where, BURSAR_ANCHOR=str(anchor)) as worker:
        await within(20, works)
        worker.terminate()
        _, log = await worker.communicate()
    warned = b"journal_entries_wait_for_export" in log
    assert warned is exports


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
