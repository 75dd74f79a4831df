"""What a repeated request is answered. Pure.

The key belongs to the request: scope (merchant, key), fingerprint over method, path and body, and
over the person where it is somebody's own word.
Format and answers follow draft-ietf-httpapi-idempotency-key-header-07.
"""

from datetime import datetime, timedelta

from bursar.engine.errors import AlreadyExecuted, AlreadyRefused, IdempotencyKeyReused
from bursar.engine.model import IdempotencyKey, Reply, Request

REPLAY_LIFETIME = timedelta(hours=24)
CLAIMED, EXECUTED, REFUSED = "claimed", "executed", "refused"


def claimed(request: Request, now: datetime) -> IdempotencyKey:
    """The row that takes a key before its command is decided."""
    return IdempotencyKey(
        merchant_id=request.merchant_id,
        key=request.key,
        fingerprint=request.fingerprint,
        outcome=CLAIMED,
        status=0,
        body=b"",
        resource_id="",
        claimed_at=now,
    )


def replay(row: IdempotencyKey, request: Request, now: datetime) -> Reply:
    """The stored answer to a repeated request, byte for byte.

    Raises `IdempotencyKeyReused` for another request under the same key, and after 24 hours
    `AlreadyExecuted` (with the resource's id) or `AlreadyRefused`, for ever.
    """
    if row.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
    if now - row.claimed_at > REPLAY_LIFETIME:
        if row.outcome == EXECUTED:
            raise AlreadyExecuted("This request was executed.", resource_id=row.resource_id)
        raise AlreadyRefused("This request was refused.")
    return Reply(row.status, row.body, row.resource_id, replayed=True)
