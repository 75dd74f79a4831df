"""Each process can do all of its own work with its own role, and none of the other's."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from bursar.engine.engine import Engine
from bursar.engine.errors import CommandFailed
from bursar.incidents.model import INCIDENTS
from bursar.payouts.attempts import ExpireLease, RecordInquiry
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.model import PAYOUTS
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Unknown
from bursar.rails.port import EventKind, ProviderEvent
from tests.conftest import Database
from tests.engine.stores import Place, postgres_place
from tests.engine.wiring import ORIGIN, asked, begin, cancel, create, fund, reply

PAID = Executed(provider_ref="bt", amount_minor=30, currency="EUR", cost_minor=1)
CLOSED = NotExecuted(code="AC04", reason="closed", retryable=False, sent=True)
NO_TIME = timedelta(0)


def _event(kind: EventKind, attempt: str, number: int, amount: int = 30) -> ProviderEvent:
    return ProviderEvent(
        event_id=f"evt_{number}",
        kind=kind,
        provider_key=attempt,
        provider_ref="bt",
        amount_minor=amount,
        currency="EUR",
        cost_minor=1,
        code="AC04",
        reason=None,
        return_id=f"rt_{number}",
    )


class _Office:
    """The API's and the worker's engines on one database."""

    def __init__(self, api: Engine, worker: Engine, place: Place) -> None:
        self.api = api
        self.worker = worker
        self.place = place
        self._events = 0

    async def states(self) -> dict[str, str]:
        """Where every payout stands."""
        return {row.reference: row.state for row in await self.place.rows(PAYOUTS)}

    async def tell(self, kind: EventKind, attempt: str, amount: int = 30) -> None:
        """The API stores an event, the worker applies it."""
        self._events += 1
        told = _event(kind, attempt, self._events, amount)
        await self.api.submit(
            ReceiveEvent(origin=ORIGIN, provider="bank", event_id=told.event_id, body="{}")
        )
        await self.worker.submit(
            ApplyEvent(origin=ORIGIN, provider="bank", event=told, retry_delay=NO_TIME)
        )

    async def send(self, name: str, attempt: str, *, lease_s: float = 5) -> None:
        """The worker begins an attempt."""
        await self.worker.submit(begin(name, attempt, lease_s=lease_s))


@pytest.fixture
async def office(on_postgres: Place, database: Database) -> AsyncIterator[_Office]:
    """Each engine under the role that its process has."""
    async with (
        postgres_place(database.dsns.api, size=2) as api,
        postgres_place(database.dsns.worker, size=2) as worker,
    ):
        yield _Office(api.engine(), worker.engine(), on_postgres)


async def test_api_and_worker_do_all_their_work(office: _Office) -> None:
    """I15: least grants, but enough of them for every command, incidents included."""
    await office.api.submit(fund(130, request=asked("f")))
    for name in "abcd":
        await office.api.submit(create(name, 30, fee=1, request=asked(name)))
    refused = await office.api.submit(create("e", 30, request=asked("e")))
    assert refused.status == 422
    assert (await office.api.submit(cancel("d", request=asked("cancel")))).status == 200
    await office.send("a", "a1")
    await office.worker.submit(reply("a1", PAID))
    await office.send("b", "b1", lease_s=0)
    await office.worker.submit(ExpireLease(origin=ORIGIN, attempt_id="pa_b1"))
    await office.worker.submit(
        RecordInquiry(
            origin=ORIGIN,
            attempt_id="pa_b1",
            asked_at_inquiry=0,
            outcome=Accepted("bt"),
            retry_delay=NO_TIME,
        )
    )
    await office.tell(EventKind.PAID, "b1")
    await office.tell(EventKind.RETURNED, "b1")
    await office.send("c", "c1")
    await office.worker.submit(reply("c1", CLOSED))
    assert await office.states() == {
        "a": "settled",
        "b": "returned",
        "c": "failed",
        "d": "cancelled",
    }
    await office.api.submit(create("rest", 98))
    await office.tell(EventKind.PAID, "c1")
    await office.tell(EventKind.PAID, "nobody")
    assert (await office.states())["c"] == "settled"
    kinds = {row.kind for row in await office.place.rows(INCIDENTS)}
    assert "merchant_owes" in kinds
    await office.send("rest", "r1")
    await office.worker.submit(reply("r1", Unknown("timeout")))


async def test_neither_does_the_others_work(office: _Office) -> None:
    """I15: an API that was broken into sends nothing; a worker makes no payouts."""
    await office.api.submit(fund(100))
    await office.api.submit(create("a", 30))
    with pytest.raises(CommandFailed):
        await office.api.submit(begin("a", "a1"))
    with pytest.raises(CommandFailed):
        await office.worker.submit(create("b", 30))
    assert await office.states() == {"a": "funds_locked"}


async def test_both_settle_their_own_lost_commits(database: Database) -> None:
    """F49: writing a tombstone is every engine's right."""
    for role, dsn in (("api", database.dsns.api), ("worker", database.dsns.worker)):
        async with postgres_place(dsn, size=1) as place:
            assert await place.store.entomb(f"grp_{role}") is False


async def test_the_auditor_only_reads(database: Database) -> None:
    """I15: not even a group of its own."""
    async with postgres_place(database.dsns.auditor, size=1) as place:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await place.store.entomb("grp_1")
