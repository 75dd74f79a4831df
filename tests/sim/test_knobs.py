"""Each knob at rate 1 does what its name says, on both wires; at rate 0 it never does."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from bursar_sim.provider.knobs import FATES, RATES
from bursar_sim.providers import WIRES
from tests.sim.inprocess import Answered, Desk, run

both = pytest.mark.parametrize("name", ["bank", "offramp"])

# What a knob needs beside itself to have its effect.
NEEDS: Mapping[str, Mapping[str, float]] = {
    "accept_async": {},
    "return_parts": {"return_rate": 1},
    "repeat_declined": {"timeout_executed": 1, "late": 1, "hold_s": 0.1},
    "webhook_disorder": {"return_rate": 1, "accept_async": 1},
    "stale": {"return_rate": 1, "accept_async": 1, "stale_s": 2},
    "not_found": {"not_found_s": 3},
    "timeout_executed": {"hold_s": 0.1},
    "timeout_not_executed": {"hold_s": 0.1},
    "lost": {"hold_s": 0.1},
    "worse": {"hold_s": 0.1},
    "forgets": {"accept_async": 1},
    "webhook_lost": {"accept_async": 1},
    "webhook_duplicate": {"accept_async": 1},
    "webhook_new_id": {"accept_async": 1},
    "webhook_late": {"accept_async": 1},
}
PAIRS = [
    (name, knob) for name, wire in WIRES.items() for knob in RATES if knob not in wire.terms.without
]


def settings(desk_name: str, knob: str, rate: float) -> dict[str, float]:
    """A knob's value and what it needs, as far as this provider has it."""
    wanted = {**NEEDS.get(knob, {}), knob: rate}
    return {k: v for k, v in wanted.items() if k not in WIRES[desk_name].terms.without}


async def busy(desk: Desk) -> dict[str, list[Answered]]:
    """Eight orders, each sent twice and asked about often, and time for all that follows."""
    answers: dict[str, list[Answered]] = {}

    async def one(key: str) -> None:
        for _ in range(2):
            answers.setdefault(key, []).append(await desk.pay(key))
            for _ in range(4):
                await asyncio.sleep(0.05)
                await desk.inquire(key)
        for _ in range(8):
            await asyncio.sleep(0.5)
            await desk.inquire(key)

    await asyncio.gather(*[one(desk.key(number)) for number in range(8)])
    await asyncio.sleep(30)
    return answers


@pytest.mark.parametrize(("name", "knob"), PAIRS)
def test_fires_at_one_and_never_at_nought(name: str, knob: str) -> None:
    """Its count says so, and no other knob's that is at nought."""

    async def fired(rate: float) -> dict[str, int]:
        async with Desk(name, settings(name, knob, rate)) as desk:
            await busy(desk)
            return dict(desk.provider.fired())

    never, always = run(fired(0)), run(fired(1))

    assert never.get(knob, 0) == 0
    assert always[knob] >= (5 if knob == "repeat_declined" else 8)
    turned = {*settings(name, knob, 1), "late_s"}
    assert set(always) <= turned


@pytest.mark.parametrize(("name", "knob"), PAIRS)
def test_the_window_is_obeyed_by_all_but_worse(name: str, knob: str) -> None:
    """F11: nothing is executed later than the window after it came in; `worse` always is."""

    async def scenario() -> list[int]:
        async with Desk(name, settings(name, knob, 1)) as desk:
            began = desk.loop.now_ms()
            await busy(desk)
            lines = desk.provider.statement()
            return [line.booked_at - began for line in lines if line.kind == "debit"]

    executed = run(scenario())

    window_ms = int(1000 * WIRES[name].terms.window_s)
    resent_ms = 1500 if knob in {"lost", "error_not_executed"} else 0
    if knob == "worse":
        assert all(window_ms < late for late in executed)
    else:
        assert all(late <= window_ms + resent_ms for late in executed)
    nothing = {"decline", "decline_later", "insufficient_funds", "timeout_not_executed"}
    nothing |= {"lost", "error_not_executed", "stuck", "credentials"}
    assert bool(executed) == (knob not in nothing)


