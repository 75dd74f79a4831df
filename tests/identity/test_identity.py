"""Merchants, keys and the policy: decided in memory, held by Postgres."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256

import asyncpg
import pytest

from bursar.bootstrap import QUERIES, RULES
from bursar.db.pool import Pool, open_pool
from bursar.engine.engine import Engine
from bursar.engine.errors import ConstraintViolated
from bursar.engine.model import Origin
from bursar.engine.postgres import PostgresStore
from bursar.identity.commands import CreateApiKey, CreateMerchant, RevokeApiKey
from bursar.identity.errors import MerchantExists, UnknownApiKey, UnknownMerchant
from bursar.identity.model import (
    POLICY,
    Action,
    IssuedKey,
    Principal,
    Role,
    allowed,
    hash_of,
    issue_key,
)
from bursar.identity.store import (
    TTL_S,
    KeyCache,
    find_principal,
    list_api_keys,
)
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness, new_secret
from bursar.ledger.model import AccountRole
from bursar.ledger.store import list_accounts
from tests.conftest import Database

ORIGIN = Origin("per_setup", "cor_1")
MERCHANT = f"mer_{7:032x}"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connections as the owner: merchants and keys are made from the command line."""
    opened = await open_pool(database.dsns.owner, size=3, name="tests")
    yield opened
    await opened.close()


@pytest.fixture
async def engine(pool: Pool) -> AsyncIterator[Engine]:
    """An engine as the owner."""
    made = Engine(
        PostgresStore(pool, QUERIES),
        RULES,
        clock=SystemClock(),
        ids=SystemIds(),
        randomness=SystemRandomness(),
    )
    yield made
    await made.close()


def merchant(**changes: object) -> CreateMerchant:
    """A merchant to make."""
    fields = {
        "origin": ORIGIN,
        "merchant_id": MERCHANT,
        "name": "Meridian",
        "currencies": ("EUR", "JPY"),
        "payout_fee_bps": 25,
    }
    return CreateMerchant(**(fields | changes))  # type: ignore[arg-type]


def key_of(issued: IssuedKey, **changes: object) -> CreateApiKey:
    """A key to make."""
    fields = {
        "origin": ORIGIN,
        "key_id": SystemIds().new("key"),
        "key_hash": issued.key_hash,
        "prefix": issued.prefix,
        "merchant_id": MERCHANT,
        "person_id": SystemIds().new("per"),
        "person_name": "Ada",
        "role": Role.FINANCE_OPS,
    }
    return CreateApiKey(**(fields | changes))  # type: ignore[arg-type]


def test_the_policy_is_the_one_that_was_agreed() -> None:
    """F67: role x action, written out a second time; whatever differs is a decision to make."""
    read = {"payouts.read", "accounts.read", "ledger.read", "alerts.read"}
    create = read | {"payouts.create", "accounts.fund"}
    watch = {"payouts.cancel", "payouts.retry", "payouts.resolve", "alerts.resolve"}
    operate = create | watch
    agreed = {
        "operator": operate,
        "admin": operate,
        "merchant_admin": create,
        "finance_ops": operate,
        "treasury_ops": operate,
        "billing_ops": read,
        "system": set(),
    }
    assert {role.value: {a.value for a in actions} for role, actions in POLICY.items()} == agreed
    assert set(POLICY) == set(Role)
    assert not allowed(Role.BILLING_OPS, Action.PAYOUTS_CREATE)


def test_a_key_has_a_form_and_only_its_hash_is_kept() -> None:
    """The hash is of the secret alone; the prefix shows four characters of it."""
    secret = new_secret()
    issued = issue_key("sandbox", secret)

    assert issued.text == f"sk_sandbox_{secret}"
    assert (
        issued.key_hash == sha256(secret.encode()).digest() == hash_of(issued.text, mode="sandbox")
    )
    assert issued.prefix == f"sk_sandbox_{secret[:4]}"
    assert secret not in repr(issued)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk_",
        "sk_sandbox_",
        "sk_sandbox_short",
        "sk_production_" + "A" * 43,
        "pk_sandbox_" + "A" * 43,
        "sk_sandbox_" + "A" * 44,
        "sk_sandbox_" + "A" * 42 + "\n",
        "sk_sandbox_" + "A" * 43 + "\n",
        "sk_sandbox_" + "\xe9" * 43,
    ],
)
def test_what_has_not_the_form_is_no_key(text: str) -> None:
    """It never reaches the database."""
    assert hash_of(text, mode="sandbox") is None


