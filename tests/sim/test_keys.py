"""How long a provider knows a key, and what becomes of an order under one that it has forgotten."""

import asyncio

import pytest

from bursar_sim.providers import WIRES
from tests.sim.inprocess import Desk, run

both = pytest.mark.parametrize("name", ["bank", "offramp"])


@both
def test_a_key_is_known_for_its_life_and_no_longer(name: str) -> None:
    """F19: by the contract; the order that comes after it is a new one, and its money leaves."""
    reference = {"bank": "transfer_id", "offramp": "payout_id"}[name]

    async def scenario() -> None:
        async with Desk(name, {}) as desk:
            key, life_s = desk.key(1), WIRES[name].terms.key_life_s
            await desk.pay(key)
            await asyncio.sleep(life_s - 1)
            await desk.pay(key)
            await asyncio.sleep(0.9)
            assert len(desk.provider.truth(key).debits) == 1
            await asyncio.sleep(0.2)
            assert (await desk.pay(key, 54321)).status == 409
            for _ in range(2):
                await desk.pay(key)
                await asyncio.sleep(1)
            one, two = desk.provider.truth(key).debits
            assert two.amount == one.amount
            assert two.reference != one.reference
            assert (await desk.inquire(key)).json[reference] == two.reference
            assert desk.provider.fired()["forgets"] == 0

    run(scenario())


@both
def test_a_refused_order_stays_refused(name: str) -> None:
    """Its key's life over or not: who is asked the same says the same."""

    async def scenario() -> None:
        async with Desk(name, {"decline": 1}) as desk:
            key = desk.key(1)
            first = await desk.pay(key)
            await asyncio.sleep(WIRES[name].terms.key_life_s + 1)
            assert (await desk.pay(key)).json == first.json
            assert desk.provider.truth(key).debits == ()

    run(scenario())


@both
def test_a_forgotten_key(name: str) -> None:
    """F19, against the contract: each repeated order is another execution, told by webhook."""
    reference = {"bank": "transfer_id", "offramp": "payout_id"}[name]

    async def scenario() -> None:
        knobs = {"forgets": 1, "double": 1, "undo": 1, "return_rate": 1, "webhook_lost": 1}
        knobs = {k: v for k, v in knobs.items() if k not in WIRES[name].terms.without}
        async with Desk(name, knobs) as desk:
            key = desk.key(1)
            for _ in range(3):
                await desk.pay(key)
                await asyncio.sleep(1)
            lines = desk.provider.statement()
            references = [line.reference for line in lines if line.kind == "debit"]
            assert len(set(references)) == len(references) == 3
            assert not [line for line in lines if line.kind == "return"]
            told = [e for e in desk.events(key) if e["type"].endswith(("settled", "completed"))]
            assert [e["data"][reference] for e in told] == references
            assert desk.provider.fired()["forgets"] == 2

    run(scenario())
