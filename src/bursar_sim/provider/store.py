"""A provider's books: one SQLite database, one process, one transaction per group."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from bursar_sim.provider.model import Booking, Line, Planned, Status, Step, Transfer
from bursar_sim.provider.wire import Wire
from bursar_sim.sql import load

_SQL: Final = load("bursar_sim.provider", "queries.sql")
_INT_MAX: Final = 2**63 - 1
_VERSION: Final = 2
_FIELDS: Final = [field.name for field in fields(Transfer)]
_STATUS: Final = _FIELDS.index("status")
_MUTE: Final = _FIELDS.index("mute")
_PLAN: Final = _FIELDS.index("plan")


class Webhook(NamedTuple):
    """One undelivered webhook: what to send, and not before when (epoch milliseconds)."""

    id: int
    body: bytes
    correlation_id: str | None
    not_before: int


class Store:
    """The books. Opening takes the file for this process alone; SQLite's errors pass through.

    A commit is safe from the death of the process, not from a power cut (WAL, synchronous NORMAL).
    """

    def __init__(self, data_dir: Path | None, wire: Wire) -> None:
        """Books in a directory, or in memory: then no file is made."""
        if data_dir is not None:
            data_dir.mkdir(parents=True, exist_ok=True)
        self._wire = wire
        self._connection = sqlite3.connect(
            ":memory:" if data_dir is None else data_dir / f"{wire.name}.sqlite",
            isolation_level=None,
            timeout=2.0,
            cached_statements=64,
        )
        try:
            self._connection.executescript(_SQL["settings"])
            self._check_version()
            self._connection.executescript(_SQL["schema"])
            with self.transaction():
                pass  # takes the exclusive lock now, so that a second one fails at its start
        except sqlite3.Error:
            self._connection.close()
            raise

    def _check_version(self) -> None:
        (version,) = self._connection.execute(_SQL["version"]).fetchone()
        (exists,) = self._connection.execute(_SQL["tables"]).fetchone()
        if exists and version != _VERSION:
            raise sqlite3.DatabaseError("they were made by another version of the simulator")

    def close(self) -> None:
        """Fold the log into the file and let it go."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._connection.execute(_SQL["begin"])
        try:
            yield
            self._connection.execute(_SQL["commit"])
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute(_SQL["rollback"])
            raise

    def find(self, key: str) -> Transfer | None:
        """The transfer of a key, hidden or not."""
        row = self._connection.execute(_SQL["find"], (key,)).fetchone()
        return None if row is None else _transfer(row)

    def lost(self, key: str) -> int:
        """How often an order of this key was lost."""
        row = self._connection.execute(_SQL["lost"], (key,)).fetchone()
        return 0 if row is None else int(row[0])

    def lose(self, key: str) -> None:
        """An order of this key was lost."""
        self._connection.execute(_SQL["lose"], (key,))

    def arrived(self, key: str) -> None:
        """An order that is known came in once more."""
        self._connection.execute(_SQL["arrived"], (key,))

    def due(self, now_ms: int, limit: int) -> list[Transfer]:
        """Transfers whose next step is due, oldest first."""
        rows = self._connection.execute(_SQL["due"], (now_ms, limit)).fetchall()
        return [_transfer(row) for row in rows]

    def next_due(self) -> int | None:
        """When the next step of any transfer is due."""
        (due_at,) = self._connection.execute(_SQL["next_due"]).fetchone()
        return None if due_at is None else int(due_at)

    def insert(self, booking: Booking) -> None:
        """A new transfer with its lines and webhooks."""
        self._write("insert_transfer", booking)

    def update(self, booking: Booking) -> None:
        """A transfer's next state with its lines and webhooks."""
        self._write("update_transfer", booking)

    def _write(self, statement: str, booking: Booking) -> None:
        execute = self._connection.execute
        execute(_SQL[statement], _row(booking.transfer))
        for line in booking.lines:
            execute(
                _SQL["insert_line"],
                (
                    line.kind,
                    line.reference,
                    line.key,
                    line.amount,
                    line.currency,
                    line.booked_at,
                    line.part,
                ),
            )
        for notice in booking.notices:
            execute(
                _SQL["insert_webhook"],
                (
                    self._wire.event_body(notice),
                    notice.transfer.correlation_id,
                    notice.not_before,
                ),
            )

    def statement(self, after: int, limit: int) -> list[tuple[int, Line]]:
        """Numbered lines after a line, in order."""
        rows = self._connection.execute(_SQL["statement"], (min(after, _INT_MAX), limit))
        return [(number, Line(*rest)) for number, *rest in rows]

    def lines_of(self, key: str) -> list[Line]:
        """The lines of one key, in order."""
        return [Line(*row) for row in self._connection.execute(_SQL["lines_of"], (key,))]

    def webhooks_after(self, after_id: int, limit: int) -> list[Webhook]:
        """Undelivered webhooks after an id, in order of their making."""
        rows = self._connection.execute(_SQL["webhooks_after"], (after_id, limit))
        return [Webhook(*row) for row in rows]

    def forget_webhooks(self, ids: list[int]) -> None:
        """Delivered webhooks leave the queue."""
        self._connection.executemany(_SQL["delete_webhook"], [(id_,) for id_ in ids])


def _row(transfer: Transfer) -> dict[str, object]:
    return {
        "key": transfer.key,
        "reference": transfer.reference,
        "told_reference": transfer.told_reference,
        "fingerprint": transfer.fingerprint,
        "amount": transfer.amount,
        "currency": transfer.currency,
        "cost": transfer.cost,
        "status": transfer.status.value,
        "answer": transfer.answer,
        "code": transfer.code,
        "returned": transfer.returned,
        "last_return": transfer.last_return,
        "returns": transfer.returns,
        "sequence": transfer.sequence,
        "arrivals": transfer.arrivals,
        "mute": int(transfer.mute),
        "received_at": transfer.received_at,
        "executed_at": transfer.executed_at,
        "hidden_until": transfer.hidden_until,
        "hidden_by": transfer.hidden_by,
        "plan": _plan_text(transfer.plan),
        "due_at": transfer.due_at,
        "correlation_id": transfer.correlation_id,
        "stale": transfer.stale,
        "stale_until": transfer.stale_until,
    }


def _plan_text(plan: tuple[Planned, ...]) -> str:
    return " ".join([f"{planned.step.value}@{planned.at_ms}:{planned.amount}" for planned in plan])


def _plan(text: str) -> tuple[Planned, ...]:
    plan = []
    for word in text.split():
        step, rest = word.split("@")
        at_ms, amount = rest.split(":")
        plan.append(Planned(Step(step), int(at_ms), int(amount)))
    return tuple(plan)


def _transfer(row: tuple[Any, ...]) -> Transfer:
    # The statements select the columns in the order of the fields.
    values = list(row)
    values[_STATUS] = Status(values[_STATUS])
    values[_MUTE] = bool(values[_MUTE])
    values[_PLAN] = _plan(values[_PLAN])
    return Transfer(*values)
