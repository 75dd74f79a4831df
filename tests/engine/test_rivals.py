"""Several engines on one database, in one process and in several (F38, F41)."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bursar.engine.model import IDEMPOTENCY_KEYS, JOURNAL, JOURNAL_LINKS
from bursar.kit.errors import BursarError
from bursar.ledger.model import ACCOUNTS, TRANSFERS, AccountRole, address
from bursar.payouts.model import ATTEMPTS, PAYOUTS, REFERENCES
from tests.conftest import Database
from tests.engine.rival import race
from tests.engine.stores import Place, postgres_place
from tests.engine.wiring import SHOP, asked, begin, create, fund

AVAILABLE = address(SHOP, AccountRole.AVAILABLE, "EUR")
KEYS, REFERENCES_OF_ALL = 60, 20


async def _judge(place: Place, answers: Sequence[dict[str, Any]], funds: int) -> None:
    """One payout per reference, one answer per key, and the books to the unit."""
    by_key: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        assert "error" not in answer, answer
        by_key.setdefault(answer["key"], []).append(answer)
    for same in by_key.values():
        assert len({(answer["status"], answer["body"]) for answer in same}) == 1
        assert [answer["replayed"] for answer in same].count(False) == 1
    made = [same[0] for same in by_key.values() if same[0]["status"] == 201]
    assert Counter(answer["reference"] for answer in made) == {
        f"r{number}": 1 for number in range(REFERENCES_OF_ALL)
    }
    assert {same[0]["status"] for same in by_key.values()} == {201, 409}
    payouts = await place.rows(PAYOUTS)
    assert {payout.id for payout in payouts} == {answer["payout"] for answer in made}
    assert [row.payout_id for row in await place.rows(REFERENCES)] == [
        payout.id for payout in sorted(payouts, key=lambda payout: payout.reference)
    ]
    assert len(await place.rows(IDEMPOTENCY_KEYS)) == KEYS
    assert await _free(place) == funds - REFERENCES_OF_ALL
    assert len(await place.rows(TRANSFERS)) == 1 + REFERENCES_OF_ALL
    seqs = [entry.seq for entry in await place.rows(JOURNAL) if entry.merchant_id == SHOP]
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    links = [link for link in await place.rows(JOURNAL_LINKS) if link.merchant_id == SHOP]
    links.sort(key=lambda link: link.link_seq)
    assert [link.first_seq for link in links[1:]] == [link.last_seq + 1 for link in links[:-1]]


async def _free(place: Place) -> int:
    return next(row.free for row in await place.rows(ACCOUNTS) if row.address == AVAILABLE)


async def test_two_engines_race_for_the_same_keys_and_references(
    on_postgres: Place, database: Database
) -> None:
    """F41, I9, I10."""
    await on_postgres.engine().submit(fund(1000))
    async with postgres_place(database.dsns.owner) as second:
        answers = await asyncio.gather(
            *(
                race(place, seed, keys=KEYS, references=REFERENCES_OF_ALL)
                for place, seed in ((on_postgres, 1), (second, 2), (on_postgres, 3))
            )
        )
    await _judge(on_postgres, [answer for part in answers for answer in part], 1000)


async def test_two_processes_race_for_the_same_keys_and_references(
    on_postgres: Place, database: Database
) -> None:
    """F41, I9, I10: nothing that one process holds in memory keeps the other out."""
    await on_postgres.engine().submit(fund(1000))
    start_at = time.time() + 2.0
    rivals = [await _start_rival(database.dsns.owner, seed, start_at) for seed in (1, 2)]
    answers = [await rival for rival in rivals]
    await _judge(on_postgres, [answer for part in answers for answer in part], 1000)


async def _start_rival(dsn: str, seed: int, start_at: float) -> asyncio.Task[Any]:
    orders = {
        "dsn": dsn,
        "seed": seed,
        "keys": KEYS,
        "references": REFERENCES_OF_ALL,
        "start_at": start_at,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.engine.rival",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def answers() -> Any:
        out, err = await process.communicate(json.dumps(orders).encode())
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    return asyncio.create_task(answers())


async def test_a_balance_is_spent_once_by_many(on_postgres: Place, database: Database) -> None:
    """F37, F38: four engines spend one balance that bears half of what they ask for."""
    await on_postgres.engine().submit(fund(50))
    async with postgres_place(database.dsns.owner) as other:
        engines = [place.engine(group_max=3) for place in (on_postgres, other) for _ in range(2)]
        answers = await asyncio.gather(
            *(
                engine.submit(create(f"{number}_{n}", 1))
                for number, engine in enumerate(engines)
                for n in range(25)
            ),
            return_exceptions=True,
        )
    codes = Counter(getattr(answer, "code", "made") for answer in answers)
    assert codes == {"made": 50, "insufficient_funds": 50}
    assert await _free(on_postgres) == 0


async def test_two_workers_begin_one_payout_once(on_postgres: Place, database: Database) -> None:
    """F32, I6: of four workers on one payout, one has the lease and the others are refused."""
    engine = on_postgres.engine()
    await engine.submit(fund(100))
    for n in range(8):
        await engine.submit(create(f"p{n}", 1, request=asked(f"k{n}")))
    async with postgres_place(database.dsns.owner) as other:
        engines = [place.engine() for place in (on_postgres, other) for _ in range(2)]
        answers = await asyncio.gather(
            *(
                worker.submit(begin(f"p{n}", f"{n}_{number}", token=f"ls_{number}"))
                for n in range(8)
                for number, worker in enumerate(engines)
            ),
            return_exceptions=True,
        )
    refused = [answer.code for answer in answers if isinstance(answer, BursarError)]
    assert refused == ["not_due"] * 24
    attempts = await on_postgres.rows(ATTEMPTS)
    assert Counter(attempt.payout_id for attempt in attempts) == {f"po_p{n}": 1 for n in range(8)}
