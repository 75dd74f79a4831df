"""The bank's decisions as tables: no process, no clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_sim.bank.terms import TERMS
from bursar_sim.provider.fates import decide, iban_is_valid
from bursar_sim.provider.knobs import KnobInvalid, Knobs, parse_settings, turned
from bursar_sim.provider.model import (
    Booking,
    Fault,
    KeyReused,
    Lost,
    Order,
    Reply,
    Status,
    Step,
    Transfer,
    Verdict,
)
from bursar_sim.provider.rules import Rules
from bursar_sim.provider.steps import advance

CALM = Knobs(accept_async=0, decline=0)
KEYS = st.from_regex(r"[A-Za-z0-9-]{1,35}", fullmatch=True)


def order_of(key: str, *, amount: int = 500, currency: str = "EUR") -> Order:
    """An order whose fingerprint is its meaning."""
    meaning = f"{amount} {currency}"
    return Order(key, amount, currency, "DE89370400440532013000", meaning, None)


def judged(order: Order, knobs: Knobs, *, seed: int = 1, known: Transfer | None = None) -> Verdict:
    """What the bank makes of an order at second 1."""
    return decide(order, known, Rules(TERMS, knobs, seed), now_ms=1000)


def booked(order: Order, knobs: Knobs, *, seed: int = 1) -> Booking:
    """A new order's booking."""
    booking = judged(order, knobs, seed=seed).booking
    assert booking is not None
    return booking


@pytest.mark.parametrize(
    ("changes", "answer", "status", "step"),
    [
        ({}, "executed", Status.EXECUTED, None),
        ({"accept_async": 1}, "accepted", Status.PENDING, Step.EXECUTE),
        ({"decline": 1}, "rejected", Status.REJECTED, None),
        ({"decline_later": 1}, "accepted", Status.PENDING, Step.REJECT),
        ({"insufficient_funds": 1}, "rejected", Status.REJECTED, None),
        ({"timeout_executed": 1}, "executed", Status.EXECUTED, None),
        ({"timeout_executed": 1, "late_s": 1}, "accepted", Status.PENDING, Step.EXECUTE),
        ({"return_rate": 1}, "executed", Status.EXECUTED, Step.RETURN),
    ],
)
def test_each_fate(
    changes: dict[str, object], answer: str, status: Status, step: Step | None
) -> None:
    """F9 F79: a knob at 1 gives its fate to every order."""
    verdict = judged(order_of("pa-1"), turned(CALM, changes))
    booking, reply = verdict.booking, verdict.decision
    assert booking is not None
    assert isinstance(reply, Reply)
    transfer = booking.transfer

    assert (answer, status) == (transfer.answer, transfer.status)
    assert ([] if step is None else [step]) == [planned.step for planned in transfer.plan]
    assert ("timeout_executed" in changes) == (reply.fault is Fault.SILENCE)
    debits = [line.kind for line in booking.lines]
    assert (["debit", "cost"] if status is Status.EXECUTED else []) == debits


def test_a_lost_order_leaves_nothing() -> None:
    """F10: lost on the way, and lost again with the same key."""
    knobs = turned(CALM, {"timeout_not_executed": 1})

    assert judged(order_of("pa-1"), knobs) == Verdict(Lost(), fired=("timeout_not_executed",))


@given(KEYS, st.integers(-(2**63), 2**63 - 1))
def test_the_same_key_gives_the_same_transfer(key: str, seed: int) -> None:
    """F12 F40: the answer of a key is remembered whatever the knobs; another order is refused."""
    first = booked(order_of(key), Knobs(), seed=seed).transfer
    hostile = turned(CALM, {"timeout_not_executed": 1})

    again = judged(order_of(key), hostile, seed=seed, known=first)
    other = judged(order_of(key, amount=501), hostile, seed=seed, known=first)

    assert again == Verdict(Reply(first, new=False))
    assert other == Verdict(KeyReused())


