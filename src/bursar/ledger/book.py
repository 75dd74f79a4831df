"""Double entry on a working set: post, hold, post a hold, void a hold. Pure."""

from __future__ import annotations

import msgspec

from bursar.engine.model import JournalEntry
from bursar.engine.working_set import WorkingSet
from bursar.ledger.errors import BalanceTooLarge, InsufficientFunds, UnknownAccount
from bursar.ledger.model import (
    ACCOUNTS,
    HOLDS,
    PENDING_LEGS,
    TRANSFERS,
    Account,
    AccountRole,
    Hold,
    HoldState,
    Transfer,
    TransferKind,
    address,
)

COUNTER_MAX = 2**62
"""No side of an account, pending and posted together, passes this (F70).

So a hold that was made can always be posted, and sums of two sides stay inside 64 bits.
"""

_set = msgspec.structs.replace


class Leg(msgspec.Struct, frozen=True):
    """One line of a posting or hold: `amount` minor units from `debit` to `credit`."""

    debit: AccountRole
    credit: AccountRole
    amount: int


class _Sums:
    """What a set of legs debits and credits, by account."""

    def __init__(self) -> None:
        self.debited: dict[str, int] = {}
        self.credited: dict[str, int] = {}

    def add(self, debit: str, credit: str, amount: int) -> None:
        self.debited[debit] = self.debited.get(debit, 0) + amount
        self.credited[credit] = self.credited.get(credit, 0) + amount


