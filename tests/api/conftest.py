"""The real app over the real engine and Postgres; requests come in by ASGI, without a socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest

from bursar.api.app import create_app
from bursar.api.deps import Deps, WebhookSource
from bursar.bootstrap import QUERIES, RULES
from bursar.db.pool import Pool, open_pool
from bursar.db.roles import Dsns
from bursar.engine.engine import Engine
from bursar.engine.model import Origin
from bursar.engine.postgres import PostgresStore
from bursar.identity.commands import CreateApiKey, CreateMerchant
from bursar.identity.model import Role, issue_key
from bursar.identity.store import KeyCache, find_principal
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness, new_secret
from bursar.payouts.commands import ExpirePayout
from bursar.rails.bank import webhooks as bank_webhooks
from bursar.rails.contracts import CONTRACTS
from tests.conftest import Database
from tests.engine.wiring import begin

ORIGIN = Origin("per_setup", "cor_setup")
SECRET = "a webhook secret of the tests"
IBAN = "DE89370400440532013000"
CURRENCIES = ("EUR", "JPY", "KWD", "USDC")
FEE_BPS = 20
MERCHANTS = (f"mer_{10:032x}", f"mer_{11:032x}")


class ManualClock:
    """Time that moves when told to; sleeping is real but short."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        """What `now` says."""
        return self.now

    def wall(self) -> datetime:
        """The machine's time."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """A moment."""
        await asyncio.sleep(min(seconds, 0.01))


