"""Any mix of knobs: what the provider says in the end is what its statement says."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar_sim.provider.knobs import FATES, RATES
from bursar_sim.providers import WIRES
from tests.sim.inprocess import IBAN, Desk, run

RATE = st.sampled_from([0.0, 0.0, 0.3, 1.0])
ORDERS = 6


def mixes(name: str) -> st.SearchStrategy[dict[str, float]]:
    """Values for all the knobs of a provider; the fates share what there is."""
    own = [knob for knob in RATES if knob not in WIRES[name].terms.without]
    times = {"hold_s": 0.05, "late_s": 2.0, "return_delay_s": 0.4, "webhook_late_s": 5.0}
    return st.fixed_dictionaries(dict.fromkeys(own, RATE)).map(
        lambda rates: (
            times
            | {knob: rate / (len(FATES) if knob in FATES else 1) for knob, rate in rates.items()}
        )
    )


async def story(desk: Desk) -> str:
    """Orders with one resend each, and the digest of all that anybody heard."""
    heard = hashlib.sha256()

    async def one(number: int) -> None:
        key = desk.key(number)
        await asyncio.sleep(0.03 * number)
        for pause_s in (0.2, 0.7):
            answered = await desk.pay(key, 1 + number)
            heard.update(repr((key, answered)).encode())
            await asyncio.sleep(pause_s)
            heard.update(repr((key, await desk.inquire(key))).encode())

    await asyncio.gather(*[one(number) for number in range(ORDERS)])
    await asyncio.sleep(60)
    heard.update(repr(desk.delivered).encode())
    heard.update(repr(desk.provider.statement()).encode())
    heard.update(repr(sorted(desk.provider.fired().items())).encode())
    return heard.hexdigest()


async def check_truth(desk: Desk, knobs: Mapping[str, float], began_ms: int) -> None:
    """The statement against the knobs, and inquiry against the statement."""
    desk.provider.knobs = Desk(desk.name).provider.knobs
    for number in range(ORDERS):
        key = desk.key(number)
        truth = desk.provider.truth(key)
        assert len(truth.debits) <= (2 if knobs["double"] or knobs["forgets"] else 1)
        back = sum(line.amount for line in truth.returns)
        assert back <= sum(line.amount for line in truth.debits)
        if not knobs["worse"]:
            # The last order came in within two seconds and a half of the first.
            assert all(x.booked_at <= began_ms + 2500 + desk.window_ms for x in truth.debits)
        inquired = await desk.inquire(key)
        status = inquired.json.get("status", "not_found")
        paid = {"executed", "completed"}
        if back:
            assert status in {"returned", "refunded", "failed"}
        elif truth.debits:
            assert status in paid
        elif truth.stuck:
            assert status in {"pending", "processing"}
        else:
            assert status in {"rejected", "failed", "not_found"}


@pytest.mark.parametrize("name", ["bank", "offramp"])
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_the_statement_is_the_truth(name: str, data: st.DataObject, seed: int) -> None:
    """F9 F11 F80: however it misbehaves. The same seed and calls are the same to the byte."""
    knobs = data.draw(mixes(name))

    async def once() -> tuple[str, dict[str, int]]:
        async with Desk(name, knobs, seed=seed) as desk:
            began_ms = desk.loop.now_ms()
            digest = await story(desk)
            fired = dict(desk.provider.fired())
            await check_truth(desk, knobs, began_ms)
            return digest, fired

    first, again = run(once()), run(once())

    assert first == again
    assert {knob for knob in first[1] if not knobs[knob]} == set()


@pytest.mark.parametrize("name", ["bank", "offramp"])
def test_another_seed_is_another_story(name: str) -> None:
    """And a digest that never differs would prove nothing."""

    async def digest(seed: int) -> str:
        knobs = {"lost": 0.5, "late": 0.5, "hold_s": 0.05}
        async with Desk(name, knobs, seed=seed) as desk:
            return await story(desk)

    assert run(digest(1)) != run(digest(2))


def test_hashing_is_not_chance() -> None:
    """Two processes whose sets are in another order tell the same story."""
    code = (
        "from tests.sim.inprocess import IBAN, Desk, run\n"
        "from tests.sim.test_swarm import story\n"
        "async def tell():\n"
        "    knobs = dict.fromkeys(('late', 'flip', 'stale', 'lost'), 0.4)\n"
        "    async with Desk('offramp', knobs) as d:\n"
        "        return await story(d)\n"
        "print(run(tell()))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert told[0] == told[1] != ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
GOOD = {
    "client_reference": "01K70FZVG00000000000000001",
    "asset": "USDC",
    "amount": "1.000000",
    "recipient": {"name": "Ana Silva", "account": IBAN},
}


@settings(max_examples=60, deadline=None)
@given(
    bodies=st.lists(
        st.binary(max_size=100)
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.builds(
            lambda name, value: json.dumps(GOOD | {name: value}).encode(),
            st.sampled_from(list(GOOD)),
            JSON,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_body_makes_a_500_at_the_off_ramp(bodies: list[bytes]) -> None:
    """F76: nonsense is 400, a good order 2xx or 422, another one under its key 409."""

    async def scenario() -> None:
        async with Desk("offramp") as desk:
            for body in bodies:
                for method, path in (("POST", "/offramp/payouts"), ("PUT", "/offramp/knobs")):
                    answered = await desk.call(method, path, body=body)
                    assert answered.status in {200, 202, 400, 409, 422}
                    assert isinstance(answered.json, dict)

    run(scenario())


@pytest.mark.parametrize("status", [503, 0, -1])
def test_webhooks_come_when_their_receiver_does(status: int) -> None:
    """F29 F59: refused, unanswered, or nobody there; told when it is back, in virtual time."""

    async def scenario() -> list[Any]:
        async with Desk("bank", {"accept_async": 1}, status=status, workers=1) as desk:
            await desk.pay(desk.key(1))
            await asyncio.sleep(60)
            assert (status == -1) == (not desk.delivered)
            desk.status = 200
            before = len(desk.delivered)
            await asyncio.sleep(60)
            return desk.delivered[before:]

    assert len(run(scenario())) == 1
