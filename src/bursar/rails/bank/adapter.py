"""The bank behind the port."""

from typing import Final

from bursar.rails.bank.codec import decode_inquiry, decode_submit, encode_instruction
from bursar.rails.contracts import CONTRACTS, Contract
from bursar.rails.http_rail import HttpRail, Wire
from bursar.rails.transport import Transport

_WIRE: Final = Wire(
    path="/bank/transfers",
    encode=encode_instruction,
    decode_submit=decode_submit,
    decode_inquiry=decode_inquiry,
    key_header="Idempotency-Key",
)


class BankRail(HttpRail):
    """The bank of docs/wire/bank.md."""

    def __init__(
        self, transport: Transport, *, api_key: str, contract: Contract = CONTRACTS["bank"]
    ) -> None:
        super().__init__(_WIRE, transport, api_key=api_key, contract=contract)
