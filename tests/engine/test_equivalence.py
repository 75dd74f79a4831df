"""A group is worth its commands one by one, in the order in which they were decided.

Hypothesis draws commands that meddle with each other (the same keys, references, payouts,
attempts, events and balances) and how they fall into groups. All answers and all rows must be
those of running each alone; only generated ids, hashes and the links' boundaries may differ.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bursar.bootstrap import QUERIES
from bursar.db.pool import open_pool
from bursar.engine.group import Done, Failed
from bursar.engine.model import IDEMPOTENCY_KEYS, JOURNAL, Command
from bursar.engine.postgres import PostgresStore
from bursar.incidents.model import INCIDENTS
from bursar.kit.problem import problem_bytes
from bursar.ledger.model import ACCOUNTS, HOLDS, TRANSFERS
from bursar.payouts.attempts import ExpireLease, RecordInquiry
from bursar.payouts.commands import CreatePayout
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.model import ATTEMPTS, FACTS, INBOX, PAYOUTS, PROVIDER_KEYS, REFERENCES
from bursar.rails.outcomes import Accepted, Executed, NotExecuted, Outcome, Unknown
from bursar.rails.port import EventKind, ProviderEvent
from tests.conftest import new_database, run_blocking
from tests.engine.wiring import (
    ORIGIN,
    OTHER,
    SHOP,
    Twin,
    asked,
    begin,
    cancel,
    create,
    fund,
    new_merchant,
    reply,
)

TABLES = (
    *(JOURNAL, TRANSFERS, PAYOUTS, ATTEMPTS, ACCOUNTS, HOLDS, FACTS, REFERENCES),
    *(PROVIDER_KEYS, INBOX, INCIDENTS, IDEMPOTENCY_KEYS),
)
NAMES = ("a", "b", "c")
_MADE = re.compile(r"(hd|tr|fd|inc)_[0-9a-f]{32}")
OUTCOMES: tuple[Outcome, ...] = (
    Executed(provider_ref="bt", amount_minor=30, currency="EUR", cost_minor=1),
    Accepted("bt"),
    NotExecuted(code="AC04", reason="closed", retryable=False, sent=True),
    NotExecuted(code="not_sent", reason="refused", retryable=True, sent=False),
    Unknown("timeout"),
)

names = st.sampled_from(NAMES)
attempts = st.builds("{}{}".format, names, st.sampled_from("12"))
requests = st.none() | st.builds(asked, st.sampled_from("kl"), st.sampled_from(["", "other"]))
outcomes = st.sampled_from(OUTCOMES)


def _event(number: int, kind: EventKind, attempt: str) -> ProviderEvent:
    return ProviderEvent(
        event_id=f"evt_{number}",
        kind=kind,
        provider_key=attempt,
        provider_ref="bt",
        amount_minor=30,
        currency="EUR",
        cost_minor=1,
        code="AC04",
        reason="closed",
        return_id=f"rt_{number}",
    )


events = st.builds(_event, st.integers(1, 4), st.sampled_from(EventKind), attempts)
commands: st.SearchStrategy[Command[Any]] = st.one_of(
    st.builds(fund, st.integers(1, 60), st.just("EUR"), merchant=st.sampled_from([SHOP, OTHER])),
    st.builds(
        create,
        names,
        st.just(30),
        fee=st.integers(0, 1),
        reference=st.sampled_from("rst"),
        request=requests,
        merchant=st.sampled_from([SHOP, SHOP, OTHER]),
    ).map(lambda made: msgspec.structs.replace(made, request=_in_scope(made))),
    st.builds(cancel, names, request=requests),
    st.builds(
        lambda attempt: begin(attempt[0], attempt, token=f"ls_{attempt}", lease_s=2), attempts
    ),
    st.builds(
        lambda attempt, said: reply(attempt, said, token=f"ls_{attempt}"), attempts, outcomes
    ),
    st.builds(
        lambda attempt, said, count: RecordInquiry(
            origin=ORIGIN,
            attempt_id=f"pa_{attempt}",
            asked_at_inquiry=count,
            outcome=said,
            retry_delay=timedelta(0),
        ),
        attempts,
        outcomes,
        st.integers(0, 1),
    ),
    st.builds(lambda attempt: ExpireLease(origin=ORIGIN, attempt_id=f"pa_{attempt}"), attempts),
    st.builds(
        lambda number: ReceiveEvent(
            origin=ORIGIN, provider="bank", event_id=f"evt_{number}", body="{}"
        ),
        st.integers(1, 4),
    ),
    st.builds(
        lambda said: ApplyEvent(
            origin=ORIGIN, provider="bank", event=said, retry_delay=timedelta(0)
        ),
        events,
    ),
)


def _in_scope(made: Any) -> Any:
    if made.request is None:
        return None
    return msgspec.structs.replace(made.request, merchant_id=made.merchant_id)


def _story(attempt: str, said: Outcome, told: list[EventKind], number: int) -> list[Command[Any]]:
    """One payout from its creation to what the provider tells, some of it twice."""
    story: list[Command[Any]] = [
        create(attempt[0], 30, reference=attempt[0]),
        begin(attempt[0], attempt, token=f"ls_{attempt}", lease_s=2),
        reply(attempt, said, token=f"ls_{attempt}"),
    ]
    for place, kind in enumerate(told):
        said_so = _event(number + place, kind, attempt)
        story.append(
            ReceiveEvent(origin=ORIGIN, provider="bank", event_id=said_so.event_id, body="{}")
        )
        story.append(
            ApplyEvent(origin=ORIGIN, provider="bank", event=said_so, retry_delay=timedelta(0))
        )
    return story


scripts = st.one_of(
    commands.map(lambda command: [command]),
    st.builds(
        _story,
        attempts,
        outcomes,
        st.lists(st.sampled_from(EventKind), max_size=3),
        st.integers(1, 4),
    ),
)
pieces = st.lists(scripts, min_size=1, max_size=6).map(
    lambda drawn: [command for script in drawn for command in script]
)
batches = st.lists(
    st.tuples(pieces, st.sampled_from([0.0, 1.0, 6.0])),
    min_size=1,
    max_size=6,
)
"""Groups, and how many seconds pass after each."""
OPENING: list[Command[Any]] = [new_merchant(SHOP, "EUR"), new_merchant(OTHER, "EUR"), fund(100)]


class _Names:
    """Gives generated ids names by first appearance, so that two runs can be compared."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def plain(self, text: str) -> str:
        return _MADE.sub(
            lambda found: self._known.setdefault(found[0], f"{found[1]}#{len(self._known)}"), text
        )


