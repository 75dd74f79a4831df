"""The wire of docs/wire/bank.md: bytes to orders, transfers to bytes. Pure."""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from bursar_sim.bank.terms import TERMS
from bursar_sim.clock import rfc3339
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

_KEY = re.compile(r"[A-Za-z0-9-]{1,35}\Z")
_CURRENCY = re.compile(r"[A-Z]{3,4}\Z")


def parse_key(key: str) -> str:
    """An end-to-end id: up to 35 of A-Z a-z 0-9 and the hyphen (ISO 20022 Max35Text, narrowed)."""
    if not _KEY.match(key):
        raise BadRequest("key_invalid", "A key is 1 to 35 of A-Z a-z 0-9 -")
    return key


def parse_order(raw: bytes, keys: Sequence[str], correlation_id: str | None) -> Order:
    """The order in a `POST /bank/transfers`. Raises `BadRequest`."""
    key = _header_key(keys)
    body = parse_object(raw)
    only(body, "", {"end_to_end_id", "amount", "currency", "creditor", "remittance"})
    if parse_key(text(body, "", "end_to_end_id", TEXT_MAX)) != key:
        raise BadRequest("key_mismatch", "end_to_end_id is not the Idempotency-Key")
    amount = member(body, "", "amount")
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise BadRequest("field_invalid", "an amount is an integer of minor units", "/amount")
    if not 1 <= amount <= AMOUNT_MAX:
        raise BadRequest("field_invalid", f"an amount is from 1 to {AMOUNT_MAX}", "/amount")
    currency = text(body, "", "currency", TEXT_MAX)
    if not _CURRENCY.match(currency):
        raise BadRequest("field_invalid", "a currency is 3 or 4 capital letters", "/currency")
    creditor = inner(body, "creditor", {"name", "iban"})
    name = text(creditor, "/creditor", "name", TEXT_MAX)
    iban = text(creditor, "/creditor", "iban", IBAN_MAX)
    remittance = text(body, "", "remittance", TEXT_MAX, empty=True) if "remittance" in body else ""
    meaning = dump([amount, currency, name, iban, remittance])
    return Order(
        key=key,
        amount=amount,
        currency=currency,
        account=iban,
        fingerprint=hashlib.sha256(meaning).hexdigest(),
        correlation_id=correlation_id,
    )


def answer_body(transfer: Transfer, _first: bool) -> bytes:  # noqa: FBT001 - the wire's signature
    """What `POST` answers for a transfer, the first time and ever after."""
    if transfer.answer == "rejected":
        return refusal_body(transfer, str(transfer.code))
    cost = TERMS.cost
    return dump(_head(transfer, transfer.reference, transfer.answer) | {"cost": cost})


def refusal_body(_transfer: Transfer, code: str) -> bytes:
    """A refusal of an order."""
    return dump({"status": "rejected"} | TERMS.explained(code))


def status_body(transfer: Transfer) -> bytes:
    """What `GET` answers for a transfer."""
    body = _head(transfer, transfer.told_reference, transfer.status.value)
    if transfer.status in {Status.REJECTED, Status.RETURNED}:
        body |= TERMS.explained(transfer.code)
    returned = return_id(transfer, TERMS.return_prefix)
    if returned is not None:
        body["returned_amount"] = transfer.last_return
        body["return_id"] = returned
    return dump(body)


def line_body(number: int, line: Line) -> dict[str, object]:
    """A line of the statement."""
    return {
        "line": number,
        "kind": line.kind,
        "transfer_id": line.reference,
        "end_to_end_id": line.key,
        "amount": line.amount,
        "currency": line.currency,
        "booked_at": rfc3339(line.booked_at),
    }


def event_body(notice: Notice) -> bytes:
    """The bytes of a webhook."""
    transfer = notice.transfer
    own = transfer.told_reference.removeprefix(TERMS.prefix)
    part = f"_{transfer.returns}" if notice.kind == "returned" and transfer.returns > 1 else ""
    data: dict[str, object] = {
        "transfer_id": transfer.told_reference,
        "end_to_end_id": transfer.key,
        "amount": notice.amount,
        "currency": transfer.currency,
        "cost": transfer.cost,
    }
    if notice.kind != "settled":
        data |= TERMS.explained(transfer.code)
    if notice.kind == "returned":
        data["return_id"] = return_id(transfer, TERMS.return_prefix)
    return dump(
        {
            "event_id": f"evt_{own}_{notice.kind}{part}{notice.suffix}",
            "type": f"transfer.{notice.kind}",
            "occurred_at": rfc3339(notice.occurred_at),
            "data": data,
        }
    )


def _header_key(keys: Sequence[str]) -> str:
    if not keys:
        raise BadRequest("key_missing", "Idempotency-Key is missing")
    if len(keys) > 1:
        raise BadRequest("key_invalid", "Idempotency-Key is given more than once")
    return parse_key(keys[0])


def _head(transfer: Transfer, reference: str, status: str) -> dict[str, object]:
    return {
        "transfer_id": reference,
        "end_to_end_id": transfer.key,
        "status": status,
        "amount": transfer.amount,
        "currency": transfer.currency,
        "cost": transfer.cost,
    }


WIRE: Final = Wire(
    name="bank",
    title="bank",
    orders="transfers",
    thing="transfer",
    created=201,
    reused=("key_reused", "This key was used for another order"),
    terms=TERMS,
    parse_key=parse_key,
    parse_order=parse_order,
    answer_body=answer_body,
    refusal_body=refusal_body,
    status_body=status_body,
    line_body=line_body,
    event_body=event_body,
)
