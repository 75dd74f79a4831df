"""The engine between its callers and a database that may be busy, away or gone."""

import asyncio
from typing import Any

import asyncpg
import pytest

from bursar.bootstrap import RULES
from bursar.engine.engine import Engine
from bursar.engine.errors import (
    CommitUnknown,
    DatabaseAway,
    OutcomeUnknown,
    Overloaded,
    TransactionConflict,
)
from bursar.engine.model import GROUP_COMMITS
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.ledger.model import ACCOUNTS, AccountRole, address
from tests.engine.faults import Faulty, act
from tests.engine.stores import Place
from tests.engine.wiring import SHOP, create, fund

AVAILABLE = address(SHOP, AccountRole.AVAILABLE, "EUR")


async def _free(place: Place) -> int:
    return next(row.free for row in await place.rows(ACCOUNTS) if row.address == AVAILABLE)


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class TestBackPressure:
    async def test_a_full_queue_refuses_at_once(self, on_twin: Place) -> None:
        """F31: the refusal says when to come back, costs no work, and changes nothing."""
        faulty = Faulty(on_twin.store)
        engine = on_twin.engine(faulty, group_max=1, queue_max=2)
        faulty.gate.clear()
        in_flight = asyncio.create_task(engine.submit(fund(1)))
        await _turns()
        queued = [asyncio.create_task(engine.submit(fund(10))) for _ in range(2)]
        await _turns()
        with pytest.raises(Overloaded) as refused:
            await engine.submit(fund(100))
        assert refused.value.retry_after_s >= 1
        assert refused.value.status == 503
        faulty.gate.set()
        await asyncio.gather(in_flight, *queued)
        assert await _free(on_twin) == 21
        await engine.submit(fund(100))
        assert await _free(on_twin) == 121

    async def test_what_waits_goes_together(self, on_twin: Place) -> None:
        """One group in flight; all that queued behind it is the next, up to the bound."""
        faulty = Faulty(on_twin.store)
        engine = on_twin.engine(faulty, group_max=8)
        faulty.gate.clear()
        tasks = [asyncio.create_task(engine.submit(fund(1)))]
        await _turns()
        tasks += [asyncio.create_task(engine.submit(fund(1))) for _ in range(16)]
        await _turns()
        faulty.gate.set()
        await asyncio.gather(*tasks)
        assert faulty.begun == 3
        assert await _free(on_twin) == 17


class TestConflicts:
    @pytest.mark.parametrize("step", ["begin", "lock", "write", "commit"])
    @pytest.mark.parametrize("conflict", [TransactionConflict("x"), DatabaseAway("x")])
    async def test_run_again(self, on_twin: Place, step: str, conflict: Exception) -> None:
        """F38: a deadlock or a lost connection before COMMIT costs a second try."""
        faulty = Faulty(on_twin.store)
        faulty.fail(step, conflict, conflict)
        await on_twin.engine(faulty).submit(fund(5))
        assert (faulty.begun, await _free(on_twin)) == (3, 5)

    @pytest.mark.parametrize(
        ("conflict", "tries"), [(TransactionConflict("x"), 3), (DatabaseAway("x"), 8)]
    )
    async def test_end_as_overloaded_with_nothing_done(
        self, on_twin: Place, conflict: Exception, tries: int
    ) -> None:
        """F38: bounded, and never a 500."""
        faulty = Faulty(on_twin.store)
        engine = on_twin.engine(faulty)
        faulty.fail("write", *[conflict] * tries)
        with pytest.raises(Overloaded):
            await engine.submit(fund(5))
        assert (faulty.begun, await _free(on_twin)) == (tries, 0)
        await engine.submit(fund(5))
        assert await _free(on_twin) == 5


