"""What each column of a payout file may hold. Pure: text in, value or reason out.

The rules are those of `POST /payouts`, checked here too so that a whole file is judged before
anything moves. The server checks again; it is the one that decides.
"""

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Final

from bursar.money.currency import Currency, currency
from bursar.money.errors import AmountInvalid, UnknownCurrency
from bursar.money.model import parse_major

REFERENCE_CHARS_MAX: Final = 64
NAME_CHARS_MAX: Final = 140
"ISO 20022 Max140Text, as is the remittance text."
DESCRIPTION_CHARS_MAX: Final = 140
METADATA_CHARS_MAX: Final = 500
PRIORITIES: Final = ("batch", "standard", "instant")
DUE_AHEAD_MAX: Final = timedelta(days=365)
"How far ahead a payout may be due."

_REFERENCE: Final = re.compile(r"[\x20-\x7e]+\Z")
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)
_NEGATIVE: Final = re.compile(r"-[0-9]+(?:\.[0-9]+)?\Z")
_INVISIBLE: Final = frozenset("\u061c\u200b\u200e\u200f\ufeff\u2060")
_INVISIBLE_RANGES: Final = (("\u202a", "\u202e"), ("\u2066", "\u2069"))
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


class FieldInvalid(ValueError):
    """The text is no value for its column; the message is the reason, without line or column."""


def shown(text: str) -> str:
    """`text` for a message: quoted, ASCII only, at most 40 characters, safe in a terminal."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")  # noqa: PLR2004 - said above


def read_reference(text: str) -> str:
    """1 to 64 printable ASCII characters: what the business calls the payout."""
    if not text:
        raise FieldInvalid("is empty")
    if len(text) > REFERENCE_CHARS_MAX:
        raise FieldInvalid(f"has {len(text)} characters, at most {REFERENCE_CHARS_MAX} are allowed")
    if _REFERENCE.match(text) is None:
        raise FieldInvalid(f"{shown(text)} has characters that are not printable ASCII")
    return text


def read_currency(text: str) -> Currency:
    """A currency code in capitals, such as EUR."""
    if not text:
        raise FieldInvalid("is empty")
    try:
        return currency(text)
    except UnknownCurrency as error:
        if text.upper() != text and _known(text.upper()):
            raise FieldInvalid(f"{shown(text)} must be in capitals: {text.upper()}") from None
        raise FieldInvalid(f"{shown(text)} is not a known currency") from error


def _known(code: str) -> bool:
    try:
        currency(code)
    except UnknownCurrency:
        return False
    return True


def read_amount(text: str, of: Currency | None) -> int:
    """Minor units of a positive decimal in major units. Without a currency only its form counts.

    The amount is never rounded: more decimals than the currency has are refused.
    """
    if not text:
        raise FieldInvalid("is empty")
    if _NEGATIVE.match(text):
        raise FieldInvalid(f"{shown(text)} is negative")
    try:
        minor = parse_major(text, of or Currency("", 8))
    except AmountInvalid as error:
        raise FieldInvalid(error.detail) from error
    if minor == 0:
        raise FieldInvalid("is zero")
    return minor


def read_text(text: str, *, chars_max: int, required: bool) -> str:
    """Text for people and banks: no control, bidirectional or invisible characters (F77)."""
    if required and not text.strip():
        raise FieldInvalid("is empty")
    for char in text:
        if _forbidden(char):
            raise FieldInvalid(f"has the character U+{ord(char):04X}, which is not allowed")
    if len(text) > chars_max:
        raise FieldInvalid(f"has {len(text)} characters, at most {chars_max} are allowed")
    return text


def _forbidden(char: str) -> bool:
    if " " <= char <= "~":
        return False
    return (
        char in _INVISIBLE
        or any(low <= char <= high for low, high in _INVISIBLE_RANGES)
        or unicodedata.category(char) in _FORBIDDEN_CATEGORIES
    )


def read_iban(text: str) -> str:
    """An IBAN (ISO 13616) in its compact form: right length, structure and check digits."""
    from schwifty import IBAN, exceptions  # 0.1 s: only a file that is read pays for it

    compact = text.replace(" ", "").upper()
    if not compact:
        raise FieldInvalid("is empty")
    if not (text.isascii() and compact.isalnum()):
        raise FieldInvalid(f"{shown(text)} is not an IBAN: only A-Z, 0-9 and spaces are allowed")
    try:
        return str(IBAN(compact).compact)
    except exceptions.InvalidChecksumDigits:
        reason = "its check digits are wrong"
    except exceptions.InvalidLength:
        reason = f"its length {len(compact)} is wrong for {compact[:2]}"
    except exceptions.InvalidCountryCode:
        reason = f"{compact[:2]} is not a country with IBANs"
    except exceptions.SchwiftyException:
        reason = "its structure is wrong"
    raise FieldInvalid(f"{shown(text)} is not an IBAN: {reason}")


def read_priority(text: str) -> str:
    """batch, standard or instant."""
    if text not in PRIORITIES:
        raise FieldInvalid(f"{shown(text)} is none of {', '.join(PRIORITIES)}")
    return text


def read_due_at(text: str, latest: datetime | None = None) -> str:
    """An RFC 3339 time with its offset, returned in UTC so that equal times are equal text.

    It is not after `latest`, if that is given.
    """
    if _RFC_3339.match(text) is None:
        raise FieldInvalid(
            f"{shown(text)} is not a time with an offset, such as 2026-01-31T09:00:00Z"
        )
    try:
        at = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise FieldInvalid(f"{shown(text)} is not a date and time that exists") from None
    if latest is not None and at > latest:
        raise FieldInvalid(f"{shown(text)} is more than {DUE_AHEAD_MAX.days} days ahead")
    return at.isoformat().replace("+00:00", "Z")
