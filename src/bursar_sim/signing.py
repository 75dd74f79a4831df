"""The signature on webhooks, as docs/wire/bank.md gives it."""

import hashlib
import hmac


def signature(secret: str, provider_id: str, timestamp_s: int, body: bytes) -> str:
    """`v1=` and the hexadecimal HMAC-SHA256 of `provider_id.timestamp.body`."""
    message = f"{provider_id}.{timestamp_s}.".encode() + body
    return "v1=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
