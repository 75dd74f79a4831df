"""A process dies at every crash point, or is cut off there, and all ends as if it had not.

Real processes, a real Postgres and the simulated bank. In a world one process dies, or the COMMITs
of several commands are cut, one after the other. Cases run side by side, since most of their time
is the waiting for leases and windows. `table.py` says what there must be a case for.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bursar.bootstrap import DEMO_FEE_BPS
from bursar.db.embedded import EmbeddedPostgres
from bursar.engine.model import Origin
from bursar.identity.commands import CreateApiKey, CreateMerchant
from bursar.identity.model import Role, issue_key
from bursar.kit.ids import new_secret
from bursar.ledger.commands import FundAccount
from tests.conftest import Database, drop, new_database
from tests.crash.cases import API_DEATHS, CUTS, WORKER_DEATHS, waits
from tests.crash.telling import Case, Story, Telling
from tests.crash.world import Nursery, World, nursery_open, world_open

pytestmark = [pytest.mark.timeout(500)]

MERCHANT = f"mer_{1:032x}"
ORIGIN = Origin("cli", "cor_setup")
PEOPLE = ("Grace", "Ada")
AT_ONCE = 10
"""Worlds side by side: each has up to twelve connections to the server."""

LONGEST_S = 200.0
"""A case waits for a lease, a window and a deadline at most: about 15 s on a quiet machine."""

Digest = dict[str, list[Any]]

DIGEST = {
    "payouts": """SELECT reference, state, amount, fee, amount_returned, provider_cost, failure_code
        FROM payouts ORDER BY reference""",
    "accounts": """SELECT address, debits_pending, debits_posted, credits_pending, credits_posted
        FROM accounts ORDER BY address""",
    "holds": "SELECT state FROM holds ORDER BY state",
    "open attempts": """SELECT state FROM attempts
        WHERE state IN ('sending', 'unknown', 'accepted')""",
    "incidents": "SELECT kind, amount, currency FROM incidents ORDER BY kind",
}
"""What the business sees. How many attempts and inquiries it took may differ, nothing else."""


async def digest_of(world: World) -> Digest:
    """The end of a story, and what the bank says of it."""
    found = {name: [tuple(row) for row in await world.rows(sql)] for name, sql in DIGEST.items()}
    lines = await world.statement()
    return found | {"statement": sorted((line["kind"], str(line["amount"])) for line in lines)}


class Stage:
    """A database with a merchant who has money, to clone for each world."""

    def __init__(self, postgres: EmbeddedPostgres, nursery: Nursery, directory: Path) -> None:
        self._postgres = postgres
        self._nursery = nursery
        self._directory = directory
        self._room = asyncio.Semaphore(AT_ONCE)
        self._numbers = iter(range(1, 1000))
        self._template: Database | None = None
        self._keys = [issue_key("sandbox", new_secret()) for _ in PEOPLE]

    async def furnish(self, template: Database) -> None:
        """Make the merchant, once; every world starts with a copy."""
        self._template = template
        async with self._open(template, "template") as world:
            await world.submit(
                CreateMerchant(
                    origin=ORIGIN,
                    merchant_id=MERCHANT,
                    name="Shop",
                    currencies=("EUR", "USDC"),
                    payout_fee_bps=DEMO_FEE_BPS,
                ),
                *(
                    CreateApiKey(
                        origin=ORIGIN,
                        key_id=f"key_{number:032x}",
                        key_hash=key.key_hash,
                        prefix=key.prefix,
                        merchant_id=MERCHANT,
                        person_id=f"per_{number:032x}",
                        person_name=name,
                        role=Role.FINANCE_OPS,
                    )
                    for number, (name, key) in enumerate(zip(PEOPLE, self._keys, strict=True), 1)
                ),
                *(
                    FundAccount(
                        origin=ORIGIN, merchant_id=MERCHANT, currency=currency, amount=10_000_000
                    )
                    for currency in ("EUR", "USDC")
                ),
            )

    def _open(self, database: Database, name: str) -> Any:
        return world_open(
            self._nursery,
            database,
            self._directory / name,
            merchant_id=MERCHANT,
            api_keys=[key.text for key in self._keys],
        )

    async def tell(self, story: Story, case: Case | None = None) -> Digest:
        """Tell a story in a world of its own; its digest, after `verify` found nothing."""
        assert self._template is not None
        async with self._room, asyncio.timeout(LONGEST_S), AsyncExitStack() as stack:
            database = new_database(self._postgres, template=self._template.name)
            stack.push_async_callback(drop, database)
            world = await stack.enter_async_context(
                self._open(database, f"world{next(self._numbers)}")
            )
            telling = Telling(world, case)
            stack.push_async_callback(telling.close)
            await story(telling)
            digest = await digest_of(world)
            telling.came()
            await world.verified()
            return digest


async def faults_of(stage: Stage, cases: Sequence[Case]) -> list[str]:
    """Run every case and the stories that they tell; what did not end as it should."""
    cases = sorted(cases, key=lambda case: not waits(case))
    told = dict.fromkeys(case.story for case in cases)
    stories = {story: asyncio.create_task(stage.tell(story)) for story in told}

    async def run(case: Case) -> str | None:
        try:
            found = await stage.tell(case.story, case)
            expected = await stories[case.story]
        except Exception as error:  # noqa: BLE001 - one line for each case
            return f"{case}: {error!r}"
        wrong = [
            f"{name}: {_less(rows, expected[name])}, not {_less(expected[name], rows)}"
            for name, rows in found.items()
            if rows != expected[name]
        ]
        return f"{case}: {'; '.join(wrong)}" if wrong else None

    found = await asyncio.gather(*map(run, cases))
    return [fault for fault in found if fault is not None]


def _less(rows: list[Any], others: list[Any]) -> list[Any]:
    return [row for row in rows if row not in others]


@pytest.mark.parametrize(
    ("name", "cases"),
    [("api", (*API_DEATHS, *CUTS)), ("worker", WORKER_DEATHS)],
    ids=["api", "worker"],
)
async def test_a_process_may_die_at_every_crash_point(
    name: str, cases: Sequence[Case], roomy: EmbeddedPostgres, furnished: Database, scratch: Path
) -> None:
    """F1 to F6, F8, F9, F49, F92, I5, I6, I22, I25.

    It truly died there by SIGKILL, and its successor ends all; or its COMMIT was truly cut, and it
    goes on by itself. Either way all is paid once on the bank's statement, `verify` is clean, a
    repeated request is answered byte for byte as before, and payouts, balances, holds and
    incidents are as without it.
    """
    directory = scratch / f"crash-{name}"
    directory.mkdir()
    async with nursery_open() as nursery:
        stage = Stage(roomy, nursery, directory)
        await stage.furnish(furnished)
        faults = await faults_of(stage, cases)
    assert not faults, "\n".join(faults)
