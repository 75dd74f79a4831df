"""The bank's signed events, pure. This module is a `WebhookVerifier`.

Signed are the bytes as received, `provider_id.timestamp.body`, with HMAC-SHA256; they are parsed
only afterwards, and once. The sandbox's bare form signs the body alone, so it can be replayed for
ever: it is admitted only when asked for.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from bursar.money.currency import currency
from bursar.money.errors import UnknownCurrency
from bursar.money.model import MAX_MINOR
from bursar.rails.contracts import CONTRACTS
from bursar.rails.errors import ProviderEventInvalid, WebhookSignatureInvalid
from bursar.rails.port import EventKind, ProviderEvent
from bursar.rails.strict_json import Unreadable, decode_object, plain_text

PROVIDER_ID: Final = "bank"
FRESH_S: Final = 300

# One spelling only: lower-case digits, so that no bit of a signature can change and still pass.
_V1: Final = re.compile(r"v1=([0-9a-f]{64})\Z")
_BARE: Final = re.compile(r"sha256=([0-9a-f]{64})\Z")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}\Z")

_KINDS: Final = {
    "transfer.accepted": EventKind.ACCEPTED,
    "transfer.settled": EventKind.PAID,
    "transfer.rejected": EventKind.FAILED,
    "transfer.returned": EventKind.RETURNED,
}

Token = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,128}\Z")]


class _Data(msgspec.Struct):
    transfer_id: Token
    end_to_end_id: Token
    amount: Annotated[int, msgspec.Meta(ge=1, le=MAX_MINOR)]
    currency: str
    cost: Annotated[int, msgspec.Meta(ge=0, le=MAX_MINOR)] = 0
    code: str | None = None
    reason: str | None = None
    return_id: Token | None = None


class _Event(msgspec.Struct):
    event_id: Token
    type: Literal["transfer.accepted", "transfer.settled", "transfer.rejected", "transfer.returned"]
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]
    data: _Data


def verify(
    headers: Mapping[str, str], body: bytes, secret: str, now_unix: float, *, allow_bare: bool
) -> None:
    """Return if `body` was signed by the bank with `secret`; else `WebhookSignatureInvalid`.

    `v1=` needs a timestamp within `FRESH_S` of `now_unix`, either way. `sha256=` (the body alone)
    counts only with `allow_bare`. An empty secret verifies nothing. Constant time in the digest.
    """
    given = {name.lower(): value for name, value in headers.items()}
    signature = given.get("x-webhook-signature", "")
    if not secret:
        raise _refused()
    if allow_bare and (bare := _BARE.match(signature)):
        _compare(secret, body, bare[1])
        return
    v1 = _V1.match(signature)
    timestamp = given.get("x-webhook-timestamp", "")
    if v1 is None or given.get("x-provider-id") != PROVIDER_ID or not _TIMESTAMP.match(timestamp):
        raise _refused()
    _compare(secret, f"{PROVIDER_ID}.{timestamp}.".encode() + body, v1[1])
    if abs(now_unix - int(timestamp)) > FRESH_S:
        raise _refused()


def parse(body: bytes) -> ProviderEvent:
    """The event in a verified body. Raises `ProviderEventInvalid` with the field's pointer."""
    contract = CONTRACTS[PROVIDER_ID]
    try:
        event = decode_object(body, _Event)
        data = event.data
        own = currency(data.currency)
        occurred_at = event.occurred_at.astimezone(UTC)
    except Unreadable as error:
        pointer = error.path.removeprefix("$").replace(".", "/")
        raise ProviderEventInvalid(
            "the body is not an event of the bank", pointer=pointer or None
        ) from None
    except UnknownCurrency as error:
        raise ProviderEventInvalid(error.detail, pointer="/data/currency") from None
    except OverflowError:
        raise ProviderEventInvalid("a time before the year 1", pointer="/occurred_at") from None
    if not contract.key_fits(data.end_to_end_id):
        raise ProviderEventInvalid("not a key of ours", pointer="/data/end_to_end_id")
    amount = contract.from_provider_minor(data.amount, own)
    cost = contract.from_provider_minor(data.cost, own)
    if amount is None or cost is None:
        raise ProviderEventInvalid("not a whole minor unit of ours", pointer="/data/amount")
    kind = _KINDS[event.type]
    if kind is EventKind.RETURNED and data.return_id is None:
        raise ProviderEventInvalid("a return carries its own id", pointer="/data/return_id")
    return ProviderEvent(
        event_id=event.event_id,
        kind=kind,
        provider_key=data.end_to_end_id,
        provider_ref=data.transfer_id,
        amount_minor=amount,
        currency=own.code,
        cost_minor=cost,
        code=plain_text(data.code) or None,
        reason=plain_text(data.reason) or None,
        return_id=data.return_id,
        occurred_at=occurred_at,
    )


def _compare(secret: str, signed: bytes, hex_digest: str) -> None:
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, hex_digest):
        raise _refused()


def _refused() -> WebhookSignatureInvalid:
    return WebhookSignatureInvalid("the webhook's signature is absent, wrong or too old")
