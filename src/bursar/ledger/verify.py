"""Auditing the books: balances from transfers, holds from their children, debts from incidents.

All amounts are minor units. What is asked of the chains is in `engine.verify`.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from decimal import Decimal

import msgspec

from bursar.db.connection import Connection
from bursar.engine.verify import Attached, Disagreement, open_stream
from bursar.ledger.model import (
    LIMITED,
    TRANSFERS,
    AccountRole,
    HoldState,
    Transfer,
    TransferKind,
    address,
)
from bursar.ledger.store import QUERIES

CHAINED_TRANSFERS = Attached(
    TRANSFERS.name,
    Transfer,
    TRANSFERS.key,
    QUERIES["verify_transfers"],
    QUERIES["verify_headless_transfers"],
)
"""Transfers are hashed with the journal entry they name."""

_COUNTERS = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
_CHILD_OF = {
    HoldState.POSTED: TransferKind.POST,
    HoldState.VOIDED: TransferKind.VOID,
    HoldState.EXPIRED: TransferKind.EXPIRE,
}


async def bounds(connection: Connection) -> str:
    """A transfer stays within one merchant and one currency, between accounts that exist (I1)."""
    row = await connection.fetchrow(QUERIES["verify_transfer_bounds"])
    if row is not None:
        merchant_id, seq, line, currency = row[:4]
        raise Disagreement(
            "transfers",
            {"merchant_id": merchant_id, "journal_seq": seq, "line": line},
            expected=f"both accounts to be {merchant_id}'s in {currency}",
            found=f"debit {_account_words(*row[4:7])}, credit {_account_words(*row[7:10])}",
        )
    return "transfers: each within one merchant and one currency"


def _account_words(name: str, merchant_id: str | None, currency: str | None) -> str:
    if merchant_id is None:
        return f"{name} (no such account)"
    return f"{name} ({merchant_id}'s in {currency})"


class _Account(msgspec.Struct, frozen=True):
    """An account beside the sums of its transfers."""

    address: str
    merchant_id: str | None
    role: str
    currency: str
    limited: bool
    chained: bool
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    sum_debits_pending: Decimal
    sum_debits_posted: Decimal
    sum_credits_pending: Decimal
    sum_credits_posted: Decimal

    def stored(self) -> tuple[int, ...]:
        """The four counters."""
        return (self.debits_pending, self.debits_posted, self.credits_pending, self.credits_posted)

    def replayed(self) -> tuple[int, ...]:
        """What they must be."""
        return (
            int(self.sum_debits_pending),
            int(self.sum_debits_posted),
            int(self.sum_credits_pending),
            int(self.sum_credits_posted),
        )


async def balances(connection: Connection) -> str:
    """Every counter of every account is the sum of its transfers (I2).

    Debits equal credits in each currency, and no limited account is overdrawn (I3).
    """
    books: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    accounts = await open_stream(connection, QUERIES["verify_balances"], _Account)
    while (account := await accounts.next()) is not None:
        _judge_account(account)
        book = books[account.currency]
        for index, counter in enumerate(account.stored()):
            book[index] += counter
    for currency, (debits_pending, debits_posted, credits_pending, credits_posted) in sorted(
        books.items()
    ):
        if (debits_pending, debits_posted) != (credits_pending, credits_posted):
            raise Disagreement(
                "accounts",
                {"currency": currency},
                expected=f"debits {debits_posted} ({debits_pending} pending) to equal credits",
                found=f"credits {credits_posted} ({credits_pending} pending)",
            )
    return (
        f"balances: {accounts.taken} accounts equal the sums of their transfers, "
        f"debits equal credits in {len(books)} currencies"
    )


def _judge_account(account: _Account) -> None:
    key: dict[str, object] = {"address": account.address}
    if account.merchant_id is None:
        raise Disagreement(
            "accounts", key, expected="an account, as transfers name it,", found="none"
        )
    roles = {role.value for role in AccountRole}
    named = (
        address(account.merchant_id, AccountRole(account.role), account.currency)
        if account.role in roles
        else None
    )
    if named != account.address:
        raise Disagreement(
            "accounts",
            key,
            expected="merchant_id, role and currency as in the address",
            found=f"{account.merchant_id}, {account.role}, {account.currency}",
        )
    if not account.chained:
        raise Disagreement("journal_heads", {"merchant_id": account.merchant_id},
                           expected=f"a chain, as account {account.address} has an owner,",
                           found="none")  # fmt: skip
    if account.limited != (account.role in LIMITED):
        raise Disagreement(
            "accounts", key, expected=f"limited {account.role in LIMITED}",
            found=f"{account.limited}",
        )  # fmt: skip
    for name, stored, replayed in zip(_COUNTERS, account.stored(), account.replayed(), strict=True):
        if stored != replayed:
            raise Disagreement(
                "accounts",
                key,
                expected=f"{name} {replayed}, the sum of its transfers,",
                found=str(stored),
            )
    if account.limited:
        taken = account.debits_pending + account.debits_posted
        if taken > account.credits_posted:
            raise Disagreement(
                "accounts",
                key,
                expected=f"at most {account.credits_posted} debited, pending included",
                found=str(taken),
            )


class _Hold(msgspec.Struct, frozen=True):
    """A hold beside what its transfers say. All but the first are None where there is none."""

    id: str
    merchant_id: str | None
    subject_id: str
    state: str
    created_at: datetime
    ended_at: datetime | None
    legs: int
    ended: int
    first_merchant: str | None
    last_merchant: str | None
    first_subject: str | None
    last_subject: str | None
    first_end: str | None
    last_end: str | None
    made_first: datetime | None
    made_last: datetime | None
    ended_first: datetime | None
    ended_last: datetime | None


async def holds(connection: Connection) -> str:
    """A hold ends with all of its transfers, in one way, at one moment, or not at all (I4).

    A child mirrors its pending transfer.
    """
    child = await connection.fetchrow(QUERIES["verify_children"])
    if child is not None:
        merchant_id, seq, line, kind, pending_id, exists = child
        raise Disagreement(
            "transfers",
            {"merchant_id": merchant_id, "journal_seq": seq, "line": line},
            expected=f"a {kind} that mirrors the pending transfer {pending_id}",
            found="other accounts, amount or hold" if exists else "no such pending transfer",
        )
    stream = await open_stream(connection, QUERIES["verify_holds"], _Hold)
    while (hold := await stream.next()) is not None:
        _judge_hold(hold)
    return f"holds: {stream.taken} end as their transfers do"


def _judge_hold(hold: _Hold) -> None:
    key: dict[str, object] = {"id": hold.id}
    if hold.merchant_id is None:
        raise Disagreement("holds", key, expected="a hold, as transfers name it,", found="none")
    if not hold.legs:
        raise Disagreement("holds", key, expected="pending transfers of this hold", found="none")
    kind = _CHILD_OF.get(HoldState(hold.state))
    ended = hold.legs if kind is not None else 0
    if hold.ended != ended:
        raise Disagreement(
            "holds",
            key,
            expected=f"{ended} of {hold.legs} transfers ended, as it is {hold.state},",
            found=str(hold.ended),
        )
    facts: tuple[tuple[str, object, object, object], ...] = (
        ("merchant_id", hold.merchant_id, hold.first_merchant, hold.last_merchant),
        ("subject_id", hold.subject_id, hold.first_subject, hold.last_subject),
        ("created_at", hold.created_at, hold.made_first, hold.made_last),
        ("ended_at", hold.ended_at, hold.ended_first, hold.ended_last),
        ("kind of its transfers' children", kind, hold.first_end, hold.last_end),
    )
    for name, stored, first, last in facts:
        if not stored == first == last:
            said = first if stored == last else last
            raise Disagreement(
                "holds", key, expected=f"{name} {said}, as its transfers say,", found=str(stored)
            )


class _Obligation(msgspec.Struct, frozen=True):
    """A receivable beside the open incidents about it. None where there is no such thing."""

    address: str
    merchant_id: str | None
    currency: str | None
    owed: int
    incident_merchant_id: str | None
    incident_currency: str | None
    opened: int
    amount: Decimal


async def obligations(connection: Connection) -> str:
    """What a merchant owes us is before a human, as one open incident of equal amount (I26)."""
    stream = await open_stream(connection, QUERIES["verify_obligations"], _Obligation)
    while (found := await stream.next()) is not None:
        _judge_obligation(found)
    return f"obligations: {stream.taken} merchants' debts have one open incident each"


def _judge_obligation(found: _Obligation) -> None:
    if found.merchant_id is None:
        raise Disagreement(
            "incidents",
            {"subject_id": found.address},
            expected="a receivable, as a merchant_owes incident names it,",
            found="none",
        )
    if (found.opened, int(found.amount)) != (int(found.owed > 0), found.owed):
        wanted = f"one open merchant_owes incident of {found.owed}, what is owed,"
        raise Disagreement(
            "accounts",
            {"address": found.address},
            expected=wanted if found.owed else "no open merchant_owes incident: nothing is owed,",
            found=f"{found.opened}, of {found.amount}",
        )
    owner, told = (
        (found.merchant_id, found.currency),
        (found.incident_merchant_id, found.incident_currency),
    )
    if owner != told:
        raise Disagreement(
            "incidents",
            {"subject_id": found.address},
            expected=f"an incident of {owner[0]} in {owner[1]}",
            found=f"one of {told[0]} in {told[1]}",
        )


CHECKS = (bounds, balances, holds, obligations)