class Book:
    """One merchant's accounts in one currency, under one journal entry and one recipe."""

    def __init__(
        self, ws: WorkingSet, entry: JournalEntry, currency: str, *, recipe: str, subject_id: str
    ) -> None:
        """`subject_id` is the payout, funding or return that the transfers are about."""
        self._ws = ws
        self._entry = entry
        self._currency = currency
        self._recipe = recipe
        self._subject_id = subject_id
        self._line = 0
        self._addresses: dict[AccountRole, str] = {}

    def account(self, role: AccountRole) -> Account:
        """The account of this role. Raises `UnknownAccount` if the merchant has none."""
        return self._account(self._address(role))

    def _address(self, role: AccountRole) -> str:
        known = self._addresses.get(role)
        if known is None:
            known = address(self._entry.merchant_id, role, self._currency)
            self._addresses[role] = known
        return known

    def _account(self, account_address: str) -> Account:
        found = self._ws.find(ACCOUNTS, account_address)
        if found is None:
            raise UnknownAccount(
                f"The merchant has no accounts in {self._currency}.", pointer="/currency"
            )
        return found

    def post(self, *legs: Leg) -> None:
        """Post each leg at once; legs of amount 0 are left out.

        Raises `InsufficientFunds` if an account that may not overdraw would.
        """
        for leg in legs:
            if leg.amount:
                self._write(
                    TransferKind.POSTED,
                    self._address(leg.debit),
                    self._address(leg.credit),
                    leg.amount,
                )
                self._move(self._address(leg.debit), debits_posted=leg.amount)
                self._move(self._address(leg.credit), credits_posted=leg.amount)

    def hold(self, *legs: Leg) -> Hold:
        """Reserve all legs or none. Raises `InsufficientFunds`."""
        hold = Hold(
            id=self._ws.ids.new("hd"),
            merchant_id=self._entry.merchant_id,
            subject_id=self._subject_id,
            state=HoldState.ACTIVE,
            created_at=self._ws.now,
            ended_at=None,
        )
        self._ws.insert(HOLDS, hold)
        self._ws.add_children(PENDING_LEGS, [hold.id], ())
        sums = _Sums()
        for leg in legs:
            if leg.amount:
                debit, credit = self._address(leg.debit), self._address(leg.credit)
                self._write(TransferKind.PENDING, debit, credit, leg.amount, hold_id=hold.id)
                sums.add(debit, credit, leg.amount)
        for account_address, amount in sums.debited.items():
            self._move(account_address, debits_pending=amount)
        for account_address, amount in sums.credited.items():
            self._move(account_address, credits_pending=amount)
        return hold

    def post_hold(self, hold_id: str) -> None:
        """Turn every pending leg into a posted one. Can't fail for lack of funds."""
        sums = self._end(hold_id, HoldState.POSTED, TransferKind.POST)
        for account_address, amount in sums.debited.items():
            self._move(account_address, debits_pending=-amount, debits_posted=amount)
        for account_address, amount in sums.credited.items():
            self._move(account_address, credits_pending=-amount, credits_posted=amount)

    def release_hold(self, hold_id: str, *, expired: bool = False) -> None:
        """Give every pending leg back: voided, or expired by its owner."""
        state = HoldState.EXPIRED if expired else HoldState.VOIDED
        kind = TransferKind.EXPIRE if expired else TransferKind.VOID
        sums = self._end(hold_id, state, kind)
        for account_address, amount in sums.debited.items():
            self._move(account_address, debits_pending=-amount)
        for account_address, amount in sums.credited.items():
            self._move(account_address, credits_pending=-amount)

    def _end(self, hold_id: str, state: HoldState, kind: TransferKind) -> _Sums:
        """End the hold and write the children; what its legs were."""
        hold = self._ws.get(HOLDS, hold_id)
        if hold.state != HoldState.ACTIVE:
            msg = f"hold {hold_id} is {hold.state}"
            raise ValueError(msg)
        self._ws.update(HOLDS, _set(hold, state=state, ended_at=self._ws.now))
        sums = _Sums()
        for leg in self._ws.children(PENDING_LEGS, hold_id):
            self._write(kind, leg.debit, leg.credit, leg.amount, hold_id=hold_id, pending_id=leg.id)
            sums.add(leg.debit, leg.credit, leg.amount)
        return sums

    def _write(
        self,
        kind: TransferKind,
        debit: str,
        credit: str,
        amount: int,
        hold_id: str | None = None,
        pending_id: str | None = None,
    ) -> None:
        if amount <= 0 or debit == credit:
            msg = f"a transfer of {amount} from {debit} to {credit}"
            raise ValueError(msg)
        entry = self._entry
        self._ws.insert(
            TRANSFERS,
            Transfer(
                merchant_id=entry.merchant_id,
                journal_seq=entry.seq,
                line=self._line,
                id=self._ws.ids.new("tr"),
                kind=kind,
                recipe=self._recipe,
                subject_id=self._subject_id,
                debit=debit,
                credit=credit,
                amount=amount,
                currency=self._currency,
                hold_id=hold_id,
                pending_id=pending_id,
                at=self._ws.now,
            ),
        )
        self._line += 1

    def _move(
        self,
        account_address: str,
        *,
        debits_pending: int = 0,
        debits_posted: int = 0,
        credits_pending: int = 0,
        credits_posted: int = 0,
    ) -> None:
        old = self._account(account_address)
        new = _set(
            old,
            debits_pending=old.debits_pending + debits_pending,
            debits_posted=old.debits_posted + debits_posted,
            credits_pending=old.credits_pending + credits_pending,
            credits_posted=old.credits_posted + credits_posted,
        )
        taken = debits_pending + debits_posted
        if new.limited and taken > 0 and new.free < 0:
            raise InsufficientFunds(
                f"{taken} {new.currency} asked for, {old.free} available (minor units).",
                available=old.free,
                currency=new.currency,
            )
        lowest = min(new.debits_pending, new.debits_posted, new.credits_pending, new.credits_posted)
        if lowest < 0:
            msg = f"a counter of {new.address} fell below zero"
            raise ValueError(msg)
        highest = max(
            new.debits_pending + new.debits_posted, new.credits_pending + new.credits_posted
        )
        if highest > COUNTER_MAX:
            raise BalanceTooLarge(f"{new.role} {new.currency} would pass {COUNTER_MAX}.")
        self._ws.update(ACCOUNTS, new)
