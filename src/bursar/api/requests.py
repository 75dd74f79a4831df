"""The bodies and queries that clients send. Unknown fields are refused."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from bursar.api import fields
from bursar.payouts.machine import State

LIMIT_MAX: Final = 200
LIMIT_DEFAULT: Final = 50
IDS_MAX: Final = 100
CURSOR_CHARS_MAX: Final = 200

_WHOLE: Final = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class BeneficiaryBody(_Body):
    """Who is paid, and where."""

    name: fields.Name
    iban: fields.Iban


class PayoutBody(_Body):
    """A payout to make."""

    reference: fields.Reference
    amount: fields.Amount
    currency: fields.CurrencyCode
    beneficiary: BeneficiaryBody
    description: fields.Text = Field(
        default="", description="Remittance information for the beneficiary."
    )
    priority: Literal["batch", "standard", "instant"] = "standard"
    due_at: fields.Instant | None = Field(
        default=None, description="Not sent before this; at most a year ahead."
    )
    max_retries: Annotated[int, Field(ge=0, le=fields.RETRIES_MAX)] = 3
    metadata: fields.Metadata = Field(default_factory=dict)


class CancelBody(_Body):
    """Why a payout is taken back."""

    reason: fields.Text = ""


class RetryBody(_Body):
    """Why a payout is sent again."""

    reason: fields.Text = ""


class ResolveBody(_Body):
    """What became of the payout's open attempt, and how you know."""

    verdict: Literal["executed", "not_executed"]
    provider_reference: fields.ProviderReference | None = Field(
        default=None, description="With `executed` always, with `not_executed` never."
    )
    evidence: fields.Note


class AlertResolveBody(_Body):
    """What was done about an alert."""

    note: fields.Note


class AlertAssignBody(_Body):
    """Who looks at an alert: a person with a key in your scope; you, if nobody is named."""

    person_id: fields.PersonId | None = None


class FundBody(_Body):
    """Sandbox money to book."""

    amount: fields.Amount


def _whole(value: Any) -> Any:
    # Plain digits only: the lax reader would take "1_0", " 10" and "1e1" too.
    if isinstance(value, str) and _WHOLE.match(value) is None:
        raise ValueError("not a whole number")
    return value


PayoutId = Annotated[
    str,
    StringConstraints(pattern=r"^po_[0-9a-f]{32}$"),
    Field(examples=["po_0199f0c2a1b40123456789abcdef0123"]),
]


class PayoutQuery(BaseModel):
    """Which payouts to list, newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX), BeforeValidator(_whole)] = LIMIT_DEFAULT
    cursor: Annotated[
        str | None, Field(max_length=CURSOR_CHARS_MAX, description="`next_cursor` of a page.")
    ] = None
    state: State | None = None
    reference: fields.Reference | None = None
    id: Annotated[
        list[PayoutId], Field(max_length=IDS_MAX, description="Only these; repeat it.")
    ] = []


class AlertQuery(BaseModel):
    """Which alerts to list, newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX), BeforeValidator(_whole)] = LIMIT_DEFAULT
    cursor: Annotated[
        str | None, Field(max_length=CURSOR_CHARS_MAX, description="`next_cursor` of a page.")
    ] = None
    state: Literal["open", "closed"] | None = None
    kind: Annotated[
        str | None, StringConstraints(pattern=r"^[a-z_]{1,64}$"), Field(examples=["merchant_owes"])
    ] = None
