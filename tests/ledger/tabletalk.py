"""Playing `tests/tables/ledger.txt` against the real commands over the in-memory store.

The words are explained at the head of the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from bursar.incidents.model import INCIDENTS
from bursar.kit.errors import Refusal
from bursar.ledger.model import ACCOUNTS, HOLDS, TRANSFERS, AccountRole
from bursar.money.currency import currency
from bursar.money.model import format_major, parse_major
from bursar.payouts.commands import ExpirePayout
from bursar.payouts.inbox import ApplyEvent, ReceiveEvent
from bursar.payouts.model import PAYOUTS, Payout
from bursar.rails.outcomes import Executed, NotExecuted
from bursar.rails.port import EventKind, ProviderEvent
from tests.engine.wiring import ORIGIN, SHOP, Twin, begin, cancel, create, fund, reply
from tests.ledger.bookcheck import Books, check_books, normal_balance

_ROLES = ("bank", "available", "provider:clearing", "fees", "costs", "receivable")
_DECLINED = NotExecuted(code="AC04", reason="closed", retryable=False, sent=True)
_NOT_NOW = NotExecuted(code="AM04", reason="our balance", retryable=True, sent=True)
_RETRY_BUDGET_S = 7 * 86400


@dataclass(frozen=True)
class Line:
    """One line of the table: what to do or to expect, and what it must end in."""

    number: int
    words: str
    ending: str | None


@dataclass(frozen=True)
class Scenario:
    """A title and its lines; it starts with empty books."""

    title: str
    lines: tuple[Line, ...]


class NotUnderstood(Exception):
    """The line is not in the language of the table."""


def parse(text: str) -> list[Scenario]:
    """The scenarios of a table. Raises `NotUnderstood`."""
    titles: list[str] = []
    bodies: list[list[Line]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("scenario "):
            titles.append(line.removeprefix("scenario "))
            bodies.append([])
            continue
        if not bodies:
            raise NotUnderstood(f"line {number}: stands before the first scenario")
        words, arrow, ending = line.partition("->")
        bodies[-1].append(Line(number, words.strip(), ending.strip() if arrow else None))
    if len(set(titles)) < len(titles):
        raise NotUnderstood("two scenarios have one title")
    return [Scenario(*pair) for pair in zip(titles, map(tuple, bodies), strict=True)]


def play(scenario: Scenario) -> None:
    """Do every line, and judge the books after each. Raises AssertionError with the line."""
    stage = Stage()
    for line in scenario.lines:
        try:
            ending = stage.do(line.words)
            stage.check()
            if line.ending is None:
                assert ending in _FINE, f"refused: {ending}"
            else:
                assert ending == line.ending, f"ended in {ending}, not in {line.ending}"
        except AssertionError as error:
            raise AssertionError(f"line {line.number}: {line.words}: {error}") from error


_FINE = frozenset({"done", "held", "settled", "failed", "cancelled", "returned"})
"""Endings that a line need not name; a refusal it must."""


class Stage:
    """One merchant with empty books, and the words that the table may use."""

    def __init__(self) -> None:
        self.twin = Twin()
        self._attempts: dict[str, int] = {}
        self._events = 0
        self._verbs: tuple[tuple[str, Callable[..., str]], ...] = (
            (r"fund (\w+) (\S+)", self._fund),
            (r"payout (\w+) (\w+) (\S+)(?: fee (\S+))?", self._payout),
            (r"settle (\w+)(?: cost (\S+))?", self._settle),
            (r"fail (\w+)", self._fail),
            (r"retry (\w+)", self._retry),
            (r"cancel (\w+)", self._cancel),
            (r"expire (\w+)", self._expire),
            (r"return (\w+) (\S+)", self._return),
            (r"paid_late (\w+)(?: cost (\S+))?", self._paid_late),
            (r"expect (\w+): (.+)", self._expect),
            (r"expect incident (\w+) (\w+) (\w+) (\S+)", self._expect_incident),
            (r"expect owed (\w+) (\S+)", self._expect_owed),
            (r"expect no incident", self._expect_none),
        )

    def do(self, words: str) -> str:
        """Act out one line; what it ended in."""
        for pattern, verb in self._verbs:
            match = re.fullmatch(pattern, words)
            if match is not None:
                try:
                    return verb(*match.groups())
                except Refusal as refusal:
                    return refusal.code
        raise NotUnderstood(words)

    def check(self) -> None:
        """The books balance, and nothing more came back than was paid (I8)."""
        twin = self.twin
        check_books(
            Books(
                accounts=twin.rows(ACCOUNTS),
                transfers=twin.rows(TRANSFERS),
                holds=twin.rows(HOLDS),
                incidents=twin.rows(INCIDENTS),
            )
        )
        for payout in twin.rows(PAYOUTS):
            assert 0 <= payout.amount_returned <= payout.amount, payout

    def _fund(self, code: str, amount: str) -> str:
        self.twin.do(fund(_minor(amount, code), code))
        return "done"

    def _payout(self, name: str, code: str, amount: str, fee: str | None) -> str:
        self.twin.do(create(name, _minor(amount, code), code, fee=_minor(fee or "0", code)))
        return self._state(name)

    def _settle(self, name: str, cost: str | None) -> str:
        payout = self._payout_row(name)
        executed = Executed(
            provider_ref=f"bt_{name}",
            amount_minor=payout.amount,
            currency=payout.currency,
            cost_minor=_minor(cost or "0", payout.currency),
        )
        key = self._begin(name)
        self.twin.do(reply(key, executed))
        return self._state(name)

    def _fail(self, name: str) -> str:
        self.twin.do(reply(self._begin(name), _DECLINED))
        return self._state(name)

    def _retry(self, name: str) -> str:
        self.twin.do(reply(self._begin(name), _NOT_NOW))
        return self._state(name)

    def _cancel(self, name: str) -> str:
        self.twin.do(cancel(name))
        return self._state(name)

    def _expire(self, name: str) -> str:
        self.twin.clock.advance(_RETRY_BUDGET_S)
        self.twin.do(ExpirePayout(origin=ORIGIN, payout_id=f"po_{name}"))
        return self._state(name)

    def _return(self, name: str, amount: str) -> str:
        self._told(name, EventKind.RETURNED, _minor(amount, self._payout_row(name).currency))
        return self._state(name)

    def _paid_late(self, name: str, cost: str | None) -> str:
        payout = self._payout_row(name)
        cost_minor = _minor(cost or "0", payout.currency)
        self._told(name, EventKind.PAID, payout.amount, cost=cost_minor)
        return self._state(name)

    def _expect(self, code: str, entries: str) -> str:
        wanted = dict.fromkeys((*_ROLES, "held"), "0")
        for entry in entries.split(","):
            role, _, amount = entry.strip().partition(" ")
            if role not in wanted:
                raise NotUnderstood(f"{role} is no account")
            wanted[role] = amount.strip()
        for role, amount in wanted.items():
            found = self._amount(role, code)
            shown = format_major(found, currency(code))
            assert found == _minor(amount, code), f"{role} is {shown}, not {amount}"
        return "done"

    def _amount(self, role: str, code: str) -> int:
        available = self.twin.account(AccountRole.AVAILABLE, code)
        if role == "held":
            return available.debits_pending
        if role == "available":
            posted = available.credits_posted - available.debits_posted
            return posted - available.debits_pending
        return normal_balance(self.twin.account(AccountRole(role), code))

    def _expect_incident(self, kind: str, name: str, code: str, amount: str) -> str:
        found = sum(
            incident.amount
            for incident in self.twin.rows(INCIDENTS)
            if (incident.kind, incident.subject_id, incident.currency) == (kind, f"po_{name}", code)
        )
        shown = format_major(found, currency(code))
        assert found == _minor(amount, code), f"incidents of {shown}"
        return "done"

    def _expect_owed(self, code: str, amount: str) -> str:
        found = sum(
            incident.amount
            for incident in self.twin.rows(INCIDENTS)
            if (incident.kind, incident.currency) == ("merchant_owes", code)
            and incident.closed_at is None
        )
        shown = format_major(found, currency(code))
        assert found == _minor(amount, code), f"incidents of {shown}"
        return "done"

    def _expect_none(self) -> str:
        found = self.twin.rows(INCIDENTS)
        assert not found, f"there is {found}"
        return "done"

    def _begin(self, name: str) -> str:
        number = self._attempts.get(name, 0) + 1
        self.twin.do(begin(name, f"{name}-{number}"))
        self._attempts[name] = number
        return f"{name}-{number}"

    def _told(self, name: str, kind: EventKind, amount: int, *, cost: int = 0) -> None:
        """The provider's message about the last attempt."""
        self._events += 1
        key = f"{name}-{self._attempts[name]}"
        event = ProviderEvent(
            event_id=f"ev_{self._events}",
            kind=kind,
            provider_key=key,
            provider_ref=f"bt_{name}",
            amount_minor=amount,
            currency=self._payout_row(name).currency,
            cost_minor=cost,
            code=None,
            reason=None,
            return_id=f"rt_{self._events}",
        )
        self.twin.do(
            ReceiveEvent(origin=ORIGIN, provider="bank", event_id=event.event_id, body="{}")
        )
        self.twin.do(
            ApplyEvent(origin=ORIGIN, provider="bank", event=event, retry_delay=timedelta(0))
        )

    def _payout_row(self, name: str) -> Payout:
        for payout in self.twin.rows(PAYOUTS):
            if (payout.merchant_id, payout.reference) == (SHOP, name):
                return payout
        raise NotUnderstood(f"there is no payout {name}")

    def _state(self, name: str) -> str:
        state = self._payout_row(name).state
        return "held" if state == "funds_locked" else state


def _minor(amount: str, code: str) -> int:
    return parse_major(amount, currency(code))
