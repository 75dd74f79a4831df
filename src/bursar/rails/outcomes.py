"""What a call to a provider may have done to the money.

Four types, not a status field: a function that fails over takes `NotExecuted`, so failing over
after a timeout does not type-check. They are tagged, so a stored one reads back as itself.
"""

import msgspec


class Executed(msgspec.Struct, frozen=True, kw_only=True, tag_field="outcome", tag="executed"):
    """The money has left. `cost_minor` is what the provider charges, same currency.

    `sequence` is the provider's own order of what it says about one instruction, where its
    contract has one.
    """

    provider_ref: str
    amount_minor: int
    currency: str
    cost_minor: int = 0
    sequence: int | None = None


class Accepted(msgspec.Struct, frozen=True, tag_field="outcome", tag="accepted"):
    """A promise. Only awaited or asked about; never failed over, never failed by us.

    `amount_minor` of `currency` is what was promised, where the answer tells it.
    """

    provider_ref: str
    amount_minor: int | None = None
    currency: str = ""


class NotExecuted(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="outcome", tag="not_executed"
):
    """Proven: this attempt moved nothing and never will.

    `sent` is false when no byte of the request left, true when the provider said no.
    `ours` marks a cause on our side (credentials, our balance at the provider): it burns no retry.
    `sequence` as in `Executed`.
    """

    code: str
    reason: str
    retryable: bool
    sent: bool
    ours: bool = False
    sequence: int | None = None


class Unknown(msgspec.Struct, frozen=True, tag_field="outcome", tag="unknown"):
    """It may have left, it may still leave. `reason` is a short stable token for people.

    `amount_minor` of `currency` is set where the provider speaks of another amount than asked: 0 if
    that can't be told in our minor units, `currency` empty if we don't carry it.
    """

    reason: str
    amount_minor: int | None = None
    currency: str = ""


Outcome = Executed | Accepted | NotExecuted | Unknown


class StatusExecuted(msgspec.Struct, frozen=True, kw_only=True):
    """The provider says that the money left, `amount_minor` of it. `sequence`: see `Executed`."""

    provider_ref: str
    amount_minor: int
    currency: str
    cost_minor: int = 0
    sequence: int | None = None


class StatusPending(msgspec.Struct, frozen=True):
    """The provider holds the instruction and will decide. The amount is as in `Accepted`."""

    provider_ref: str
    amount_minor: int | None = None
    currency: str = ""


class StatusRejected(msgspec.Struct, frozen=True):
    """The provider says that it will not execute. Whether that proves it: see `proof`."""

    code: str
    reason: str
    sequence: int | None = None


class StatusReturned(msgspec.Struct, frozen=True, kw_only=True):
    """The money left, and `returned_minor` of it came back, under the provider's `return_id`."""

    provider_ref: str
    amount_minor: int
    currency: str
    returned_minor: int
    code: str
    reason: str
    cost_minor: int = 0
    return_id: str | None = None
    sequence: int | None = None


class StatusNotFound(msgspec.Struct, frozen=True):
    """The provider knows no instruction under our key, so far."""


class StatusUnknown(msgspec.Struct, frozen=True):
    """The inquiry itself failed or was unreadable. It says nothing about the money."""

    reason: str


Inquiry = (
    StatusExecuted
    | StatusPending
    | StatusRejected
    | StatusReturned
    | StatusNotFound
    | StatusUnknown
)
