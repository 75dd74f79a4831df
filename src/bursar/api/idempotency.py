"""The `Idempotency-Key` of a write, as draft-ietf-httpapi-idempotency-key-header-07 words it."""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from bursar.api.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from bursar.kit.canonical import length_prefixed

HEADER: Final = "Idempotency-Key"
KEY_CHARS_MAX: Final = 255

_PRINTABLE: Final = re.compile(rb"[\x20-\x7e]{1,255}\Z")
# A string of RFC 8941: inside the quotes only a quote and a backslash are escaped.
_QUOTED: Final = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"\Z')
_ESCAPE: Final = re.compile(rb"\\(.)")


def read_key(values: Sequence[bytes]) -> str:
    """The key in the request's `Idempotency-Key` headers, quoted or bare: the same key either way.

    Raises `IdempotencyKeyMissing`, or `IdempotencyKeyInvalid` for two headers, for an empty or
    long key, for bytes that are not printable ASCII, and for a quoted string that does not end.
    """
    if not values:
        raise IdempotencyKeyMissing(
            "Send a key of your own in the Idempotency-Key header.", parameter=HEADER
        )
    if len(values) > 1:
        raise _invalid("There are two Idempotency-Key headers.")
    key = values[0].strip(b" \t")
    if key.startswith(b'"'):
        quoted = _QUOTED.match(key)
        if quoted is None:
            raise _invalid("The quoted Idempotency-Key is not one string.")
        key = _ESCAPE.sub(rb"\1", quoted[1])
    if _PRINTABLE.match(key) is None:
        raise _invalid(f"An Idempotency-Key has 1 to {KEY_CHARS_MAX} printable ASCII characters.")
    return key.decode("ascii")


def _invalid(detail: str) -> IdempotencyKeyInvalid:
    return IdempotencyKeyInvalid(detail, parameter=HEADER)


def fingerprint(method: str, path: str, body: bytes, *, person_id: str = "") -> bytes:
    """SHA-256 over the request as sent: another fingerprint under a key is another request.

    `person_id` counts where the request is somebody's own word: another's is another request.
    """
    whose = (person_id.encode(),) if person_id else ()
    return sha256(length_prefixed((method.encode(), path.encode(), body, *whose))).digest()
