"""The bank at work: orders in groups, due steps on time, one commit for all of them."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from bursar_sim.bank.model import Booking, KeyReused, Line, Lost, Order, Transfer, advance, decide
from bursar_sim.bank.store import Store
from bursar_sim.clock import Clock
from bursar_sim.provider.knobs import Knobs

_STEPS_MAX: Final = 500
"Due steps in one commit, so that a long queue does not stop the front door."
_TICK_S: Final = 0.002
"Steps due within so long share a commit."
_RETRY_S: Final = 0.5
"After the books could not be written."

_T = TypeVar("_T")
Decision = Booking | Transfer | Lost | KeyReused


class BooksClosed(Exception):
    """The books cannot be written now; the order left no trace."""


class Processor:
    """Runs on one event loop. What it returns is committed.

    Orders that arrive in one turn of the loop share a transaction; so do the webhooks that
    were delivered meanwhile. `announce` is called after a commit that may have made webhooks.
    """

    def __init__(self, store: Store, *, seed: int, knobs: Knobs, clock: Clock) -> None:
        self.knobs = knobs
        self.announce: Callable[[], None] = lambda: None
        self._store = store
        self._seed = seed
        self._clock = clock
        self._orders: list[tuple[Order, asyncio.Future[Decision]]] = []
        self._delivered: list[int] = []
        self._flush_due = False
        self._next_due: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Finish what fell due while the bank was closed, before anybody can ask."""
        self.catch_up(all_of_it=True)

    def close(self) -> None:
        """Commit what is queued and stop. The store stays open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()

    async def submit(self, order: Order) -> Decision:
        """Decide an order and commit it. Raises `BooksClosed`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Decision] = loop.create_future()
        self._orders.append((order, future))
        self._flush_soon()
        return await future

    def delivered(self, webhook_id: int) -> None:
        """A webhook reached its receiver; it leaves the queue with the next commit."""
        self._delivered.append(webhook_id)
        self._flush_soon()

    def inquire(self, end_to_end_id: str) -> Transfer | None:
        """The transfer of a key as of now, or none if inquiry does not know it (yet)."""
        self._guarded_catch_up()
        transfer = self._read(lambda: self._store.find(end_to_end_id))
        return transfer if transfer is not None and transfer.known else None

    def statement(self, after: int, limit: int) -> tuple[list[tuple[int, Line]], bool]:
        """Lines after a line, and whether more follow."""
        self._guarded_catch_up()
        lines = self._read(lambda: self._store.statement(after, limit + 1))
        return lines[:limit], len(lines) > limit

    def catch_up(self, *, all_of_it: bool = False) -> None:
        """Take due steps: one commit of them, or as many as it takes."""
        while True:
            now_ms = self._clock.now_ms()
            with self._store.transaction():
                steps = self._store.due(now_ms, _STEPS_MAX)
                for transfer in steps:
                    self._store.update(advance(transfer, knobs=self.knobs, seed=self._seed))
            if len(steps) < _STEPS_MAX or not all_of_it:
                break
        self._next_due = self._store.next_due()
        self._arm()
        if steps:
            self.announce()

    def _guarded_catch_up(self) -> None:
        if self._next_due is not None and self._next_due <= self._clock.now_ms():
            self._read(lambda: self.catch_up(all_of_it=True))

    def _read(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except sqlite3.Error as error:
            raise BooksClosed(str(error)) from error

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        orders, self._orders = self._orders, []
        delivered, self._delivered = self._delivered, []
        if not orders and not delivered:
            return
        now_ms = self._clock.now_ms()
        try:
            with self._store.transaction():
                decisions = [self._decide(order, now_ms) for order, _ in orders]
                self._store.forget_webhooks(delivered)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._delivered = delivered + self._delivered
            failure = BooksClosed(str(error)) if isinstance(error, sqlite3.Error) else error
            for _, future in orders:
                if not future.done():
                    future.set_exception(failure)
            return
        for (_, future), decision in zip(orders, decisions, strict=True):
            if not future.done():
                future.set_result(decision)
        self._expect(decisions)

    def _decide(self, order: Order, now_ms: int) -> Decision:
        decision = decide(
            order,
            self._store.find(order.end_to_end_id),
            knobs=self.knobs,
            seed=self._seed,
            now_ms=now_ms,
        )
        if isinstance(decision, Booking):
            self._store.insert(decision)
        return decision

    def _expect(self, decisions: list[Decision]) -> None:
        dues = [
            decision.transfer.due_at
            for decision in decisions
            if isinstance(decision, Booking) and decision.transfer.due_at is not None
        ]
        if dues and (self._next_due is None or min(dues) < self._next_due):
            self._next_due = min(dues)
            self._arm()

    def _arm(self, *, at_least_s: float = _TICK_S) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._next_due is not None:
            wait_s = max((self._next_due - self._clock.now_ms()) / 1000, at_least_s)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self.catch_up()
        except sqlite3.Error:
            self._arm(at_least_s=_RETRY_S)
