"""A provider at work: orders in groups, due steps on time, one commit for all of them."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from bursar_sim.clock import Clock
from bursar_sim.draws import fires, fraction
from bursar_sim.provider.fates import decide
from bursar_sim.provider.knobs import Knobs
from bursar_sim.provider.model import (
    Booking,
    Decision,
    Fault,
    KeyReused,
    Line,
    Order,
    Transfer,
    Verdict,
)
from bursar_sim.provider.rules import Rules
from bursar_sim.provider.steps import advance
from bursar_sim.provider.store import Store
from bursar_sim.provider.wire import Wire

_STEPS_MAX: Final = 500
"Due steps in one commit, so that a long queue does not stop the front door."
_TICK_S: Final = 0.002
"Steps due within so long share a commit."
_RETRY_S: Final = 0.5
"After the books could not be written."

_T = TypeVar("_T")
_ODDS: Final = (Fault.ERROR, Fault.RESET, Fault.TRUNCATED)


class BooksClosed(Exception):
    """The books cannot be written now; the order left no trace."""


@dataclass(frozen=True, slots=True)
class Inquired:
    """What an inquiry is answered: a transfer's body or none, and what goes wrong with it."""

    body: bytes | None
    fault: Fault | None = None


class Processor:
    """Runs on one event loop. What it returns is committed.

    Orders that arrive in one turn of the loop share a transaction; so do the webhooks that
    were delivered meanwhile. `announce` is called after a commit that may have made webhooks.
    """

    def __init__(self, store: Store, wire: Wire, *, seed: int, knobs: Knobs, clock: Clock) -> None:
        self.knobs = knobs
        self.fired: Counter[str] = Counter()
        self.announce: Callable[[], None] = lambda: None
        self._store = store
        self._wire = wire
        self._seed = seed
        self._clock = clock
        self._orders: list[tuple[Order, asyncio.Future[Decision]]] = []
        self._delivered: list[int] = []
        self._inquiries: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._flush_due = False
        self._next_due: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Finish what fell due while the door was closed, before anybody can ask."""
        self.catch_up(all_of_it=True)

    def close(self) -> None:
        """Commit what is queued and stop. The store stays open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()

    @property
    def _rules(self) -> Rules:
        return Rules(self._wire.terms, self.knobs, self._seed)

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

    def inquire(self, key: str) -> Inquired:
        """What inquiry says of a key as of now; none if it does not know it (yet)."""
        self._guarded_catch_up()
        transfer = self._read(lambda: self._store.find(key))
        fault = self._inquiry_fault(key)
        if transfer is None:
            return Inquired(None, fault)
        now_ms = self._clock.now_ms()
        if transfer.hidden(now_ms):
            self.fired.update(("not_found",) if transfer.hidden_by == "not_found" else ())
            return Inquired(None, fault)
        if transfer.stale_until is not None and now_ms < transfer.stale_until:
            self.fired["stale"] += 1
            return Inquired(transfer.stale, fault)
        return Inquired(self._wire.status_body(transfer), fault)

    def forgets_us(self, key: str) -> bool:
        """Whether this request about a key meets credentials that are taken for expired."""
        rate = self.knobs.credentials
        if rate <= 0:
            return False
        subject = f"{key}!{self._requests[key]}"
        self._requests[key] += 1
        expired = fires(rate, self._seed, "credentials", subject)
        self.fired["credentials"] += expired
        return expired

    def lines_of(self, key: str) -> list[Line]:
        """The statement's lines about a key."""
        self._guarded_catch_up()
        return self._read(lambda: self._store.lines_of(key))

    def statement(self, after: int, limit: int) -> tuple[list[tuple[int, Line]], bool]:
        """Lines after a line, and whether more follow."""
        self._guarded_catch_up()
        lines = self._read(lambda: self._store.statement(after, limit + 1))
        return lines[:limit], len(lines) > limit

    def catch_up(self, *, all_of_it: bool = False) -> None:
        """Take due steps: one commit of them, or as many as it takes."""
        moved = False
        while True:
            now_ms = self._clock.now_ms()
            with self._store.transaction():
                steps = self._store.due(now_ms, _STEPS_MAX)
                bookings = [self._advance(transfer) for transfer in steps]
            for booking in bookings:
                self.fired.update(booking.fired)
            moved = moved or bool(steps)
            if not steps or not all_of_it:
                break
        self._next_due = self._store.next_due()
        self._arm()
        if moved:
            self.announce()

    def _advance(self, transfer: Transfer) -> Booking:
        booking = advance(transfer, self._rules)
        if booking.transfer.stale_until is not None:
            before = self._wire.status_body(transfer)
            booking = replace(booking, transfer=replace(booking.transfer, stale=before))
        self._store.update(booking)
        return booking

    def _inquiry_fault(self, key: str) -> Fault | None:
        rate = self.knobs.inquiry_error
        if rate <= 0:
            return None
        subject = f"{key}?{self._inquiries[key]}"
        self._inquiries[key] += 1
        if not fires(rate, self._seed, "inquiry_error", subject):
            return None
        self.fired["inquiry_error"] += 1
        return _ODDS[int(fraction(self._seed, "inquiry_fault", subject) * len(_ODDS))]

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
                verdicts = [self._decide(order, now_ms) for order, _ in orders]
                self._store.forget_webhooks(delivered)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._delivered = delivered + self._delivered
            failure = BooksClosed(str(error)) if isinstance(error, sqlite3.Error) else error
            for _, future in orders:
                if not future.done():
                    future.set_exception(failure)
            return
        for (_, future), verdict in zip(orders, verdicts, strict=True):
            self.fired.update(verdict.fired)
            if not future.done():
                future.set_result(verdict.decision)
        self._expect([verdict.booking for verdict in verdicts if verdict.booking is not None])

    def _decide(self, order: Order, now_ms: int) -> Verdict:
        known = self._store.find(order.key)
        counts = self.knobs.lost > 0 or self.knobs.error_not_executed > 0
        verdict = decide(
            order,
            known,
            self._rules,
            now_ms=now_ms,
            lost=self._store.lost(order.key) if counts else 0,
        )
        if verdict.lost:
            self._store.lose(order.key)
        elif verdict.booking is not None and known is None:
            self._store.insert(verdict.booking)
        elif verdict.booking is not None:
            self._store.update(verdict.booking)
            self._store.arrived(order.key)
        elif known is not None and not isinstance(verdict.decision, KeyReused):
            self._store.arrived(order.key)
        return verdict

    def _expect(self, bookings: list[Booking]) -> None:
        for booking in bookings:
            self.fired.update(booking.fired)
        dues = [b.transfer.due_at for b in bookings if b.transfer.due_at is not None]
        if dues and (self._next_due is None or min(dues) < self._next_due):
            self._next_due = min(dues)
            self._arm()
        if any(booking.notices for booking in bookings):
            self.announce()

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