@given(KEYS, st.floats(0, 1), st.floats(0, 1), st.floats(0, 3), st.floats(0, 3))
def test_money_moves_at_most_once_and_never_after_the_window(
    key: str, timeout: float, returned: float, late_s: float, settle_s: float
) -> None:
    """F11 F80: execution within 3 s of the order, one debit, and no more back than went out."""
    knobs = turned(
        CALM,
        {
            "accept_async": 0.5,
            "timeout_executed": timeout,
            "return_rate": returned,
            "late_s": late_s,
            "settle_delay_s": settle_s,
        },
    )
    booking = booked(order_of(key), knobs)
    lines = list(booking.lines)
    transfer: Transfer = booking.transfer
    while transfer.plan:
        booking = advance(transfer, Rules(TERMS, knobs, 1))
        transfer = booking.transfer
        lines += booking.lines

    kinds = [line.kind for line in lines]
    assert kinds in (["debit", "cost"], ["debit", "cost", "return"])
    assert {"debit": 500, "cost": TERMS.cost, "return": 500}.items() >= {
        (line.kind, line.amount) for line in lines
    }
    assert lines[0].booked_at <= 1000 + 3000


@given(KEYS)
def test_a_hidden_transfer_is_unknown_until_it_is_executed(key: str) -> None:
    """F13: "not found" while the money is still going to leave."""
    knobs = turned(CALM, {"timeout_executed": 1, "late_s": 3})
    transfer = booked(order_of(key), knobs).transfer

    (execution,) = transfer.plan
    assert execution.at_ms == 1000 or transfer.hidden(execution.at_ms - 1)
    assert not transfer.hidden(execution.at_ms)


def test_rates_come_true() -> None:
    """Each fate's share of 4,000 orders is its rate, give or take four standard deviations."""
    knobs = turned(Knobs(), {"decline": 0.2, "timeout": 0.2, "decline_later": 0.1})
    seen = {"lost": 0, "silent": 0, "rejected": 0, "later": 0, "accepted": 0, "executed": 0}
    for number in range(4000):
        decision = judged(order_of(f"pa-{number}"), knobs, seed=7).decision
        if isinstance(decision, Lost):
            seen["lost"] += 1
            continue
        assert isinstance(decision, Reply)
        plan = decision.transfer.plan
        if decision.fault is Fault.SILENCE:
            seen["silent"] += 1
        elif plan and plan[0].step is Step.REJECT:
            seen["later"] += 1
        else:
            seen[decision.transfer.answer] += 1

    expected = {
        "lost": 0.1,
        "silent": 0.1,
        "rejected": 0.2,
        "later": 0.1,
        "accepted": 0.5 * 0.8,
        "executed": 0.5 * 0.2,
    }
    for name, rate in expected.items():
        assert abs(seen[name] / 4000 - rate) < 4 * (rate * (1 - rate) / 4000) ** 0.5, name


@pytest.mark.parametrize(
    ("currency", "iban", "code"),
    [
        ("ZWL", "DE89370400440532013000", "AM03"),
        ("EUR", "DE88370400440532013000", "AC01"),
        ("EUR", "nonsense", "AC01"),
        ("EUR", "DE89٣70400440532013000", "AC01"),
    ],
)
def test_orders_that_no_bank_would_execute(currency: str, iban: str, code: str) -> None:
    """F77: a currency that is not served, and account numbers that are none."""
    order = replace(order_of("pa-1", currency=currency), account=iban)

    transfer = booked(order, CALM).transfer

    assert (code, Status.REJECTED, 0) == (transfer.code, transfer.status, transfer.cost)


@pytest.mark.parametrize(
    "iban", ["GB82WEST12345698765432", "FR1420041010050500013M02606", "NO9386011117947"]
)
def test_valid_ibans(iban: str) -> None:
    """The registry's own examples."""
    assert iban_is_valid(iban)


@pytest.mark.parametrize(
    "changes",
    [
        {"decline": 1.01},
        {"decline": -0.1},
        {"decline": True},
        {"decline": "0.1"},
        {"decline": float("nan")},
        {"decline": 10**400},
        {"timeout": None},
        {"timeout": 2},
        {"late_s": 3.5},
        {"settle_delay_s": 4},
        {"decline": 0.6, "timeout": 0.6},
        {"nonsense": 0.5},
        {"undo": 0.5},
    ],
)
def test_knobs_refuse_nonsense(changes: dict[str, object]) -> None:
    """A knob out of its range, of another type, or of another name."""
    with pytest.raises(KnobInvalid):
        turned(Knobs(), changes, TERMS)


def test_knobs_of_a_command_line() -> None:
    """`timeout` is split in halves."""
    knobs = parse_settings(["timeout=0.1", "decline=0"])

    assert (knobs.timeout_executed, knobs.timeout_not_executed, knobs.decline) == (0.05, 0.05, 0)
    for bad in ["decline", "decline=", "=1", "decline=x", "decline=nan"]:
        with pytest.raises(KnobInvalid):
            parse_settings([bad])
