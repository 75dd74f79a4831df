"""What a merchant owes has one open incident of equal amount, whoever moves it (I26)."""

from __future__ import annotations

import pytest

from bursar.engine.group import Done, Failed
from bursar.engine.model import JOURNAL, Needs, Origin, Peeked
from bursar.incidents.commands import AssignIncident, CloseIncident
from bursar.incidents.errors import AlertAlreadyClosed, AlertNotFound, StillOwed
from bursar.incidents.model import INCIDENTS, MERCHANT_OWES, Incident
from bursar.ledger.commands import FundAccount
from bursar.ledger.model import AccountRole
from bursar.rails.port import EventKind
from tests.engine.wiring import ORIGIN, OTHER, SHOP, Twin, begin, create, fund, journal_of, reply
from tests.payouts.story import DECLINED, Story, told

ANN, BEN = Origin("per_ann", "cor_ann"), Origin("per_ben", "cor_ben")
ADDRESS = f"{SHOP}/receivable/EUR"


def debts(twin: Twin) -> list[Incident]:
    """The incidents about debts, oldest first."""
    found = [row for row in twin.rows(INCIDENTS) if row.kind == MERCHANT_OWES]
    return sorted(found, key=lambda row: row.id)


def told_kinds(twin: Twin) -> list[str]:
    """What the journal says happened to the incidents about debts, in order."""
    ids = {row.id for row in debts(twin)}
    return [row.kind for row in twin.rows(JOURNAL) if row.subject_id in ids]


def owing(amount: int = 100) -> Story:
    """A merchant that owes `amount`, and has nothing."""
    story = Story(funds=amount, payout=False)
    story.do(create("p", amount))
    story.sent(DECLINED)
    story.do(create("q", amount))
    story.hear(told(EventKind.PAID, amount=amount, cost=0))
    assert story.account(AccountRole.RECEIVABLE).balance == amount
    return story


def test_a_debt_opens_one_incident() -> None:
    """F25, I26: about the account, of what stands there, in the commit of its cause."""
    story = owing()
    (incident,) = debts(story)
    assert (incident.subject_id, incident.amount, incident.currency) == (ADDRESS, 100, "EUR")
    assert (incident.merchant_id, incident.closed_at) == (SHOP, None)
    story.check()


def test_fee_and_amount_are_one_incident() -> None:
    """I26: an obligation of two legs is told once."""
    story = Story(funds=104)
    story.sent(DECLINED)
    story.do(create("q", 104))
    story.hear(told(EventKind.PAID))
    (incident,) = debts(story)
    assert incident.amount == 104
    assert told_kinds(story) == ["incident.opened"]


def test_it_follows_the_balance_to_the_end() -> None:
    """I26: changed by each repayment, closed by the last one; a new debt is a new incident."""
    story = owing()
    story.do(fund(30))
    assert [row.amount for row in debts(story)] == [70]
    story.do(fund(70))
    (first,) = debts(story)
    assert (first.closed_at, first.closed_by) == (story.clock.wall(), ORIGIN.actor)
    story.do(fund(100))
    story.do(create("r", 50))
    story.do(begin("r", "r"))
    story.do(reply("r", DECLINED))
    story.do(create("s", 100))
    story.hear(told(EventKind.PAID, attempt="r", amount=50, cost=0))
    _, second = debts(story)
    assert (second.amount, second.closed_at) == (50, None)
    assert told_kinds(story) == [
        "incident.opened",
        "incident.changed",
        "incident.closed",
        "incident.opened",
    ]
    story.check()


def test_all_in_one_group() -> None:
    """I26: two repayments and the news of a second debt meet in one group."""
    story = owing()
    assert all(
        isinstance(verdict, Done) for verdict in story.group(fund(40), fund(60), fund(5), fund(5))
    )
    (incident,) = debts(story)
    assert incident.closed_at is not None
    assert story.free == 10
    story.check()


