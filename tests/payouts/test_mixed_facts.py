"""Any set of facts about one attempt or two, told twice in different ways: the end is the same."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import msgspec
from hypothesis import event as seen
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.ledger.model import AccountRole
from bursar.payouts.errors import NotDue
from bursar.payouts.model import ATTEMPTS
from bursar.rails.outcomes import (
    Accepted,
    NotExecuted,
    Outcome,
    StatusRejected,
    StatusReturned,
    Unknown,
)
from bursar.rails.port import EventKind, ProviderEvent
from tests.engine.wiring import Twin, begin, create, fund, reply
from tests.payouts.wiring import (
    NOT_SENT,
    asked,
    attempt,
    check_books,
    check_payouts,
    deliver,
    event,
    incidents,
    net,
    payout,
    take_over,
)

AMOUNT, FEE, COST = 100, 2, 3
OTHER = 60
RETRY_S = 1000.0
"""So long that no third attempt is due while facts are told."""

Pair = tuple[list[ProviderEvent], list[ProviderEvent]]


@dataclass
class Digest:
    """What must not depend on order or number: states and money."""

    payout: str
    attempts: dict[str, str]
    returned: int
    net: int
    fees: int
    costs: int
    pending: int
    clearing: int


def facts_about(name: str, *, code: str, ordered: bool) -> st.SearchStrategy[list[ProviderEvent]]:
    """Some of all that can be told of an attempt; numbered in any order if `ordered`.

    Another amount than asked for is among it (F18).
    """
    every = [
        event(f"{name}_accepted", "accepted", name, cost=COST),
        event(f"{name}_paid", "paid", name, cost=COST),
        event(f"{name}_failed", "failed", name, code=code),
        event(f"{name}_other", "paid", name, amount=OTHER, cost=COST),
        *(
            event(
                f"{name}_back_{part}",
                "returned",
                name,
                amount=part,
                cost=COST,
                return_id=f"rt_{part}",
            )
            for part in (30, 70, 90)
        ),
    ]
    if ordered:
        # A flip and back again: only the provider's numbers can tell it apart.
        every.append(event(f"{name}_paid_again", "paid", name, cost=COST))

    def number(some: list[ProviderEvent], numbers: list[int]) -> list[ProviderEvent]:
        numbered = zip(some, numbers, strict=False)
        return [msgspec.structs.replace(one, sequence=at) for one, at in numbered]

    some = st.lists(st.sampled_from(every), unique_by=lambda one: one.event_id, max_size=6)
    if not ordered:
        return some
    return st.builds(number, some, st.permutations(range(1, 8)))


@st.composite
def told_twice(draw: st.DrawFn, *names: str, ordered: bool) -> Pair:
    """The same facts in two orders, each with repetitions under old and new event ids."""
    code = draw(st.sampled_from(["AC04", "AM04"]))
    facts = [one for name in names for one in draw(facts_about(name, code=code, ordered=ordered))]
    return _retold(draw, facts), _retold(draw, facts)


def _retold(draw: st.DrawFn, facts: list[ProviderEvent]) -> list[ProviderEvent]:
    if not facts:
        return []
    more = draw(st.lists(st.sampled_from(facts), max_size=4))
    renamed = [
        msgspec.structs.replace(one, event_id=f"again_{number}") for number, one in enumerate(more)
    ]
    return draw(st.permutations([*facts, *renamed]))


def tell(facts: list[ProviderEvent], setting: tuple[Outcome | None, ...], pause: float) -> Twin:
    """Set the stage, wait, tell all facts, and then ask until nothing is open.

    The provider's last word fits the facts: what was never paid, it rejects; of what came back it
    tells how much had left.
    """
    twin = Twin()
    twin.do(fund(1000))
    twin.do(create("p", AMOUNT, fee=FEE))
    names = "ab"[: len(setting)]
    for name, said in zip(names, setting, strict=True):
        twin.do(begin("p", name, token=f"ls_{name}"))
        if said is not None:
            retry_s = RETRY_S if name == names[-1] else 0
            twin.do(reply(name, said, token=f"ls_{name}", retry_s=retry_s))
    twin.clock.advance(pause)
    for fact in facts:
        seen(f"{fact.kind}: {deliver(twin, fact)}")
        check_payouts(twin)
    twin.clock.advance(10)
    last = names[-1]
    if attempt(twin, last).state == "sending":
        twin.do(take_over(last))
        twin.clock.advance(10)
    if attempt(twin, last).state in {"unknown", "accepted"}:
        codes = [fact.code for fact in facts if fact.kind == EventKind.FAILED]
        twin.do(asked(twin, last, StatusRejected((codes or ["AC04"])[0] or "", "closed")))
    for name in names:
        told = [fact for fact in facts if fact.provider_key == name]
        if settles(told) and attempt(twin, name).state not in {"paid", "returned"}:
            twin.do(asked(twin, name, said_of_return(AMOUNT)))
        elif attempt(twin, name).frozen_at is not None:
            with suppress(NotDue):
                twin.do(asked(twin, name, said_of_return(OTHER)))
    check_books(twin)
    check_payouts(twin)
    return twin


def settles(told: list[ProviderEvent]) -> bool:
    """Whether what was told of one attempt comes down to a payment of what was asked for."""
    paid = {fact.amount_minor for fact in told if fact.kind == EventKind.PAID}
    back = any(fact.kind == EventKind.RETURNED for fact in told)
    return AMOUNT in paid or (back and OTHER not in paid)


def said_of_return(amount: int) -> StatusReturned:
    """The provider's answer about what came back in part."""
    return StatusReturned(
        provider_ref="bt",
        amount_minor=amount,
        currency="EUR",
        returned_minor=30,
        code="AC06",
        reason="blocked",
        cost_minor=COST,
        return_id="rt_30",
    )


