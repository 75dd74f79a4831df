"""Cursors: the place after which the next page begins, in a form that clients pass back unread."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from typing import Final

from bursar.api.errors import InvalidParameter
from bursar.kit.ids import is_id

# The decoder drops what is not of its alphabet: two texts would be one cursor.
_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)


def encode_cursor(created_at: datetime, row_id: str) -> str:
    """The cursor after a row. Both parts are needed: rows of one commit share their time."""
    place = f"{created_at.astimezone(UTC).isoformat()}|{row_id}"
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *, prefix: str) -> tuple[datetime, str]:
    """The place in a cursor of rows whose ids have `prefix`. Raises `InvalidParameter`."""
    if _ALPHABET.match(cursor) is None:
        raise _refused()
    try:
        raw = cursor.encode()
        place = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4)).decode("ascii")
        at, _, row_id = place.partition("|")
        read = datetime.fromisoformat(at)
        # An offset can carry the first or last day of the calendar out of it.
        created_at = read.astimezone(UTC)
    except (ValueError, OverflowError, Base64Error):
        raise _refused() from None
    if read.tzinfo is None or not is_id(row_id, prefix):
        raise _refused()
    return created_at, row_id


def _refused() -> InvalidParameter:
    return InvalidParameter("This is no cursor of this list.", parameter="cursor")
