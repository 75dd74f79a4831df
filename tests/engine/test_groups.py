"""What commands of one group may and may not do to each other, on Postgres and on the twin."""

import asyncio
from typing import Any

import msgspec
import pytest

from bursar.engine.engine import Engine
from bursar.engine.errors import CommandFailed, ConstraintViolated, Overloaded
from bursar.engine.model import IDEMPOTENCY_KEYS, JOURNAL, Command, Needs
from bursar.engine.working_set import WorkingSet
from bursar.kit.errors import BursarError
from bursar.ledger.errors import InsufficientFunds
from bursar.ledger.model import ACCOUNTS, HOLDS, PENDING_LEGS, AccountRole, Hold, address
from bursar.payouts.errors import DuplicateReference
from bursar.payouts.model import ATTEMPTS, PAYOUTS, REFERENCES
from tests.engine.faults import Act, Faulty, act
from tests.engine.stores import Place
from tests.engine.wiring import SHOP, T0, asked, begin, create, fund

AVAILABLE = address(SHOP, AccountRole.AVAILABLE, "EUR")


async def together(engine: Engine, *commands: Command[Any]) -> list[Any]:
    """Submit all before the engine runs, so that they make one group; refusals as values."""
    return await asyncio.gather(*map(engine.submit, commands), return_exceptions=True)


async def funded(place: Place, amount: int = 100, **options: Any) -> Engine:
    """An engine over a merchant that has `amount` EUR."""
    engine = place.engine(**options)
    await engine.submit(fund(amount))
    return engine


class TestRefusal:
    async def test_takes_back_that_command_alone(self, place: Place) -> None:
        """F37: of three payouts, the one that the balance can't bear leaves no trace."""
        engine = await funded(place, 100)
        first, second, third = await together(
            engine, create("a", 60), create("b", 60), create("c", 40)
        )
        assert (first.status, third.status) == (201, 201)
        assert isinstance(second, InsufficientFunds)
        assert second.extra == {"available": 40, "currency": "EUR"}
        assert [payout.id for payout in await place.rows(PAYOUTS)] == ["po_a", "po_c"]
        assert {entry.subject_id for entry in await place.rows(JOURNAL)} >= {"po_a", "po_c"}
        assert "po_b" not in {entry.subject_id for entry in await place.rows(JOURNAL)}
        assert {hold.subject_id for hold in await place.rows(HOLDS)} == {"po_a", "po_c"}

    async def test_gives_back_its_claims(self, place: Place) -> None:
        """F43: a reference belongs to a payout that exists; a refused one takes none."""
        engine = await funded(place, 10)
        with pytest.raises(InsufficientFunds):
            await engine.submit(create("a", 60))
        assert await place.rows(REFERENCES) == []
        await engine.submit(fund(100))
        assert (await engine.submit(create("b", 60, reference="a"))).status == 201
        with pytest.raises(DuplicateReference) as refused:
            await engine.submit(create("c", 10, reference="a"))
        assert refused.value.extra == {"payout_id": "po_b"}

    async def test_passes_its_claim_to_the_next_in_the_group(self, place: Place) -> None:
        """F41: the reference that the first could not use is the second's, in one group."""
        engine = await funded(place, 10)
        first, second = await together(
            engine, create("a", 60, reference="r"), create("b", 5, reference="r")
        )
        assert isinstance(first, InsufficientFunds)
        assert second.status == 201
        assert [row.payout_id for row in await place.rows(REFERENCES)] == ["po_b"]


class TestUndecided:
    async def test_goes_to_the_next_group_with_what_it_lacked(self, place: Place) -> None:
        """A row, a child set and a journal that a command did not ask for are loaded for it."""
        engine = await funded(place, 100)
        await engine.submit(create("a", 60))
        (payout,) = await place.rows(PAYOUTS)

        def decide(ws: WorkingSet) -> tuple[int, int]:
            ws.journal(SHOP, "test.noted", "x", {})
            free = ws.get(ACCOUNTS, AVAILABLE).free
            return free, len(ws.children(*_legs(payout.hold_id)))

        later, other = await together(engine, act(decide), create("b", 10))
        assert later == (30, 1)
        assert other.status == 201

    async def test_of_a_stale_peek_is_decided_in_the_end(self, place: Place) -> None:
        """F24: a payout that was committed between the look and the lock is found."""
        faulty = Faulty(place.store)
        engine = place.engine(faulty)
        await engine.submit(fund(100))
        await engine.submit(create("a", 60))
        faulty.blind_peeks = 1
        begun = await engine.submit(begin("a", "1"))
        assert begun.attempt.payout_id == "po_a"

    async def test_for_ever_ends_as_overloaded(self, place: Place) -> None:
        """A command that never says enough is given up; the others never notice."""
        engine = await funded(place, 100)
        names = iter(range(1000))

        def decide(ws: WorkingSet) -> None:
            ws.get(ACCOUNTS, f"nobody/{next(names)}")

        endless, other = await together(engine, act(decide), create("a", 60))
        assert isinstance(endless, Overloaded)
        assert other.status == 201