def digest(twin: Twin) -> Digest:
    """How it all stands."""
    row = payout(twin)
    return Digest(
        payout=row.state,
        attempts={one.id: one.state for one in twin.rows(ATTEMPTS)},
        returned=row.amount_returned,
        net=net(twin),
        fees=twin.account(AccountRole.FEES).balance,
        costs=twin.account(AccountRole.COSTS).balance,
        pending=twin.account(AccountRole.AVAILABLE).debits_pending,
        clearing=twin.account(AccountRole.PROVIDER_CLEARING).balance,
    )


DECLINED = NotExecuted(code="AC04", reason="closed", retryable=False, sent=True)
BEFORE = st.sampled_from([None, Accepted("bt"), Unknown("timeout"), NOT_SENT, DECLINED])
"""What the worker had said before the provider spoke; None: it is silent."""
PAUSES = st.sampled_from([0.0, 11.0])


@settings(max_examples=300, deadline=None)
@given(told_twice("a", ordered=False), BEFORE, PAUSES)
def test_one_attempt(pair: Pair, before: Outcome | None, pause: float) -> None:
    """F21-F26, F79, F80, I24: without order; even what people are told is the same."""
    first, second = (tell(facts, (before,), pause) for facts in pair)
    assert digest(first) == digest(second)
    assert set(incidents(first)) == set(incidents(second))


@settings(max_examples=400, deadline=None)
@given(told_twice("a", ordered=True), BEFORE, PAUSES)
def test_one_attempt_in_the_providers_order(
    pair: Pair, before: Outcome | None, pause: float
) -> None:
    """F25, F26, I24: numbers decide, not arrival."""
    first, second = (tell(facts, (before,), pause) for facts in pair)
    assert digest(first) == digest(second)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), before=BEFORE, pause=PAUSES, ordered=st.booleans())
def test_two_attempts(
    data: st.DataObject, before: Outcome | None, pause: float, *, ordered: bool
) -> None:
    """F25, F79, F80, I8, I24: paid twice, returned in part, late and early."""
    pair = data.draw(told_twice("a", "b", ordered=ordered))
    first, second = (tell(facts, (NOT_SENT, before), pause) for facts in pair)
    assert digest(first) == digest(second)
    paid = [
        name for name in "ab" if settles([fact for fact in pair[0] if fact.provider_key == name])
    ]
    if paid:
        still_open = {"unknown", "accepted"} & {*digest(first).attempts.values()}
        assert still_open or digest(first).payout in {"settled", "returned"}
    else:
        # Whatever else was told to have left or come back: not a cent is booked as asked (F18).
        assert (digest(first).clearing, digest(first).costs) == (0, 0)
