"""JSON as a bank's front door reads it: no duplicate keys, no NaN, no surprises."""

import json
from typing import Any

_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class NotJson(ValueError):
    """The bytes are not JSON that we take. The text says why, and is safe to send back."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("an object has the same key twice")
    return found


def _constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


def parse(raw: bytes) -> Any:
    """The value of UTF-8 JSON text. Raises `NotJson` for anything else, at any depth and length."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        if "\\u" in text:  # an escape may hide half a surrogate pair, which no UTF-8 can carry
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except NotJson:
        raise
    except UnicodeError:
        raise NotJson("the text is not UTF-8") from None
    except RecursionError:
        raise NotJson("the nesting is too deep") from None
    except ValueError:  # also an integer of more than 4,300 digits
        raise NotJson("the text is not JSON") from None
    return value


def dump(value: object) -> bytes:
    """Compact UTF-8 JSON."""
    return _COMPACT.encode(value).encode()
