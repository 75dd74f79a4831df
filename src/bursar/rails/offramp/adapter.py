"""The off-ramp behind the port."""

from typing import Final

from bursar.rails.contracts import CONTRACTS, Contract
from bursar.rails.http_rail import HttpRail, Wire
from bursar.rails.offramp.codec import decode_inquiry, decode_submit, encode_instruction
from bursar.rails.transport import Transport

_WIRE: Final = Wire(
    path="/offramp/payouts",
    encode=encode_instruction,
    decode_submit=decode_submit,
    decode_inquiry=decode_inquiry,
)


class OfframpRail(HttpRail):
    """The off-ramp of docs/wire/offramp.md."""

    def __init__(
        self, transport: Transport, *, api_key: str, contract: Contract = CONTRACTS["offramp"]
    ) -> None:
        super().__init__(_WIRE, transport, api_key=api_key, contract=contract)
