"""Answers from stored bytes, passed through untouched."""

from typing import Final

from fastapi import Response

from bursar.engine.model import Reply
from bursar.kit.canonical import canonical_json
from bursar.kit.problem import MEDIA_TYPE

JSON: Final = "application/json"
_REFUSED: Final = 400


def reply_response(reply: Reply) -> Response:
    """The reply of a command, stored or fresh; a replay says so in a header."""
    headers = {"Idempotency-Replayed": "true"} if reply.replayed else None
    media_type = MEDIA_TYPE if reply.status >= _REFUSED else JSON
    return Response(reply.body, reply.status, headers, media_type)


def document_response(document: object, status: int = 200) -> Response:
    """A document as JSON bytes."""
    return Response(canonical_json(document), status, None, JSON)
