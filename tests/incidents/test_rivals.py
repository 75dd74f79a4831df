"""People, the API and the worker at one debt and one attempt at once, on real Postgres."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from bursar.db.pool import Pool, open_pool
from bursar.engine.engine import Engine
from bursar.engine.model import Origin, Reply
from bursar.incidents.commands import AssignIncident, CloseIncident
from bursar.incidents.model import INCIDENTS, MERCHANT_OWES, Incident
from bursar.kit.errors import Refusal
from bursar.ledger.model import ACCOUNTS
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.model import PAYOUTS, RESOLUTIONS
from bursar.payouts.operations import ResolvePayout, RetryPayout
from bursar.payouts.verify import audit
from bursar.rails.outcomes import Unknown
from bursar.rails.port import EventKind
from tests.conftest import Database
from tests.engine.stores import Place, postgres_place
from tests.engine.wiring import ORIGIN, SHOP, begin, create, fund, new_merchant, reply
from tests.payouts.story import DECLINED, told

PERSONS = [Origin(f"per_{name}") for name in ("ann", "ben", "eve")]
ADDRESS = f"{SHOP}/receivable/EUR"


@dataclass
class _Office:
    """An engine as each process has it."""

    database: Database
    api: Engine
    other_api: Engine
    worker: Engine
    place: Place
    owner: Pool

    async def debts(self) -> list[Incident]:
        """The incidents about debts that are open."""
        rows = await self.place.rows(INCIDENTS)
        return [row for row in rows if row.kind == MERCHANT_OWES and row.closed_at is None]

    async def owed(self) -> int:
        """What stands on the receivable."""
        (row,) = [row for row in await self.place.rows(ACCOUNTS) if row.address == ADDRESS]
        return row.balance

    async def is_in_order(self) -> None:
        """I26 and all else."""
        assert (await audit(self.database.dsns.auditor, anchor=None)).disagreement is None


@pytest.fixture
async def office(database: Database) -> AsyncIterator[_Office]:
    """API and worker under their own roles, and a merchant with 1,000."""
    dsns = database.dsns
    owner = await open_pool(dsns.owner, size=1, name="tests")
    async with (
        postgres_place(dsns.owner, size=1) as owners,
        postgres_place(dsns.api, size=3) as api,
        postgres_place(dsns.worker, size=2) as worker,
    ):
        await owners.engine().submit(new_merchant(SHOP))
        made = _Office(database, api.engine(), api.engine(), worker.engine(), owners, owner)
        await made.api.submit(fund(1_000))
        yield made
    await owner.close()


async def _failed(office: _Office, name: str, amount: int) -> None:
    await office.api.submit(create(name, amount))
    await office.worker.submit(begin(name, f"{name}-1"))
    await office.worker.submit(reply(f"{name}-1", DECLINED))


async def _paid_late(office: _Office, name: str, amount: int) -> None:
    event = told(EventKind.PAID, attempt=f"{name}-1", amount=amount, cost=0)
    stored: dict[str, Any] = {"origin": ORIGIN, "provider": "bank"}
    await office.api.submit(ReceiveEvent(**stored, event_id=event.event_id, body="{}"))
    await office.worker.submit(ApplyEvent(**stored, event=event, retry_delay=timedelta(0)))


async def _outcome(asked: Awaitable[Reply]) -> str:
    try:
        answer = await asked
    except Refusal as refusal:
        return refusal.code
    return str(answer.status)


async def test_debts_funds_and_people_at_once(office: _Office) -> None:
    """I26: obligations by the worker, repayments by the API, and people taking the alert up."""
    await _failed(office, "first", 1_000)
    for number in range(8):
        await _failed(office, f"late{number}", 100)
    await office.api.submit(create("rest", 1_000))
    await _paid_late(office, "first", 1_000)
    (incident,) = await office.debts()
    assert incident.amount == 1_000

    def assign(who: Origin) -> AssignIncident:
        return AssignIncident(
            origin=who, merchant_id=SHOP, incident_id=incident.id, person_id=who.actor
        )

    def close(who: Origin) -> CloseIncident:
        return CloseIncident(origin=who, merchant_id=SHOP, incident_id=incident.id, note="x")

    await asyncio.gather(
        *(_paid_late(office, f"late{number}", 100) for number in range(8)),
        *(office.api.submit(fund(30)) for _ in range(10)),
        *(office.other_api.submit(fund(30)) for _ in range(10)),
        *(office.other_api.submit(assign(who)) for who in PERSONS * 5),
        *(_outcome(office.api.submit(close(who))) for who in PERSONS * 2),
    )

    (after,) = await office.debts()
    assert after.id == incident.id
    assert after.amount == await office.owed() == 1_000 + 8 * 100 - 20 * 30
    assert after.assigned_to in {who.actor for who in PERSONS}
    await office.api.submit(fund(after.amount))
    assert await office.debts() == []
    await office.is_in_order()


async def test_many_persons_resolve_at_once(office: _Office) -> None:
    """F68, I5: however they interleave, two persons agree once, and it is booked once."""
    await office.api.submit(create("p", 100))
    await office.worker.submit(begin("p", "p-1"))
    await office.worker.submit(reply("p-1", Unknown("timeout")))
    await office.owner.execute(
        "UPDATE attempts SET begun_at = begun_at - interval '1 hour', "
        "lease_until = lease_until - interval '1 hour', "
        "ambiguous_at = ambiguous_at - interval '1 hour'"
    )

    def say(who: Origin) -> ResolvePayout:
        return ResolvePayout(
            origin=who,
            merchant_id=SHOP,
            payout_id="po_p",
            verdict="executed",
            provider_ref="bt_1",
            evidence="a letter",
        )

    answers = Counter(
        await asyncio.gather(
            *(_outcome(office.api.submit(say(who))) for who in PERSONS * 4),
            *(_outcome(office.other_api.submit(say(who))) for who in PERSONS * 4),
        )
    )

    assert (answers["202"], answers["200"]) == (1, 1)
    assert set(answers) <= {"202", "200", "second_person_required", "nothing_to_resolve"}
    (row,) = await office.place.rows(RESOLUTIONS)
    assert row.confirmed_by not in {None, row.proposed_by}
    assert {payout.state for payout in await office.place.rows(PAYOUTS)} == {"settled"}
    await office.is_in_order()


async def test_many_retry_at_once(office: _Office) -> None:
    """F32, I4: one of them gets it, and there is one new hold."""
    await _failed(office, "p", 100)
    await office.owner.execute("UPDATE attempts SET lease_until = lease_until - interval '1 hour'")
    answers = Counter(
        await asyncio.gather(
            *(
                _outcome(
                    office.api.submit(RetryPayout(origin=who, merchant_id=SHOP, payout_id="po_p"))
                )
                for who in PERSONS * 3
            )
        )
    )

    assert answers == {"200": 1, "not_retryable": 8}
    await office.is_in_order()
