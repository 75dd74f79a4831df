"""The stories of `tables/payout_stories.txt`, told to the twin step by step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from bursar.kit.errors import Refusal
from bursar.ledger.model import AccountRole
from bursar.payouts.model import ATTEMPTS
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    Outcome,
    StatusExecuted,
    StatusNotFound,
    StatusPending,
    StatusRejected,
    StatusUnknown,
    Unknown,
)
from tests.engine.wiring import Twin, begin, cancel, create, fund, reply
from tests.payouts.wiring import (
    BUSY,
    CLOSED,
    NOT_SENT,
    OUR_BALANCE,
    TABLES,
    apply,
    asked,
    check_books,
    check_payouts,
    event,
    expire,
    incidents,
    payout,
    receive,
    take_over,
)


@dataclass(frozen=True)
class Story:
    """A title, the steps, and the five parts of the end."""

    title: str
    steps: list[str]
    end: list[str]


def _stories() -> list[Story]:
    text = (TABLES / "payout_stories.txt").read_text(encoding="utf-8")
    found = re.findall(r"^story: (.+)\n  (.+)\n  end: (.+)$", text, re.MULTILINE)
    assert len(found) == text.count("\nstory:")
    return [Story(title, steps.split("; "), end.split("; ")) for title, steps, end in found]


STORIES = _stories()


class Teller:
    """Takes the words of a step to the command that they mean."""

    def __init__(self) -> None:
        self.twin = Twin()
        self.twin.do(fund(1000))
        self.amount = 100

    def tell(self, step: str) -> None:
        """One step, or its refusal raised."""
        verb, *words = step.split()
        getattr(self, f"_{verb}")(*words)

    def _create(self, amount: str = "100") -> None:
        self.amount = int(amount)
        fee = 2 if self.amount == 100 else 0
        self.twin.do(create("p", self.amount, fee=fee))

    def _begin(self, name: str) -> None:
        self.twin.do(begin("p", name, token=f"ls_{name}"))

    def _reply(self, name: str, outcome: str) -> None:
        self.twin.do(reply(name, self._outcome(outcome), token=f"ls_{name}"))

    _late = _reply

    def _outcome(self, word: str) -> Outcome:
        outcomes: dict[str, Outcome] = {
            "executed": Executed(provider_ref="bt", amount_minor=self.amount, currency="EUR"),
            "accepted": Accepted("bt"),
            "closed": CLOSED,
            "not_sent": NOT_SENT,
            "busy": BUSY,
            "our_balance": OUR_BALANCE,
            "unknown": Unknown("timeout"),
        }
        return outcomes[word]

    def _lease(self, name: str) -> None:
        self.twin.do(take_over(name))

    def _ask(self, name: str, answer: str, amount: str = "100") -> None:
        answers: dict[str, Inquiry] = {
            "executed": StatusExecuted(provider_ref="bt", amount_minor=int(amount), currency="EUR"),
            "pending": StatusPending("bt"),
            "rejected": StatusRejected("AC04", "closed"),
            "not_found": StatusNotFound(),
            "silent": StatusUnknown("timeout"),
        }
        self.twin.do(asked(self.twin, name, answers[answer]))

    def _event(
        self,
        number: str,
        kind: str,
        name: str,
        amount: str = "100",
        currency: str = "EUR",
        ref: str = "bt",
    ) -> None:
        said = event(f"evt_{number}", kind, name, amount=int(amount), currency=currency, ref=ref)
        receive(self.twin, said)
        apply(self.twin, said)

    def _cancel(self) -> None:
        self.twin.do(cancel("p"))

    def _expire(self) -> None:
        self.twin.do(expire())

    def _wait(self, seconds: str) -> None:
        self.twin.clock.advance(float(seconds))

    def _spend(self, amount: str) -> None:
        self.twin.do(create("other", int(amount), fee=2))

    def end(self) -> list[str]:
        """How it stands, in the words of the table."""
        attempts = [
            f"{row.id.removeprefix('pa_')} {row.state}"
            for row in sorted(self.twin.rows(ATTEMPTS), key=lambda row: row.number)
        ]
        return [
            payout(self.twin).state,
            ", ".join(attempts) or "none",
            f"free {self.twin.account(AccountRole.AVAILABLE).free}",
            f"owed {self.twin.account(AccountRole.RECEIVABLE).balance}",
            ", ".join(incidents(self.twin)) or "none",
        ]


@pytest.mark.parametrize("story", STORIES, ids=[story.title for story in STORIES])
def test_story(story: Story) -> None:
    """F3-F35, F79, F80, F90: each title names its failures."""
    teller = Teller()
    if not story.steps[0].startswith("create"):
        teller.tell("create")
    for step in story.steps:
        _tell(teller, step)
        check_books(teller.twin)
        check_payouts(teller.twin)
    assert teller.end() == story.end


def _tell(teller: Any, step: str) -> None:
    words, _, code = step.partition(" ! ")
    if not code:
        teller.tell(words)
        return
    before = dict(teller.twin.memory.tables)
    with pytest.raises(Refusal) as refused:
        teller.tell(words)
    assert refused.value.code == code, step
    written = {name for name in before if before[name] != teller.twin.memory.tables[name]}
    assert written <= {"group_commits"}, step
