"""Double entry on a working set: what is posted, what is refused, and what a refusal leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from bursar.engine.errors import Undecided
from bursar.engine.model import JournalEntry
from bursar.engine.working_set import WorkingSet
from bursar.kit.errors import Refusal
from bursar.ledger import recipes
from bursar.ledger.book import COUNTER_MAX, Book, Leg
from bursar.ledger.errors import BalanceTooLarge, InsufficientFunds, UnknownAccount
from bursar.ledger.model import HOLDS, PENDING_LEGS, TRANSFERS, AccountRole, Hold
from tests.engine.wiring import SHOP
from tests.ledger.bookcheck import BOUND, Books, check_books, check_entries, counters_of
from tests.ledger.desk import ABSENT, Desk

BANK, AVAILABLE, FEES = AccountRole.BANK, AccountRole.AVAILABLE, AccountRole.FEES
CLEARING, RECEIVABLE = AccountRole.PROVIDER_CLEARING, AccountRole.RECEIVABLE


@dataclass(frozen=True)
class Due:
    """What a recipe must know of a payout."""

    id: str = "po_1"
    amount: int = 100
    fee: int = 0
    currency: str = "EUR"


def desk(funds: int = 0) -> Desk:
    """The shop's books in EUR, with `funds` available."""
    made = Desk((SHOP,), ("EUR",))
    if funds:
        post(made, Leg(BANK, AVAILABLE, funds))
    return made


def on_book(
    at: Desk, work: Callable[[Book], Hold | None], currency: str = "EUR", recipe: str = "test"
) -> Hold | None:
    """Work with a book as one decision."""

    def decision(ws: WorkingSet, entry: JournalEntry) -> Hold | None:
        return work(Book(ws, entry, currency, recipe=recipe, subject_id="po_1"))

    return at.decide(SHOP, "po_1", decision)


def post(at: Desk, *legs: Leg, currency: str = "EUR") -> None:
    """Post legs as one decision."""
    on_book(at, lambda book: book.post(*legs), currency)


def hold(at: Desk, *legs: Leg) -> str:
    """Hold legs as one decision; the hold's id."""
    made = on_book(at, lambda book: book.hold(*legs))
    assert made is not None
    return made.id


def end(at: Desk, hold_id: str, how: str) -> None:
    """Post, void or expire a hold as one decision."""
    ways: dict[str, Callable[[Book], None]] = {
        "posted": lambda book: book.post_hold(hold_id),
        "voided": lambda book: book.release_hold(hold_id),
        "expired": lambda book: book.release_hold(hold_id, expired=True),
    }
    on_book(at, ways[how])


def test_legs_of_zero_are_left_out() -> None:
    """No transfer moves nothing."""
    at = desk(100)
    post(at, Leg(BANK, AVAILABLE, 0), Leg(BANK, AVAILABLE, 5), Leg(BANK, RECEIVABLE, 0))
    hold_id = hold(at, Leg(AVAILABLE, CLEARING, 7), Leg(AVAILABLE, FEES, 0))
    assert [transfer.amount for transfer in at.rows(TRANSFERS)] == [100, 5, 7]
    assert [leg.amount for leg in at.ws.children(PENDING_LEGS, hold_id)] == [7]
    at.check()


def test_transfers_are_numbered_within_their_entry() -> None:
    """The key of a transfer is its journal entry and its line."""
    at = desk(100)
    post(at, Leg(AVAILABLE, CLEARING, 1), Leg(AVAILABLE, FEES, 0), Leg(AVAILABLE, FEES, 2))
    lines = [(transfer.journal_seq, transfer.line) for transfer in at.rows(TRANSFERS)]
    assert lines == [(1, 0), (2, 0), (2, 1)]


@pytest.mark.parametrize("how", ["posted", "voided", "expired"])
def test_a_hold_moves_pending_then_ends(how: str) -> None:
    """I4: all legs end in one way, at one moment."""
    at = desk(100)
    hold_id = hold(at, Leg(AVAILABLE, CLEARING, 60), Leg(AVAILABLE, FEES, 3))
    assert counters_of(at.account(SHOP, AVAILABLE, "EUR")) == (63, 0, 0, 100)
    assert counters_of(at.account(SHOP, CLEARING, "EUR")) == (0, 0, 60, 0)
    end(at, hold_id, how)
    at.check()
    assert [row.state for row in at.rows(HOLDS)] == [how]
    posted = how == "posted"
    assert counters_of(at.account(SHOP, AVAILABLE, "EUR")) == (0, 63 * posted, 0, 100)
    assert counters_of(at.account(SHOP, FEES, "EUR")) == (0, 0, 0, 3 * posted)


@pytest.mark.parametrize("first", ["posted", "voided", "expired"])
@pytest.mark.parametrize("second", ["posted", "voided", "expired"])
@pytest.mark.parametrize("next_group", [False, True])
def test_a_hold_ends_once(first: str, second: str, next_group: bool) -> None:  # noqa: FBT001
    """I4: a second end raises and changes nothing, in the same group and in a later one."""
    at = desk(100)
    hold_id = hold(at, Leg(AVAILABLE, CLEARING, 60))
    end(at, hold_id, first)
    if next_group:
        at.turn_page()
    before = at.image()
    with pytest.raises(ValueError, match=first):
        end(at, hold_id, second)
    assert at.image() == before
    at.check()


