"""The knobs of webhooks: told early, late, out of order, under another id; on both wires."""

import asyncio
from datetime import datetime

import pytest

from tests.sim.inprocess import Delivered, Desk, run
from tests.sim.test_knobs import settings

both = pytest.mark.parametrize("name", ["bank", "offramp"])


def timed(desk: Desk, ending: str) -> list[Delivered]:
    """The webhooks of one type."""
    return [d for d in desk.delivered if d.event["type"].endswith(ending)]


def lateness_ms(delivered: Delivered) -> int:
    """From what happened to when it was told."""
    happened = datetime.fromisoformat(delivered.event["occurred_at"])
    return delivered.at_ms - round(happened.timestamp() * 1000)


@both
def test_told_before_the_answer(name: str) -> None:
    """F24: the webhook overtakes the answer."""

    async def scenario() -> None:
        async with Desk(name, {"webhook_early": 1}) as desk:
            await desk.pay(desk.key(1))
            answered_at = desk.loop.now_ms()
            (told,) = timed(desk, "ed")
            assert told.at_ms < answered_at - 200

    run(scenario())


@both
def test_told_late(name: str) -> None:
    """F29: seconds after it happened."""

    async def scenario() -> None:
        async with Desk(name, settings(name, "webhook_late", 1) | {"webhook_late_s": 9}) as desk:
            await asyncio.gather(*[desk.pay(desk.key(number)) for number in range(9)])
            await asyncio.sleep(12)
            lags = [lateness_ms(told) for told in timed(desk, "ed")]
            assert len(lags) == 9
            assert 3000 < max(lags) <= 9010

    run(scenario())


@both
def test_told_out_of_order(name: str) -> None:
    """F23: the return is told before the settlement."""

    async def scenario() -> None:
        async with Desk(name, settings(name, "webhook_disorder", 1)) as desk:
            for number in range(6):
                await desk.pay(desk.key(number))
                await asyncio.sleep(3)
                told = [e["type"].rpartition(".")[2] for e in desk.events(desk.key(number))]
                assert told[-2:] in (["returned", "settled"], ["refunded", "completed"])

    run(scenario())


@both
def test_told_under_a_new_id(name: str) -> None:
    """F22: the same fact under two event ids."""

    async def scenario() -> None:
        async with Desk(name, settings(name, "webhook_new_id", 1)) as desk:
            await desk.pay(desk.key(1))
            await asyncio.sleep(3)
            one, two = [told.event for told in timed(desk, "ed")]
            assert one.pop("event_id") != two.pop("event_id")
            assert one == two

    run(scenario())
