"""A provider over HTTP behind the port: one call per question, no retry, no state.

What differs between providers is their `Wire`: paths, bodies, headers. What a call proves when it
fails does not differ, so it is decided here, once.
"""

import re
from typing import Final, Protocol

import msgspec

from bursar.money.errors import UnknownCurrency
from bursar.rails.contracts import Contract
from bursar.rails.outcomes import Inquiry, NotExecuted, Outcome, StatusUnknown, Unknown
from bursar.rails.port import PayoutInstruction
from bursar.rails.transport import START_TOO_LATE, Request, Transport, TransportFailure

_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")
_CORRELATION_MAX: Final = 128


class Encode(Protocol):
    """Writes an order."""

    def __call__(self, instruction: PayoutInstruction, contract: Contract, /) -> bytes | None:
        """The body; None if the amount cannot be told there. Raises `UnknownCurrency`."""
        ...


class DecodeSubmit(Protocol):
    """Reads the reply to an order."""

    def __call__(
        self, status: int, body: bytes, instruction: PayoutInstruction, contract: Contract, /
    ) -> Outcome:
        """What it says. Never raises for what a provider sends."""
        ...


class DecodeInquiry(Protocol):
    """Reads the reply to an inquiry by our key."""

    def __call__(self, status: int, body: bytes, key: str, contract: Contract, /) -> Inquiry:
        """What it says. Never raises for what a provider sends."""
        ...


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider words it. Orders are posted to `path` and asked about at `path`/key.

    `key_header`: a header that carries the key too, where the provider wants one.
    """

    path: str
    encode: Encode
    decode_submit: DecodeSubmit
    decode_inquiry: DecodeInquiry
    key_header: str | None = None


class HttpRail:
    """A `PayoutRail`. The transport is handed in; so is the API key, which is never shown."""

    def __init__(
        self, wire: Wire, transport: Transport, *, api_key: str, contract: Contract
    ) -> None:
        self._wire = wire
        self._transport = transport
        self._api_key = api_key
        self._contract = contract

    @property
    def name(self) -> str:
        """The provider that the contract names."""
        return self._contract.provider

    @property
    def contract(self) -> Contract:
        """What proofs about this provider rest on."""
        return self._contract

    async def submit(
        self,
        instruction: PayoutInstruction,
        *,
        correlation_id: str,
        must_start_before: float | None = None,
    ) -> Outcome:
        """Send the order once, within the request deadline, begun before `must_start_before`.

        What the provider cannot be told (its key form, its minor units) is refused before a byte
        is sent, so it is proven not executed.
        """
        if not self._contract.key_fits(instruction.key):
            return _unsendable("key_unusable", "the key does not fit the provider's key form")
        try:
            body = self._wire.encode(instruction, self._contract)
        except UnknownCurrency as error:
            return _unsendable(error.code, error.detail)
        if body is None:
            return _unsendable("amount_not_representable", "the provider can't be told this amount")
        headers = self._headers(correlation_id) | {"Content-Type": "application/json"}
        if self._wire.key_header is not None:
            headers[self._wire.key_header] = instruction.key
        try:
            reply = await self._transport.send(
                Request(
                    method="POST",
                    path=self._wire.path,
                    deadline_s=self._contract.request_deadline_s,
                    headers=headers,
                    body=body,
                    must_start_before=must_start_before,
                )
            )
        except TransportFailure as failure:
            if failure.request_bytes_written:
                return Unknown(failure.reason)
            return NotExecuted(
                code="not_sent",
                reason=failure.reason,
                retryable=True,
                sent=False,
                ours=failure.reason == START_TOO_LATE,
            )
        return self._wire.decode_submit(reply.status, reply.body, instruction, self._contract)

    async def inquire(self, key: str, *, correlation_id: str) -> Inquiry:
        """What the provider knows under `key`. A failed call is `StatusUnknown`."""
        if not self._contract.key_fits(key):
            return StatusUnknown("key_unusable")
        try:
            reply = await self._transport.send(
                Request(
                    method="GET",
                    path=f"{self._wire.path}/{key}",
                    deadline_s=self._contract.request_deadline_s,
                    headers=self._headers(correlation_id),
                )
            )
        except TransportFailure as failure:
            return StatusUnknown(failure.reason)
        return self._wire.decode_inquiry(reply.status, reply.body, key, self._contract)

    def _headers(self, correlation_id: str) -> dict[str, str]:
        # A client chose the correlation id; it must not be able to spoil the request.
        safe = _UNPRINTABLE.sub("-", correlation_id)[:_CORRELATION_MAX]
        return {"Authorization": f"Bearer {self._api_key}", "X-Correlation-Id": safe}


def _unsendable(code: str, reason: str) -> NotExecuted:
    return NotExecuted(code=code, reason=reason, retryable=False, sent=False)
