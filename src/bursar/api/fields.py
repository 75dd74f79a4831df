"""The types of the fields that clients send: what is taken, what is refused, and why.

All are strict: `true` is no integer, `10.0` is no integer, `"10"` is no integer (F75).
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from schwifty import IBAN
from schwifty.exceptions import (
    InvalidChecksumDigits,
    InvalidCountryCode,
    InvalidLength,
    SchwiftyException,
)

from bursar.money.currency import CURRENCIES
from bursar.money.model import MAX_MINOR

REFERENCE_CHARS_MAX: Final = 64
TEXT_CHARS_MAX: Final = 140
"ISO 20022 Max140Text: names, and remittance information."
NOTE_CHARS_MAX: Final = 1000
PROVIDER_REFERENCE_CHARS_MAX: Final = 128
METADATA_KEYS_MAX: Final = 20
METADATA_VALUE_CHARS_MAX: Final = 500
RETRIES_MAX: Final = 10
_IBAN_TEXT_MAX: Final = 64

_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII
)

# Marks that nobody sees and that can make one name look like another (F77). The joiners U+200C
# and U+200D are not among them: Persian and the languages of India need them.
_INVISIBLE: Final = frozenset(
    "\u061c\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


def _readable(text: str) -> str:
    """Text for people and banks: no control, bidirectional or invisible characters."""
    if text.isascii() and text.isprintable():
        return text
    for char in text:
        if char in _INVISIBLE or unicodedata.category(char) in _FORBIDDEN_CATEGORIES:
            raise ValueError(f"the character U+{ord(char):04X} is not allowed")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("not a currency code that is carried here")
    return code


def _iban(text: str) -> str:
    """The compact form of an IBAN (ISO 13616): length, structure and check digits hold."""
    compact = text.replace(" ", "").upper()
    if not (compact.isascii() and compact.isalnum()):
        raise ValueError("not an IBAN: only A-Z, 0-9 and spaces are allowed")
    try:
        return str(IBAN(compact).compact)
    except SchwiftyException as error:
        raise ValueError(f"not an IBAN: {_IBAN_REASONS.get(type(error), 'wrong form')}") from None


_IBAN_REASONS: Final[Mapping[type[Exception], str]] = {
    InvalidChecksumDigits: "the check digits are wrong",
    InvalidLength: "the length is wrong for its country",
    InvalidCountryCode: "the country has no IBANs",
}


def _instant(value: Any) -> Any:
    """RFC 3339 with an offset, as aware UTC time; nanoseconds are cut to microseconds."""
    if value is None:
        return None
    if not isinstance(value, str) or _RFC_3339.match(value) is None:
        raise ValueError("not a time with an offset, such as 2026-01-31T09:00:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("not a date and time that exists") from None


Amount = Annotated[
    int,
    Field(ge=1, le=MAX_MINOR, description="Minor units of the currency.", examples=[12_345]),
]
CurrencyCode = Annotated[
    str,
    AfterValidator(_currency),
    WithJsonSchema({"type": "string", "enum": sorted(CURRENCIES), "examples": ["EUR"]}),
]
Reference = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=REFERENCE_CHARS_MAX, pattern=r"^[\x20-\x7e]+$", strict=True
    ),
    Field(description="Your own name of the payout: unique for ever.", examples=["INV-2026-001"]),
]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=TEXT_CHARS_MAX),
    AfterValidator(_readable),
    AfterValidator(_not_blank),
    Field(examples=["Ada Lovelace"]),
]
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARS_MAX), AfterValidator(_readable)]
Note = Annotated[
    str,
    StringConstraints(min_length=1, max_length=NOTE_CHARS_MAX),
    AfterValidator(_readable),
    AfterValidator(_not_blank),
]
ProviderReference = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=PROVIDER_REFERENCE_CHARS_MAX,
        pattern=r"^[\x21-\x7e]+$",
        strict=True,
    ),
    Field(description="The provider's name of the payment.", examples=["bt_8c1f"]),
]
PersonId = Annotated[
    str, StringConstraints(pattern=r"^per_[0-9A-Za-z]{1,64}$"), Field(examples=["per_0199f0c2"])
]
Iban = Annotated[
    str,
    StringConstraints(min_length=1, max_length=_IBAN_TEXT_MAX),
    AfterValidator(_iban),
    WithJsonSchema(
        {
            "type": "string",
            "format": "iban",
            "minLength": 5,
            "maxLength": _IBAN_TEXT_MAX,
            "description": "ISO 13616; spaces and lower case are taken.",
            "examples": ["DE89370400440532013000"],
        }
    ),
]
Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    Field(description="RFC 3339 with an offset.", examples=["2026-01-31T09:00:00Z"]),
]
MetadataKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
MetadataValue = Annotated[
    str, StringConstraints(max_length=METADATA_VALUE_CHARS_MAX), AfterValidator(_readable)
]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(
        max_length=METADATA_KEYS_MAX,
        description="Your own words; kept, not read.",
        json_schema_extra={"additionalProperties": False},
    ),
]
