"""The contract of a store, held to Postgres and to its in-memory twin alike."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bursar.engine.errors import ConstraintError, RowHeld, StaleRow, TransactionConflict
from bursar.engine.model import (
    GROUP_COMMITS,
    IDEMPOTENCY_KEYS,
    GroupCommit,
    IdempotencyKey,
    Row,
    Table,
)
from bursar.engine.store import Session
from bursar.engine.working_set import Changes
from bursar.ledger.model import (
    ACCOUNTS,
    HOLDS,
    PENDING_LEGS,
    TRANSFERS,
    AccountRole,
    Hold,
    Transfer,
    address,
)
from bursar.payouts.model import PAYOUTS, REFERENCES, PayoutReference
from tests.engine.stores import Place
from tests.engine.wiring import SHOP, T0

AVAILABLE = address(SHOP, AccountRole.AVAILABLE, "EUR")
FEES = address(SHOP, AccountRole.FEES, "EUR")


def _changes(
    *,
    updates: dict[Table[Any], list[Any]] | None = None,
    inserts: dict[Table[Any], list[Any]] | None = None,
    released: dict[Table[Any], list[Any]] | None = None,
) -> Changes:
    return Changes(updates or {}, inserts or {}, released or {}, frozenset())


async def _stored(place: Place, table: Table[Any], *rows: Row) -> None:
    """Commit these rows."""
    session = await place.store.begin()
    await session.write(_changes(inserts={table: list(rows)}))
    await session.commit()


async def _locked(
    place: Place, table: Table[Any], *keys: Any, patience_s: float | None = None
) -> list[Any]:
    """The committed rows under these keys."""
    session = await place.store.begin(patience_s=patience_s)
    try:
        return list(await session.lock(table, list(keys)))
    finally:
        await session.rollback()


def _reference(name: str, payout: str = "po_1") -> PayoutReference:
    return PayoutReference(SHOP, name, payout)


def _hold(name: str, *, state: str = "active", subject: str = "po_1") -> Hold:
    return Hold(f"hd_{name}", SHOP, subject, state, T0, None if state == "active" else T0)


def _leg(seq: int, line: int, hold_id: str, kind: str = "pending") -> Transfer:
    pending = f"tr_{seq - 1}_{line}" if kind != "pending" else None
    return Transfer(
        SHOP,
        seq,
        line,
        f"tr_{seq}_{line}",
        kind,
        "payout_created",
        "po_1",
        AVAILABLE,
        FEES,
        7,
        "EUR",
        hold_id,
        pending,
        T0,
    )


class TestClaim:
    async def test_wins_what_is_not_there_and_says_which(self, place: Place) -> None:
        """What somebody has already is not won, and stays as it is."""
        await _stored_claims(place, _reference("b"))
        session = await place.store.begin()
        won = await session.claim(REFERENCES, [_reference("a"), _reference("b", "po_2")])
        assert list(won) == [(SHOP, "a")]
        await session.commit()
        assert await _locked(place, REFERENCES, (SHOP, "a"), (SHOP, "b")) == [
            _reference("a"),
            _reference("b"),
        ]

    async def test_is_forgotten_by_a_rollback(self, place: Place) -> None:
        """F1: the key and its work are one transaction."""
        session = await place.store.begin()
        await session.claim(REFERENCES, [_reference("a")])
        await session.rollback()
        assert await _locked(place, REFERENCES, (SHOP, "a")) == []

    async def test_that_is_released_leaves_nothing(self, place: Place) -> None:
        """A claim that no decision used is as if it had never been made."""
        key = IdempotencyKey(SHOP, "k", b"f", "claimed", 0, b"", "", T0)
        session = await place.store.begin()
        await session.claim(IDEMPOTENCY_KEYS, [key])
        await session.claim(REFERENCES, [_reference("a"), _reference("b")])
        await session.write(
            _changes(released={IDEMPOTENCY_KEYS: [(SHOP, "k")], REFERENCES: [(SHOP, "a")]})
        )
        await session.commit()
        assert await _locked(place, IDEMPOTENCY_KEYS, (SHOP, "k")) == []
        assert await _locked(place, REFERENCES, (SHOP, "a"), (SHOP, "b")) == [_reference("b")]

    @pytest.mark.parametrize("first_commits", [True, False])
    async def test_waits_for_a_rival(self, place: Place, *, first_commits: bool) -> None:
        """F41: the second INSERT of a key answers only when the first one's fate is known."""
        first = await place.store.begin()
        await first.claim(REFERENCES, [_reference("a", "po_1")])
        second = asyncio.create_task(self._claim_and_lock(place))
        await asyncio.sleep(0.05)
        assert not second.done()
        await (first.commit() if first_commits else first.rollback())
        won, found = await second
        assert won == ([] if first_commits else [(SHOP, "a")])
        assert found == [_reference("a", "po_1" if first_commits else "po_2")]

    async def _claim_and_lock(self, place: Place) -> tuple[list[Any], list[Any]]:
        session = await place.store.begin()
        won = list(await session.claim(REFERENCES, [_reference("a", "po_2")]))
        found = list(await session.lock(REFERENCES, [(SHOP, "a")]))
        await session.commit()
        return won, found


