"""Many clients at once over HTTP: one key, one reference, one balance, one payout."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.judge import ENDED, document, statement
from tests.e2e.platform import Platform, payout_body

pytestmark = pytest.mark.timeout(900)

CLIENTS = 64
SEED = 8_026


def later() -> str:
    """A due time that does not come during the test: the payout keeps its hold."""
    return (datetime.now(UTC) + timedelta(days=30)).isoformat()


async def create(http: httpx.AsyncClient, key: str, body: dict[str, Any]) -> httpx.Response:
    """`POST /payouts`."""
    return await http.post("/payouts", json=body, headers={"Idempotency-Key": key})


async def cancel(http: httpx.AsyncClient, payout_id: str) -> httpx.Response:
    """`POST /payouts/{id}/cancel`."""
    headers = {"Idempotency-Key": f"cancel-{payout_id}"}
    return await http.post(f"/payouts/{payout_id}/cancel", headers=headers)


async def account(http: httpx.AsyncClient, role: str, currency: str) -> dict[str, Any]:
    """One account."""
    found = await document(http, "/accounts")
    wanted = [one for one in found["data"] if (one["role"], one["currency"]) == (role, currency)]
    return dict(wanted[0])


def free(available: dict[str, Any]) -> int:
    """What may still be spent."""
    left: int = (
        available["credits_posted"] - available["debits_posted"] - available["debits_pending"]
    )
    return left


async def test_one_key_sent_by_64_clients_makes_one_payout(calm: Platform) -> None:
    """F31, F41, I9, I10: all answers are the first one, byte for byte, or 409 while it is made."""
    body = payout_body(f"one-key-{uuid4()}")
    key = f"one-key-{uuid4()}"
    async with calm.client(connections=CLIENTS) as http:
        replies = await asyncio.gather(*(create(http, key, body) for _ in range(CLIENTS)))
        made = [reply for reply in replies if reply.status_code == 201]
        assert Counter(reply.status_code for reply in replies) <= Counter({201: 64, 409: 63})
        assert len({reply.content for reply in made}) == 1
        first = [reply for reply in made if "idempotency-replayed" not in reply.headers]
        assert len(first) == 1
        assert (await create(http, key, body)).content == first[0].content
        other = await create(http, key, body | {"amount": 1_001})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        found = await document(http, "/payouts", reference=body["reference"])
        assert [one["id"] for one in found["data"]] == [first[0].json()["id"]]


async def test_one_reference_under_64_keys_makes_one_payout(calm: Platform) -> None:
    """F43, I9: one 201; the others are told of it, now and when they ask again."""
    body = payout_body(f"one-reference-{uuid4()}", due_at=later())
    keys = [f"key-{n}-{uuid4()}" for n in range(CLIENTS)]
    async with calm.client(connections=CLIENTS) as http:
        before = await account(http, "available", "EUR")
        replies = await asyncio.gather(*(create(http, key, body) for key in keys))
        (made,) = [reply for reply in replies if reply.status_code == 201]
        refused = [reply for reply in replies if reply.status_code == 409]
        assert len(refused) == CLIENTS - 1
        assert {reply.json()["code"] for reply in refused} == {"duplicate_reference"}
        again = await asyncio.gather(*(create(http, key, body) for key in keys))
        assert [reply.content for reply in again] == [reply.content for reply in replies]
        held = made.json()["amount"] + made.json()["fee"]
        assert free(before) - free(await account(http, "available", "EUR")) == held
        assert (await cancel(http, made.json()["id"])).status_code == 200


async def test_64_spends_of_a_balance_that_covers_10(calm: Platform) -> None:
    """F37, F38, I3: exactly ten succeed, and no reading ever shows more spent than there is."""
    async with calm.client(connections=CLIENTS + 1) as http:
        before = await account(http, "available", "KWD")
        amount = free(before) * 10_000 // (10_020 * 10) - 1  # the demo's fee is 20 basis points
        stop = asyncio.Event()
        watching = asyncio.create_task(lowest_free(http, "KWD", stop))
        bodies = [
            payout_body(f"spend-{n}-{uuid4()}", amount=amount, currency="KWD", due_at=later())
            for n in range(CLIENTS)
        ]
        replies = await asyncio.gather(*(create(http, str(uuid4()), body) for body in bodies))
        stop.set()
        made = [reply.json() for reply in replies if reply.status_code == 201]
        refused = [reply for reply in replies if reply.status_code == 422]
        assert (len(made), len(refused)) == (10, CLIENTS - 10)
        assert {reply.json()["code"] for reply in refused} == {"insufficient_funds"}
        assert await watching >= 0
        held = sum(one["amount"] + one["fee"] for one in made)
        assert free(await account(http, "available", "KWD")) == free(before) - held
        # Given back by 640 cancels at once, ten of which are the first for their payout.
        undone = await asyncio.gather(*(cancel(http, one["id"]) for one in made * CLIENTS))
        assert {reply.status_code for reply in undone} <= {200, 409}
        assert len({reply.content for reply in undone if reply.status_code == 200}) == 10
        assert await account(http, "available", "KWD") == before


async def lowest_free(http: httpx.AsyncClient, currency: str, stop: asyncio.Event) -> int:
    """The least that was ever free, read over and over until `stop`."""
    lowest = free(await account(http, "available", currency))
    while not stop.is_set():
        lowest = min(lowest, free(await account(http, "available", currency)))
    return lowest


async def test_cancel_races_dispatch(calm: Platform) -> None:
    """F34: cancelled and never sent, or sent and not cancelled; the loser is told.

    Each payout is cancelled at its own seeded moment around its due time. The first tenth is due
    tomorrow, so it is cancelled early; the last tenth when it has ended, so that is late.
    """
    chance = random.Random(SEED)
    count, due_in = 60, timedelta(seconds=1.5)
    async with calm.client(connections=CLIENTS) as http, calm.bank() as bank:

        async def race(number: int) -> tuple[str, httpx.Response]:
            early, late = number < count / 10, number >= count * 0.9
            due = datetime.now(UTC) + (timedelta(days=1) if early else due_in)
            body = payout_body(f"race-{number}-{uuid4()}", due_at=due.isoformat())
            made = await create(http, str(uuid4()), body)
            assert made.status_code == 201, made.text
            payout_id = made.json()["id"]
            moment = due + timedelta(seconds=chance.uniform(-0.1, 0.6))
            if late:
                await ended(http, payout_id)
            elif not early:
                await asyncio.sleep((moment - datetime.now(UTC)).total_seconds())
            return payout_id, await cancel(http, payout_id)

        answers = await asyncio.gather(*(race(number) for number in range(count)))
        payouts = {one: await ended(http, one) for one, _ in answers}
        debited = {line["end_to_end_id"] for line in await statement(bank)}
        told = Counter[int]()
        for payout_id, reply in answers:
            payout = payouts[payout_id]
            told[reply.status_code] += 1
            if reply.status_code == 200:
                assert payout["state"] == "cancelled"
                assert payout["attempts"] == []
                continue
            assert reply.status_code == 409
            assert reply.json()["code"] == "already_dispatched"
            assert payout["state"] == "settled"
            assert [one["provider_key"] in debited for one in payout["attempts"]] == [True]
        assert told[200] >= count / 10
        assert told[409] >= count / 10


async def ended(http: httpx.AsyncClient, payout_id: str) -> dict[str, Any]:
    """The payout, once nothing of ours moves it any more."""
    async with asyncio.timeout(120):
        while True:
            found = await document(http, f"/payouts/{payout_id}")
            if found["state"] in ENDED:
                return found
            await asyncio.sleep(0.05)