def test_money_that_repays_nothing_opens_nothing() -> None:
    """A funding of a merchant that owes nothing, and one in another currency."""
    story = owing()
    story.do(fund(1000, "JPY"))
    assert [row.amount for row in debts(story)] == [100]
    story.do(fund(200))
    story.do(fund(7))
    assert len(debts(story)) == 1
    assert len(journal_of(story.rows(JOURNAL), "incident.closed")) == 1


class _Forgetful(FundAccount, frozen=True, kw_only=True):
    """A command that does not say that its recipe may touch a debt."""

    def needs(self, peeked: Peeked) -> Needs:
        """The accounts and no more."""
        needs = super().needs(peeked)
        return Needs(locks=needs.locks, journals=needs.journals)


def test_a_command_that_forgot_is_decided_in_the_next_group() -> None:
    """I26: what was not loaded leaves a command undecided; it never passes over the incident."""
    story = owing()
    forgetful = _Forgetful(origin=ORIGIN, merchant_id=SHOP, currency="EUR", amount=30)
    story.do(forgetful)
    assert [row.amount for row in debts(story)] == [70]
    story.check()


def test_a_person_can_not_close_a_debt() -> None:
    """I26: it ends by payment."""
    story = owing()
    (incident,) = debts(story)
    close = CloseIncident(origin=ANN, merchant_id=SHOP, incident_id=incident.id, note="fine")
    with pytest.raises(StillOwed) as refused:
        story.do(close)
    assert refused.value.extra == {"amount": 100, "currency": "EUR"}
    assert [row.closed_at for row in debts(story)] == [None]


def test_an_assignment_outlives_a_change_of_the_amount() -> None:
    """Who looks at it is not forgotten when the debt changes, nor the debt by the assignment."""
    story = owing()
    (incident,) = debts(story)
    assign = AssignIncident(
        origin=ANN, merchant_id=SHOP, incident_id=incident.id, person_id="per_ben"
    )
    verdicts = story.group(fund(10), assign, fund(20))
    assert not [verdict for verdict in verdicts if isinstance(verdict, Failed)]
    (after,) = debts(story)
    assert (after.amount, after.assigned_to) == (70, "per_ben")


def mismatched() -> tuple[Story, Incident]:
    """A story with an incident that a person may close."""
    story = Story()
    story.begin()
    story.hear(told(EventKind.PAID, amount=99))
    (incident,) = story.rows(INCIDENTS)
    return story, incident


def test_a_person_closes_an_incident_once() -> None:
    """Who, when and why are kept, and stand in the journal."""
    story, incident = mismatched()
    close = CloseIncident(origin=ANN, merchant_id=SHOP, incident_id=incident.id, note="A typo.")
    assert story.do(close).status == 200
    (closed,) = story.rows(INCIDENTS)
    assert (closed.closed_by, closed.note) == ("per_ann", "A typo.")
    (entry,) = journal_of(story.rows(JOURNAL), "incident.closed")
    assert (entry.actor, entry.subject_id, entry.correlation_id) == (
        "per_ann",
        incident.id,
        "cor_ann",
    )
    again = CloseIncident(origin=BEN, merchant_id=SHOP, incident_id=incident.id, note="No.")
    with pytest.raises(AlertAlreadyClosed):
        story.do(again)
    assign = AssignIncident(
        origin=BEN, merchant_id=SHOP, incident_id=incident.id, person_id="per_ben"
    )
    with pytest.raises(AlertAlreadyClosed):
        story.do(assign)


def test_another_merchants_incident_is_not_there() -> None:
    """F67: nor is the platform's, nor one that never was."""
    story, incident = mismatched()
    for merchant, incident_id in ((OTHER, incident.id), (SHOP, "inc_nobody")):
        close = CloseIncident(origin=ANN, merchant_id=merchant, incident_id=incident_id, note="x")
        with pytest.raises((AlertNotFound, LookupError)):
            story.do(close)
    assert [row.closed_at for row in story.rows(INCIDENTS)] == [None]