def test_every_fate_is_a_knob() -> None:
    """A name that is none would be an error at the first order."""
    assert set(FATES) <= set(RATES)


@both
def test_a_lost_order_may_get_through_later(name: str) -> None:
    """F9 F10: lost is an arrival, not a key; it is executed once however often it was sent."""

    async def scenario() -> tuple[int, int]:
        async with Desk(name, {"lost": 0.5, "hold_s": 0.01}) as desk:
            silences = 0
            for number in range(20):
                while (await desk.pay(desk.key(number))).cut:
                    silences += 1
            await asyncio.sleep(5)
            return silences, len([x for x in desk.provider.statement() if x.kind == "debit"])

    silences, debits = run(scenario())

    assert silences > 5
    assert debits == 20


@both
@pytest.mark.parametrize("knob", ["error_executed", "error_not_executed"])
def test_errors(name: str, knob: str) -> None:
    """F14: a 5xx says nothing about what was done."""

    async def scenario() -> None:
        async with Desk(name, {knob: 1}) as desk:
            statuses = set()
            for number in range(12):
                statuses.add((await desk.pay(desk.key(number))).status)
            await asyncio.sleep(5)
            desk.provider.knobs = Desk(name).provider.knobs
            for number in range(12):
                key = desk.key(number)
                executed = len(desk.provider.truth(key).debits)
                assert executed == (knob == "error_executed")
                assert (await desk.inquire(key)).status == (200 if executed else 404)
                assert (await desk.pay(key)).status in {200, 201, 202}
            assert statuses <= {500, 502, 503, 504}
            assert len(statuses) > 1

    run(scenario())


@both
def test_half_an_answer(name: str) -> None:
    """F14: cut in the middle of the body; and whole, but with half of the JSON."""

    async def scenario() -> None:
        async with Desk(name, {"reset": 1}) as desk:
            reset = await desk.pay(desk.key(1))
            assert reset.cut
            assert reset.status in {201, 202}
            assert 0 < len(reset.body) < int(reset.headers["content-length"])
        async with Desk(name, {"truncated": 1}) as desk:
            cut = await desk.pay(desk.key(1))
            assert not cut.cut
            assert len(cut.body) == int(cut.headers["content-length"])
            with pytest.raises(ValueError, match=r"delimiter|Unterminated|value"):
                _ = cut.json

    run(scenario())


@both
def test_slow(name: str) -> None:
    """The answer takes longer; a repeated one too."""

    async def scenario() -> None:
        async with Desk(name, {"slow": 1, "slow_s": 1.5}) as desk:
            for _ in range(2):
                assert 1.4 < (await desk.pay(desk.key(1))).took_s < 1.7

    run(scenario())


@both
@pytest.mark.parametrize("knob", ["wrong_amount", "wrong_currency"])
def test_another_amount_or_currency(name: str, knob: str) -> None:
    """F18: what is executed is what is told, and not what was ordered."""
    unit = {"bank": "currency", "offramp": "asset"}[name]

    async def scenario() -> None:
        async with Desk(name, {knob: 1}) as desk:
            for number in range(12):
                key = desk.key(number)
                told = (await desk.pay(key)).json
                await asyncio.sleep(1)
                (debit,) = desk.provider.truth(key).debits
                assert told | {"status": "", "sequence": 2} == (
                    (await desk.inquire(key)).json | {"status": "", "sequence": 2}
                )
                assert told[unit] == debit.currency
                if knob == "wrong_amount":
                    amounts.add(debit.amount)
                    assert str(debit.amount) in str(told["amount"]).replace(".", "")
                else:
                    assert debit.currency == {"bank": "USD", "offramp": "USDT"}[name]

    amounts: set[int] = set()
    run(scenario())
    if knob == "wrong_amount":
        assert 12345 not in amounts
        assert min(amounts) < 12345 < max(amounts)


