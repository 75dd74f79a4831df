"""Cursors: the place after which the next page begins, in a form that clients pass back unread."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from datetime import UTC, datetime

from bursar.api.errors import InvalidParameter
from bursar.kit.ids import is_id


def encode_cursor(created_at: datetime, row_id: str) -> str:
    """The cursor after a row. Both parts are needed: rows of one commit share their time."""
    place = f"{created_at.astimezone(UTC).isoformat()}|{row_id}"
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *, prefix: str) -> tuple[datetime, str]:
    """The place in a cursor of rows whose ids have `prefix`. Raises `InvalidParameter`."""
    try:
        raw = cursor.encode("ascii")
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