@pytest.mark.parametrize(("mode", "secret"), [("test", "A" * 43), ("sandbox", "weak")])
def test_no_key_is_made_of_a_weak_secret(mode: str, secret: str) -> None:
    """256 bits or nothing."""
    with pytest.raises(ValueError, match="form of a key"):
        issue_key(mode, secret)


async def test_a_merchant_is_made_with_accounts_and_a_journal(engine: Engine, pool: Pool) -> None:
    """Whatever it will need is there from the first moment, and the platform's journal says so."""
    made = await engine.submit(merchant())

    accounts = await list_accounts(pool, MERCHANT)
    assert len(accounts) == 2 * len(AccountRole)
    assert {account.currency for account in accounts} == {"EUR", "JPY"}
    stored = await pool.fetchrow("SELECT name, payout_fee_bps, created_at FROM merchants")
    assert stored is not None
    assert tuple(stored) == (made.name, made.payout_fee_bps, made.created_at)
    heads = await pool.fetch("SELECT * FROM journal_heads WHERE merchant_id = $1", MERCHANT)
    assert [(head["seq"], head["hash"]) for head in heads] == [(0, bytes(32))]
    kinds = await pool.fetch("SELECT kind FROM journal WHERE merchant_id = 'platform'")
    assert [row["kind"] for row in kinds] == ["merchant.created"]


async def test_a_merchant_is_made_once(engine: Engine, pool: Pool) -> None:
    """Twenty at once: one is made, the others are refused."""
    results = await asyncio.gather(
        *(engine.submit(merchant()) for _ in range(20)), return_exceptions=True
    )

    refused = [result for result in results if isinstance(result, MerchantExists)]
    assert len(refused) == 19
    assert await pool.fetchval("SELECT count(*) FROM merchants") == 1


async def test_two_processes_make_one_merchant(engine: Engine, pool: Pool) -> None:
    """Where both saw nothing, the primary key decides."""
    other = Engine(
        PostgresStore(pool, QUERIES),
        RULES,
        clock=SystemClock(),
        ids=SystemIds(),
        randomness=SystemRandomness(),
    )
    results = await asyncio.gather(
        *(one.submit(merchant()) for one in (engine, other) for _ in range(3)),
        return_exceptions=True,
    )
    await other.close()

    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert all(
        isinstance(result, MerchantExists | ConstraintViolated)
        for result in results
        if isinstance(result, Exception)
    )


async def test_a_key_is_found_by_its_hash_until_it_is_revoked(engine: Engine, pool: Pool) -> None:
    """The fee comes with it; the person is one, whatever id the second key proposed."""
    await engine.submit(merchant())
    first, second = issue_key("sandbox", new_secret()), issue_key("sandbox", new_secret())
    one = await engine.submit(key_of(first))
    two = await engine.submit(key_of(second))

    found = await find_principal(pool, first.key_hash)
    assert found == Principal(one.person_id, one.id, Role.FINANCE_OPS, MERCHANT, 25)
    assert one.person_id == two.person_id
    assert await pool.fetchval("SELECT name FROM persons WHERE id = $1", one.person_id) == "Ada"
    assert await find_principal(pool, bytes(32)) is None

    revoked = await engine.submit(RevokeApiKey(origin=ORIGIN, key_id=one.id))
    again = await engine.submit(RevokeApiKey(origin=ORIGIN, key_id=one.id))

    assert revoked == again
    assert revoked.revoked_at is not None
    assert await find_principal(pool, first.key_hash) is None
    assert await find_principal(pool, second.key_hash) is not None
    lines = await list_api_keys(pool, MERCHANT)
    assert [line.revoked_at is not None for line in lines] == [True, False]
    kinds = [row["kind"] for row in await pool.fetch("SELECT kind FROM journal ORDER BY seq")]
    assert kinds == ["merchant.created", "api_key.created", "api_key.created", "api_key.revoked"]


async def test_a_key_that_expired_is_not_found(engine: Engine, pool: Pool) -> None:
    """F39: by the database's clock."""
    await engine.submit(merchant())
    issued = issue_key("sandbox", new_secret())
    await engine.submit(key_of(issued, expires_at=datetime(2020, 1, 1, tzinfo=UTC)))

    assert await find_principal(pool, issued.key_hash) is None


