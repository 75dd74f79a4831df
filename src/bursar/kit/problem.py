"""Errors as `application/problem+json` (RFC 9457)."""

import msgspec

from bursar.kit.errors import BursarError

MEDIA_TYPE = "application/problem+json"

_encoder = msgspec.json.Encoder()


def problem_bytes(error: BursarError) -> bytes:
    """The problem document of an error. Equal errors give equal bytes."""
    body: dict[str, object] = {
        "type": f"urn:bursar:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.pointer is not None:
        body["pointer"] = error.pointer
    body.update(error.extra)
    return _encoder.encode(body)
