"""The wire of docs/wire/offramp.md: bytes to orders, payouts to bytes. Pure."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from bursar_sim.clock import rfc3339
from bursar_sim.offramp.terms import ASSET, DECIMALS, TERMS
from bursar_sim.provider.fields import (
    IBAN_MAX,
    TEXT_MAX,
    BadRequest,
    inner,
    member,
    only,
    parse_object,
    text,
)
from bursar_sim.provider.model import (
    AMOUNT_MAX,
    Line,
    Notice,
    Order,
    Status,
    Transfer,
    return_id,
)
from bursar_sim.provider.wire import Wire
from bursar_sim.strict_json import dump

_REFERENCE = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\Z")
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,9})\.([0-9]{6})\Z")
_UNIT: Final = 10**DECIMALS
_STATUS: Final = {
    Status.PENDING: "processing",
    Status.EXECUTED: "completed",
    Status.REJECTED: "failed",
    Status.RETURNED: "refunded",
}
_EVENT: Final = {
    "processing": "payout.processing",
    "settled": "payout.completed",
    "rejected": "payout.failed",
    "returned": "payout.refunded",
}


def parse_key(key: str) -> str:
    """A client reference: 128 bits in Crockford's base 32."""
    return _reference(key, None)


def parse_order(raw: bytes, _keys: Sequence[str], correlation_id: str | None) -> Order:
    """The order in a `POST /offramp/payouts`. Raises `BadRequest`."""
    body = parse_object(raw)
    only(body, "", {"client_reference", "asset", "amount", "recipient", "memo"})
    key = _reference(text(body, "", "client_reference", TEXT_MAX), "/client_reference")
    if text(body, "", "asset", TEXT_MAX) != ASSET:
        raise BadRequest("field_invalid", f"the asset is {ASSET}", "/asset")
    amount = _amount(member(body, "", "amount"))
    recipient = inner(body, "recipient", {"name", "account"})
    name = text(recipient, "/recipient", "name", TEXT_MAX)
    account = text(recipient, "/recipient", "account", IBAN_MAX)
    memo = text(body, "", "memo", TEXT_MAX, empty=True) if "memo" in body else ""
    meaning = dump([ASSET, amount, name, account, memo])
    return Order(
        key=key,
        amount=amount,
        currency=ASSET,
        account=account,
        fingerprint=hashlib.sha256(meaning).hexdigest(),
        correlation_id=correlation_id,
    )


def amount_text(amount: int) -> str:
    """Millionths as text with exactly 6 decimals."""
    return f"{amount // _UNIT}.{amount % _UNIT:0{DECIMALS}d}"


def answer_body(transfer: Transfer, first: bool) -> bytes:  # noqa: FBT001 - the wire's signature
    """What `POST` answers: first that it is processing, then the payout as it stands."""
    if transfer.answer == "rejected":
        return refusal_body(transfer, str(transfer.code))
    if not first:
        return status_body(transfer)
    return dump(_head(transfer, transfer.reference, "processing", 1))


def refusal_body(transfer: Transfer, code: str) -> bytes:
    """A refusal of an order."""
    refused = {"status": "rejected", "client_reference": transfer.key}
    return dump(refused | TERMS.explained(code))


def status_body(transfer: Transfer) -> bytes:
    """What `GET` answers for a payout."""
    status = _STATUS[transfer.status]
    body = _head(transfer, transfer.told_reference, status, transfer.sequence)
    if transfer.status in {Status.REJECTED, Status.RETURNED}:
        body |= TERMS.explained(transfer.code)
    refunded = return_id(transfer, TERMS.return_prefix)
    if refunded is not None:
        body["refund_id"] = refunded
        body["refunded_amount"] = amount_text(transfer.last_return)
    return dump(body)


def line_body(number: int, line: Line) -> dict[str, object]:
    """A line of the statement."""
    return {
        "line": number,
        "kind": line.kind,
        "payout_id": line.reference,
        "client_reference": line.key,
        "amount": amount_text(line.amount),
        "asset": line.currency,
        "booked_at": rfc3339(line.booked_at),
    }


def event_body(notice: Notice) -> bytes:
    """The bytes of a webhook."""
    transfer = notice.transfer
    data: dict[str, object] = {
        "payout_id": transfer.told_reference,
        "client_reference": transfer.key,
        "asset": transfer.currency,
        "amount": amount_text(notice.amount),
        "cost": amount_text(transfer.cost),
    }
    if notice.kind in {"rejected", "returned"}:
        data |= TERMS.explained(transfer.code)
    if notice.kind == "returned":
        data["refund_id"] = return_id(transfer, TERMS.return_prefix)
    own = transfer.reference.removeprefix(TERMS.prefix)
    return dump(
        {
            "event_id": f"evt_{own}_{transfer.sequence}{notice.suffix}",
            "type": _EVENT[notice.kind],
            "sequence": transfer.sequence,
            "occurred_at": rfc3339(notice.occurred_at),
            "data": data,
        }
    )


def _reference(value: str, field: str | None) -> str:
    if not _REFERENCE.match(value):
        reason = "a reference is 26 characters of Crockford's base 32"
        raise BadRequest("field_invalid", reason, field)
    return value


def _amount(value: Any) -> int:
    match = _AMOUNT.match(value) if isinstance(value, str) else None
    amount = int(match[1]) * _UNIT + int(match[2]) if match else 0
    if not 1 <= amount <= AMOUNT_MAX:
        top = amount_text(AMOUNT_MAX)
        reason = f"an amount is text with exactly {DECIMALS} decimals, {amount_text(1)} to {top}"
        raise BadRequest("field_invalid", reason, "/amount")
    return amount


def _head(transfer: Transfer, reference: str, status: str, sequence: int) -> dict[str, object]:
    return {
        "payout_id": reference,
        "client_reference": transfer.key,
        "status": status,
        "asset": transfer.currency,
        "amount": amount_text(transfer.amount),
        "cost": amount_text(transfer.cost),
        "sequence": sequence,
    }


WIRE: Final = Wire(
    name="offramp",
    title="off-ramp",
    orders="payouts",
    thing="payout",
    created=202,
    reused=("reference_reused", "This reference was used for another order"),
    terms=TERMS,
    parse_key=parse_key,
    parse_order=parse_order,
    answer_body=answer_body,
    refusal_body=refusal_body,
    status_body=status_body,
    line_body=line_body,
    event_body=event_body,
)
