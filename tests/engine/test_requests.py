"""Idempotency keys: one request, one effect, one answer."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from bursar.engine.errors import AlreadyExecuted, AlreadyRefused, IdempotencyKeyReused
from bursar.engine.model import IDEMPOTENCY_KEYS, Reply
from bursar.kit.errors import BursarError
from bursar.ledger.errors import InsufficientFunds
from bursar.ledger.model import ACCOUNTS, AccountRole, address
from bursar.payouts.model import PAYOUTS
from tests.engine.stores import Place
from tests.engine.wiring import (
    OTHER,
    SHOP,
    SetClock,
    Twin,
    asked,
    cancel,
    create,
    fund,
    new_merchant,
)

DAY_S = timedelta(hours=24).total_seconds()


async def _balance(place: Place, merchant: str = SHOP) -> int:
    wanted = address(merchant, AccountRole.AVAILABLE, "EUR")
    return next(row.free for row in await place.rows(ACCOUNTS) if row.address == wanted)


async def test_the_same_key_twice_in_one_group_executes_once(place: Place) -> None:
    """F41, I9, I10: twenty at once are one payout and twenty equal answers."""
    engine = place.engine()
    await engine.submit(fund(100))
    replies = await asyncio.gather(
        *(engine.submit(create(f"p{n}", 10, reference="r", request=asked("k"))) for n in range(20))
    )
    assert [reply.replayed for reply in replies] == [False] + [True] * 19
    assert len({(reply.status, reply.body, reply.resource_id) for reply in replies}) == 1
    assert [payout.id for payout in await place.rows(PAYOUTS)] == ["po_p0"]
    assert await _balance(place) == 90


async def test_a_replay_is_equal_byte_for_byte_though_the_payout_moved_on(place: Place) -> None:
    """I10, F2: the answer is the one that was stored, not the payout as it is now."""
    engine = place.engine()
    await engine.submit(fund(100))
    first = await engine.submit(create("a", 10, request=asked("k")))
    await engine.submit(cancel("a"))
    again = await engine.submit(create("b", 10, reference="a", request=asked("k")))
    assert again == msgspec.structs.replace(first, replayed=True)
    assert await _balance(place) == 100


async def test_a_refusal_is_stored_and_replayed(place: Place) -> None:
    """I10: what was refused stays refused under its key, even once the money is there."""
    engine = place.engine()
    first = await engine.submit(create("a", 10, request=asked("k")))
    problem = msgspec.json.decode(first.body)
    assert (first.status, problem["code"], problem["available"]) == (422, "insufficient_funds", 0)
    await engine.submit(fund(100))
    again = await engine.submit(create("a", 10, request=asked("k")))
    assert (again.status, again.body, again.replayed) == (422, first.body, True)
    assert (await engine.submit(create("a", 10, request=asked("k2")))).status == 201


async def test_the_same_key_for_another_request_is_refused(place: Place) -> None:
    """F40: and the refusal changes nothing, not even the stored answer."""
    engine = place.engine()
    await engine.submit(fund(100))
    first = await engine.submit(create("a", 10, request=asked("k", "one")))
    with pytest.raises(IdempotencyKeyReused):
        await engine.submit(create("b", 20, request=asked("k", "two")))
    assert await _balance(place) == 90
    assert (await engine.submit(create("a", 10, request=asked("k", "one")))).body == first.body


async def test_two_requests_under_one_key_in_one_group(place: Place) -> None:
    """F40, F41: whoever is first in the group has the key."""
    engine = place.engine()
    await engine.submit(fund(100))
    first, second = await asyncio.gather(
        engine.submit(create("a", 10, request=asked("k", "one"))),
        engine.submit(create("b", 20, request=asked("k", "two"))),
        return_exceptions=True,
    )
    assert isinstance(first, Reply)
    assert isinstance(second, IdempotencyKeyReused)
    assert await _balance(place) == 90


async def test_another_merchants_key_is_another_key(place: Place) -> None:
    """F42: the scope of a key is its merchant."""
    engine = place.engine()
    await engine.submit(new_merchant(OTHER))
    mine, theirs = await asyncio.gather(
        engine.submit(fund(100, request=asked("k"))),
        engine.submit(fund(7, merchant=OTHER, request=asked("k", merchant=OTHER))),
    )
    assert mine.replayed is theirs.replayed is False
    assert (await _balance(place), await _balance(place, OTHER)) == (100, 7)


async def test_a_key_that_nobody_used_leaves_no_row(place: Place) -> None:
    """F44: a refusal without a key stores nothing; one with a key stores the reply alone."""
    engine = place.engine()
    with pytest.raises(InsufficientFunds):
        await engine.submit(create("a", 10))
    assert await place.rows(IDEMPOTENCY_KEYS) == []
    await engine.submit(create("a", 10, request=asked("k")))
    (row,) = await place.rows(IDEMPOTENCY_KEYS)
    assert (row.outcome, row.status, row.resource_id) == ("refused", 422, "")


@pytest.mark.parametrize(
    ("amount", "expired"), [(10, AlreadyExecuted), (999, AlreadyRefused)], ids=["done", "refused"]
)
def test_an_answer_is_replayed_for_24_hours_and_remembered_for_ever(
    amount: int, expired: type[BursarError]
) -> None:
    """F43: an old key answers 409; it never does the work a second time."""
    twin = Twin()
    twin.do(fund(100))
    ask = create("a", amount, request=asked("k"))
    first = twin.do(ask)
    twin.clock.advance(DAY_S)
    assert twin.do(ask) == msgspec.structs.replace(first, replayed=True)
    for years in (0, 1, 10):
        twin.clock.advance(0.000001 + years * 365 * DAY_S)
        with pytest.raises(expired) as refused:
            twin.do(ask)
        if expired is AlreadyExecuted:
            assert refused.value.extra == {"resource_id": "po_a"}
    with pytest.raises(IdempotencyKeyReused):
        twin.do(create("a", amount, request=asked("k", "other")))
    assert twin.account(AccountRole.AVAILABLE).free == (90 if amount == 10 else 100)


def test_a_clock_that_went_back_replays() -> None:
    """F39: an answer from the future is not expired."""
    twin = Twin()
    first = twin.do(fund(100, request=asked("k")))
    assert isinstance(twin.clock, SetClock)
    twin.clock.advance(-300)
    assert twin.do(fund(100, request=asked("k"))).body == first.body
    assert twin.account(AccountRole.AVAILABLE).free == 100