def _answer(verdict: Done | Failed) -> str:
    if isinstance(verdict, Failed):
        return problem_bytes(verdict.error).decode()
    return repr(verdict.value)


def _text(row: Any) -> str:
    return repr({name: _plain_value(value) for name, value in msgspec.structs.asdict(row).items()})


def _plain_value(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value  # a state may be an enum's member


async def _rows(runner: Twin) -> dict[str, list[str]]:
    """Every row as text; what is listed first names the ids."""
    known = _Names()
    found: dict[str, list[str]] = {}
    for table in TABLES:
        rows = [known.plain(_text(row)) for row in await runner_rows(runner, table)]
        found[table.name] = rows if table in (JOURNAL, TRANSFERS) else sorted(rows)
    return found


async def runner_rows(runner: Twin, table: Any) -> list[Any]:
    """All rows of a table, in key order, from memory or from Postgres."""
    if isinstance(runner.store, PostgresStore):
        records = await runner.store._pool.fetch(
            f"SELECT {', '.join(table.columns)} FROM {table.name}"
        )
        rows = [table.load(*record) for record in records]
    else:
        rows = runner.rows(table)
    return sorted(rows, key=table.key_of)


Batches = Sequence[tuple[Sequence[Command[Any]], float]]


async def _grouped(runner: Twin, drawn: Batches) -> list[tuple[list[str], list[Command[Any]]]]:
    """Run each batch as a group: the answers in the order decided, and that order."""
    story = []
    for batch, pause in drawn:
        runner.decided.clear()
        verdicts = await runner.run(batch)
        answers = {id(command): verdict for command, verdict in zip(batch, verdicts, strict=True)}
        story.append(
            ([_answer(answers[id(command)]) for command in runner.decided], list(runner.decided))
        )
        runner.clock.advance(pause)
    return story


async def _one_by_one(
    runner: Twin, orders: Sequence[Sequence[Command[Any]]], drawn: Batches
) -> Any:
    story = []
    for order, (_, pause) in zip(orders, drawn, strict=True):
        answers = [_answer((await runner.run([command]))[0]) for command in order]
        story.append((answers, list(order)))
        runner.clock.advance(pause)
    return story


def _distinct(drawn: Batches) -> Batches:
    """The same, with no command object and no payout id twice: ids are never handed out twice."""
    counts: dict[str, int] = {}

    def one(command: Any) -> Any:
        if not isinstance(command, CreatePayout):
            return msgspec.structs.replace(command)
        count = counts[command.payout_id] = counts.get(command.payout_id, 0) + 1
        fresh = command.payout_id if count == 1 else f"{command.payout_id}{count}"
        return msgspec.structs.replace(command, payout_id=fresh)

    return [(list(map(one, batch)), pause) for batch, pause in drawn]


async def _compare(together: Twin, alone: Twin, drawn: Batches) -> None:
    drawn = [([*OPENING], 0.0), *_distinct(drawn)]
    grouped = await _grouped(together, drawn)
    single = await _one_by_one(alone, [order for _, order in grouped], drawn)
    left, right = _Names(), _Names()
    for (answers, order), (expected, _) in zip(grouped, single, strict=True):
        for got, wanted, command in zip(answers, expected, order, strict=True):
            assert left.plain(got) == right.plain(wanted), command
    assert await _rows(together) == await _rows(alone)


@settings(max_examples=300, deadline=None)
@given(batches)
def test_a_group_equals_its_commands_one_by_one(drawn: Batches) -> None:
    """F8, F41: on the twin."""
    asyncio.run(_compare(Twin(merchants=()), Twin(merchants=()), drawn))


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches)
def test_on_postgres_a_group_equals_its_commands_one_by_one_in_memory(
    postgres: Any, drawn: Batches
) -> None:
    """The twin and Postgres agree row by row, so what is proven on one holds on the other."""

    async def compare() -> None:
        pool = await open_pool(database.dsns.owner, size=1, name="tests")
        try:
            store = PostgresStore(pool, QUERIES)
            await _compare(Twin(store=store), Twin(merchants=()), drawn)
        finally:
            await pool.close()

    database = new_database(postgres)
    run_blocking(compare())


@pytest.mark.parametrize("received_first", [True, False])
def test_an_event_received_and_applied_in_one_group(*, received_first: bool) -> None:
    """F6, F24: a row that one command claims is no row yet for those before it."""
    receive = ReceiveEvent(origin=ORIGIN, provider="bank", event_id="evt_1", body="{}")
    applied = ApplyEvent(
        origin=ORIGIN,
        provider="bank",
        event=_event(1, EventKind.PAID, "a1"),
        retry_delay=timedelta(0),
    )
    batch: list[Command[Any]] = [receive, applied] if received_first else [applied, receive]
    asyncio.run(_compare(Twin(merchants=()), Twin(merchants=()), [(batch, 0.0)]))
