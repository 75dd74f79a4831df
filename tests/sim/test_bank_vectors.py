"""The simulator against docs/wire/bank-vectors.json; the engine's end is held to them too."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from bursar_sim.signing import signature
from tests.sim.bank_process import bank_running

VECTORS = json.loads(
    (Path(__file__).parents[2] / "docs" / "wire" / "bank-vectors.json").read_text("utf-8")
)
TIME = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"')


@pytest.mark.parametrize("vector", VECTORS["signatures"], ids=lambda vector: vector["name"])
def test_signatures(vector: dict[str, Any]) -> None:
    """F28 F78: the vectors were made by OpenSSL, not by this code."""
    made = signature(
        vector["secret"], vector["provider_id"], vector["timestamp"], vector["body"].encode()
    )

    assert vector["signature"] == made


@pytest.mark.parametrize("exchange", VECTORS["exchanges"], ids=lambda exchange: exchange["name"])
async def test_exchanges(exchange: dict[str, Any], tmp_path: Path) -> None:
    """F9 F10 F11 F13 F40: each answer kind, to the byte but for the times."""
    with bank_running(tmp_path, seed=exchange["seed"], knobs=exchange["knobs"]) as bank:
        async with httpx.AsyncClient(base_url=bank.url) as http:
            for step in exchange["steps"]:
                if "wait_s" in step:
                    await asyncio.sleep(step["wait_s"])
                    continue
                assert step["response"] == await answer(http, step["request"])


async def answer(http: httpx.AsyncClient, request: dict[str, Any]) -> dict[str, Any] | None:
    """Status and body, or none if the connection was closed without an answer."""
    body = request["body"]
    try:
        reply = await http.request(
            request["method"],
            request["path"],
            headers=request["headers"],
            content=None if body is None else json.dumps(body).encode(),
        )
    except httpx.RemoteProtocolError:
        return None
    return {"status": reply.status_code, "body": json.loads(TIME.sub('"<time>"', reply.text))}