def _legs(hold_id: str) -> tuple[Any, str]:
    return PENDING_LEGS, hold_id


def _raise(_ws: WorkingSet) -> None:
    raise ZeroDivisionError


def _half_done(ws: WorkingSet) -> None:
    account = ws.get(ACCOUNTS, AVAILABLE)
    ws.journal(SHOP, "test.half_done", "x", {})
    ws.update(ACCOUNTS, _credited(account))
    raise ZeroDivisionError


def _credited(account: Any) -> Any:
    return msgspec.structs.replace(account, credits_posted=account.credits_posted + 1_000)


def _no_such_row(ws: WorkingSet) -> None:
    ws.get(ACCOUNTS, "nobody")


POISONS = {
    "raises": act(_raise),
    "raises half-way": act(
        _half_done, wants=Needs(locks=((ACCOUNTS, AVAILABLE),), journals=(SHOP,))
    ),
    "raises before deciding": act(_raise, wants=ZeroDivisionError()),
    "misses a row": act(_no_such_row, wants=Needs(locks=((ACCOUNTS, "nobody"),))),
    "names no table that is known": act(_raise, wants=Needs(locks=(("nonsense", "x"),))),  # type: ignore[arg-type]
}


class TestPoison:
    @pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
    async def test_that_raises_harms_nobody_else(self, place: Place, poison: Act) -> None:
        """F45: an exception fails its command alone, and takes back what that had done."""
        engine = await funded(place, 100)
        before, failed, after = await together(engine, create("a", 10), poison, create("b", 20))
        assert isinstance(failed, CommandFailed)
        assert (before.status, after.status) == (201, 201)
        accounts = {account.address: account for account in await place.rows(ACCOUNTS)}
        assert (accounts[AVAILABLE].free, accounts[AVAILABLE].credits_posted) == (70, 100)
        assert "test.half_done" not in {entry.kind for entry in await place.rows(JOURNAL)}

    async def test_that_breaks_a_constraint_is_refused_alone(self, place: Place) -> None:
        """F45: the group is rolled back and each runs alone; only the offender hears of it."""
        engine = await funded(place, 100)
        await engine.submit(create("a", 10))

        def second_hold(ws: WorkingSet) -> None:
            ws.insert(HOLDS, Hold("hd_x", SHOP, "po_a", "active", T0, None))

        before, failed, after = await together(
            engine, create("b", 10), act(second_hold), create("c", 20)
        )
        assert isinstance(failed, ConstraintViolated)
        assert failed.extra == {"constraint": "one_active_hold"}
        assert (before.status, after.status) == (201, 201)
        assert {hold.id for hold in await place.rows(HOLDS)}.isdisjoint({"hd_x"})
        assert len(await place.rows(HOLDS)) == 3

    @pytest.mark.parametrize(
        "poison",
        [
            create("x", 1, reference="nul \0 byte"),
            create("x", 1, reference="lone \ud800 surrogate"),
            create("x", 1, max_retries=2**31),
            create("x", 2**63),
            fund(2**200),
        ],
        ids=["nul", "surrogate", "int4", "int8", "2^200"],
    )
    async def test_that_postgres_cannot_store_is_refused_alone(
        self, on_postgres: Place, poison: Command[Any]
    ) -> None:
        """F70, F77: what the edge should have caught hurts its own command only."""
        engine = await funded(on_postgres, 100)
        before, failed, after = await together(engine, create("a", 10), poison, create("b", 20))
        assert isinstance(failed, BursarError)
        assert not isinstance(failed, Overloaded)
        assert (before.status, after.status) == (201, 201)
        assert [payout.id for payout in await on_postgres.rows(PAYOUTS)] == ["po_a", "po_b"]

    async def test_leaves_its_key_free(self, place: Place) -> None:
        """F44: no key without its work: a request that failed by our fault can be sent again."""
        engine = await funded(place, 100)
        poison = Act(origin=create("a").origin, request=asked("k"), act=_raise)
        (failed,) = await together(engine, poison)
        assert isinstance(failed, CommandFailed)
        assert await place.rows(IDEMPOTENCY_KEYS) == []
        assert (await engine.submit(create("a", 10, request=asked("k")))).replayed is False


class TestOneGroup:
    async def test_sees_what_came_before_in_it(self, place: Place) -> None:
        """Create, begin and a second begin in one group: the second worker is refused (F32)."""
        engine = await funded(place, 100)
        made, begun, late = await together(
            engine, create("a", 60), begin("a", "1"), begin("a", "2", token="ls_2")
        )
        assert made.status == 201
        assert begun.attempt.id == "pa_1"
        assert isinstance(late, BursarError)
        assert late.code == "not_due"
        assert [attempt.id for attempt in await place.rows(ATTEMPTS)] == ["pa_1"]
