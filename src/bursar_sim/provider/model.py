"""What every provider knows: orders, transfers, lines, webhooks. Pure.

A transfer's `plan` is what will happen to it, and when. `fates.py` makes it when an order comes
in, `steps.py` takes one step of it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

AMOUNT_MAX: Final = 10**15
"Minor units; less than 2^53, so that every JSON reader takes it exactly."


class Status(StrEnum):
    """Where a transfer stands, as the provider tells it.

    pending -> executed | rejected;  executed -> returned;
    and against all promises: rejected -> executed (`flip`), executed -> rejected (`undo`)
    """

    PENDING = "pending"
    EXECUTED = "executed"
    REJECTED = "rejected"
    RETURNED = "returned"


class Step(StrEnum):
    """What happens to a transfer."""

    EXECUTE = "execute"
    REJECT = "reject"
    RETURN = "return"
    REPEAT = "repeat"
    "Executed once more, under another reference."
    UNDO = "undo"
    "All of it is taken back, and it is told as failed."


@dataclass(frozen=True, slots=True)
class Planned:
    """A step, when it is due (epoch milliseconds), and the amount that a return brings back."""

    step: Step
    at_ms: int
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A customer's wish to pay, well formed. `amount` in minor units of `currency`."""

    key: str
    amount: int
    currency: str
    account: str
    fingerprint: str
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One order that the provider knows. Amounts in minor units, times in epoch milliseconds."""

    key: str
    reference: str
    "Of the first execution, and in the first answer for ever."
    told_reference: str
    "Of the latest execution: what inquiry and webhooks tell."
    fingerprint: str
    amount: int
    currency: str
    cost: int
    status: Status
    answer: str
    "What the first answer said: accepted, executed or rejected."
    code: str | None
    returned: int
    "All that came back so far."
    last_return: int
    "What came back last."
    returns: int
    "How many times something came back."
    sequence: int
    "Of its latest event."
    arrivals: int
    "How many times the order came in, beside those that were lost."
    mute: bool
    "Never answered while it is pending."
    received_at: int
    executed_at: int | None
    hidden_until: int | None
    "Not found by inquiry until then."
    hidden_by: str | None
    "The knob that hides it."
    plan: tuple[Planned, ...]
    correlation_id: str | None
    stale: bytes | None = None
    "What inquiry still answers until `stale_until`."
    stale_until: int | None = None

    @property
    def due_at(self) -> int | None:
        """When its next step is due."""
        return self.plan[0].at_ms if self.plan else None

    @property
    def stuck(self) -> bool:
        """Whether it is pending, and nothing will happen to it any more."""
        return self.status is Status.PENDING and not self.plan

    def hidden(self, now_ms: int) -> bool:
        """Whether inquiry says "not found" of it."""
        return self.hidden_until is not None and now_ms < self.hidden_until


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the statement: money that moved. `kind` is debit, cost or return.

    `reference` is the provider's name of the execution, `key` ours. Equal references and kinds
    are told apart by `part`, 1, 2 ..
    """

    kind: str
    reference: str
    key: str
    amount: int
    currency: str
    booked_at: int
    part: int = 1


@dataclass(frozen=True, slots=True)
class Notice:
    """A webhook to send about a transfer, not before `not_before` (epoch milliseconds).

    `kind` is processing, settled, rejected or returned; `amount` what it is about: the part
    that came back, or all of the transfer.
    """

    kind: str
    transfer: Transfer
    amount: int
    occurred_at: int
    not_before: int
    suffix: str = ""
    "Makes its event id another one, though it tells the same."


@dataclass(frozen=True, slots=True)
class Booking:
    """A transfer's new row and all that goes with it, to be committed together."""

    transfer: Transfer
    lines: tuple[Line, ...] = ()
    notices: tuple[Notice, ...] = ()
    fired: tuple[str, ...] = ()
    "The knobs that had their effect."


class Fault(StrEnum):
    """What goes wrong with an answer."""

    SILENCE = "silence"
    ERROR = "error"
    RESET = "reset"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Reply:
    """The order is in the books; this is what its sender hears.

    `declined` is a code that is told instead of the truth. `wait_s` is how long the answer takes
    beyond the usual.
    """

    transfer: Transfer
    new: bool
    fault: Fault | None = None
    declined: str | None = None
    wait_s: float = 0.0
    error_status: int = 500


@dataclass(frozen=True, slots=True)
class Lost:
    """The order never reached the books, and its sender hears nothing."""


@dataclass(frozen=True, slots=True)
class Failing:
    """The order never reached the books, and its sender hears a 5xx."""

    status: int


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The key names another order."""


Decision = Reply | Lost | Failing | KeyReused


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one arrival of an order: the answer, and what is to be written first."""

    decision: Decision
    booking: Booking | None = None
    "A new transfer."
    lost: bool = False
    "This arrival is counted as lost, so that the next draws anew."
    fired: tuple[str, ...] = ()
    "The knobs that had their effect, beside those of the booking."


def return_id(transfer: Transfer, prefix: str) -> str | None:
    """The provider's name of the latest return, if anything was returned."""
    if transfer.status is not Status.RETURNED:
        return None
    _, _, own = transfer.told_reference.partition("_")
    return prefix + own + ("" if transfer.returns == 1 else f"_{transfer.returns}")
