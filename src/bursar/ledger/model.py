"""Accounts with four counters, immutable transfers, holds. Pure.

The semantics are TigerBeetle's: a pending transfer reserves, and is posted, voided or expired
exactly once by a child transfer. All amounts are minor units of the account's currency.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from bursar.engine.model import ChildSet, Row, Table


class AccountRole(StrEnum):
    """The chart of accounts. Every merchant has one account per role and currency."""

    BANK = "bank"
    AVAILABLE = "available"
    PENDING = "pending"
    PROVIDER_CLEARING = "provider:clearing"
    FEES = "fees"
    COSTS = "costs"
    RECEIVABLE = "receivable"
    SUSPENSE = "suspense"
    DISPUTES_RESERVED = "disputes:reserved"


LIMITED = frozenset({AccountRole.AVAILABLE})
"""Accounts that may never owe: pending and posted debits stay within posted credits."""


DEBIT_NORMAL = frozenset({AccountRole.BANK, AccountRole.COSTS, AccountRole.RECEIVABLE})
"""Assets and expenses: what they hold is debits less credits. The others: credits less debits."""


class TransferKind(StrEnum):
    """How a transfer touches the counters."""

    POSTED = "posted"
    PENDING = "pending"
    POST = "post"
    VOID = "void"
    EXPIRE = "expire"


class HoldState(StrEnum):
    """A hold ends exactly once."""

    ACTIVE = "active"
    POSTED = "posted"
    VOIDED = "voided"
    EXPIRED = "expired"


class Account(Row, frozen=True):
    """One account. `limited` says that it may not be overdrawn."""

    address: str
    merchant_id: str
    role: str
    currency: str
    limited: bool
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0

    @property
    def free(self) -> int:
        """What may still be debited: posted credits less posted and pending debits."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    @property
    def balance(self) -> int:
        """What the account holds, posted, on its normal side."""
        difference = self.debits_posted - self.credits_posted
        return difference if self.role in DEBIT_NORMAL else -difference


class Transfer(Row, frozen=True):
    """One movement from `debit` to `credit`. Written with journal entry (merchant, journal_seq).

    `amount` is more than zero: what would move nothing is not written.
    """

    merchant_id: str
    journal_seq: int
    line: int
    id: str
    kind: str
    recipe: str
    subject_id: str
    debit: str
    credit: str
    amount: int
    currency: str
    hold_id: str | None
    pending_id: str | None
    at: datetime


class Hold(Row, frozen=True):
    """A set of pending transfers that end together. `subject_id` is whom they are held for."""

    id: str
    merchant_id: str
    subject_id: str
    state: str
    created_at: datetime
    ended_at: datetime | None


def address(merchant_id: str, role: AccountRole, currency: str) -> str:
    """The account's key: merchant first, then role and currency."""
    return f"{merchant_id}/{role}/{currency}"


def accounts_of(merchant_id: str, currency: str) -> list[Account]:
    """The empty accounts of a merchant in one currency, made with the merchant."""
    return [
        Account(address(merchant_id, role, currency), merchant_id, role, currency, role in LIMITED)
        for role in AccountRole
    ]


HOLDS = Table("holds", Hold, key=("id",), rank=40)
ACCOUNTS = Table("accounts", Account, key=("address",), rank=50)
TRANSFERS = Table("transfers", Transfer, key=("merchant_id", "journal_seq", "line"), rank=93)

PENDING_LEGS = ChildSet(
    "pending_legs",
    TRANSFERS,
    lambda row: row.hold_id if row.kind == TransferKind.PENDING else None,
)