async def _stored_claims(place: Place, *rows: PayoutReference) -> None:
    session = await place.store.begin()
    await session.claim(REFERENCES, list(rows))
    await session.commit()


class TestLock:
    async def test_gives_what_exists_in_key_order(self, place: Place) -> None:
        """F38: a fixed order of locks."""
        found = await _locked(place, ACCOUNTS, AVAILABLE, FEES, "nobody")
        assert [row.address for row in found] == sorted([AVAILABLE, FEES])

    async def test_makes_another_transaction_wait(self, place: Place) -> None:
        """F37: nobody decides on a balance that somebody else is changing."""
        first = await place.store.begin()
        (account,) = await first.lock(ACCOUNTS, [AVAILABLE])
        second = asyncio.create_task(_locked(place, ACCOUNTS, AVAILABLE))
        await asyncio.sleep(0.05)
        assert not second.done()
        await first.write(_changes(updates={ACCOUNTS: [_with(account, credits_posted=5)]}))
        await first.commit()
        assert [row.credits_posted for row in await second] == [5]

    async def test_is_waited_for_as_long_as_one_has_patience(self, place: Place) -> None:
        """F38: and no longer: `RowHeld`, which leaves the row to whoever has it."""
        first = await place.store.begin()
        (account,) = await first.lock(ACCOUNTS, [AVAILABLE])
        began = time.monotonic()
        with pytest.raises(RowHeld):
            await _locked(place, ACCOUNTS, AVAILABLE, patience_s=0.1)
        assert 0.05 < time.monotonic() - began < 2
        await first.rollback()
        assert await _locked(place, ACCOUNTS, AVAILABLE, patience_s=0.1) == [account]

    async def test_peek_waits_for_nobody(self, place: Place) -> None:
        """A row that is not there is left out."""
        session = await place.store.begin()
        assert list(await session.peek(PAYOUTS, ["po_none"])) == []
        await session.rollback()


def _with(row: Any, **values: Any) -> Any:
    return msgspec.structs.replace(row, **values)


class TestChildren:
    async def test_are_those_of_the_set_in_key_order(self, place: Place) -> None:
        """Only pending legs, and only of the holds asked for."""
        await _stored(
            place, HOLDS, _hold("1"), _hold("2", subject="po_2"), _hold("3", subject="po_3")
        )
        ended = _leg(3, 0, "hd_1", kind="void")
        await _stored(
            place, TRANSFERS, ended, _leg(2, 1, "hd_1"), _leg(2, 0, "hd_1"), _leg(2, 2, "hd_2")
        )
        await _stored(place, TRANSFERS, _leg(2, 3, "hd_3"))
        session = await place.store.begin()
        found = await session.children(PENDING_LEGS, ["hd_1", "hd_2"])
        await session.rollback()
        assert list(found) == [_leg(2, 0, "hd_1"), _leg(2, 1, "hd_1"), _leg(2, 2, "hd_2")]


