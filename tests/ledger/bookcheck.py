"""Judging books from their rows alone: what must hold after every step, whatever was done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bursar.incidents.model import Incident
from bursar.ledger.model import Account, Hold, Transfer

BOUND = 2**62
_DEBIT_NORMAL = ("bank", "costs", "receivable")

# Counters, in order: debits pending, debits posted, credits pending, credits posted.
_MOVES = {
    "posted": (0, 1, 0, 1),
    "pending": (1, 0, 1, 0),
    "post": (-1, 1, -1, 1),
    "void": (-1, 0, -1, 0),
    "expire": (-1, 0, -1, 0),
}
_END_KIND = {"posted": "post", "voided": "void", "expired": "expire"}

Counters = tuple[int, int, int, int]


@dataclass(frozen=True)
class Books:
    """All rows of a ledger."""

    accounts: Sequence[Account]
    transfers: Sequence[Transfer]
    holds: Sequence[Hold]
    incidents: Sequence[Incident]


def counters_of(account: Account) -> Counters:
    """The four counters as one value."""
    return (
        account.debits_pending,
        account.debits_posted,
        account.credits_pending,
        account.credits_posted,
    )


def check_books(books: Books) -> None:
    """Assert I1, I2, I3, I4, I26 and the bound of F70."""
    check_entries(books)
    _check_debts(books)


def check_entries(books: Books) -> None:
    """All but I26, which only recipes keep."""
    _check_transfers(books)
    _check_balances(books)
    _check_holds(books)


def _check_transfers(books: Books) -> None:
    """Each transfer stays within one merchant and one currency, and moves something (I1)."""
    owners = {account.address: account for account in books.accounts}
    assert len({transfer.id for transfer in books.transfers}) == len(books.transfers)
    for transfer in books.transfers:
        assert transfer.amount > 0, transfer
        assert transfer.debit != transfer.credit, transfer
        for side in (transfer.debit, transfer.credit):
            owner = owners[side]
            assert owner.merchant_id == transfer.merchant_id, transfer
            assert owner.currency == transfer.currency, transfer


def _check_balances(books: Books) -> None:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for transfer in books.transfers:
        moves = _MOVES[transfer.kind]
        for place in (0, 1):
            sums[transfer.debit][place] += moves[place] * transfer.amount
        for place in (2, 3):
            sums[transfer.credit][place] += moves[place] * transfer.amount
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for account in books.accounts:
        counters = counters_of(account)
        assert counters == tuple(sums[account.address]), f"I2: {account}"
        assert min(counters) >= 0, account
        assert counters[0] + counters[1] <= BOUND, f"F70: {account}"
        assert counters[2] + counters[3] <= BOUND, f"F70: {account}"
        if account.role == "available":
            assert account.limited, account
            assert counters[0] + counters[1] <= counters[3], f"I3: {account}"
        for place, counter in enumerate(counters):
            totals[account.currency][place] += counter
    for currency, total in totals.items():
        assert total[:2] == total[2:], f"I1: {currency} {total}"


def _check_holds(books: Books) -> None:
    """A hold ends with all its legs, in one way, or not at all (I4)."""
    legs: dict[str, list[Transfer]] = defaultdict(list)
    ends: dict[str, list[Transfer]] = defaultdict(list)
    for transfer in books.transfers:
        if transfer.kind == "pending":
            assert transfer.hold_id is not None, transfer
            legs[transfer.hold_id].append(transfer)
        if transfer.pending_id is not None:
            ends[transfer.pending_id].append(transfer)
    assert set(legs) <= {hold.id for hold in books.holds}
    for hold in books.holds:
        assert (hold.ended_at is None) == (hold.state == "active"), hold
        wanted = [_END_KIND[hold.state]] if hold.state != "active" else []
        for leg in legs[hold.id]:
            children = ends.pop(leg.id, [])
            assert [child.kind for child in children] == wanted, f"I4: {hold}"
            for child in children:
                same = (child.debit, child.credit, child.amount, child.hold_id)
                assert same == (leg.debit, leg.credit, leg.amount, leg.hold_id), child
    assert not ends, f"I4: ends of nothing: {ends}"


def _check_debts(books: Books) -> None:
    """What stands on a receivable is before a human, as one open incident (I26)."""
    opened: dict[str, tuple[str, str, int]] = {}
    owed: dict[str, tuple[str, str, int]] = {}
    for incident in books.incidents:
        if incident.kind == "merchant_owes" and incident.closed_at is None:
            assert incident.subject_id not in opened, f"I26: two of {incident.subject_id}"
            told = (incident.merchant_id, incident.currency, incident.amount)
            opened[incident.subject_id] = told
    for account in books.accounts:
        if account.role == "receivable":
            balance = account.debits_posted - account.credits_posted
            assert balance >= 0, f"repaid too much: {account}"
            if balance:
                owed[account.address] = (account.merchant_id, account.currency, balance)
    assert opened == owed, "I26"


def normal_balance(account: Account) -> int:
    """The posted balance on the account's own side, in minor units."""
    difference = account.debits_posted - account.credits_posted
    return difference if account.role in _DEBIT_NORMAL else -difference
