"""The simulators against the vectors in docs/wire; the engine's end is held to them too."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bursar_sim.offramp.codec import amount_text
from bursar_sim.signing import signature
from tests.sim.inprocess import Answered, Desk, run

WIRES = Path(__file__).parents[2] / "docs" / "wire"
VECTORS = {
    name: json.loads((WIRES / f"{name}-vectors.json").read_text("utf-8"))
    for name in ("bank", "offramp")
}
TIME = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"')


def each(part: str) -> pytest.MarkDecorator:
    """A test for each vector of both wires."""
    return pytest.mark.parametrize(
        ("name", "vector"),
        [(name, vector) for name, vectors in VECTORS.items() for vector in vectors[part]],
        ids=lambda value: value if isinstance(value, str) else value["name"],
    )


@each("signatures")
def test_signatures(name: str, vector: dict[str, Any]) -> None:
    """F28 F78: the vectors were made by OpenSSL, not by this code."""
    made = signature(
        vector["secret"], vector["provider_id"], vector["timestamp"], vector["body"].encode()
    )

    assert vector["signature"] == made
    assert name in vector["secret"] or vector["secret"] == "another-secret"


@each("exchanges")
def test_exchanges(name: str, vector: dict[str, Any]) -> None:
    """F9 F10 F11 F13 F40: each answer kind, to the byte but for the times."""

    async def exchange() -> None:
        async with Desk(name, vector["knobs"], seed=vector["seed"]) as desk:
            for step in vector["steps"]:
                if "wait_s" in step:
                    await asyncio.sleep(step["wait_s"])
                    continue
                request = step["request"]
                answered = await desk.call(
                    request["method"],
                    request["path"],
                    request["headers"],
                    request["body"],
                    authorized=False,
                )
                assert step["response"] == told(answered)

    run(exchange())


def told(answered: Answered) -> dict[str, Any] | None:
    """Status and body, or none if the connection was closed without an answer."""
    if answered.cut:
        assert answered.status == 0
        return None
    body = json.loads(TIME.sub('"<time>"', answered.body.decode()))
    return {"status": answered.status, "body": body}


@pytest.mark.parametrize("amount", VECTORS["offramp"]["amounts"], ids=lambda a: a["text"])
def test_amounts(amount: dict[str, Any]) -> None:
    """F74: millionths as text, exactly."""
    assert amount["text"] == amount_text(amount["minor"])
