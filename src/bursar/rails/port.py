"""The port of payouts: what every connector offers to the engine."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from bursar.rails.contracts import Contract
from bursar.rails.outcomes import Inquiry, Outcome


class PayoutInstruction(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider is told. `key` is the attempt's id as `Contract.map_key` gives it."""

    key: str
    amount_minor: int
    currency: str
    creditor_name: str
    creditor_iban: str
    remittance: str


class PayoutRail(Protocol):
    """A provider that executes payouts. It does no retry of its own and keeps no state."""

    @property
    def name(self) -> str:
        """The provider's name, as in `CONTRACTS` and in the events it sends."""
        ...

    @property
    def contract(self) -> Contract:
        """What proofs about this provider rest on."""
        ...

    async def submit(
        self,
        instruction: PayoutInstruction,
        *,
        correlation_id: str,
        must_start_before: float | None = None,
    ) -> Outcome:
        """Send once, within the contract's request deadline. Never raises for what it answers.

        `must_start_before` is seconds of the clock's `monotonic`: from then on no request may
        begin, because the caller's lease would end before it does. What had not begun is
        `NotExecuted`, not sent, ours (F33).
        The outcome speaks for this one send: pass it through `proof.judge_submit`. If the task
        is cancelled, the send is ambiguous.
        """
        ...

    async def inquire(self, key: str, *, correlation_id: str) -> Inquiry:
        """What the provider knows under our key: pass it through `proof.judge_inquiry`."""
        ...


class EventKind(StrEnum):
    """The facts a provider can tell about an attempt."""

    ACCEPTED = "accepted"
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"


class ProviderEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One fact, from a signed message. Amounts are minor units of `currency`.

    `amount_minor` is what the event is about: of a `returned`, the part that came back. It is 0 if
    that can't be told in our minor units, and `currency` empty if we don't carry it. Whether it
    fits the attempt is for the reader to check; so is whether a `failed` proves anything.
    `sequence` is the provider's own order of its events about one key, where it has one.
    """

    event_id: str
    kind: EventKind
    provider_key: str
    provider_ref: str
    amount_minor: int
    currency: str
    cost_minor: int
    code: str | None
    reason: str | None
    return_id: str | None
    sequence: int | None = None


class WebhookVerifier(Protocol):
    """How a provider signs and words its events. Pure; a module may implement it."""

    def verify(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secret: str,
        now_unix: float,
        *,
        allow_bare: bool,
    ) -> None:
        """Return if `body`, byte for byte, was signed with `secret` and is fresh.

        Raises `WebhookSignatureInvalid`. `allow_bare` admits the sandbox's signature that covers
        the body alone.
        """
        ...

    def identify(self, body: bytes) -> str:
        """The id of the event in a verified body, whatever else it says.

        Raises `ProviderEventInvalid` if it has none: then nobody could tell it from another.
        """
        ...

    def parse(self, body: bytes) -> ProviderEvent:
        """The event in a verified body. Raises `ProviderEventInvalid`."""
        ...
