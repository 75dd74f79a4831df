"""A bank of a few lines, for payouts under random interleavings: its deeds and its mail."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    Outcome,
    StatusExecuted,
    StatusNotFound,
    StatusPending,
    StatusRejected,
    StatusReturned,
    Unknown,
)
from bursar.rails.port import ProviderEvent
from tests.payouts.wiring import BUSY, CLOSED, NOT_SENT, OUR_BALANCE, event

ANSWERS: dict[str, tuple[Outcome | None, str]] = {
    "paid at once": (None, "executed"),
    "a promise": (Accepted("bt"), "pending"),
    "a final no": (CLOSED, "rejected"),
    "busy": (BUSY, "rejected"),
    "our balance": (OUR_BALANCE, "rejected"),
    "no byte left": (NOT_SENT, "nowhere"),
    "timeout, paid": (Unknown("timeout"), "executed"),
    "timeout, promised": (Unknown("timeout"), "pending"),
    "timeout, refused": (Unknown("timeout"), "rejected"),
    "timeout, lost": (Unknown("timeout"), "nowhere"),
    "timeout, under way": (Unknown("timeout"), "under way"),
}
"""What the worker hears (nothing special is said of a plain yes), and the truth at the bank."""

_KINDS = {
    "executed": "paid",
    "taken back": "failed",
    "rejected": "failed",
    "pending": "accepted",
}


@dataclass
class Transfer:
    """One instruction at the bank. `lands_by` is the last moment for what is under way.

    `parts` is what was sent back, by the ids of the returns. `said` counts what was told.
    """

    payout_id: str
    amount: int
    state: str = "nowhere"
    sent: bool = False
    lands_by: datetime | None = None
    heard: Outcome | None = None
    parts: dict[str, int] = field(default_factory=dict)
    cost: int = 0
    said: int = 0

    @property
    def left(self) -> bool:
        """Whether its money ever left."""
        return self.state in {"executed", "taken back"}

    @property
    def returned(self) -> int:
        """What came back of it."""
        return self.amount if self.state == "taken back" else sum(self.parts.values())


class ToyBank:
    """Transfers by our key, and the messages about them. An `ordered` one numbers what it says."""

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.transfers: dict[str, Transfer] = {}
        self.mail: list[ProviderEvent] = []

    def in_state(self, *states: str) -> list[str]:
        """The keys of what is in one of the states."""
        return [name for name, one in self.transfers.items() if one.state in states]

    def take(self, name: str, answer: str, lands_by: datetime) -> None:
        """An instruction arrives, or not."""
        transfer = self.transfers[name]
        transfer.sent = True
        heard, transfer.state = ANSWERS[answer]
        if transfer.state == "under way":
            transfer.lands_by = lands_by
        self.tell(name)
        transfer.heard = heard or self._executed(transfer)

    def become(self, name: str, state: str) -> None:
        """It moved on, and that is told."""
        self.transfers[name].state = state
        self.tell(name)

    def give_back(self, name: str, part: int) -> None:
        """A part comes back."""
        transfer = self.transfers[name]
        return_id = f"rt_{len(transfer.parts)}"
        transfer.parts[return_id] = part
        self._post("returned", name, part, return_id)

    def tell(self, name: str) -> None:
        """A message about the state of a transfer."""
        transfer = self.transfers[name]
        kind = _KINDS.get(transfer.state)
        if kind is not None:
            self._post(kind, name, transfer.amount)

    def _post(self, kind: str, name: str, amount: int, return_id: str | None = None) -> None:
        transfer = self.transfers[name]
        transfer.said += 1
        self.mail.append(
            event(
                f"evt_{len(self.mail)}",
                kind,
                name,
                amount=amount,
                cost=transfer.cost,
                return_id=return_id,
                sequence=self._number(transfer),
            )
        )

    def _number(self, transfer: Transfer) -> int | None:
        return transfer.said if self.ordered else None

    def _executed(self, transfer: Transfer) -> Executed:
        return Executed(
            provider_ref="bt",
            amount_minor=transfer.amount,
            currency="EUR",
            cost_minor=transfer.cost,
            sequence=self._number(transfer),
        )

    def status(self, name: str) -> Inquiry:
        """What it answers about our key."""
        transfer = self.transfers[name]
        number = self._number(transfer)
        match transfer.state:
            case "executed" if transfer.parts:
                # As on the wires: the latest return stands for all of them.
                return_id, part = list(transfer.parts.items())[-1]
                return StatusReturned(
                    provider_ref="bt",
                    amount_minor=transfer.amount,
                    currency="EUR",
                    returned_minor=part,
                    code="AC06",
                    reason="blocked",
                    cost_minor=transfer.cost,
                    return_id=return_id,
                    sequence=number,
                )
            case "executed":
                return StatusExecuted(
                    provider_ref="bt",
                    amount_minor=transfer.amount,
                    currency="EUR",
                    cost_minor=transfer.cost,
                    sequence=number,
                )
            case "pending":
                return StatusPending("bt")
            case "rejected" | "taken back":
                return StatusRejected("AC04", "closed", number)
            case _:
                return StatusNotFound()

    def executions(self) -> Counter[str]:
        """How often each payout's money is out, not taken back."""
        return Counter(one.payout_id for one in self.transfers.values() if one.state == "executed")

    def out(self) -> int:
        """What is out in all, in minor units."""
        return sum(one.amount - one.returned for one in self.transfers.values() if one.left)


def again(said: ProviderEvent, number: int) -> ProviderEvent:
    """The same message under another event id (F22)."""
    return event(
        f"again_{number}",
        said.kind,
        said.provider_key,
        amount=said.amount_minor,
        cost=said.cost_minor,
        return_id=said.return_id,
        sequence=said.sequence,
    )
