"""The bank's books on disk: one SQLite file, one process, one transaction per group."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from bursar_sim.bank.codec import event_body
from bursar_sim.bank.model import Booking, Line, Status, Step, Transfer
from bursar_sim.sql import load

_SQL: Final = load("bursar_sim.bank", "queries.sql")
_INT_MAX: Final = 2**63 - 1


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

    def __init__(self, data_dir: Path | None) -> None:
        """Books in a directory, or none that outlive this object and no file."""
        if data_dir is not None:
            data_dir.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(
            ":memory:" if data_dir is None else data_dir / "bank.sqlite",
            isolation_level=None,
            timeout=2.0,
            cached_statements=64,
        )
        try:
            self._connection.executescript(_SQL["settings"])
            self._connection.executescript(_SQL["schema"])
            with self.transaction():
                pass  # takes the exclusive lock now, so that a second bank fails at its start
        except sqlite3.Error:
            self._connection.close()
            raise

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

    def find(self, end_to_end_id: str) -> Transfer | None:
        """The transfer of a key, hidden or not."""
        row = self._connection.execute(_SQL["find"], (end_to_end_id,)).fetchone()
        return None if row is None else _transfer(row)

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
                    line.transfer_id,
                    line.end_to_end_id,
                    line.amount,
                    line.currency,
                    line.booked_at,
                ),
            )
        for notice in booking.notices:
            execute(
                _SQL["insert_webhook"],
                (event_body(notice), notice.transfer.correlation_id, notice.not_before),
            )

    def statement(self, after: int, limit: int) -> list[tuple[int, Line]]:
        """Numbered lines after a line, in order."""
        rows = self._connection.execute(_SQL["statement"], (min(after, _INT_MAX), limit))
        return [(number, Line(*rest)) for number, *rest in rows]

    def webhooks_after(self, after_id: int, limit: int) -> list[Webhook]:
        """Undelivered webhooks after an id, in order of their making."""
        rows = self._connection.execute(_SQL["webhooks_after"], (after_id, limit))
        return [Webhook(*row) for row in rows]

    def forget_webhooks(self, ids: list[int]) -> None:
        """Delivered webhooks leave the queue."""
        self._connection.executemany(_SQL["delete_webhook"], [(id_,) for id_ in ids])


def _row(transfer: Transfer) -> dict[str, object]:
    return {
        "end_to_end_id": transfer.end_to_end_id,
        "transfer_id": transfer.transfer_id,
        "fingerprint": transfer.fingerprint,
        "amount": transfer.amount,
        "currency": transfer.currency,
        "cost": transfer.cost,
        "status": transfer.status.value,
        "answer": transfer.answer,
        "code": transfer.code,
        "returned_amount": transfer.returned_amount,
        "hidden": int(transfer.hidden),
        "received_at": transfer.received_at,
        "executed_at": transfer.executed_at,
        "step": None if transfer.step is None else transfer.step.value,
        "due_at": transfer.due_at,
        "correlation_id": transfer.correlation_id,
    }


def _transfer(row: tuple[Any, ...]) -> Transfer:
    (*head, status, answer, code, returned, hidden, received, executed, step, due, correlation) = (
        row
    )
    end_to_end_id, transfer_id, fingerprint, amount, currency, cost = head
    return Transfer(
        end_to_end_id=end_to_end_id,
        transfer_id=transfer_id,
        fingerprint=fingerprint,
        amount=amount,
        currency=currency,
        cost=cost,
        status=Status(status),
        answer=answer,
        code=code,
        returned_amount=returned,
        hidden=bool(hidden),
        received_at=received,
        executed_at=executed,
        step=None if step is None else Step(step),
        due_at=due,
        correlation_id=correlation,
    )
