"""All accounting of Bursar: one function per business event. Pure.

Dr / Cr are debit and credit. `available` is what we owe the merchant and it may draw;
`provider:clearing` is what we owe, or are owed by, providers; `bank` is money at our bank.
"""

from __future__ import annotations

from typing import Any, Protocol

from bursar.engine.model import ChildSet, JournalEntry
from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import keep_incident
from bursar.incidents.model import MERCHANT_OWES, OPEN_INCIDENTS
from bursar.ledger.book import Book, Leg
from bursar.ledger.model import AccountRole as Role
from bursar.ledger.model import Hold, address


class Payable(Protocol):
    """What a recipe must know of a payout."""

    @property
    def id(self) -> str:
        """Its identifier."""
        ...

    @property
    def amount(self) -> int:
        """Minor units for the beneficiary."""
        ...

    @property
    def fee(self) -> int:
        """Minor units for us, fixed when the payout was created."""
        ...

    @property
    def currency(self) -> str:
        """Of both."""
        ...


FUND_ROLES = (Role.BANK, Role.AVAILABLE, Role.RECEIVABLE)
CREATE_ROLES = (Role.AVAILABLE, Role.PROVIDER_CLEARING, Role.FEES)
RELEASE_ROLES = (*CREATE_ROLES, Role.RECEIVABLE)
OUTCOME_ROLES = (*RELEASE_ROLES, Role.COSTS)


def debt(merchant_id: str, currency: str) -> tuple[ChildSet[Any], str]:
    """What a command must read beside the accounts if its recipe may touch `receivable`."""
    return OPEN_INCIDENTS, address(merchant_id, Role.RECEIVABLE, currency)


def fund(ws: WorkingSet, entry: JournalEntry, *, amount: int, currency: str) -> None:
    """Money arrived. Dr bank / Cr receivable for what is owed to us, the rest Cr available."""
    book = Book(ws, entry, currency, recipe="fund", subject_id=entry.subject_id)
    repaid = _repayable(book, amount)
    _post(
        ws,
        entry,
        book,
        Leg(Role.BANK, Role.RECEIVABLE, repaid),
        Leg(Role.BANK, Role.AVAILABLE, amount - repaid),
    )


def payout_created(
    ws: WorkingSet,
    entry: JournalEntry,
    payout_id: str,
    *,
    amount: int,
    fee: int,
    currency: str,
    recipe: str = "payout_created",
) -> Hold:
    """One hold: pending Dr available / Cr provider:clearing, and Dr available / Cr fees.

    `recipe` is `payout_retried` for a payout that had ended. Raises `InsufficientFunds`.
    """
    book = Book(ws, entry, currency, recipe=recipe, subject_id=payout_id)
    return book.hold(
        Leg(Role.AVAILABLE, Role.PROVIDER_CLEARING, amount),
        Leg(Role.AVAILABLE, Role.FEES, fee),
    )


def payout_settled(
    ws: WorkingSet, entry: JournalEntry, payout: Payable, *, hold_id: str, cost: int
) -> None:
    """Post the hold. The provider's charge is Dr costs / Cr provider:clearing."""
    book = Book(ws, entry, payout.currency, recipe="payout_settled", subject_id=payout.id)
    book.post_hold(hold_id)
    book.post(Leg(Role.COSTS, Role.PROVIDER_CLEARING, cost))


def payout_released(
    ws: WorkingSet, entry: JournalEntry, payout: Payable, *, hold_id: str, recipe: str
) -> None:
    """Failed, cancelled or expired: the hold is given back. `recipe` names which.

    What the merchant owes us is repaid first: Dr available / Cr receivable.
    """
    book = Book(ws, entry, payout.currency, recipe=recipe, subject_id=payout.id)
    book.release_hold(hold_id, expired=recipe == "payout_expired")
    _post(ws, entry, book, _repayment(book))


def payout_paid_late(ws: WorkingSet, entry: JournalEntry, payout: Payable, *, cost: int) -> None:
    """Paid though the hold was given back: an obligation, so it posts whatever is available."""
    book = Book(ws, entry, payout.currency, recipe="payout_paid_late", subject_id=payout.id)
    owed = _owed(book, (Role.PROVIDER_CLEARING, payout.amount), (Role.FEES, payout.fee))
    _post(ws, entry, book, *owed, Leg(Role.COSTS, Role.PROVIDER_CLEARING, cost))


def payout_paid_again(ws: WorkingSet, entry: JournalEntry, payout: Payable, *, cost: int) -> None:
    """Paid beside another attempt: an obligation like a late one, but our fee is owed once."""
    book = Book(ws, entry, payout.currency, recipe="payout_paid_again", subject_id=payout.id)
    owed = _owed(book, (Role.PROVIDER_CLEARING, payout.amount))
    _post(ws, entry, book, *owed, Leg(Role.COSTS, Role.PROVIDER_CLEARING, cost))


def payout_paid_before(
    ws: WorkingSet, entry: JournalEntry, payout: Payable, *, hold_id: str
) -> None:
    """The open attempt moved nothing, but an earlier one had paid and was booked as paid again.

    The hold is given back; of what it held, only our fee is still owed, and what was booked as the
    merchant's debt when the earlier attempt was told.
    """
    book = Book(ws, entry, payout.currency, recipe="payout_paid_before", subject_id=payout.id)
    book.release_hold(hold_id)
    _post(ws, entry, book, *_owed(book, (Role.FEES, payout.fee)))
    _post(ws, entry, book, _repayment(book))


def payout_returned(ws: WorkingSet, entry: JournalEntry, payout: Payable, *, amount: int) -> None:
    """The provider gave `amount` back: Dr provider:clearing, repaying what is owed to us first.

    Our fee is kept.
    """
    book = Book(ws, entry, payout.currency, recipe="payout_returned", subject_id=payout.id)
    repaid = _repayable(book, amount)
    _post(
        ws,
        entry,
        book,
        Leg(Role.PROVIDER_CLEARING, Role.RECEIVABLE, repaid),
        Leg(Role.PROVIDER_CLEARING, Role.AVAILABLE, amount - repaid),
    )


def _repayable(book: Book, amount: int) -> int:
    return min(amount, max(0, book.account(Role.RECEIVABLE).balance))


def _repayment(book: Book) -> Leg:
    """What is free again, as far as the merchant owes it to us."""
    free = max(0, book.account(Role.AVAILABLE).free)
    return Leg(Role.AVAILABLE, Role.RECEIVABLE, _repayable(book, free))


def _owed(book: Book, *owed: tuple[Role, int]) -> list[Leg]:
    """An obligation: the free balance as far as it goes, and the rest as a receivable."""
    free = max(0, book.account(Role.AVAILABLE).free)
    legs: list[Leg] = []
    for credit, amount in owed:
        taken = min(amount, free)
        free -= taken
        legs += Leg(Role.AVAILABLE, credit, taken), Leg(Role.RECEIVABLE, credit, amount - taken)
    return legs


def _post(ws: WorkingSet, entry: JournalEntry, book: Book, *legs: Leg) -> None:
    """Post what may change `receivable`, and keep a human told of what stands there (I26).

    The account has one open incident, `merchant_owes`, whose amount is its balance; none at 0.
    """
    book.post(*legs)
    if any(leg.amount and Role.RECEIVABLE in (leg.debit, leg.credit) for leg in legs):
        receivable = book.account(Role.RECEIVABLE)
        keep_incident(
            ws,
            entry,
            kind=MERCHANT_OWES,
            subject_id=receivable.address,
            amount=receivable.balance,
            currency=receivable.currency,
        )
