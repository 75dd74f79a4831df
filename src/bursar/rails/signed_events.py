"""What all providers' signed events have in common: the signature and a strict first reading. Pure.

Signed are the bytes as received, `provider_id.timestamp.body`, with HMAC-SHA256; they are parsed
only afterwards, and once. The sandbox's bare form signs the body alone, so it can be replayed for
ever: it is admitted only when asked for.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from bursar.rails.errors import ProviderEventInvalid, WebhookSignatureInvalid
from bursar.rails.strict_json import Token, Unreadable, decode_object

FRESH_S: Final = 300

# One spelling only: lower-case digits, so that no bit of a signature can change and still pass.
_V1: Final = re.compile(r"v1=([0-9a-f]{64})\Z")
_BARE: Final = re.compile(r"sha256=([0-9a-f]{64})\Z")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}\Z")

T = TypeVar("T", bound=msgspec.Struct)


class _Identified(msgspec.Struct):
    event_id: Token


def verify_signature(
    provider_id: str,
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    now_unix: float,
    *,
    allow_bare: bool,
) -> None:
    """Return if `body` was signed by the provider with `secret`; else `WebhookSignatureInvalid`.

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
    if v1 is None or given.get("x-provider-id") != provider_id or not _TIMESTAMP.match(timestamp):
        raise _refused()
    _compare(secret, f"{provider_id}.{timestamp}.".encode() + body, v1[1])
    if abs(now_unix - int(timestamp)) > FRESH_S:
        raise _refused()


def read_event(body: bytes, shape: type[T], detail: str) -> T:
    """A verified body as `shape`. Raises `ProviderEventInvalid` with the field's pointer."""
    try:
        return decode_object(body, shape)
    except Unreadable as error:
        pointer = error.path.removeprefix("$").replace(".", "/")
        raise ProviderEventInvalid(detail, pointer=pointer or None) from None


def identify(body: bytes) -> str:
    """The `event_id` of a verified body: 1 to 128 visible ASCII characters.

    Raises `ProviderEventInvalid` if the body is no JSON object with one.
    """
    return read_event(body, _Identified, "the body is not an event with an id").event_id


def _compare(secret: str, signed: bytes, hex_digest: str) -> None:
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, hex_digest):
        raise _refused()


def _refused() -> WebhookSignatureInvalid:
    return WebhookSignatureInvalid("the webhook's signature is absent, wrong or too old")
