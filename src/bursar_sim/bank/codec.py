"""The wire of docs/wire/bank.md: bytes to orders, transfers to bytes. Pure."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from bursar_sim.bank.model import (
    AMOUNT_MAX,
    COST_MINOR,
    REASONS,
    Line,
    Notice,
    Order,
    Transfer,
    return_id,
)
from bursar_sim.clock import rfc3339
from bursar_sim.strict_json import NotJson, dump, parse

BODY_MAX: Final = 64 * 1024
"Bytes of a request's body."
TEXT_MAX: Final = 140
"Characters of a name or remittance (ISO 20022 Max140Text)."
_KEY = re.compile(r"[A-Za-z0-9-]{1,35}\Z")
_CURRENCY = re.compile(r"[A-Z]{3,4}\Z")
_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BadRequest(ValueError):
    """The request is not well formed; nothing was done. `field` is a JSON Pointer or none."""

    def __init__(self, code: str, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.field = field


def problem(code: str, reason: str, field: str | None = None) -> bytes:
    """The body of an answer that is not about a transfer."""
    body = {"code": code, "reason": reason}
    if field is not None:
        body["field"] = field
    return dump(body)


def parse_key(key: str | None) -> str:
    """An end-to-end id: up to 35 of A-Z a-z 0-9 and the hyphen (ISO 20022 Max35Text, narrowed)."""
    if key is None:
        raise BadRequest("key_missing", "Idempotency-Key is missing")
    if not _KEY.match(key):
        raise BadRequest("key_invalid", "A key is 1 to 35 of A-Z a-z 0-9 -")
    return key


def parse_correlation(value: str | None) -> str | None:
    """The caller's correlation id, if it is printable ASCII of at most 128; else none."""
    return value if value is not None and _CORRELATION.match(value) else None


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `BadRequest`."""
    try:
        value = parse(raw)
    except NotJson as error:
        raise BadRequest("not_json", str(error)) from None
    if not isinstance(value, dict):
        raise BadRequest("field_invalid", "the body must be an object", "")
    return value


def parse_order(raw: bytes, key: str, correlation_id: str | None) -> Order:
    """The order in a body of `POST /bank/transfers`. Raises `BadRequest`."""
    body = parse_object(raw)
    _only(body, "", {"end_to_end_id", "amount", "currency", "creditor", "remittance"})
    if parse_key(_text(body, "", "end_to_end_id", TEXT_MAX)) != key:
        raise BadRequest("key_mismatch", "end_to_end_id is not the Idempotency-Key")
    amount = _get(body, "", "amount")
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise BadRequest("field_invalid", "an amount is an integer of minor units", "/amount")
    if not 1 <= amount <= AMOUNT_MAX:
        raise BadRequest("field_invalid", f"an amount is from 1 to {AMOUNT_MAX}", "/amount")
    currency = _text(body, "", "currency", TEXT_MAX)
    if not _CURRENCY.match(currency):
        raise BadRequest("field_invalid", "a currency is 3 or 4 capital letters", "/currency")
    creditor = _get(body, "", "creditor")
    if not isinstance(creditor, dict):
        raise BadRequest("field_invalid", "the creditor must be an object", "/creditor")
    _only(creditor, "/creditor", {"name", "iban"})
    name = _text(creditor, "/creditor", "name", TEXT_MAX)
    iban = _text(creditor, "/creditor", "iban", 34)
    remittance = _text(body, "", "remittance", TEXT_MAX, empty=True) if "remittance" in body else ""
    meaning = dump([amount, currency, name, iban, remittance])
    return Order(
        end_to_end_id=key,
        amount=amount,
        currency=currency,
        creditor_iban=iban,
        fingerprint=hashlib.sha256(meaning).hexdigest(),
        correlation_id=correlation_id,
    )


def parse_count(query: Mapping[str, str], name: str, *, default: int, low: int, high: int) -> int:
    """A number of the query string, from `low` to `high`. Raises `BadRequest`."""
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
        raise BadRequest("field_invalid", f"{name} is an integer from {low} to {high}", f"?{name}")
    return int(text)


def answer_body(transfer: Transfer) -> bytes:
    """What `POST` answers for a transfer, the first time and ever after."""
    if transfer.answer == "rejected":
        code = str(transfer.code)
        return dump({"status": "rejected", "code": code, "reason": REASONS[code]})
    return dump(_head(transfer, transfer.answer) | {"cost": COST_MINOR})


def status_body(transfer: Transfer) -> bytes:
    """What `GET` answers for a transfer."""
    body = _head(transfer, transfer.status.value)
    if transfer.status.value in {"rejected", "returned"}:
        _explain(body, transfer)
    returned = return_id(transfer)
    if returned is not None:
        body["returned_amount"] = transfer.returned_amount
        body["return_id"] = returned
    return dump(body)


def statement_body(lines: list[tuple[int, Line]], *, more: bool) -> bytes:
    """A page of the statement."""
    page = [
        {
            "line": number,
            "kind": line.kind,
            "transfer_id": line.transfer_id,
            "end_to_end_id": line.end_to_end_id,
            "amount": line.amount,
            "currency": line.currency,
            "booked_at": rfc3339(line.booked_at),
        }
        for number, line in lines
    ]
    return dump({"lines": page, "next": page[-1]["line"] if more and page else None})


def event_body(notice: Notice) -> bytes:
    """The bytes of a webhook, which are signed and sent as they stand."""
    transfer = notice.transfer
    data: dict[str, object] = {
        "transfer_id": transfer.transfer_id,
        "end_to_end_id": transfer.end_to_end_id,
        "amount": transfer.amount,
        "currency": transfer.currency,
        "cost": transfer.cost,
    }
    if notice.kind != "transfer.settled":
        _explain(data, transfer)
    returned = return_id(transfer)
    if returned is not None:
        data["return_id"] = returned
    return dump(
        {
            "event_id": notice.event_id,
            "type": notice.kind,
            "occurred_at": rfc3339(notice.occurred_at),
            "data": data,
        }
    )


def _head(transfer: Transfer, status: str) -> dict[str, object]:
    return {
        "transfer_id": transfer.transfer_id,
        "end_to_end_id": transfer.end_to_end_id,
        "status": status,
        "amount": transfer.amount,
        "currency": transfer.currency,
        "cost": transfer.cost,
    }


def _explain(body: dict[str, object], transfer: Transfer) -> None:
    code = str(transfer.code)
    body["code"] = code
    body["reason"] = REASONS[code]


def _get(body: dict[str, Any], path: str, name: str) -> Any:
    if name not in body:
        raise BadRequest("field_missing", f"{name} is missing", f"{path}/{name}")
    return body[name]


def _text(body: dict[str, Any], path: str, name: str, top: int, *, empty: bool = False) -> str:
    value = _get(body, path, name)
    if not isinstance(value, str):
        raise BadRequest("field_invalid", f"{name} must be text", f"{path}/{name}")
    if len(value) > top or not (empty or value.strip()):
        low = 0 if empty else 1
        raise BadRequest("field_invalid", f"{name} has {low} to {top} characters", f"{path}/{name}")
    if _CONTROL.search(value):
        raise BadRequest("field_invalid", f"{name} has a control character", f"{path}/{name}")
    return value


def _only(body: dict[str, Any], path: str, names: set[str]) -> None:
    for name in body:
        if name not in names:
            escaped = name[:TEXT_MAX].replace("~", "~0").replace("/", "~1")
            raise BadRequest("field_unknown", "there is no such field", f"{path}/{escaped}")
