"""Opening an incident inside another decision. Pure."""

from __future__ import annotations

from bursar.engine.model import JournalEntry
from bursar.engine.working_set import WorkingSet
from bursar.incidents.model import INCIDENTS, Incident


def open_incident(
    ws: WorkingSet,
    entry: JournalEntry,
    *,
    kind: str,
    subject_id: str,
    amount: int = 0,
    currency: str = "",
    detail: str = "",
) -> None:
    """Record that a human must look at `subject_id`; commits with its cause or not at all."""
    incident = Incident(
        id=ws.ids.new("inc"),
        merchant_id=entry.merchant_id,
        kind=kind,
        subject_id=subject_id,
        amount=amount,
        currency=currency,
        detail=detail,
        opened_at=ws.now,
    )
    ws.insert(INCIDENTS, incident)
    ws.journal(
        entry.merchant_id,
        "incident.opened",
        incident.id,
        {"kind": kind, "subject": subject_id, "amount": amount, "currency": currency},
        correlation_id=entry.correlation_id,
    )
