"""One strict reading of JSON: what two readers could understand differently is refused.

The standard reader takes NaN, keeps the last of two equal keys and gives up on a number of 5,000
digits with an error of its own. Here all of that is `MalformedJson`, with the place where it is
known; the place is looked for only once the quick reading has failed.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from bursar.api.errors import MalformedJson, pointer

DIGITS_MAX: Final = 19
"""No integer of the API passes 64 bits."""

_NOT_UTF8 = "The body is not UTF-8."
_NOT_JSON = "The body is not JSON."
_TOO_DEEP = "The body is nested too deeply."


def read_json(raw: bytes) -> Any:
    """The value in a body. Raises `MalformedJson`.

    Refused: bytes that are not UTF-8, NaN and Infinity, a key given twice, integers of more than
    `DIGITS_MAX` digits, U+0000 and lone surrogates (no database text holds them), endless nesting.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson(_NOT_UTF8) from None
    try:
        value = _QUICK.decode(text)
    except _Suspect:
        _refuse_first_fault(_read_slowly(text))
        raise MalformedJson(_NOT_JSON) from None
    except ValueError:
        raise MalformedJson(_NOT_JSON) from None
    except RecursionError:
        raise MalformedJson(_TOO_DEEP) from None
    # In valid UTF-8, only an escape can bring a NUL or half a surrogate pair.
    if "\\u" in text:
        _refuse_first_fault(_read_slowly(text))
    return value


class _Suspect(Exception):
    """The quick reading met something that is refused, but does not know where."""


class _Fault:
    """A value that is refused, kept in its place by the slow reading."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Object(list[tuple[str, Any]]):
    """An object as its pairs, equal keys kept."""


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX and len(digits.lstrip("-")) > DIGITS_MAX:
        raise _Suspect
    return int(digits)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Suspect
    return fields


def _suspect(_name: str) -> NoReturn:
    raise _Suspect


def _kept_integer(digits: str) -> int | _Fault:
    if len(digits.lstrip("-")) > DIGITS_MAX:
        return _Fault(f"has more than {DIGITS_MAX} digits")
    return int(digits)


def _kept_constant(name: str) -> _Fault:
    return _Fault(f"is {name}, which is not JSON")


_QUICK: Final = json.JSONDecoder(
    object_pairs_hook=_distinct, parse_int=_integer, parse_constant=_suspect
)
_SLOW: Final = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_kept_integer, parse_constant=_kept_constant
)


def _read_slowly(text: str) -> Any:
    try:
        return _SLOW.decode(text)
    except ValueError:
        raise MalformedJson(_NOT_JSON) from None
    except RecursionError:
        raise MalformedJson(_TOO_DEEP) from None


def _refuse_first_fault(root: Any) -> None:
    """Raise for the first refused value in `root`, as `_SLOW` read it, naming its place."""
    # No recursion of our own: the depth is the client's.
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while waiting:
        place, value = waiting.pop()
        reason = _reason(value)
        if reason is not None:
            raise MalformedJson(f"The value {reason}.", pointer=pointer(place))
        children = [((*place, name), child) for name, child in _members(value)]
        waiting.extend(reversed(children))


def _members(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, _Object):
        yield from value
    elif isinstance(value, list):
        yield from enumerate(value)


def _reason(value: Any) -> str | None:
    """Why a value is refused for itself, or None."""
    if isinstance(value, _Fault):
        return value.reason
    if isinstance(value, str):
        return _text_reason(value)
    if isinstance(value, _Object):
        names = [name for name, _ in value]
        if len(set(names)) != len(names):
            return "has a key twice"
        return next((reason for name in names if (reason := _text_reason(name))), None)
    return None


def _text_reason(text: str) -> str | None:
    if "\0" in text:
        return "has the character U+0000"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "has half a surrogate pair"
    return None
