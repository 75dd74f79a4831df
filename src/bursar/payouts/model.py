"""The payout, its attempts, the facts about them, and the inbox. Pure.

Amounts are minor units of `currency`.
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum, StrEnum

from bursar.engine.model import ChildSet, Row, Table


class Source(StrEnum):
    """Who tells what became of an attempt.

    A worker that was too late tells a `late_reply`; for one that fell silent speaks the `sweeper`.
    """

    REPLY = "reply"
    LATE_REPLY = "late_reply"
    INQUIRY = "inquiry"
    WEBHOOK = "webhook"
    SWEEPER = "sweeper"
    OPERATOR = "operator"


class Priority(IntEnum):
    """Which of two due payouts goes first; the API's names in lower case."""

    BATCH = 0
    STANDARD = 1
    INSTANT = 2


class Payout(Row, frozen=True):
    """One payout. `merchant_id`, `currency`, `amount` and `fee` never change.

    `correlation_id` is the creating request's; what workers do for the payout goes under it.
    """

    id: str
    merchant_id: str
    reference: str
    amount: int
    currency: str
    fee: int
    state: str
    version: int
    beneficiary_name: str
    beneficiary_iban: str
    description: str
    priority: int
    metadata: str
    due_at: datetime
    next_attempt_at: datetime | None
    expires_at: datetime
    attempt_count: int
    retries_burned: int
    max_retries: int
    hold_id: str
    provider: str | None
    provider_ref: str | None
    provider_cost: int
    failure_code: str | None
    failure_reason: str | None
    amount_returned: int
    created_at: datetime
    updated_at: datetime
    settled_at: datetime | None
    correlation_id: str


class PayoutReference(Row, frozen=True):
    """The business's own name of a payout: unique per merchant, for ever."""

    merchant_id: str
    reference: str
    payout_id: str


class Attempt(Row, frozen=True):
    """One instruction to one provider under one key.

    Columns up to `begun_at` never change. `lease_until` is the latest end of any worker's right
    to send; `ambiguous_at` the last moment a send was given up without a clear answer. `sends`
    counts the sends begun; at `resend_at` the same key may be sent again to the same provider.
    `frozen_at` is when it was last told that money of an amount that we don't know has left: see
    `silence`.
    """

    id: str
    merchant_id: str
    payout_id: str
    number: int
    provider: str
    provider_key: str
    hold_id: str
    amount: int
    currency: str
    begun_at: datetime
    state: str
    lease_token: str
    lease_until: datetime
    ambiguous_at: datetime | None
    provider_ref: str | None
    code: str | None
    reason: str | None
    inquire_at: datetime | None
    inquiries: int
    proof_at: datetime | None
    sends: int
    resend_at: datetime | None
    frozen_at: datetime | None = None


class ProviderKey(Row, frozen=True):
    """Whose a provider's key is. Global: events arrive without a merchant."""

    provider: str
    key: str
    merchant_id: str
    payout_id: str
    attempt_id: str
    hold_id: str
    currency: str


class Fact(Row, frozen=True):
    """Something that became known of an attempt, once. `item` tells facts of a kind apart.

    `sequence` is the provider's own order of what it told, where its contract has one. What the
    facts say all together: see `facts`.
    """

    merchant_id: str
    attempt_id: str
    kind: str
    item: str
    provider_ref: str | None
    amount: int
    cost: int
    code: str | None
    reason: str | None
    source: str
    at: datetime
    sequence: int | None


class Resolution(Row, frozen=True):
    """What one person says became of an attempt, and who else says the same.

    `verdict` is executed or not_executed. The second person agrees with verdict, reference,
    attempt and amount as they stand; whoever says something else begins anew.
    """

    attempt_id: str
    merchant_id: str
    payout_id: str
    verdict: str
    provider_ref: str | None
    amount: int
    currency: str
    evidence: str
    proposed_by: str
    proposed_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None


class InboxEvent(Row, frozen=True):
    """A provider's message as it came. `result` is empty until it is applied or given up."""

    provider: str
    event_id: str
    body: str
    received_at: datetime
    result: str
    tries: int
    next_try_at: datetime | None


REFERENCES = Table("payout_references", PayoutReference, key=("merchant_id", "reference"), rank=2)
INBOX = Table("inbox", InboxEvent, key=("provider", "event_id"), rank=5)
PAYOUTS = Table("payouts", Payout, key=("id",), rank=10)
ATTEMPTS = Table("attempts", Attempt, key=("id",), rank=20)
FACTS = Table("facts", Fact, key=("attempt_id", "kind", "item"), rank=25)
RESOLUTIONS = Table("resolutions", Resolution, key=("attempt_id",), rank=22)
PROVIDER_KEYS = Table("provider_keys", ProviderKey, key=("provider", "key"), rank=30)

ATTEMPTS_OF_PAYOUT = ChildSet("attempts_of_payout", ATTEMPTS, lambda row: row.payout_id)
FACTS_OF_ATTEMPT = ChildSet("facts_of_attempt", FACTS, lambda row: row.attempt_id)

TABLES = (REFERENCES, INBOX, PAYOUTS, ATTEMPTS, FACTS, PROVIDER_KEYS, RESOLUTIONS)
CHILD_SETS = (ATTEMPTS_OF_PAYOUT, FACTS_OF_ATTEMPT)
