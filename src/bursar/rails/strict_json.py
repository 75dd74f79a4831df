"""Provider text is untrusted: one strict reading of JSON, and text that a database can hold."""

import json
from typing import Annotated, Final, NoReturn, TypeVar

import msgspec

_TEXT_MAX: Final = 140

T = TypeVar("T", bound=msgspec.Struct)
Token = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,128}\Z")]
"""A provider's name of a thing."""


class Unreadable(Exception):
    """Not one JSON object of the expected shape. `path` names the field, as `$.data.amount`."""

    def __init__(self, path: str = "$") -> None:
        super().__init__(path)
        self.path = path


def decode_object(body: bytes, shape: type[T]) -> T:
    """Read `body` as `shape`; further fields are ignored, as providers add some.

    Raises `Unreadable` for bytes that are not UTF-8, for NaN and Infinity, for a key given twice
    (two readers could take either), for numbers of thousands of digits, for nesting without end,
    and for fields that are absent or of another type: no float and no bool is an integer.
    """
    try:
        value = json.loads(body.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise Unreadable(_path(str(error))) from None
    except (ValueError, RecursionError):
        raise Unreadable from None


def plain_text(text: str | None) -> str:
    """At most 140 characters on one line, without control characters or broken surrogates."""
    kept = (text or "").encode("utf-8", "replace").decode()[: 4 * _TEXT_MAX]
    return "".join(c if c.isprintable() else " " for c in kept).strip()[:_TEXT_MAX]


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is given twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _path(message: str) -> str:
    _, _, tail = message.rpartition(" - at `")
    return tail.removesuffix("`") if tail.startswith("$") else "$"
