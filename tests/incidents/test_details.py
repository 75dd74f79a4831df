"""An alert says in words what a person needs: providers, keys, references, amounts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bursar.incidents.model import INCIDENTS, Incident
from bursar.payouts.inbox import TRIES_MAX, ApplyEvent, DeferEvent
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import NotExecuted, StatusExecuted, Unknown
from bursar.rails.port import EventKind, ProviderEvent
from tests.engine.wiring import ORIGIN
from tests.incidents.test_debts import owing
from tests.payouts.story import AMOUNT, EXECUTED, UNKNOWN, Story, told


def the(story: Story, kind: str) -> Incident:
    """The one incident of a kind."""
    (found,) = [row for row in story.rows(INCIDENTS) if row.kind == kind]
    return found


def says(story: Story, kind: str, *facts: str) -> None:
    """Every fact stands in its detail, and nothing that names the payee's account."""
    detail = the(story, kind).detail
    assert [fact for fact in facts if fact not in detail] == [], detail
    assert story.payout().beneficiary_iban not in detail


def test_another_amount_by_an_event() -> None:
    """F18: asked, told, and under which reference."""
    story = Story()
    story.begin()
    story.hear(told(EventKind.PAID, amount=1761, currency="USD"))
    says(story, "amount_mismatch", f"asked {AMOUNT} EUR of bank", "1761 USD", "bt_1")
    incident = the(story, "amount_mismatch")
    assert (incident.amount, incident.currency) == (1761, "USD")


def test_another_amount_by_an_answer() -> None:
    """F18: an inquiry's and a reply's."""
    by_inquiry, by_reply = Story(), Story()
    by_inquiry.sent(UNKNOWN)
    by_inquiry.inquire(StatusExecuted(provider_ref="bt_1", amount_minor=1761, currency="EUR"))
    by_reply.sent(Unknown("amount_mismatch", 1761, "EUR"))
    for story in (by_inquiry, by_reply):
        says(story, "amount_mismatch", f"asked {AMOUNT} EUR", "1761 EUR", "minor units")
        assert the(story, "amount_mismatch").amount == 1761


def test_an_amount_that_can_not_be_told() -> None:
    """F18: then the alert has the amount that we asked."""
    story = Story()
    story.sent(Unknown("amount_mismatch", 0))
    says(story, "amount_mismatch", f"asked {AMOUNT} EUR", "can't be told")
    incident = the(story, "amount_mismatch")
    assert (incident.amount, incident.currency) == (AMOUNT, "EUR")


def test_two_references() -> None:
    """F17: both, and which one the books have."""
    story = Story()
    story.sent(EXECUTED)
    story.hear(told(EventKind.PAID, ref="bt_2"))
    key = story.attempt().provider_key
    says(story, "second_reference", f"the key {key} under bt_1, and also under bt_2", "first")


def test_paid_and_failed() -> None:
    """F26: the reference of one, the code of the other."""
    story = Story()
    story.sent(EXECUTED)
    story.hear(told(EventKind.FAILED))
    says(story, "paid_and_failed", "paid, under bt_1", "failed, with AC04")


def test_two_executions() -> None:
    """F25: both keys, so that a person can ask for each."""
    story = Story()
    story.sent(NotExecuted(code="busy", reason="busy", retryable=True, sent=True))
    story.begin("2")
    story.reply(EXECUTED, "2")
    story.hear(told(EventKind.PAID))
    keys = [attempt.provider_key for attempt in story.attempts()]
    says(story, "possible_double_execution", *keys, "paid")


def test_nothing_is_proven() -> None:
    """F16: which provider and key, and since when."""
    story = Story()
    story.sent(UNKNOWN)
    begun = story.attempt()
    story.clock.advance(CONTRACTS["bank"].key_lifetime_s + 60)
    story.record(UNKNOWN)
    says(
        story,
        "attempt_unproven",
        f"bank has not proven what became of the key {begun.provider_key}",
        f"since {begun.begun_at:%Y-%m-%d %H:%M:%S} UTC",
    )


def test_more_came_back_than_had_left() -> None:
    """F80: what was told, what of it is booked; `amount` is the rest."""
    story = Story()
    story.sent(EXECUTED)
    story.hear(
        told(EventKind.RETURNED, amount=AMOUNT - 40, item="rt_1"),
        told(EventKind.RETURNED, amount=60, item="rt_2"),
    )
    says(
        story,
        "return_exceeds_settled",
        "a return of 60 EUR",
        "rt_2; 20 of it are not booked",
        f"{AMOUNT} are booked as returned",
    )
    assert the(story, "return_exceeds_settled").amount == 20


def test_a_debt() -> None:
    """I26: since what; the amount moves, so it is not in the words."""
    story = owing()
    says(story, "merchant_owes", "Since payout.", "of po_p")
    assert "100" not in the(story, "merchant_owes").detail


def _stranger(story: Story) -> ProviderEvent:
    event = told(EventKind.PAID, attempt="nobody")
    story.receive(event)
    return event


def test_an_event_about_a_key_that_is_not_ours() -> None:
    """I23: who said what of which key."""
    story = Story()
    event = _stranger(story)
    for _ in range(TRIES_MAX):
        story.do(ApplyEvent(origin=ORIGIN, provider="bank", event=event, retry_delay=timedelta(0)))
    says(story, "unmatched_event", "bank says paid of the key nobody", f"{AMOUNT} EUR", "bt_1")
    assert the(story, "unmatched_event").amount == AMOUNT


@pytest.mark.parametrize("readable", [True, False])
def test_an_event_that_can_not_be_applied(*, readable: bool) -> None:
    """F45: the same, if it can be read."""
    story = Story()
    event = _stranger(story)
    defer = DeferEvent(
        origin=ORIGIN,
        provider="bank",
        event_id=event.event_id,
        event=event if readable else None,
        why="It could not be applied: no such type, at /type.",
    )
    for _ in range(TRIES_MAX):
        story.do(defer)
    fact = "paid of the key nobody" if readable else "can't be read"
    says(story, "dead_letter_event", "bank", fact, "at /type", f"tried {TRIES_MAX} times")
    assert the(story, "dead_letter_event").amount == (AMOUNT if readable else 0)