class TestWrite:
    async def test_updates_come_before_inserts(self, place: Place) -> None:
        """A hold may end and another begin in one group, though only one may be active."""
        await _stored(place, HOLDS, _hold("1"))
        session = await place.store.begin()
        await session.lock(HOLDS, ["hd_1"])
        ended = _hold("1", state="voided")
        await session.write(_changes(updates={HOLDS: [ended]}, inserts={HOLDS: [_hold("2")]}))
        await session.commit()
        assert await _locked(place, HOLDS, "hd_1", "hd_2") == [ended, _hold("2")]

    async def test_counts_the_rows_of_each_update(self, place: Place) -> None:
        """F33: an update that meets no row is noticed, and nothing of its group stays."""
        await _stored(place, HOLDS, _hold("1"))
        session = await place.store.begin()
        ghosts = [_hold("1", state="voided"), _hold("9", state="voided")]
        with pytest.raises(StaleRow):
            await session.write(_changes(updates={HOLDS: ghosts}))
        await session.rollback()
        assert await _locked(place, HOLDS, "hd_1", "hd_9") == [_hold("1")]

    @pytest.mark.parametrize(
        ("table", "row", "constraint"),
        [
            (HOLDS, _hold("1", subject="po_7"), "holds_pkey"),
            (HOLDS, _hold("2"), "one_active_hold"),
            (
                TRANSFERS,
                _with(_leg(3, 1, "hd_1", "void"), pending_id="tr_2_0"),
                "pending_ends_once",
            ),
        ],
    )
    async def test_unique_constraints_refuse_by_name(
        self, place: Place, table: Table[Any], row: Row, constraint: str
    ) -> None:
        """I4: the schema itself lets a hold end once and a subject have one."""
        await _stored(place, HOLDS, _hold("1"))
        await _stored(place, TRANSFERS, _leg(2, 0, "hd_1"), _leg(3, 0, "hd_1", "void"))
        session = await place.store.begin()
        with pytest.raises(ConstraintError) as refused:
            await session.write(_changes(inserts={table: [row]}))
        await session.rollback()
        assert refused.value.constraint == constraint


class TestEnd:
    async def test_a_rollback_forgets_everything(self, place: Place) -> None:
        """F8."""
        session = await place.store.begin()
        await session.claim(REFERENCES, [_reference("a")])
        (account,) = await session.lock(ACCOUNTS, [AVAILABLE])
        credited = _with(account, credits_posted=9)
        await session.write(_changes(updates={ACCOUNTS: [credited]}, inserts={HOLDS: [_hold("1")]}))
        await session.rollback()
        assert await _locked(place, ACCOUNTS, AVAILABLE) == [account]
        assert await _locked(place, HOLDS, "hd_1") == []
        assert await _locked(place, REFERENCES, (SHOP, "a")) == []

    async def test_a_rollback_after_the_end_is_harmless(self, place: Place) -> None:
        """It must not end the transaction of somebody else who came after."""
        first = await place.store.begin()
        await first.commit()
        second = await place.store.begin()
        (account,) = await second.lock(ACCOUNTS, [AVAILABLE])
        await first.rollback()
        third = asyncio.create_task(_locked(place, ACCOUNTS, AVAILABLE))
        await asyncio.sleep(0.05)
        assert not third.done()
        await second.commit()
        assert await third == [account]

    async def test_time_stands_still_within_a_transaction(self, place: Place) -> None:
        """F39: one reading of one clock per group."""
        session = await place.store.begin()
        began = session.now
        await asyncio.sleep(0.01)
        assert session.now == began
        await session.rollback()
        later = await place.store.begin()
        assert began <= later.now <= began + timedelta(minutes=1)
        assert later.now.utcoffset() == timedelta(0)
        await later.rollback()


async def _commit_group(session: Session, group_id: str) -> None:
    commit = GroupCommit(group_id, tombstone=False, at=session.now)
    await session.write(_changes(inserts={GROUP_COMMITS: [commit]}))
    await session.commit()


class TestEntomb:
    async def test_says_that_a_group_had_committed(self, place: Place) -> None:
        """F49."""
        await _commit_group(await place.store.begin(), "grp_1")
        assert await place.store.entomb("grp_1") is True
        assert await place.store.entomb("grp_1") is True

    async def test_says_that_a_group_never_can(self, place: Place) -> None:
        """F49: and from then on it is so."""
        assert await place.store.entomb("grp_1") is False
        session = await place.store.begin()
        with pytest.raises(TransactionConflict):
            await _commit_group(session, "grp_1")
        await session.rollback()
        assert await place.store.entomb("grp_1") is False

    @pytest.mark.parametrize("committed", [True, False])
    async def test_waits_for_the_transaction_in_question(
        self, place: Place, *, committed: bool
    ) -> None:
        """F49: while COMMIT may still be on its way there is no answer."""
        session = await place.store.begin()
        commit = GroupCommit("grp_1", tombstone=False, at=session.now)
        await session.write(_changes(inserts={GROUP_COMMITS: [commit]}))
        answer = asyncio.create_task(place.store.entomb("grp_1"))
        await asyncio.sleep(0.05)
        assert not answer.done()
        await (session.commit() if committed else session.rollback())
        assert await answer is committed
