"""What every operation of the OpenAPI has in common: its key, its headers, its refusals."""

from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from bursar.api import errors
from bursar.api.admission import Access
from bursar.api.responses import Problem, schema_of
from bursar.engine import errors as engine_errors
from bursar.identity.errors import Forbidden, MerchantScopeRequired, Unauthorized
from bursar.kit.errors import BursarError
from bursar.kit.problem import MEDIA_TYPE

SUMMARY: Final = "Payouts that are sent once, and books that are exact."

_ADMISSION: Final = (Unauthorized, Forbidden, MerchantScopeRequired)
_READING: Final = (errors.InvalidParameter, errors.DatabaseUnavailable, errors.InternalError)
_WRITING: Final = (
    errors.IdempotencyKeyMissing,
    errors.IdempotencyKeyInvalid,
    errors.MalformedJson,
    errors.MalformedRequest,
    errors.BodyTimeout,
    errors.BodyTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidField,
    engine_errors.IdempotencyKeyReused,
    engine_errors.AlreadyExecuted,
    engine_errors.AlreadyRefused,
    engine_errors.ConstraintViolated,
    engine_errors.Overloaded,
    engine_errors.OutcomeUnknown,
)

_KEY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Your own key of this request, bare or quoted. The same key and request again "
    "get the same answer, byte for byte, with `Idempotency-Replayed: true`.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]([ -~]{0,253}[!-~])?$",
    },
}
_CORRELATION_HEADER: Final = {
    "description": "Yours if you sent one of 1 to 64 letters, digits, dots, dashes and "
    "underscores, else made here. It is in every log line and journal entry.",
    "schema": {"type": "string"},
}
_REPLAYED_HEADER: Final = {
    "description": "Present, and `true`, where a stored answer is given again.",
    "schema": {"type": "string", "enum": ["true"]},
}
_HEADERS_OF_STATUS: Final = {
    "401": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    "405": {"Allow": {"schema": {"type": "string"}}},
    "503": {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}},
}


def described(asked: Access, settings: dict[str, Any]) -> dict[str, Any]:
    """A route's settings with what its access implies: refusals, security, the key's header."""
    common: list[type[BursarError]] = [*_READING]
    extra: dict[str, Any] = dict(settings.get("openapi_extra") or {})
    if asked.action is not None:
        common += _ADMISSION[:2] if asked.platform else _ADMISSION
        extra["security"] = [{"api_key": []}]
        extra["x-bursar-action"] = asked.action.value
    if asked.write:
        common += _WRITING
        extra["parameters"] = [*extra.get("parameters", ()), _KEY_HEADER]
    responses = {**(settings.get("responses") or {}), **problems([*asked.refuses, *common])}
    return {**settings, "openapi_extra": extra or None, "responses": responses}


def problems(kinds: Iterable[type[BursarError]]) -> dict[int | str, dict[str, Any]]:
    """The responses of an operation that can be refused in these ways."""
    by_status: dict[int, list[type[BursarError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "description": "\n".join(
                f"- `{kind.code}`: {(kind.__doc__ or kind.title).splitlines()[0]}"
                for kind in by_status[status]
            ),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(by_status)
    }


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The whole document. Made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=SUMMARY, routes=app.routes
        )
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        problem = schema_of(Problem)
        schemas.update(problem.pop("$defs", {}))
        schemas["Problem"] = problem
        components["securitySchemes"] = {
            "api_key": {"type": "http", "scheme": "bearer", "description": "`sk_<mode>_…`"}
        }
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                _drop_frameworks_own(operation)
                _add_headers(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _drop_frameworks_own(operation: dict[str, Any]) -> None:
    """Take out the 422 that the framework adds to whatever has a parameter."""
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]


def _add_headers(operation: dict[str, Any]) -> None:
    writes = any(one.get("name") == "Idempotency-Key" for one in operation.get("parameters", ()))
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        headers["X-Correlation-Id"] = _CORRELATION_HEADER
        headers.update(_HEADERS_OF_STATUS.get(status, {}))
        if writes and status in {"200", "201", "202", "404", "409", "422"}:
            headers["Idempotency-Replayed"] = _REPLAYED_HEADER
