"""What the API answers: the documents of its OpenAPI. Amounts are minor units, times UTC.

The bytes are made where the rows are; a test holds them to these models.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bursar.ledger.model import AccountRole, TransferKind
from bursar.payouts.machine import AttemptState, State

Minor = Annotated[int, Field(description="Minor units.")]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Beneficiary(_Answer):
    """Who is paid, and where."""

    name: str
    iban: str


class Failure(_Answer):
    """Why a payout ended unpaid."""

    code: str
    reason: str | None


class Payout(_Answer):
    """A payout."""

    id: str
    object: Literal["payout"]
    reference: str
    amount: Minor
    currency: str
    fee: Minor
    state: State
    beneficiary: Beneficiary
    description: str
    priority: Literal["batch", "standard", "instant"]
    due_at: datetime
    next_attempt_at: datetime | None
    expires_at: datetime
    attempt_count: int
    max_retries: int
    provider: str | None
    provider_reference: str | None
    provider_cost: Minor
    failure: Failure | None
    amount_returned: Minor
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    settled_at: datetime | None


class Attempt(_Answer):
    """One instruction to one provider. `outcome` is what is known of it by now."""

    id: str
    number: int
    state: AttemptState
    provider: str
    provider_key: str
    provider_reference: str | None
    outcome: Literal["pending", "accepted", "executed", "not_executed", "unknown"]
    code: str | None
    reason: str | None
    begun_at: datetime


class HistoryEntry(_Answer):
    """One line of the journal about a payout. `from` and `to` are null where it stayed."""

    seq: int
    kind: str
    from_: State | None = Field(alias="from")
    to: State | None
    at: datetime
    actor: str
    correlation_id: str
    reason: str | None


class Resolution(_Answer):
    """What one person says became of an attempt, and whether another person says the same.

    `evidence` is the first person's, `confirming_evidence` the second's.
    """

    object: Literal["resolution"]
    state: Literal["proposed", "confirmed"]
    payout_id: str
    payout_state: State
    attempt_id: str
    amount: Minor
    currency: str
    verdict: Literal["executed", "not_executed"]
    provider_reference: str | None
    evidence: str
    proposed_by: str
    proposed_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None
    confirming_evidence: str | None


class PayoutDetail(Payout):
    """A payout with all that happened to it, oldest first.

    `resolution` is what people say of the attempt in question, else the last that two agreed on.
    """

    attempts: list[Attempt]
    history: list[HistoryEntry]
    resolution: Resolution | None


class PayoutList(_Answer):
    """A page of payouts, newest first. `next_cursor` is null on the last one."""

    data: list[Payout]
    next_cursor: str | None


class Alert(_Answer):
    """What a human must look at. `subject_id` is a payout, an account, or a provider's event.

    `amount` is the money that somebody must account for, 0 where nobody knows it; of a
    `merchant_owes` what is owed now. `detail` has the facts in words: providers, keys, references,
    other amounts. `closed_by` is a person, or whoever caused its end.
    """

    id: str
    object: Literal["alert"]
    kind: str
    state: Literal["open", "closed"]
    subject_id: str
    amount: Minor
    currency: str | None
    detail: str
    opened_at: datetime
    assigned_to: str | None
    closed_at: datetime | None
    closed_by: str | None
    note: str | None


class AlertList(_Answer):
    """A page of alerts, newest first. `next_cursor` is null on the last one."""

    data: list[Alert]
    next_cursor: str | None


class Funding(_Answer):
    """Sandbox money that was booked; `available` is what may now be paid out."""

    id: str
    object: Literal["funding"]
    amount: Minor
    currency: str
    available: Minor


class Account(_Answer):
    """One account with its four counters. `balance` is what it holds, on its normal side."""

    address: str
    role: AccountRole
    currency: str
    debits_pending: Minor
    debits_posted: Minor
    credits_pending: Minor
    credits_posted: Minor
    balance: Minor


class Book(_Answer):
    """Posted debits and credits of all accounts in one currency.

    `balanced` says that they are equal, and that the pending ones are too.
    """

    currency: str
    debits: Minor
    credits: Minor
    balanced: bool


class AccountList(_Answer):
    """The merchant's accounts, and what they add up to by currency."""

    data: list[Account]
    books: list[Book]


class Transfer(_Answer):
    """One immutable movement from `debit` to `credit`."""

    id: str
    kind: TransferKind
    recipe: str
    subject_id: str
    debit: str
    credit: str
    amount: Minor
    currency: str
    hold_id: str | None
    pending_id: str | None
    journal_seq: int
    at: datetime


class TransferList(_Answer):
    """Transfers in the order they were made."""

    data: list[Transfer]


class EventReceipt(_Answer):
    """Whether the event is new or was known. Both are good: do not send it again."""

    status: Literal["stored", "known"]


class Health(_Answer):
    """The API and its database answer."""

    status: Literal["ok"]
    database: Literal["ok"]


class FieldFault(_Answer):
    """One thing wrong with a request: in the body by JSON Pointer, else the parameter."""

    pointer: str | None = None
    parameter: str | None = None
    detail: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457). `code` is stable; `detail` is for people."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:bursar:error:invalid_field"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["invalid_field"])
    pointer: str = Field(default="", description="JSON Pointer (RFC 6901) of the field.")
    parameter: str = Field(
        default="", description="The parameter of the path or query, or the header."
    )
    errors: list[FieldFault] = Field(default=[], description="All that is wrong, first 20.")


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model that stands alone, for OpenAPI's components."""
    return model.model_json_schema(ref_template="#/components/schemas/{model}")
