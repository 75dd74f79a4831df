"""What a merchant asks of a payout: create it, cancel it; and the expiry of its hold. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from bursar.engine.model import Claim, CommandBase, Key, Needs, Peeked, Reply, Table
from bursar.engine.working_set import WorkingSet
from bursar.kit.canonical import canonical_json
from bursar.ledger import recipes
from bursar.ledger.model import ACCOUNTS, HOLDS, PENDING_LEGS, address
from bursar.payouts.errors import (
    AlreadyDispatched,
    DueTooLate,
    DuplicateReference,
    NotDue,
    PayoutNotFound,
)
from bursar.payouts.fields import DUE_AHEAD_MAX
from bursar.payouts.machine import Event, State
from bursar.payouts.model import (
    ATTEMPTS_OF_PAYOUT,
    PAYOUTS,
    REFERENCES,
    Payout,
    PayoutReference,
)
from bursar.payouts.silence import is_frozen
from bursar.payouts.steps import release
from bursar.payouts.view import payout_json

RETRY_BUDGET = timedelta(days=7)
"""How long after it is due a payout may still be sent; its hold expires then."""

WAKE = "payouts"


def account_locks(
    merchant_id: str, currency: str, roles: tuple[Any, ...]
) -> tuple[tuple[Table[Any], Key], ...]:
    """The accounts of these roles, as locks."""
    return tuple((ACCOUNTS, address(merchant_id, role, currency)) for role in roles)


class CreatePayout(CommandBase, frozen=True, kw_only=True):
    """Create a payout and lock its funds. Amount and fee in minor units of `currency`."""

    merchant_id: str
    payout_id: str
    reference: str
    amount: int
    currency: str
    fee: int
    beneficiary_name: str
    beneficiary_iban: str
    description: str
    priority: int
    due_at: datetime | None
    max_retries: int
    metadata: dict[str, str]

    def needs(self, _peeked: Peeked) -> Needs:
        """Claims the reference; locks the accounts of the hold."""
        reference = PayoutReference(self.merchant_id, self.reference, self.payout_id)
        return Needs(
            claims=(Claim(REFERENCES, reference),),
            locks=account_locks(self.merchant_id, self.currency, recipes.CREATE_ROLES),
            journals=(self.merchant_id,),
        )

    def decide(self, ws: WorkingSet) -> Reply:
        """Raises `DueTooLate`, `DuplicateReference`, `UnknownAccount` or `InsufficientFunds`."""
        if self.due_at is not None and self.due_at > ws.now + DUE_AHEAD_MAX:
            raise DueTooLate("A payout is due within a year.", pointer="/due_at")
        taken = ws.claim(
            REFERENCES, PayoutReference(self.merchant_id, self.reference, self.payout_id)
        )
        if taken is not None:
            raise DuplicateReference(
                "There is a payout with this reference.",
                pointer="/reference",
                payout_id=taken.payout_id,
            )
        entry = ws.journal(
            self.merchant_id,
            "payout.funds_locked",
            self.payout_id,
            {
                "from": State.CREATED,
                "to": State.FUNDS_LOCKED,
                "version": 1,
                "reference": self.reference,
                "amount": self.amount,
                "currency": self.currency,
                "fee": self.fee,
                "iban": self.beneficiary_iban,
                "name": self.beneficiary_name,
            },
        )
        hold = recipes.payout_created(
            ws, entry, self.payout_id, amount=self.amount, fee=self.fee, currency=self.currency
        )
        due_at = max(self.due_at or ws.now, ws.now)
        payout = Payout(
            id=self.payout_id,
            merchant_id=self.merchant_id,
            reference=self.reference,
            amount=self.amount,
            currency=self.currency,
            fee=self.fee,
            state=State.FUNDS_LOCKED,
            version=1,
            beneficiary_name=self.beneficiary_name,
            beneficiary_iban=self.beneficiary_iban,
            description=self.description,
            priority=self.priority,
            metadata=canonical_json(self.metadata).decode(),
            due_at=due_at,
            next_attempt_at=due_at,
            expires_at=due_at + RETRY_BUDGET,
            attempt_count=0,
            retries_burned=0,
            max_retries=self.max_retries,
            hold_id=hold.id,
            provider=None,
            provider_ref=None,
            provider_cost=0,
            failure_code=None,
            failure_reason=None,
            amount_returned=0,
            created_at=ws.now,
            updated_at=ws.now,
            settled_at=None,
            correlation_id=self.origin.correlation_id,
        )
        ws.insert(PAYOUTS, payout)
        if due_at <= ws.now:
            ws.wake(WAKE)
        return Reply(201, payout_json(payout), payout.id)


class _OnPayout(CommandBase, frozen=True, kw_only=True):
    """A command about one existing payout."""

    payout_id: str

    def peeks(self) -> tuple[tuple[Table[Any], Key], ...]:
        """The payout, for its merchant, currency and hold."""
        return ((PAYOUTS, self.payout_id),)

    def needs(self, peeked: Peeked) -> Needs:
        """The payout, its hold and the accounts of its hold."""
        payout = peeked.find(PAYOUTS, self.payout_id)
        if payout is None:
            return Needs(locks=((PAYOUTS, self.payout_id),))
        return Needs(
            locks=(
                (PAYOUTS, payout.id),
                (HOLDS, payout.hold_id),
                *account_locks(payout.merchant_id, payout.currency, recipes.RELEASE_ROLES),
            ),
            children=(
                (PENDING_LEGS, payout.hold_id),
                (ATTEMPTS_OF_PAYOUT, payout.id),
                recipes.debt(payout.merchant_id, payout.currency),
            ),
            journals=(payout.merchant_id,),
        )

    def _may_have_left(self, ws: WorkingSet) -> bool:
        """Whether money of an unknown amount may have left: then the hold is not given back."""
        return any(map(is_frozen, ws.children(ATTEMPTS_OF_PAYOUT, self.payout_id)))


class CancelPayout(_OnPayout, frozen=True, kw_only=True):
    """Cancel a payout that has not left. `reason` is the merchant's own."""

    merchant_id: str
    reason: str = ""

    def needs(self, peeked: Peeked) -> Needs:
        """Of another merchant's payout nothing but the row that says so."""
        payout = peeked.find(PAYOUTS, self.payout_id)
        if payout is None or payout.merchant_id != self.merchant_id:
            return Needs(locks=((PAYOUTS, self.payout_id),))
        return super().needs(peeked)

    def decide(self, ws: WorkingSet) -> Reply:
        """Raises `PayoutNotFound`, or `AlreadyDispatched` with the payout's `state`."""
        payout = ws.find(PAYOUTS, self.payout_id)
        if payout is None or payout.merchant_id != self.merchant_id:
            raise PayoutNotFound("There is no such payout.")
        if payout.state not in (State.FUNDS_LOCKED, State.IN_REVIEW):
            raise AlreadyDispatched(f"The payout is {payout.state}.", state=payout.state)
        if self._may_have_left(ws):
            raise AlreadyDispatched("Another amount than asked may have left.", state=payout.state)
        cancelled = release(
            ws,
            payout,
            Event.CANCEL,
            recipe="payout_cancelled",
            code="cancelled",
            reason=self.reason or None,
        )
        return Reply(200, payout_json(cancelled), payout.id)


class ExpirePayout(_OnPayout, frozen=True, kw_only=True):
    """Give up a payout whose time ran out before it could be sent."""

    def decide(self, ws: WorkingSet) -> None:
        """Raises `NotDue` unless its hold may expire now: never while an attempt is open (F35)."""
        payout = ws.get(PAYOUTS, self.payout_id)
        if payout.state != State.FUNDS_LOCKED or payout.expires_at > ws.now:
            raise NotDue("The payout's hold may not expire.")
        if self._may_have_left(ws):
            raise NotDue("Another amount than asked may have left.")
        release(
            ws,
            payout,
            Event.EXPIRE,
            recipe="payout_expired",
            code="hold_expired",
            reason="The payout could not be sent in time.",
        )
