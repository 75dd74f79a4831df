"""What a payout's fields may hold, as text: one home for the API and for files of payouts. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Final

REFERENCE_CHARS_MAX: Final = 64
TEXT_CHARS_MAX: Final = 140
"""ISO 20022 Max140Text: names, and remittance information."""
METADATA_VALUE_CHARS_MAX: Final = 500
DUE_AHEAD_MAX: Final = timedelta(days=365)
"""How far ahead a payout may be due; the database's clock decides."""

PRINTABLE: Final = r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"
"""A reference: printable ASCII, and no space at either end, where nobody sees it."""

_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)
# Marks that nobody sees and that can make one name look like another (F77). The joiners U+200C
# and U+200D are not among them: Persian and the languages of India need them.
_INVISIBLE: Final = frozenset(
    "\u061c\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


def unreadable(text: str) -> str | None:
    """The first control, bidirectional or invisible character of text for people and banks."""
    if text.isascii() and text.isprintable():
        return None
    for char in text:
        if char in _INVISIBLE or unicodedata.category(char) in _FORBIDDEN_CATEGORIES:
            return f"U+{ord(char):04X}"
    return None


def read_iban(text: str) -> str:
    """The compact form of an IBAN (ISO 13616): length, structure and check digits hold.

    Spaces and lower case are taken. Raises `ValueError` with the reason.
    """
    from schwifty import IBAN, exceptions  # noqa: PLC0415 - 0.1 s, which workers need not pay

    compact = text.replace(" ", "").upper()
    if not (text.isascii() and compact.isalnum()):
        raise ValueError("not an IBAN: only A-Z, 0-9 and spaces are allowed")
    try:
        return str(IBAN(compact).compact)
    except exceptions.InvalidChecksumDigits:
        reason = "the check digits are wrong"
    except exceptions.InvalidLength:
        reason = "the length is wrong for its country"
    except exceptions.InvalidCountryCode:
        reason = "the country has no IBANs"
    except exceptions.SchwiftyException:
        reason = "wrong form"
    raise ValueError(f"not an IBAN: {reason}")


def read_instant(text: str) -> datetime:
    """RFC 3339 with an offset, as aware UTC time; nanoseconds are cut to microseconds.

    Raises `ValueError` with the reason.
    """
    if _RFC_3339.match(text) is None:
        raise ValueError("not a time with an offset, such as 2026-01-31T09:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("not a date and time that exists") from None
