"""The off-ramp's wire, pure: instructions to bytes, replies to outcomes. See docs/wire/offramp.md.

Whatever the contract does not describe is `Unknown`: a status code, a word, a field of another
type, an answer about another key or another amount. Nothing here raises for what a provider sends.
"""

from typing import Annotated, Final

import msgspec

from bursar.kit.canonical import canonical_json
from bursar.money.currency import currency
from bursar.money.errors import AmountInvalid, UnknownCurrency
from bursar.money.model import format_major, parse_major
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

ASSET: Final = "USDC"

_LEFT: Final = frozenset({"completed", "refunded"})
"""The statuses that say that money left."""
_OK: Final = 200
_ACCEPTED: Final = 202
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_UNPROCESSABLE: Final = 422

Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,64}\Z")]
Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class _Payout(msgspec.Struct):
    payout_id: Token
    client_reference: str
    status: str
    asset: str
    amount: str
    cost: str
    sequence: Sequence
    code: str | None = None
    reason: str | None = None
    refund_id: Token | None = None
    refunded_amount: str | None = None


class _Rejection(msgspec.Struct):
    status: str
    client_reference: str
    code: Code
    reason: str | None = None


class _Error(msgspec.Struct):
    code: str


class _Amounts(msgspec.Struct, frozen=True):
    """In our minor units."""

    amount: int
    cost: int
    refunded: int | None


def amount_text(minor: int) -> str:
    """Minor units as the off-ramp writes them: 6 decimals, always."""
    return format_major(minor, currency(ASSET))


def amount_minor(text: str) -> int | None:
    """Minor units of what `amount_text` writes, exactly; None for every other text."""
    try:
        minor = parse_major(text, currency(ASSET))
    except AmountInvalid:
        return None
    return minor if amount_text(minor) == text else None


def in_ours(text: str, asset: str) -> tuple[int, str]:
    """Minor units of an amount in any asset, and the asset; 0 and empty for what we can't tell.

    The off-ramp writes 6 decimals whatever the asset.
    """
    try:
        own = currency(asset)
    except UnknownCurrency:
        return 0, ""
    six = amount_minor(text) or 0
    shift = own.exponent - currency(ASSET).exponent
    minor, lost = (six * 10**shift, 0) if shift >= 0 else divmod(six, 10**-shift)
    return (0 if lost else int(minor)), own.code


def encode_instruction(instruction: PayoutInstruction, _contract: Contract) -> bytes | None:
    """The body of an order: equal instructions give equal bytes. None for another asset."""
    if instruction.currency != ASSET:
        return None
    return canonical_json(
        {
            "client_reference": instruction.key,
            "asset": ASSET,
            "amount": amount_text(instruction.amount_minor),
            "recipient": {
                "name": instruction.creditor_name,
                "account": instruction.creditor_iban,
            },
            "memo": instruction.remittance,
        }
    )


def decode_submit(
    status: int, body: bytes, instruction: PayoutInstruction, contract: Contract
) -> Outcome:
    """What a reply to an order says. It judges this reply alone: see `proof.judge_submit`."""
    try:
        if status in {_OK, _ACCEPTED}:
            return _taken(decode_object(body, _Payout), instruction, contract)
        if status == _UNPROCESSABLE:
            return _refused(decode_object(body, _Rejection), instruction.key, contract)
        if status == _CONFLICT and decode_object(body, _Error).code == "reference_reused":
            return Unknown("key_reused")
        if status == _UNAUTHORIZED and decode_object(body, _Error).code == "unauthorized":
            return listed("unauthorized", "", contract)
    except Unreadable:
        return Unknown(f"http_{status}_unreadable")
    return Unknown(f"http_{status}")


