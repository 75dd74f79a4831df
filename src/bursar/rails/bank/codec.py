"""The bank's wire, pure: instructions to bytes, replies to outcomes. See docs/wire/bank.md.

Whatever the contract does not describe is `Unknown`: a status code, a word, a field of another
type, an answer about another key or another amount. Nothing here raises for what a bank sends.
"""

from typing import Annotated, Final

import msgspec

from bursar.kit.canonical import canonical_json
from bursar.money.currency import currency
from bursar.money.errors import UnknownCurrency
from bursar.money.model import MAX_MINOR
from bursar.rails.contracts import Contract
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
    StatusUnknown,
    Unknown,
)
from bursar.rails.port import PayoutInstruction
from bursar.rails.proof import listed
from bursar.rails.strict_json import Token, Unreadable, decode_object, plain_text

_OK: Final = 200
_CREATED: Final = 201
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_UNPROCESSABLE: Final = 422

Amount = Annotated[int, msgspec.Meta(ge=1, le=MAX_MINOR)]
Charge = Annotated[int, msgspec.Meta(ge=0, le=MAX_MINOR)]


class _Transfer(msgspec.Struct):
    transfer_id: Token
    end_to_end_id: str
    status: str
    amount: Amount
    currency: str
    cost: Charge = 0
    code: str | None = None
    reason: str | None = None
    returned_amount: Amount | None = None
    return_id: Token | None = None


class _Rejection(msgspec.Struct):
    status: str
    code: Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9]{1,35}\Z")]
    reason: str | None = None
    end_to_end_id: str | None = None


class _Error(msgspec.Struct):
    code: str


def encode_instruction(instruction: PayoutInstruction, contract: Contract) -> bytes | None:
    """The body of a transfer: equal instructions give equal bytes.

    None if the amount cannot be told in the bank's minor units without rounding. Raises
    `UnknownCurrency` for a currency that Bursar does not carry.
    """
    amount = contract.to_provider_minor(instruction.amount_minor, currency(instruction.currency))
    if amount is None:
        return None
    return canonical_json(
        {
            "end_to_end_id": instruction.key,
            "amount": amount,
            "currency": instruction.currency,
            "creditor": {"name": instruction.creditor_name, "iban": instruction.creditor_iban},
            "remittance": instruction.remittance,
        }
    )


def decode_submit(
    status: int, body: bytes, instruction: PayoutInstruction, contract: Contract
) -> Outcome:
    """What a reply to a transfer says. It judges this reply alone: see `proof.judge_submit`."""
    try:
        if status in {_OK, _CREATED}:
            return _taken(decode_object(body, _Transfer), instruction, contract)
        if status == _UNPROCESSABLE:
            return _refused(decode_object(body, _Rejection), instruction.key, contract)
        if status == _CONFLICT and decode_object(body, _Error).code == "key_reused":
            return Unknown("key_reused")
        if status == _UNAUTHORIZED and decode_object(body, _Error).code == "unauthorized":
            return listed("unauthorized", "", contract)
    except Unreadable:
        return Unknown(f"http_{status}_unreadable")
    return Unknown(f"http_{status}")


def decode_inquiry(status: int, body: bytes, key: str, contract: Contract) -> Inquiry:
    """What a reply to an inquiry by `key` says. Only the bank's own 404 is "not found"."""
    try:
        if status == _NOT_FOUND and decode_object(body, _Error).code == "not_found":
            return StatusNotFound()
        if status == _OK:
            return _known(decode_object(body, _Transfer), key, contract)
    except Unreadable:
        return StatusUnknown(f"http_{status}_unreadable")
    return StatusUnknown(f"http_{status}")


def _taken(transfer: _Transfer, instruction: PayoutInstruction, contract: Contract) -> Outcome:
    if transfer.end_to_end_id != instruction.key:
        return Unknown("key_mismatch")
    try:
        own = currency(transfer.currency)
    except UnknownCurrency:
        return Unknown("amount_mismatch", 0)
    amount = contract.from_provider_minor(transfer.amount, own)
    cost = contract.from_provider_minor(transfer.cost, own)
    if (amount, own.code) != (instruction.amount_minor, instruction.currency):
        return Unknown("amount_mismatch", amount or 0, own.code)
    if cost is None:
        return Unknown("cost_not_representable")
    match transfer.status:
        case "accepted":
            return Accepted(transfer.transfer_id)
        case "executed":
            return Executed(
                provider_ref=transfer.transfer_id,
                amount_minor=instruction.amount_minor,
                currency=instruction.currency,
                cost_minor=cost,
            )
        case _:
            return Unknown("unlisted_status")


def _refused(rejection: _Rejection, key: str, contract: Contract) -> Outcome:
    if rejection.status != "rejected":
        return Unknown("unlisted_status")
    if rejection.end_to_end_id not in {None, key}:
        return Unknown("key_mismatch")
    return listed(rejection.code, plain_text(rejection.reason), contract)


def _known(transfer: _Transfer, key: str, contract: Contract) -> Inquiry:
    if transfer.end_to_end_id != key:
        return StatusUnknown("key_mismatch")
    code, reason = plain_text(transfer.code), plain_text(transfer.reason)
    if transfer.status == "rejected":
        return StatusRejected(code, reason)
    amounts = _amounts(transfer, contract)
    if transfer.status in {"accepted", "pending"}:
        told = (0, "") if amounts is None else (amounts[0], transfer.currency)
        return StatusPending(transfer.transfer_id, *told)
    if amounts is None and transfer.status in {"executed", "returned"}:
        # Money left, of which nothing can be told in units that we carry.
        return StatusExecuted(provider_ref=transfer.transfer_id, amount_minor=0, currency="")
    if amounts is None:
        return StatusUnknown("amount_unreadable")
    amount, cost, returned = amounts
    if transfer.status == "executed":
        return StatusExecuted(
            provider_ref=transfer.transfer_id,
            amount_minor=amount,
            currency=transfer.currency,
            cost_minor=cost,
        )
    if transfer.status == "returned" and returned is not None:
        return StatusReturned(
            provider_ref=transfer.transfer_id,
            amount_minor=amount,
            currency=transfer.currency,
            cost_minor=cost,
            returned_minor=returned,
            return_id=transfer.return_id,
            code=code,
            reason=reason,
        )
    return StatusUnknown("unlisted_status")


def _amounts(transfer: _Transfer, contract: Contract) -> tuple[int, int, int | None] | None:
    """Amount, cost and what came back, in our minor units; None if one cannot be told in them."""
    try:
        own = currency(transfer.currency)
    except UnknownCurrency:
        return None
    amount = contract.from_provider_minor(transfer.amount, own)
    cost = contract.from_provider_minor(transfer.cost, own)
    if amount is None or cost is None:
        return None
    if transfer.returned_amount is None:
        return amount, cost, None
    returned = contract.from_provider_minor(transfer.returned_amount, own)
    return None if returned is None else (amount, cost, returned)