@both
def test_stuck(name: str) -> None:
    """F9: taken, and never heard of again."""
    pending = {"bank": "pending", "offramp": "processing"}[name]

    async def scenario() -> None:
        async with Desk(name, {"stuck": 1, "accept_async": 0}) as desk:
            key = desk.key(1)
            assert (await desk.pay(key)).status in {201, 202}
            await asyncio.sleep(100_000)
            assert (await desk.inquire(key)).json["status"] == pending
            truth = desk.provider.truth(key)
            assert (truth.known, truth.stuck, truth.debits) == (True, True, ())

    run(scenario())


@both
def test_expired_credentials(name: str) -> None:
    """F90: every request is refused, nothing is taken; afterwards all goes as ever."""

    async def scenario() -> None:
        async with Desk(name, {"credentials": 1}) as desk:
            key = desk.key(1)
            for answered in (await desk.pay(key), await desk.inquire(key)):
                assert (answered.status, answered.json["code"]) == (401, "unauthorized")
            await asyncio.sleep(10)
            truth = desk.provider.truth(key)
            assert (truth.known, truth.stuck, truth.debits) == (False, False, ())
            desk.provider.knobs = Desk(name).provider.knobs
            assert (await desk.pay(key)).status in {201, 202}
            await asyncio.sleep(10)
            assert desk.provider.truth(key).known
            assert len(desk.provider.truth(key).debits) == 1

    run(scenario())


@both
def test_executed_twice(name: str) -> None:
    """F17: two references on the statement; inquiry tells the second, webhooks both."""
    reference = {"bank": "transfer_id", "offramp": "payout_id"}[name]

    async def scenario() -> None:
        async with Desk(name, {"double": 1}) as desk:
            key = desk.key(1)
            first = (await desk.pay(key)).json[reference]
            await asyncio.sleep(6)
            one, two = desk.provider.truth(key).debits
            assert (one.reference, one.amount) == (first, two.amount)
            assert two.reference != first
            assert (await desk.inquire(key)).json[reference] == two.reference
            told = [e for e in desk.events(key) if e["type"].endswith(("settled", "completed"))]
            assert [e["data"][reference] for e in told] == [one.reference, two.reference]

    run(scenario())


@both
def test_failed_then_paid(name: str) -> None:
    """F25: told as failed, by webhook and by inquiry, and executed after all."""
    failed, paid = {"bank": ("rejected", "executed"), "offramp": ("failed", "completed")}[name]

    async def scenario() -> None:
        async with Desk(name, {"flip": 1, "webhook_lost": 1}) as desk:
            key = desk.key(2)
            await desk.pay(key)
            seen = []
            for _ in range(100):
                await asyncio.sleep(0.05)
                status = (await desk.inquire(key)).json["status"]
                if status not in seen:
                    seen.append(status)
            assert seen[-2:] == [failed, paid]
            assert len(desk.provider.truth(key).debits) == 1
            assert desk.events(key)[-1]["type"].endswith(("settled", "completed"))

    run(scenario())


def test_paid_then_failed() -> None:
    """F26: the off-ramp takes a completed payout back; the sequence tells which came last."""

    async def scenario() -> None:
        async with Desk("offramp", {"undo": 1}) as desk:
            key = desk.key(1)
            await desk.pay(key)
            await asyncio.sleep(5)
            told = [(e["type"], e["sequence"]) for e in desk.events(key)]
            assert told == [
                ("payout.processing", 1),
                ("payout.completed", 2),
                ("payout.failed", 3),
            ]
            now = (await desk.inquire(key)).json
            assert (now["status"], now["sequence"]) == ("failed", 3)
            truth = desk.provider.truth(key)
            assert [line.amount for line in truth.debits + truth.returns] == [12345, 12345]

    run(scenario())


@both
def test_a_return_in_two_parts(name: str) -> None:
    """F80: two returns with ids of their own that add up; never lost."""
    id_ = {"bank": "return_id", "offramp": "refund_id"}[name]

    async def scenario() -> None:
        knobs = {"return_rate": 1, "return_parts": 1, "webhook_lost": 1}
        async with Desk(name, knobs) as desk:
            key = desk.key(1)
            await desk.pay(key)
            await asyncio.sleep(5)
            truth = desk.provider.truth(key)
            assert sum(line.amount for line in truth.returns) == 12345
            told = [e["data"] for e in desk.events(key)]
            amounts = [int(str(data["amount"]).replace(".", "")) for data in told]
            assert amounts == [line.amount for line in truth.returns]
            assert len({data[id_] for data in told}) == 2
            assert (await desk.inquire(key)).json[id_] == told[-1][id_]

    run(scenario())


