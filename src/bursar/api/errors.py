"""What the HTTP face itself refuses, and how every failure becomes a problem document.

    BursarError
    ├── MalformedJson            400  the body is not JSON as everybody reads it
    ├── IdempotencyKeyMissing    400  a write without `Idempotency-Key`
    ├── IdempotencyKeyInvalid    400  the key is empty, too long or not printable ASCII
    ├── MalformedRequest         400  the request breaks HTTP
    ├── NotFound                 404  no such path, or no such object for this merchant
    ├── MethodNotAllowed         405  the path has other methods
    ├── BodyTimeout              408  the body did not arrive in time
    ├── BodyTooLarge             413  more bytes than are read
    ├── UnsupportedMediaType     415  the body is not `application/json`
    ├── InvalidField             422  a field of the body
    ├── InvalidParameter         422  a parameter of the path or query
    ├── InternalError            500  a fault of ours
    └── DatabaseUnavailable      503  the database does not answer

Those of the contexts below carry their own status and code. Nothing a client sends is a 500.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from bursar.db.connection import CONNECTION_ERRORS
from bursar.identity.errors import Unauthorized
from bursar.kit.errors import BursarError
from bursar.kit.problem import MEDIA_TYPE, problem_bytes

log = structlog.get_logger(__name__)

OBJECT_EXPECTED: Final = "An object is expected."
_NO_OBJECT: Final = frozenset({"model_type", "model_attributes_type", "dict_type"})
_ERRORS_SHOWN_MAX: Final = 20
_DATABASE_ERRORS: Final[tuple[type[Exception], ...]] = (
    *CONNECTION_ERRORS,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
)
_NAME_CHARS_MAX: Final = 64
_UNAUTHORIZED: Final = 401
_UNAVAILABLE: Final = 503
_OF_KEY: Final = "[key]"  # how the validator says that not the value is wrong but its name


class MalformedJson(BursarError):
    """The body is not JSON as everybody reads it."""

    code = "malformed_json"
    status = 400
    title = "Malformed JSON"


class IdempotencyKeyMissing(BursarError):
    """A write needs the header `Idempotency-Key`."""

    code = "idempotency_key_missing"
    status = 400
    title = "Idempotency key missing"


class IdempotencyKeyInvalid(BursarError):
    """The key is empty, too long, given twice, or not printable ASCII."""

    code = "idempotency_key_invalid"
    status = 400
    title = "Invalid idempotency key"


class MalformedRequest(BursarError):
    """The request breaks HTTP."""

    code = "malformed_request"
    status = 400
    title = "Malformed request"


class NotFound(BursarError):
    """No such path, or no such object for this merchant."""

    code = "not_found"
    status = 404
    title = "Not found"


class MethodNotAllowed(BursarError):
    """The path exists, with other methods."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class BodyTimeout(BursarError):
    """The body did not arrive in time."""

    code = "request_timeout"
    status = 408
    title = "Request timeout"


class BodyTooLarge(BursarError):
    """The body has more bytes than are read."""

    code = "body_too_large"
    status = 413
    title = "Body too large"


class UnsupportedMediaType(BursarError):
    """The body is not `application/json`, or is compressed."""

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"


class InvalidField(BursarError):
    """A field of the body is missing, unknown, or not what it must be."""

    code = "invalid_field"
    status = 422
    title = "Invalid field"


class InvalidParameter(BursarError):
    """A parameter of the path or query is unknown or not what it must be."""

    code = "invalid_parameter"
    status = 422
    title = "Invalid parameter"


class InternalError(BursarError):
    """A fault of ours. What it was stands in the log, under the correlation id."""

    code = "internal_error"
    status = 500
    title = "Internal error"


class DatabaseUnavailable(BursarError):
    """The database does not answer. A write may have happened: send it again, same key."""

    code = "database_unavailable"
    status = 503
    title = "Database unavailable"


OWN_ERRORS: Final = (
    MalformedJson,
    IdempotencyKeyMissing,
    IdempotencyKeyInvalid,
    MalformedRequest,
    NotFound,
    MethodNotAllowed,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidField,
    InvalidParameter,
    InternalError,
    DatabaseUnavailable,
)


def pointer(place: Iterable[str | int]) -> str:
    """A JSON Pointer (RFC 6901). Names come from the client: long or broken ones are cut."""
    return "".join(f"/{_escaped(str(step))}" for step in place)


def _escaped(name: str) -> str:
    whole = name.encode("utf-8", "replace").decode()[:_NAME_CHARS_MAX]
    return whole.replace("~", "~0").replace("/", "~1")


def problem(error: BursarError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an error, with the headers that its status asks for."""
    made = dict(headers or {})
    if error.status == _UNAUTHORIZED:
        made["WWW-Authenticate"] = "Bearer" if isinstance(error, Unauthorized) else "Signature"
    if error.status == _UNAVAILABLE:
        made["Retry-After"] = str(getattr(error, "retry_after_s", 1))
    return Response(problem_bytes(error), error.status, made, MEDIA_TYPE)


def first_fault(faults: Sequence[Mapping[str, Any]]) -> BursarError:
    """What a validator found, as one error: the first fault's place, and a list of them all.

    No input is repeated in it: inputs may be long, secret, or unfit for JSON.
    """
    shown = [_fault(fault) for fault in faults[:_ERRORS_SHOWN_MAX]]
    detail = shown[0]["detail"]
    if "pointer" in shown[0]:
        return InvalidField(detail, pointer=shown[0]["pointer"], errors=shown)
    return InvalidParameter(detail, parameter=shown[0]["parameter"], errors=shown)


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    part, *place = fault["loc"]
    detail = _sentence(fault)
    if place[-1:] == [_OF_KEY]:
        del place[-1]
    if part == "body":
        return {"pointer": pointer(place), "detail": detail}
    return {"parameter": pointer(place).removeprefix("/"), "detail": detail}


def _sentence(fault: Mapping[str, Any]) -> str:
    kind = fault["type"]
    if kind == "extra_forbidden":
        return "This is not known here."
    if kind == "missing":
        return "This is required."
    if kind in _NO_OBJECT:
        return OBJECT_EXPECTED
    text = str(fault["msg"]).removeprefix("Value error, ")
    return text if text.endswith(".") else f"{text}."


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of a route a problem document."""
    app.add_exception_handler(BursarError, _on_bursar_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for lost in _DATABASE_ERRORS:
        app.add_exception_handler(lost, _on_database_error)


async def _on_bursar_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BursarError)  # noqa: S101 - the framework's signature is wider
    return problem(error)


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - see above
    return problem(first_fault(error.errors()))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own: no such path or method, or a request that breaks HTTP."""
    assert isinstance(error, HTTPException)  # noqa: S101 - see above
    if error.status_code == NotFound.status:
        return problem(NotFound("There is nothing here."))
    if error.status_code == MethodNotAllowed.status:
        methods = ", ".join(sorted(_methods(request)))
        return problem(MethodNotAllowed(f"Allowed: {methods}."), {"Allow": methods})
    return problem(MalformedRequest("The request can't be read."))


def _methods(request: Request) -> set[str]:
    """The methods of every route with this path; the framework names only the first one's."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


async def _on_database_error(_request: Request, error: Exception) -> Response:
    log.warning("database_unavailable", error=type(error).__name__)
    return problem(DatabaseUnavailable("The database does not answer. Try again."))