class TestLostCommits:
    """The rule; `test_lost_commit.py` cuts real sockets."""

    async def test_that_happened_is_delivered(self, on_twin: Place) -> None:
        """F49: the caller hears the result, and the work is done once."""
        faulty = Faulty(on_twin.store)
        faulty.fail("committed", CommitUnknown("cut"))
        await on_twin.engine(faulty).submit(fund(5))
        assert (faulty.begun, await _free(on_twin)) == (1, 5)

    async def test_that_never_happened_is_run_again(self, on_twin: Place) -> None:
        """F49: under another id, for the first one's is a tombstone."""
        faulty = Faulty(on_twin.store)
        faulty.fail("commit", CommitUnknown("cut"))
        before = await on_twin.rows(GROUP_COMMITS)
        await on_twin.engine(faulty).submit(fund(5))
        assert (faulty.begun, await _free(on_twin)) == (2, 5)
        commits = [row for row in await on_twin.rows(GROUP_COMMITS) if row not in before]
        assert sorted(commit.tombstone for commit in commits) == [False, True]

    async def test_are_settled_whatever_error_comes_first(self, on_twin: Place) -> None:
        """F49, F54: a standby, a full disk, a bug: no error says that nothing was committed."""
        faulty = Faulty(on_twin.store)
        faulty.fail("committed", CommitUnknown("cut"))
        errors = (asyncpg.ReadOnlySQLTransactionError("x"), asyncpg.DiskFullError("x"))
        faulty.fail("entomb", *errors, asyncpg.InternalServerError("x"), ValueError("x"))
        await on_twin.engine(faulty).submit(fund(5))
        assert (faulty.begun, await _free(on_twin)) == (1, 5)

    @pytest.mark.parametrize("error", [TransactionConflict("away"), ValueError("x")])
    async def test_that_no_database_can_settle_is_said_to_be_unknown(
        self, on_twin: Place, error: Exception
    ) -> None:
        """F49: 503 after a bounded wait; the next command finds a working engine."""
        faulty = Faulty(on_twin.store)
        faulty.fail("committed", CommitUnknown("cut"))
        faulty.fail("entomb", *[error] * 1000)
        engine = on_twin.engine(faulty)
        with pytest.raises(OutcomeUnknown) as unknown:
            await engine.submit(fund(5))
        assert unknown.value.status == 503
        faulty.faults.clear()
        await engine.submit(fund(5))
        assert await _free(on_twin) == 10


class TestCallers:
    async def test_one_who_gives_up_stops_nobody(self, on_twin: Place) -> None:
        """F1: a cancelled request may still be carried out; the others of its group are."""
        faulty = Faulty(on_twin.store)
        engine = on_twin.engine(faulty)
        faulty.gate.clear()
        gone = asyncio.create_task(engine.submit(fund(1)))
        stays = asyncio.create_task(engine.submit(fund(10)))
        await _turns()
        gone.cancel()
        await _turns()
        faulty.gate.set()
        await stays
        assert await _free(on_twin) == 11
        assert gone.cancelled()

    async def test_closing_ends_what_is_in_flight_and_queued(self, on_twin: Place) -> None:
        """F92: nobody is left without an answer, and nobody new gets in."""
        faulty = Faulty(on_twin.store)
        engine = on_twin.engine(faulty, group_max=1)
        faulty.gate.clear()
        tasks = [asyncio.create_task(engine.submit(fund(1))) for _ in range(3)]
        await _turns()
        closing = asyncio.create_task(engine.close())
        await _turns()
        with pytest.raises(Overloaded):
            await engine.submit(fund(100))
        faulty.gate.set()
        await asyncio.gather(*tasks)
        await closing
        assert await _free(on_twin) == 3

    async def test_an_engine_that_was_never_used_closes(self, on_twin: Place) -> None:
        """Nothing to wait for."""
        await on_twin.engine().close()


class TestWakes:
    async def _woken(self, place: Place, *commands: Any, raising: bool = False) -> list[Any]:
        woken: list[Any] = []

        def wake(topics: frozenset[str]) -> None:
            woken.append(sorted(topics))
            if raising:
                raise RuntimeError

        engine = Engine(
            place.store,
            RULES,
            clock=place.clock,
            ids=SystemIds(),
            randomness=SystemRandomness(),
            on_wake=wake,
        )
        place.engines.append(engine)
        await asyncio.gather(*map(engine.submit, commands), return_exceptions=True)
        return woken

    async def test_are_sent_once_per_group_and_only_for_what_was_done(self, on_twin: Place) -> None:
        """Two payouts wake the workers once; a refused one and a funding do not."""
        await on_twin.engine().submit(fund(100))
        assert await self._woken(on_twin, create("a", 10), create("b", 10)) == [["payouts"]]
        assert await self._woken(on_twin, create("c", 999), fund(1)) == []

    async def test_that_fail_do_not_repeat_what_was_committed(self, on_twin: Place) -> None:
        """A wake is a hint: when it fails, the group has been committed all the same."""
        wake = act(lambda ws: ws.wake("payouts"))
        await self._woken(on_twin, fund(100), wake, raising=True)
        assert await _free(on_twin) == 100