@dataclass
class Api:
    """The app with two merchants, A with money and a key for each role, and B.

    `owner` runs what only the command line may.
    """

    deps: Deps
    app: Any
    client: httpx.AsyncClient
    clock: ManualClock
    pool: Pool
    owner: Engine
    owners_pool: Pool
    keys: dict[Role, str] = field(default_factory=dict)
    other_key: str = ""
    platform_key: str = ""
    numbers: int = 0

    def headers(self, role: Role = Role.FINANCE_OPS, **more: str) -> dict[str, str]:
        """A key of merchant A, and whatever else; `_` in names is `-`."""
        given = {"Authorization": f"Bearer {self.keys[role]}"}
        return given | {name.replace("_", "-"): value for name, value in more.items()}

    def next_number(self) -> int:
        """A number not given before."""
        self.numbers += 1
        return self.numbers

    async def post(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        raw: bytes | None = None,
        role: Role = Role.FINANCE_OPS,
        **more: str,
    ) -> httpx.Response:
        """POST as merchant A with a fresh idempotency key unless one is given."""
        content = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
        headers = self.headers(role, Idempotency_Key=key or f"key-{self.next_number()}")
        headers |= {"Content-Type": "application/json"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        return await self.client.post(path, content=content, headers=headers)

    async def get(
        self, path: str, *, role: Role = Role.FINANCE_OPS, params: Any = None
    ) -> httpx.Response:
        """GET as merchant A."""
        return await self.client.get(path, headers=self.headers(role), params=params)

    async def fund(self, currency: str = "EUR", amount: int = 1_000_000) -> None:
        """Give merchant A money."""
        answer = await self.post(f"/accounts/{currency}/fund", {"amount": amount})
        assert answer.status_code == 201, answer.text

    async def payout(self, **changes: Any) -> dict[str, Any]:
        """A payout that was made."""
        answer = await self.post("/payouts", self.body(**changes))
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def body(self, **changes: Any) -> dict[str, Any]:
        """A good body of POST /payouts with a fresh reference, and `changes`."""
        return payout_body(reference=f"INV-{self.next_number()}") | changes

    async def begun(self, **changes: Any) -> dict[str, Any]:
        """A payout of which an attempt is under way; `attempt` is the provider's key."""
        made = await self.payout(**changes)
        attempt = f"key-{self.next_number()}"
        await self.owner.submit(begin(made["id"][3:], attempt))
        return {**made, "attempt": attempt}

    async def long_ago(self) -> None:
        """All attempts begun so far are past their windows, and their keys' lives."""
        age = CONTRACTS["bank"].key_lifetime_s + 60
        await self.owners_pool.execute(
            "UPDATE attempts SET begun_at = begun_at - $1 * interval '1 second', "
            "lease_until = lease_until - $1 * interval '1 second'",
            age,
        )

    async def failed(self, **changes: Any) -> dict[str, Any]:
        """A payout that could not be sent in time."""
        made = await self.payout(**changes)
        await self.owners_pool.execute(
            "UPDATE payouts SET expires_at = now() WHERE id = $1", made["id"]
        )
        await self.owner.submit(ExpirePayout(origin=ORIGIN, payout_id=made["id"]))
        return made

    async def alert(self, *, merchant_id: str = MERCHANTS[0], kind: str = "amount_mismatch") -> str:
        """An alert that is open; its id."""
        alert_id = SystemIds().new("inc")
        await self.owners_pool.execute(
            "INSERT INTO incidents VALUES ($1, $2, $3, 'po_1', 7, 'EUR', '', now())",
            *(alert_id, merchant_id, kind),
        )
        return alert_id

    async def count(self, table: str) -> int:
        """Rows in a table."""
        found: int = await self.pool.fetchval(f"SELECT count(*) FROM {table}")
        return found


def payout_body(**changes: Any) -> dict[str, Any]:
    """A good body of POST /payouts."""
    beneficiary = {"name": "Ada Lovelace", "iban": IBAN}
    body = {"reference": "INV-1", "amount": 12_345, "currency": "EUR", "beneficiary": beneficiary}
    return body | changes


async def make_key(
    engine: Engine, merchant_id: str | None, role: Role, person: str = "Grace"
) -> str:
    """A key that works, of a person of this name."""
    ids = SystemIds()
    issued = issue_key("sandbox", new_secret())
    await engine.submit(
        CreateApiKey(
            origin=ORIGIN,
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


def _engine(pool: Pool) -> Engine:
    return Engine(
        PostgresStore(pool, QUERIES),
        RULES,
        clock=SystemClock(),
        ids=SystemIds(),
        randomness=SystemRandomness(),
    )


async def _set_up(api: Api) -> None:
    """Merchants and keys, as the command line makes them: by the owner."""
    engine = api.owner
    for merchant_id in MERCHANTS:
        await engine.submit(
            CreateMerchant(
                origin=ORIGIN,
                merchant_id=merchant_id,
                name=f"Merchant {merchant_id[-1]}",
                currencies=CURRENCIES,
                payout_fee_bps=FEE_BPS,
            )
        )
    for role in Role:
        api.keys[role] = await make_key(engine, MERCHANTS[0], role)
    api.other_key = await make_key(engine, MERCHANTS[1], Role.FINANCE_OPS, person="Eve")
    api.platform_key = await make_key(engine, None, Role.ADMIN, person="Root")


@pytest.fixture
def mode() -> str:
    """Sandbox, unless a test says otherwise."""
    return "sandbox"


@asynccontextmanager
async def open_api(dsns: Dsns, mode: str) -> AsyncIterator[Api]:
    """See `Api`. Merchant A has 1,000,000 minor units of EUR, in the sandbox."""
    pool = await open_pool(dsns.api, size=4, name="tests")
    ids, clock = SystemIds(), ManualClock()
    engine = _engine(pool)
    deps = Deps(
        engine=engine,
        pool=pool,
        keys=KeyCache(partial(find_principal, pool), clock),
        clock=clock,
        ids=ids,
        webhooks={"bank": WebhookSource(SECRET, bank_webhooks)},
        mode=mode,
    )
    app = create_app(deps)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        owners_pool = await open_pool(dsns.owner, size=2, name="tests set-up")
        made = Api(deps, app, client, clock, pool, _engine(owners_pool), owners_pool)
        await _set_up(made)
        if mode == "sandbox":
            await made.fund()
        yield made
    await made.owner.close()
    await owners_pool.close()
    await engine.close()
    await pool.close()


@pytest.fixture
async def api(database: Database, mode: str) -> AsyncIterator[Api]:
    """The app of one test, on a database of its own."""
    async with open_api(database.dsns, mode) as made:
        yield made
