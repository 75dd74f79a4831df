"""The bank's signed events, pure. This module is a `WebhookVerifier`."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from bursar.money.currency import currency
from bursar.money.errors import UnknownCurrency
from bursar.money.model import MAX_MINOR
from bursar.rails import signed_events
from bursar.rails.contracts import CONTRACTS, Contract
from bursar.rails.errors import ProviderEventInvalid
from bursar.rails.port import EventKind, ProviderEvent
from bursar.rails.signed_events import read_event, verify_signature
from bursar.rails.strict_json import Token, plain_text

PROVIDER_ID: Final = "bank"

_KINDS: Final = {
    "transfer.accepted": EventKind.ACCEPTED,
    "transfer.settled": EventKind.PAID,
    "transfer.rejected": EventKind.FAILED,
    "transfer.returned": EventKind.RETURNED,
}


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
    data: _Data


def verify(
    headers: Mapping[str, str], body: bytes, secret: str, now_unix: float, *, allow_bare: bool
) -> None:
    """Return if `body` was signed by the bank: see `verify_signature`."""
    verify_signature(PROVIDER_ID, headers, body, secret, now_unix, allow_bare=allow_bare)


def identify(body: bytes) -> str:
    """The id of the event in a verified body: see `signed_events.identify`."""
    return signed_events.identify(body)


def parse(body: bytes) -> ProviderEvent:
    """The event in a verified body. Raises `ProviderEventInvalid` with the field's pointer."""
    contract = CONTRACTS[PROVIDER_ID]
    event = read_event(body, _Event, "the body is not an event of the bank")
    data = event.data
    if not contract.key_fits(data.end_to_end_id):
        raise ProviderEventInvalid("not a key of ours", pointer="/data/end_to_end_id")
    amount, cost, code = _in_ours(data, contract)
    kind = _KINDS[event.type]
    if kind is EventKind.RETURNED and data.return_id is None:
        raise ProviderEventInvalid("a return carries its own id", pointer="/data/return_id")
    return ProviderEvent(
        event_id=event.event_id,
        kind=kind,
        provider_key=data.end_to_end_id,
        provider_ref=data.transfer_id,
        amount_minor=amount,
        currency=code,
        cost_minor=cost,
        code=plain_text(data.code) or None,
        reason=plain_text(data.reason) or None,
        return_id=data.return_id,
    )


def _in_ours(data: _Data, contract: Contract) -> tuple[int, int, str]:
    """Amount and cost in our minor units, and the currency; 0 and empty for what we can't tell."""
    try:
        own = currency(data.currency)
    except UnknownCurrency:
        return 0, 0, ""
    amount = contract.from_provider_minor(data.amount, own)
    cost = contract.from_provider_minor(data.cost, own)
    if cost is None:
        raise ProviderEventInvalid("not a whole minor unit of ours", pointer="/data/cost")
    return amount or 0, cost, own.code
