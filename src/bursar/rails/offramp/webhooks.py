"""The off-ramp's signed events, pure. This module is a `WebhookVerifier`."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from bursar.rails import signed_events
from bursar.rails.contracts import CONTRACTS
from bursar.rails.errors import ProviderEventInvalid
from bursar.rails.offramp.codec import ASSET, Sequence, amount_minor, in_ours
from bursar.rails.port import EventKind, ProviderEvent
from bursar.rails.signed_events import read_event, verify_signature
from bursar.rails.strict_json import Token, plain_text

PROVIDER_ID: Final = "offramp"

_KINDS: Final = {
    "payout.processing": EventKind.ACCEPTED,
    "payout.completed": EventKind.PAID,
    "payout.failed": EventKind.FAILED,
    "payout.refunded": EventKind.RETURNED,
}


class _Data(msgspec.Struct):
    payout_id: Token
    client_reference: str
    asset: str
    amount: str
    cost: str
    code: str | None = None
    reason: str | None = None
    refund_id: Token | None = None


class _Event(msgspec.Struct):
    event_id: Token
    type: Literal["payout.processing", "payout.completed", "payout.failed", "payout.refunded"]
    sequence: Sequence
    data: _Data


def verify(
    headers: Mapping[str, str], body: bytes, secret: str, now_unix: float, *, allow_bare: bool
) -> None:
    """Return if `body` was signed by the off-ramp: see `verify_signature`."""
    verify_signature(PROVIDER_ID, headers, body, secret, now_unix, allow_bare=allow_bare)


def identify(body: bytes) -> str:
    """The id of the event in a verified body: see `signed_events.identify`."""
    return signed_events.identify(body)


def parse(body: bytes) -> ProviderEvent:
    """The event in a verified body. Raises `ProviderEventInvalid` with the field's pointer."""
    event = read_event(body, _Event, "the body is not an event of the off-ramp")
    data = event.data
    if not CONTRACTS[PROVIDER_ID].key_fits(data.client_reference):
        raise ProviderEventInvalid("not a key of ours", pointer="/data/client_reference")
    cost = amount_minor(data.cost)
    amount, code = in_ours(data.amount, data.asset)
    if code == ASSET and not amount:
        raise ProviderEventInvalid("not an amount of the off-ramp", pointer="/data/amount")
    if cost is None:
        raise ProviderEventInvalid("not an amount of the off-ramp", pointer="/data/cost")
    kind = _KINDS[event.type]
    if kind is EventKind.RETURNED and data.refund_id is None:
        raise ProviderEventInvalid("a refund carries its own id", pointer="/data/refund_id")
    return ProviderEvent(
        event_id=event.event_id,
        kind=kind,
        provider_key=data.client_reference,
        provider_ref=data.payout_id,
        amount_minor=amount,
        currency=code,
        cost_minor=cost,
        code=plain_text(data.code) or None,
        reason=plain_text(data.reason) or None,
        return_id=data.refund_id,
        sequence=event.sequence,
    )