@pytest.mark.parametrize(
    "leg",
    [
        Leg(BANK, AVAILABLE, -1),
        Leg(AVAILABLE, CLEARING, -(2**70)),
        Leg(BANK, BANK, 1),
        Leg(AVAILABLE, AVAILABLE, 1),
    ],
)
def test_a_transfer_that_is_none_is_refused(leg: Leg) -> None:
    """F73: a negative amount, or one account on both sides, is a defect and not a posting."""
    at = desk(100)
    before = at.image()
    with pytest.raises(ValueError, match="a transfer of"):
        post(at, Leg(BANK, AVAILABLE, 1), leg)
    with pytest.raises(ValueError, match="a transfer of"):
        hold(at, Leg(AVAILABLE, CLEARING, 1), leg)
    assert at.image() == before


def test_an_unknown_currency_is_refused_with_its_field() -> None:
    """The merchant has no accounts in it: 422 with a pointer, and nothing changes."""
    at = desk()
    before = at.image()
    with pytest.raises(UnknownAccount) as caught:
        post(at, Leg(BANK, AVAILABLE, 1), currency=ABSENT)
    assert (caught.value.code, caught.value.status) == ("unknown_account", 422)
    assert caught.value.pointer == "/currency"
    assert at.image() == before


def test_an_account_that_was_not_loaded_is_not_unknown() -> None:
    """What no one read is undecided: the next group loads it."""
    with pytest.raises(Undecided):
        post(desk(), Leg(BANK, AVAILABLE, 1), currency="JPY")


@pytest.mark.parametrize("way", [post, hold])
def test_one_unit_too_much_is_refused(way: Callable[..., object]) -> None:
    """I3, F37: `available` never owes, and all legs are taken back."""
    at = desk(100)
    hold(at, Leg(AVAILABLE, CLEARING, 30))
    before = at.image()
    with pytest.raises(InsufficientFunds) as caught:
        way(at, Leg(AVAILABLE, CLEARING, 70), Leg(AVAILABLE, FEES, 1))
    assert (caught.value.code, caught.value.status) == ("insufficient_funds", 422)
    assert at.image() == before
    way(at, Leg(AVAILABLE, CLEARING, 69), Leg(AVAILABLE, FEES, 1))
    assert at.account(SHOP, AVAILABLE, "EUR").free == 0
    at.check()


def test_a_refused_hold_tells_what_is_available() -> None:
    """The client learns what it could ask for, all legs together."""
    with pytest.raises(InsufficientFunds, match="71 EUR asked for, 70 available") as caught:
        hold(desk(70), Leg(AVAILABLE, CLEARING, 70), Leg(AVAILABLE, FEES, 1))
    assert caught.value.extra == {"available": 70, "currency": "EUR"}


def test_only_available_has_a_limit() -> None:
    """What is not the merchant's to draw may stand on either side."""
    at = desk()
    post(at, Leg(CLEARING, AVAILABLE, 5), Leg(FEES, BANK, 3), Leg(RECEIVABLE, FEES, 2))
    assert at.account(SHOP, CLEARING, "EUR").balance == -5
    assert at.account(SHOP, BANK, "EUR").balance == -3
    check_entries(at.books())


def test_the_bound_of_a_counter() -> None:
    """F70: exactly the bound is kept, one unit more is refused and changes nothing."""
    assert COUNTER_MAX == BOUND
    at = desk(COUNTER_MAX)
    before = at.image()
    with pytest.raises(BalanceTooLarge) as caught:
        post(at, Leg(BANK, AVAILABLE, 1))
    assert (caught.value.code, caught.value.status) == ("balance_too_large", 422)
    with pytest.raises(BalanceTooLarge):
        post(at, Leg(BANK, AVAILABLE, 2**80))
    assert at.image() == before
    hold_id = hold(at, Leg(AVAILABLE, CLEARING, COUNTER_MAX))
    end(at, hold_id, "posted")
    at.check()


def test_a_hold_that_was_made_can_be_posted_at_the_bound() -> None:
    """F70: the bound is checked when the hold is made, pending and posted together."""
    at = desk(COUNTER_MAX)
    first = hold(at, Leg(AVAILABLE, CLEARING, COUNTER_MAX - 10))
    post(at, Leg(RECEIVABLE, CLEARING, 10))
    second_before = at.image()
    with pytest.raises(BalanceTooLarge):
        hold(at, Leg(AVAILABLE, CLEARING, 1))
    with pytest.raises(BalanceTooLarge):
        post(at, Leg(RECEIVABLE, CLEARING, 1))
    assert at.image() == second_before
    end(at, first, "posted")
    check_entries(at.books())


