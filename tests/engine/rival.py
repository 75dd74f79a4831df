"""A process that races others for the same keys and references: `python -m tests.engine.rival`.

Reads its orders from standard input as JSON, waits until the hour that they name, and prints what
every request was answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from typing import Any

from bursar.kit.errors import BursarError
from tests.engine.stores import Place, postgres_place
from tests.engine.wiring import asked, create


def orders_of(seed: int, *, keys: int, references: int) -> list[tuple[str, str, str]]:
    """(key, reference, payout): each key belongs to one reference; rivals shuffle the same."""
    mixed = [
        (f"k{number}", f"r{number % references}", f"{seed}x{number}") for number in range(keys)
    ]
    random.Random(seed).shuffle(mixed)
    return mixed


async def race(place: Place, seed: int, *, keys: int, references: int) -> list[dict[str, Any]]:
    """Ask for each order once, many at a time; the answers."""
    engine = place.engine(group_max=7)

    async def ask(key: str, reference: str, payout: str) -> dict[str, Any]:
        command = create(payout, 1, reference=reference, request=asked(key))
        try:
            reply = await engine.submit(command)
        except BursarError as error:
            return {"key": key, "reference": reference, "error": error.code}
        return {
            "key": key,
            "reference": reference,
            "status": reply.status,
            "body": base64.b64encode(reply.body).decode(),
            "replayed": reply.replayed,
            "payout": reply.resource_id,
        }

    orders = orders_of(seed, keys=keys, references=references)
    return list(await asyncio.gather(*(ask(*order) for order in orders)))


async def _main(orders: dict[str, Any]) -> None:
    async with postgres_place(orders["dsn"], size=2) as place:
        await asyncio.sleep(max(0.0, orders["start_at"] - time.time()))
        answers = await race(
            place, orders["seed"], keys=orders["keys"], references=orders["references"]
        )
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main(json.load(sys.stdin)))