def decode_inquiry(status: int, body: bytes, key: str, _contract: Contract) -> Inquiry:
    """What a reply to an inquiry by `key` says. Only the off-ramp's own 404 is "not found"."""
    try:
        if status == _NOT_FOUND and decode_object(body, _Error).code == "not_found":
            return StatusNotFound()
        if status == _OK:
            return _known(decode_object(body, _Payout), key)
    except Unreadable:
        return StatusUnknown(f"http_{status}_unreadable")
    return StatusUnknown(f"http_{status}")


def _taken(payout: _Payout, instruction: PayoutInstruction, contract: Contract) -> Outcome:
    if payout.client_reference != instruction.key:
        return Unknown("key_mismatch")
    told = _amounts(payout)
    if _is_foreign(payout):
        return Unknown("amount_mismatch", *in_ours(payout.amount, payout.asset))
    if told is None:
        return Unknown("amount_unreadable")
    if told.amount != instruction.amount_minor:
        return Unknown("amount_mismatch", told.amount, ASSET)
    match payout.status:
        case "processing":
            return Accepted(payout.payout_id)
        case "completed":
            return Executed(
                provider_ref=payout.payout_id,
                amount_minor=told.amount,
                currency=ASSET,
                cost_minor=told.cost,
                sequence=payout.sequence,
            )
        case "failed":
            reason = plain_text(payout.reason)
            return listed(plain_text(payout.code), reason, contract, sequence=payout.sequence)
        case "refunded":
            # An outcome of a send has no room for a return; the inquiry tells both.
            return Unknown("refunded")
        case _:
            return Unknown("unlisted_status")


def _refused(rejection: _Rejection, key: str, contract: Contract) -> Outcome:
    if rejection.status != "rejected":
        return Unknown("unlisted_status")
    if rejection.client_reference != key:
        return Unknown("key_mismatch")
    return listed(rejection.code, plain_text(rejection.reason), contract)


def _known(payout: _Payout, key: str) -> Inquiry:
    if payout.client_reference != key:
        return StatusUnknown("key_mismatch")
    told = _amounts(payout)
    if _is_foreign(payout) and payout.status in {*_LEFT, "processing"}:
        foreign = in_ours(payout.amount, payout.asset)
        if payout.status == "processing":
            return StatusPending(payout.payout_id, *foreign)
        return StatusExecuted(
            provider_ref=payout.payout_id, amount_minor=foreign[0], currency=foreign[1]
        )
    if told is None or payout.asset != ASSET:
        return StatusUnknown("amount_unreadable")
    code, reason = plain_text(payout.code), plain_text(payout.reason)
    match payout.status:
        case "processing":
            return StatusPending(payout.payout_id, told.amount, ASSET)
        case "completed":
            return StatusExecuted(
                provider_ref=payout.payout_id,
                amount_minor=told.amount,
                currency=ASSET,
                cost_minor=told.cost,
                sequence=payout.sequence,
            )
        case "failed":
            return StatusRejected(code, reason, payout.sequence)
        case "refunded" if told.refunded is not None and payout.refund_id is not None:
            return StatusReturned(
                provider_ref=payout.payout_id,
                amount_minor=told.amount,
                currency=ASSET,
                cost_minor=told.cost,
                returned_minor=told.refunded,
                return_id=payout.refund_id,
                code=code,
                reason=reason,
                sequence=payout.sequence,
            )
        case _:
            return StatusUnknown("unlisted_status")


def _is_foreign(payout: _Payout) -> bool:
    """Whether it is of another asset, or money left of an amount that nobody can read (F18)."""
    left = payout.status in _LEFT
    return payout.asset != ASSET or (left and amount_minor(payout.amount) is None)


def _amounts(payout: _Payout) -> _Amounts | None:
    """None if one of them is not an amount as the off-ramp writes it."""
    amount, cost = amount_minor(payout.amount), amount_minor(payout.cost)
    if not amount or cost is None:
        return None
    if payout.refunded_amount is None:
        return _Amounts(amount, cost, None)
    refunded = amount_minor(payout.refunded_amount)
    return _Amounts(amount, cost, refunded) if refunded else None
