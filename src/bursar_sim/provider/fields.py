"""Reading a request strictly: what every wire's codec needs. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

from bursar_sim.strict_json import NotJson, dump, parse

BODY_MAX: Final = 64 * 1024
"Bytes of a request's body."
TEXT_MAX: Final = 140
"Characters of a name or remittance (ISO 20022 Max140Text)."
IBAN_MAX: Final = 34
_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BadRequest(ValueError):
    """The request is not well formed; nothing was done. `field` is a JSON Pointer or none."""

    def __init__(self, code: str, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.field = field


def problem(code: str, reason: str, field: str | None = None) -> bytes:
    """The body of an answer that is not about a transfer."""
    body = {"code": code, "reason": reason}
    if field is not None:
        body["field"] = field
    return dump(body)


def parse_correlation(value: str | None) -> str | None:
    """The caller's correlation id, if it is printable ASCII of at most 128; else none."""
    return value if value is not None and _CORRELATION.match(value) else None


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `BadRequest`."""
    try:
        value = parse(raw)
    except NotJson as error:
        raise BadRequest("not_json", str(error)) from None
    if not isinstance(value, dict):
        raise BadRequest("field_invalid", "the body must be an object", "")
    return value


def parse_count(query: Mapping[str, str], name: str, *, default: int, low: int, high: int) -> int:
    """A number of the query string, from `low` to `high`. Raises `BadRequest`."""
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
        raise BadRequest("field_invalid", f"{name} is an integer from {low} to {high}", f"?{name}")
    return int(text)


def member(body: dict[str, Any], path: str, name: str) -> Any:
    """A field's value. Raises `BadRequest` if it is missing."""
    if name not in body:
        raise BadRequest("field_missing", "the field is missing", f"{path}/{name}")
    return body[name]


def inner(body: dict[str, Any], name: str, names: set[str]) -> dict[str, Any]:
    """A field that is an object with these fields and no other. Raises `BadRequest`."""
    value = member(body, "", name)
    if not isinstance(value, dict):
        raise BadRequest("field_invalid", f"the {name} must be an object", f"/{name}")
    only(value, f"/{name}", names)
    return value


def text(body: dict[str, Any], path: str, name: str, top: int, *, empty: bool = False) -> str:
    """A field that is text of at most `top` characters. Raises `BadRequest`."""
    value = member(body, path, name)
    if not isinstance(value, str):
        raise BadRequest("field_invalid", f"{name} must be text", f"{path}/{name}")
    if len(value) > top or not (empty or value.strip()):
        low = 0 if empty else 1
        raise BadRequest("field_invalid", f"{name} has {low} to {top} characters", f"{path}/{name}")
    if _CONTROL.search(value):
        raise BadRequest("field_invalid", f"{name} has a control character", f"{path}/{name}")
    return value


def only(body: dict[str, Any], path: str, names: set[str]) -> None:
    """Raises `BadRequest` for a field that is not one of these."""
    for name in body:
        if name not in names:
            escaped = name[:TEXT_MAX].replace("~", "~0").replace("/", "~1")
            raise BadRequest("field_unknown", "there is no such field", f"{path}/{escaped}")
