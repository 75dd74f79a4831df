"""Errors that reach a caller.

    BursarError            anything with a stable code
    └── Refusal            a decision said no: stored with the idempotency key and replayed

Each context draws its own leaves in its `errors.py`. `status` is the HTTP status that the
API answers; it stands here so that a stored refusal can be rendered once, when it is decided.
"""

from typing import ClassVar


class BursarError(Exception):
    """An expected failure: a stable `code`, an HTTP `status`, a `title`, and this case's detail."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Error"

    def __init__(self, detail: str, *, pointer: str | None = None, **extra: object) -> None:
        """`pointer` is the JSON Pointer of the offending field; `extra` are problem members."""
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.extra = extra


class Refusal(BursarError):
    """A command was decided, and the answer is no. Nothing but the reply is stored."""

    code = "refused"
    status = 422
    title = "Refused"
