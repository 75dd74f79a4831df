"""The bank behind the port: one HTTP call per question, no retry, no state."""

import re
from typing import Final

from bursar.money.errors import UnknownCurrency
from bursar.rails.bank import codec
from bursar.rails.contracts import CONTRACTS, Contract
from bursar.rails.outcomes import Inquiry, NotExecuted, Outcome, StatusUnknown, Unknown
from bursar.rails.port import PayoutInstruction
from bursar.rails.transport import START_TOO_LATE, Request, Transport, TransportFailure

_TRANSFERS: Final = "/bank/transfers"
_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")
_CORRELATION_MAX: Final = 128


class BankRail:
    """A `PayoutRail`. The transport is handed in; so is the API key, which is never shown."""

    def __init__(
        self, transport: Transport, *, api_key: str, contract: Contract = CONTRACTS["bank"]
    ) -> None:
        self._transport = transport
        self._api_key = api_key
        self._contract = contract

    @property
    def name(self) -> str:
        """`bank`, or the provider that the contract names."""
        return self._contract.provider

    @property
    def contract(self) -> Contract:
        """What proofs about this bank rest on."""
        return self._contract

    async def submit(
        self,
        instruction: PayoutInstruction,
        *,
        correlation_id: str,
        must_start_before: float | None = None,
    ) -> Outcome:
        """Send the transfer once, within the request deadline, begun before `must_start_before`.

        What the bank cannot be told (its key form, its minor units) is refused before a byte is
        sent, so it is proven not executed.
        """
        if not self._contract.key_fits(instruction.key):
            return _unsendable("key_unusable", "the key does not fit the bank's key form")
        try:
            body = codec.encode_instruction(instruction, self._contract)
        except UnknownCurrency as error:
            return _unsendable(error.code, error.detail)
        if body is None:
            return _unsendable("amount_not_representable", "the bank counts in larger units")
        headers = self._headers(correlation_id)
        headers["Content-Type"] = "application/json"
        headers["Idempotency-Key"] = instruction.key
        try:
            reply = await self._transport.send(
                Request(
                    method="POST",
                    path=_TRANSFERS,
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
        return codec.decode_submit(reply.status, reply.body, instruction, self._contract)

    async def inquire(self, key: str, *, correlation_id: str) -> Inquiry:
        """What the bank knows under `key`. A failed call is `StatusUnknown`."""
        if not self._contract.key_fits(key):
            return StatusUnknown("key_unusable")
        try:
            reply = await self._transport.send(
                Request(
                    method="GET",
                    path=f"{_TRANSFERS}/{key}",
                    deadline_s=self._contract.request_deadline_s,
                    headers=self._headers(correlation_id),
                )
            )
        except TransportFailure as failure:
            return StatusUnknown(failure.reason)
        return codec.decode_inquiry(reply.status, reply.body, key, self._contract)

    def _headers(self, correlation_id: str) -> dict[str, str]:
        # A client chose the correlation id; it must not be able to spoil the request.
        safe = _UNPRINTABLE.sub("-", correlation_id)[:_CORRELATION_MAX]
        return {"Authorization": f"Bearer {self._api_key}", "X-Correlation-Id": safe}


def _unsendable(code: str, reason: str) -> NotExecuted:
    return NotExecuted(code=code, reason=reason, retryable=False, sent=False)