async def test_a_platform_key_has_no_merchant_and_no_fee(engine: Engine, pool: Pool) -> None:
    """Its scope is everything, so it pays nothing."""
    issued = issue_key("sandbox", new_secret())
    await engine.submit(key_of(issued, merchant_id=None, role=Role.ADMIN))

    found = await find_principal(pool, issued.key_hash)

    assert found is not None
    assert (found.merchant_id, found.payout_fee_bps) == (None, 0)


async def test_unknown_names_are_refused(engine: Engine) -> None:
    """And nothing is left behind."""
    with pytest.raises(UnknownMerchant):
        await engine.submit(key_of(issue_key("sandbox", new_secret())))
    with pytest.raises(UnknownApiKey):
        await engine.submit(RevokeApiKey(origin=ORIGIN, key_id="key_none"))


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("api", "UPDATE api_keys SET role = 'admin'"),
        ("api", "UPDATE api_keys SET key_hash = ''"),
        ("api", "UPDATE merchants SET payout_fee_bps = 0"),
        ("api", "UPDATE persons SET name = 'x'"),
        ("api", "DELETE FROM api_keys"),
        ("api", "DELETE FROM merchants"),
        ("worker", "SELECT id FROM api_keys"),
        ("worker", "SELECT id FROM merchants"),
        ("worker", "INSERT INTO persons VALUES ('a', 'b')"),
        ("auditor", "SELECT key_hash FROM api_keys"),
        ("auditor", "INSERT INTO persons VALUES ('a', 'b')"),
    ],
)
async def test_a_role_can_not_do_more_than_it_must(
    database: Database, role: str, statement: str
) -> None:
    """F67, F91: the database says no, whatever the code believes."""
    connection = await asyncpg.connect(getattr(database.dsns, role))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


class Keys:
    """A database of one key, that counts and can be slow."""

    def __init__(self) -> None:
        self.principal: Principal | None = Principal("per_1", "key_1", Role.ADMIN, MERCHANT, 0)
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def find(self, _key_hash: bytes) -> Principal | None:
        """The key, as it was when the question began."""
        self.asked += 1
        found = self.principal
        if self.gate is not None:
            await self.gate.wait()
        return found


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """What it was set to."""
        return self.now

    def wall(self) -> datetime:
        """A day."""
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep(self, _seconds: float) -> None:
        """Nothing."""


async def test_a_key_is_believed_for_its_time_and_no_longer() -> None:
    """Well under a second, counted from the question and not from the answer."""
    keys, clock = Keys(), Hands()
    cache = KeyCache(keys.find, clock)
    keys.gate = asyncio.Event()
    slow = asyncio.create_task(cache.find(b"k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.now = TTL_S * 0.9
    keys.gate.set()
    assert await slow is not None
    assert (await cache.find(b"k"), keys.asked) == (keys.principal, 1)

    keys.principal = None
    clock.now = TTL_S

    assert (await cache.find(b"k"), keys.asked) == (None, 2)
    assert TTL_S < 1


async def test_many_requests_ask_once() -> None:
    """F53: a busy key does not cost a connection per request."""
    keys, clock = Keys(), Hands()
    cache = KeyCache(keys.find, clock)

    found = await asyncio.gather(*(cache.find(b"k") for _ in range(100)))

    assert (set(found), keys.asked) == ({keys.principal}, 1)


async def test_a_question_that_hangs_is_not_joined_for_ever() -> None:
    """A revocation must not hide behind a slow answer."""
    keys, clock = Keys(), Hands()
    cache = KeyCache(keys.find, clock)
    keys.gate = asyncio.Event()
    hanging = asyncio.create_task(cache.find(b"k"))
    await asyncio.sleep(0)
    keys.principal, clock.now = None, TTL_S
    later = asyncio.create_task(cache.find(b"k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    keys.gate.set()

    assert await later is None
    await hanging
    assert keys.asked == 2


async def test_unknown_keys_and_failures_are_not_remembered() -> None:
    """A key that is made now works now; a database that is back is asked again."""
    keys, clock = Keys(), Hands()
    cache = KeyCache(keys.find, clock)
    keys.principal = None
    assert await cache.find(b"k") is None
    keys.principal = Principal("per_1", "key_1", Role.ADMIN, MERCHANT, 0)

    assert await cache.find(b"k") == keys.principal

    async def broken(_key_hash: bytes) -> Principal | None:
        raise ConnectionResetError

    failing = KeyCache(broken, clock)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await failing.find(b"k")