@both
def test_a_stale_answer(name: str) -> None:
    """Inquiry lags behind what was already told by webhook, and comes round."""

    async def scenario() -> None:
        async with Desk(name, settings(name, "stale", 1) | {"stale_s": 5}) as desk:
            lags = 0
            for number in range(8):
                key = desk.key(number)
                await desk.pay(key)
                await asyncio.sleep(0.2)
                status = (await desk.inquire(key)).json["status"]
                lags += status in {"pending", "processing"}
                assert len(desk.provider.truth(key).debits) == 1
                await asyncio.sleep(12)
                status = (await desk.inquire(key)).json["status"]
                assert status in {"returned", "refunded"}
            assert lags > 4

    run(scenario())


@both
@pytest.mark.parametrize("knob", ["not_found", "late"])
def test_not_found_while_in_flight(name: str, knob: str) -> None:
    """F13: unknown to inquiry, though it is or will be executed; the same key knows it."""

    async def scenario() -> None:
        async with Desk(name, {knob: 1, "not_found_s": 60}) as desk:
            for number in range(6):
                key = desk.key(number)
                assert (await desk.pay(key)).status in {201, 202}
                began = desk.loop.now_ms()
                assert (await desk.inquire(key)).status == 404
                assert (await desk.pay(key)).status == 200
                while (await desk.inquire(key)).status == 404:  # noqa: ASYNC110 - it is asked
                    await asyncio.sleep(0.01)
                if knob == "late":
                    (debit,) = desk.provider.truth(key).debits
                    assert abs(debit.booked_at - desk.loop.now_ms()) < 20
                if knob == "late" or name == "bank":
                    assert desk.loop.now_ms() - began <= desk.window_ms + 10

    run(scenario())


@both
def test_worse_than_documented(name: str) -> None:
    """F11: no answer, not found, resent in vain; executed when nobody expects it."""

    async def scenario() -> None:
        async with Desk(name, {"worse": 1, "worse_s": 5, "hold_s": 0.01}) as desk:
            key = desk.key(3)
            assert (await desk.pay(key)).cut
            await asyncio.sleep(desk.window_ms / 1000)
            assert (await desk.pay(key)).cut
            assert (await desk.inquire(key)).status == 404
            await asyncio.sleep(6)
            assert len(desk.provider.truth(key).debits) == 1
            assert (await desk.inquire(key)).status == 200

    run(scenario())


@both
def test_a_repeated_order_is_declined_in_flight(name: str) -> None:
    """F12: the answer to the second says no, and the first is executed."""

    async def scenario() -> None:
        async with Desk(name, settings(name, "repeat_declined", 1)) as desk:
            codes = set()
            for number in range(10):
                key = desk.key(number)
                assert (await desk.pay(key)).cut
                again = await desk.pay(key)
                if again.status == 422:
                    codes.add(again.json["code"])
                    assert desk.provider.truth(key).debits == ()
                await asyncio.sleep(5)
                assert len(desk.provider.truth(key).debits) == 1
                assert (await desk.pay(key)).status == 200
            assert codes & {WIRES[name].terms.short_code}
            assert codes - {WIRES[name].terms.short_code}

    run(scenario())


@both
def test_inquiry_errors(name: str) -> None:
    """F14: unreadable in each way, and readable again when the knob is off."""

    async def scenario() -> None:
        async with Desk(name, {"inquiry_error": 1}) as desk:
            key = desk.key(1)
            await desk.pay(key)
            ways: set[Any] = set()
            for _ in range(20):
                inquired = await desk.inquire(key)
                ways.add((inquired.status, inquired.cut))
            assert ways == {(503, False), (200, True), (200, False)}
            desk.provider.knobs = Desk(name).provider.knobs
            assert (await desk.inquire(key)).json

    run(scenario())
