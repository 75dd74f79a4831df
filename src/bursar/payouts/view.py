"""A payout as the API shows it. Pure: the same row always gives the same bytes."""

from __future__ import annotations

import msgspec

from bursar.kit.canonical import canonical_json
from bursar.payouts.model import Payout, Priority, Resolution

_PRIORITIES = {priority.value: priority.name.lower() for priority in Priority}


def payout_view(payout: Payout) -> dict[str, object]:
    """The payout's public fields; amounts in minor units, times RFC 3339 UTC."""
    failure = None
    if payout.failure_code is not None:
        failure = {"code": payout.failure_code, "reason": payout.failure_reason}
    return {
        "id": payout.id,
        "object": "payout",
        "reference": payout.reference,
        "amount": payout.amount,
        "currency": payout.currency,
        "fee": payout.fee,
        "state": payout.state,
        "beneficiary": {"name": payout.beneficiary_name, "iban": payout.beneficiary_iban},
        "description": payout.description,
        "priority": _PRIORITIES[payout.priority],
        "metadata": msgspec.json.decode(payout.metadata),  # jsonb has an order of its own
        "due_at": payout.due_at,
        "next_attempt_at": payout.next_attempt_at,
        "expires_at": payout.expires_at,
        "attempt_count": payout.attempt_count,
        "max_retries": payout.max_retries,
        "provider": payout.provider,
        "provider_reference": payout.provider_ref,
        "provider_cost": payout.provider_cost,
        "failure": failure,
        "amount_returned": payout.amount_returned,
        "created_at": payout.created_at,
        "updated_at": payout.updated_at,
        "settled_at": payout.settled_at,
    }


def payout_json(payout: Payout) -> bytes:
    """`payout_view` as canonical JSON."""
    return canonical_json(payout_view(payout))


def resolution_view(
    resolution: Resolution, payout: Payout, confirming_evidence: str | None
) -> dict[str, object]:
    """What one person says of an attempt, and whether another says the same, on what ground."""
    return {
        "object": "resolution",
        "state": "proposed" if resolution.confirmed_at is None else "confirmed",
        "payout_id": resolution.payout_id,
        "payout_state": payout.state,
        "attempt_id": resolution.attempt_id,
        "amount": resolution.amount,
        "currency": resolution.currency,
        "verdict": resolution.verdict,
        "provider_reference": resolution.provider_ref,
        "evidence": resolution.evidence,
        "proposed_by": resolution.proposed_by,
        "proposed_at": resolution.proposed_at,
        "confirmed_by": resolution.confirmed_by,
        "confirmed_at": resolution.confirmed_at,
        "confirming_evidence": confirming_evidence,
    }
