"""The bank's webhooks as they come over the wire."""

import asyncio
import hashlib
import hmac
import time
from collections import Counter
from pathlib import Path

import pytest

from bursar_sim.callback import Target
from bursar_sim.provider.messenger import backoff_s
from tests.sim.bank_process import SECRET, Customer, Delivery, Receiver, bank_running, until

ASYNC = {"accept_async": 1, "settle_delay_s": 0.02, "decline": 0}


async def test_each_kind_is_signed_and_complete(tmp_path: Path) -> None:
    """F28 F78: settled, rejected and returned, signed over the very bytes."""
    async with Receiver().listening() as receiver:
        with bank_running(tmp_path, callback=receiver.url, knobs=ASYNC) as bank:
            async with Customer(bank) as customer:
                settled = (await customer.pay("pa-1")).json()
                await until(lambda: len(receiver.deliveries) == 1)
                await customer.turn(decline_later=1)
                await customer.pay("pa-2")
                await until(lambda: len(receiver.deliveries) == 2)
                await customer.turn(decline_later=0, return_rate=1, return_delay_s=0.05)
                await customer.pay("pa-3")
                await until(lambda: len(receiver.deliveries) == 4)

    for delivery in receiver.deliveries:
        stamp = delivery.headers["x-webhook-timestamp"]
        message = f"bank.{stamp}.".encode() + delivery.body
        digest = hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
        assert delivery.headers["x-webhook-signature"] == f"v1={digest}"
        assert delivery.headers["x-provider-id"] == "bank"
        assert abs(time.time() - int(stamp)) < 30
    events = receiver.by_key()
    assert events["pa-1"][0]["data"] == {k: settled[k] for k in settled if k != "status"}
    assert [event["type"] for event in events["pa-2"]] == ["transfer.rejected"]
    assert events["pa-2"][0]["data"]["cost"] == 0
    assert {"code", "reason"} <= set(events["pa-2"][0]["data"])
    assert Counter(event["type"] for event in events["pa-3"]) == {
        "transfer.settled": 1,
        "transfer.returned": 1,
    }
    returned = next(e for e in events["pa-3"] if e["type"] == "transfer.returned")
    assert returned["data"]["return_id"].startswith("rt_")


async def test_refused_webhooks_come_again_with_the_same_id(tmp_path: Path) -> None:
    """F59: not 2xx, or a hang-up, and it is sent again until taken; the others do not wait."""
    tries: Counter[str] = Counter()

    def reluctant(delivery: Delivery) -> int | None:
        key = delivery.event["data"]["end_to_end_id"]
        tries[key] += 1
        if key == "pa-1" and tries[key] < 3:
            return [None, 503][tries[key] - 1]
        return 204 if key == "pa-2" else 200

    async with Receiver(reluctant).listening() as receiver:
        with bank_running(tmp_path, callback=receiver.url, knobs=ASYNC) as bank:
            async with Customer(bank) as customer:
                for number in range(6):
                    await customer.pay(f"pa-{number}")
                await until(lambda: tries["pa-1"] >= 3 and len(tries) == 6)
                await asyncio.sleep(0.5)

    assert tries == {f"pa-{number}": 3 if number == 1 else 1 for number in range(6)}
    first = receiver.by_key()["pa-1"]
    assert len({event["event_id"] for event in first}) == 1


async def test_an_absent_receiver_gets_everything_when_it_is_back(tmp_path: Path) -> None:
    """F29: nothing is lost while nobody listens; then all of it comes, soon and once."""
    receiver = Receiver()
    async with receiver.listening():
        pass
    with bank_running(tmp_path, callback=receiver.url, knobs=ASYNC) as bank:
        async with Customer(bank) as customer:
            for number in range(100):
                await customer.pay(f"pa-{number}")
            await asyncio.sleep(0.5)
            async with receiver.listening():
                await until(lambda: len(receiver.by_key()) == 100)
                await asyncio.sleep(0.3)

    assert len(receiver.deliveries) == 100
    assert receiver.connections <= 32


async def test_duplicates_and_losses(tmp_path: Path) -> None:
    """F21 F22 F29: twice with one id, twice with two ids, and never."""
    knobs = ASYNC | {"webhook_duplicate": 1}
    async with Receiver().listening() as receiver:
        with bank_running(tmp_path, callback=receiver.url, knobs=knobs) as bank:
            async with Customer(bank) as customer:
                for number in range(20):
                    await customer.pay(f"pa-{number}")
                await until(lambda: len(receiver.deliveries) == 40)
                await customer.turn(webhook_lost=1)
                await customer.pay("pa-lost")
                await asyncio.sleep(0.4)
                lost = await customer.inquire("pa-lost")

    ids = [{event["event_id"] for event in events} for events in receiver.by_key().values()]
    assert Counter(len(found) for found in ids).keys() == {1, 2}
    assert lost.json()["status"] == "executed"
    assert "pa-lost" not in receiver.by_key()


async def test_the_correlation_id_goes_along(tmp_path: Path) -> None:
    """An answer and its webhook carry the order's correlation id; a strange one is dropped."""
    async with Receiver().listening() as receiver:
        with bank_running(tmp_path, callback=receiver.url, knobs=ASYNC) as bank:
            async with Customer(bank) as customer:
                customer._http.headers["X-Correlation-Id"] = "co-17"
                reply = await customer.pay("pa-1")
                customer._http.headers["X-Correlation-Id"] = "two words"
                bare = await customer.pay("pa-2")
                await until(lambda: len(receiver.deliveries) == 2)

    assert reply.headers["x-correlation-id"] == "co-17"
    assert "x-correlation-id" not in bare.headers
    got = {d.event["data"]["end_to_end_id"]: d.headers for d in receiver.deliveries}
    assert got["pa-1"]["x-correlation-id"] == "co-17"
    assert "x-correlation-id" not in got["pa-2"]


def test_backoff_doubles_and_stops() -> None:
    """F30: from 0.1 s up to 7.5 s, spread, and the same for the same try."""
    waits = [backoff_s(3, tries) for tries in range(1, 40)]

    assert all(0.1 <= wait <= 7.5 for wait in waits)
    assert min(waits[10:]) >= 2.5
    assert waits == [backoff_s(3, tries) for tries in range(1, 40)]


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://", "http://u@h/", "http://h/\r\nx: y"])
def test_targets_that_are_none(url: str) -> None:
    """F61: only a plain http or https URL."""
    with pytest.raises(ValueError, match="URL"):
        Target(url)


async def test_delivered_is_delivered(tmp_path: Path) -> None:
    """F59: what was taken before a restart does not come again after it."""
    async with Receiver().listening() as receiver:
        with bank_running(tmp_path, callback=receiver.url, knobs=ASYNC) as bank:
            async with Customer(bank) as customer:
                await customer.pay("pa-1")
                await until(lambda: len(receiver.deliveries) == 1)
            await asyncio.to_thread(bank.stop)
            bank.start()
            async with Customer(bank) as customer:
                await customer.pay("pa-2")
                await until(lambda: "pa-2" in receiver.by_key())

    assert [d.event["data"]["end_to_end_id"] for d in receiver.deliveries] == ["pa-1", "pa-2"]