def test_a_refused_payout_leaves_no_hold_and_no_entry() -> None:
    """F37: the recipe is all or nothing, its journal entry included."""
    at = desk(100)
    before = at.image()
    with pytest.raises(InsufficientFunds):
        at.decide(
            SHOP,
            "po_1",
            lambda ws, entry: recipes.payout_created(
                ws, entry, "po_1", amount=100, fee=1, currency="EUR"
            ),
        )
    assert at.image() == before


def test_a_debt_of_amount_and_fee_has_one_incident_of_all_of_it() -> None:
    """F25, I26: the free balance is taken; amount and fee that it lacks are owed."""
    at = desk(30)
    payout = Due(amount=100, fee=5)
    at.decide(
        SHOP,
        payout.id,
        lambda ws, entry: recipes.payout_paid_late(ws, entry, payout, cost=2),
    )
    assert at.account(SHOP, RECEIVABLE, "EUR").balance == 75
    assert at.account(SHOP, AVAILABLE, "EUR").free == 0
    (incident,) = at.books().incidents
    assert (incident.subject_id, incident.amount) == (f"{SHOP}/receivable/EUR", 75)
    at.check()


# A refusal of any kind, after any past, changes no byte.

ROLES = st.sampled_from(list(AccountRole))
AMOUNTS = st.one_of(
    st.integers(0, 50),
    st.sampled_from([-1, COUNTER_MAX, COUNTER_MAX - 1, COUNTER_MAX + 1, COUNTER_MAX // 2, 2**63]),
)
LEGS = st.lists(st.builds(Leg, ROLES, ROLES, AMOUNTS), max_size=4)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["post", "hold", "posted", "voided", "expired"]),
        LEGS,
        st.integers(0, 3),
        st.sampled_from(["EUR", "EUR", "EUR", ABSENT, "JPY"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(funds=st.sampled_from([0, 40, COUNTER_MAX]), steps=STEPS)
def test_what_is_refused_changes_no_byte(
    funds: int, steps: list[tuple[str, list[Leg], int, str]]
) -> None:
    """F37, F70, F73: rows, and all that is to be written, are as they were."""
    at = desk(funds)
    for way, legs, place, currency in steps:
        before = at.image()
        holds = at.rows(HOLDS)
        try:
            if way == "post":
                post(at, *legs, currency=currency)
            elif way == "hold":
                on_book(at, lambda book, legs=legs: book.hold(*legs), currency)  # type: ignore[misc]
            elif place < len(holds):
                end(at, holds[place].id, way)
        except (Refusal, ValueError, Undecided) as error:
            event(type(error).__name__)
            assert at.image() == before
        check_entries(at.books())


# The judge itself must be able to find fault.


def _sound() -> Books:
    at = desk(100)
    end(at, hold(at, Leg(AVAILABLE, CLEARING, 60), Leg(AVAILABLE, FEES, 3)), "posted")
    hold(at, Leg(AVAILABLE, CLEARING, 30))
    late = Due(amount=50)
    at.decide(SHOP, "po_1", lambda ws, entry: recipes.payout_paid_late(ws, entry, late, cost=0))
    return at.books()


def _first(books: Books, place: int, **changes: object) -> Books:
    transfers = list(books.transfers)
    transfers[place] = msgspec.structs.replace(transfers[place], **changes)
    return replace(books, transfers=transfers)


PLANTED: dict[str, Callable[[Books], Books]] = {
    "a transfer lost": lambda books: replace(books, transfers=books.transfers[:-1]),
    "an amount changed": lambda books: _first(books, 0, amount=99),
    "another merchant's": lambda books: _first(books, 0, merchant_id="mer_x"),
    "another currency": lambda books: _first(books, 0, currency="JPY"),
    "a pending transfer ended twice": lambda books: replace(
        books,
        transfers=[
            *books.transfers,
            *(
                msgspec.structs.replace(transfer, id="tr_x")
                for transfer in books.transfers
                if transfer.kind == "post"
            ),
        ],
    ),
    "a hold opened again": lambda books: replace(
        books,
        holds=[msgspec.structs.replace(row, state="active", ended_at=None) for row in books.holds],
    ),
    "an incident lost": lambda books: replace(books, incidents=()),
    "an incident closed": lambda books: replace(
        books,
        incidents=[
            msgspec.structs.replace(row, closed_at=row.opened_at) for row in books.incidents
        ],
    ),
    "an incident of another amount": lambda books: replace(
        books,
        incidents=[msgspec.structs.replace(row, amount=row.amount + 1) for row in books.incidents],
    ),
    "an incident twice": lambda books: replace(
        books,
        incidents=[
            *books.incidents,
            *(msgspec.structs.replace(row, id="inc_x", amount=0) for row in books.incidents),
        ],
    ),
    "a counter moved": lambda books: replace(
        books,
        accounts=[
            msgspec.structs.replace(row, credits_posted=row.credits_posted + (row.role == "bank"))
            for row in books.accounts
        ],
    ),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_the_judge_finds_what_is_wrong(plant: Callable[[Books], Books]) -> None:
    """I1, I2, I4, I26: planted changes."""
    books = _sound()
    check_books(books)
    with pytest.raises(AssertionError):
        check_books(plant(books))
