"""The types of the fields that clients send: what is taken, what is refused, and why.

What a payout's text may hold is in payouts/fields. All are strict: `true` is no integer, `10.0` is
no integer, `"10"` is no integer (F75).
"""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from bursar.money.currency import CURRENCIES
from bursar.money.model import MAX_MINOR
from bursar.payouts.fields import (
    METADATA_VALUE_CHARS_MAX,
    PRINTABLE,
    REFERENCE_CHARS_MAX,
    TEXT_CHARS_MAX,
    read_iban,
    read_instant,
    unreadable,
)

NOTE_CHARS_MAX: Final = 1000
PROVIDER_REFERENCE_CHARS_MAX: Final = 128
METADATA_KEYS_MAX: Final = 20
RETRIES_MAX: Final = 10
_IBAN_TEXT_MAX: Final = 64


def _readable(text: str) -> str:
    """Text for people and banks: no control, bidirectional or invisible characters."""
    if char := unreadable(text):
        raise ValueError(f"the character {char} is not allowed")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("not a currency code that is carried here")
    return code


def _instant(value: Any) -> Any:
    if value is None:
        return None
    return read_instant(value if isinstance(value, str) else "")


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
    StringConstraints(min_length=1, max_length=REFERENCE_CHARS_MAX, pattern=PRINTABLE, strict=True),
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
    AfterValidator(read_iban),
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
