"""What each column of a payout file may hold. Pure: text in, value or reason out.

The rules are those of `POST /payouts` (payouts/fields), checked here too so that a whole file is
judged before anything moves. The server checks again; it is the one that decides.
"""

import re
from datetime import datetime
from typing import Final

from bursar.money.currency import Currency, currency
from bursar.money.errors import AmountInvalid, UnknownCurrency
from bursar.money.model import parse_major
from bursar.payouts import fields
from bursar.payouts.fields import (
    DUE_AHEAD_MAX,
    PRINTABLE,
    REFERENCE_CHARS_MAX,
    read_instant,
    unreadable,
)

PRIORITIES: Final = ("batch", "standard", "instant")

_REFERENCE: Final = re.compile(PRINTABLE)
_NEGATIVE: Final = re.compile(r"-[0-9]+(?:\.[0-9]+)?\Z")


class FieldInvalid(ValueError):
    """The text is no value for its column; the message is the reason, without line or column."""


def shown(text: str) -> str:
    """`text` for a message: quoted, ASCII only, at most 40 characters, safe in a terminal."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")  # noqa: PLR2004 - said above


def read_reference(text: str) -> str:
    """1 to 64 printable ASCII characters, no space at either end: the business's own name of it."""
    if not text:
        raise FieldInvalid("is empty")
    if len(text) > REFERENCE_CHARS_MAX:
        raise FieldInvalid(f"has {len(text)} characters, at most {REFERENCE_CHARS_MAX} are allowed")
    if text != text.strip(" "):
        raise FieldInvalid(f"{shown(text)} begins or ends with a space")
    if _REFERENCE.fullmatch(text) is None:
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
    if char := unreadable(text):
        raise FieldInvalid(f"has the character {char}, which is not allowed")
    if len(text) > chars_max:
        raise FieldInvalid(f"has {len(text)} characters, at most {chars_max} are allowed")
    return text


def read_iban(text: str) -> str:
    """An IBAN (ISO 13616) in its compact form: right length, structure and check digits."""
    if not text.strip(" "):
        raise FieldInvalid("is empty")
    try:
        return fields.read_iban(text)
    except ValueError as error:
        raise FieldInvalid(f"{shown(text)} is {error}") from None


def read_priority(text: str) -> str:
    """batch, standard or instant."""
    if text not in PRIORITIES:
        raise FieldInvalid(f"{shown(text)} is none of {', '.join(PRIORITIES)}")
    return text


def read_due_at(text: str, latest: datetime | None = None) -> str:
    """An RFC 3339 time with its offset, returned in UTC so that equal times are equal text.

    It is not after `latest`, if that is given.
    """
    try:
        at = read_instant(text)
    except ValueError as error:
        raise FieldInvalid(f"{shown(text)} is {error}") from None
    if latest is not None and at > latest:
        raise FieldInvalid(f"{shown(text)} is more than {DUE_AHEAD_MAX.days} days ahead")
    return at.isoformat().replace("+00:00", "Z")
