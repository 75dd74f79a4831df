"""An incident: its kind, its subject, the amount in question, and who looks at it. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from bursar.engine.model import ChildSet, Row, Table

MERCHANT_OWES: Final = "merchant_owes"
"""A merchant owes us money. Its subject is the receivable account, its amount what stands there."""


class Incident(Row, frozen=True):
    """`amount`, minor units of `currency`, is the money that somebody must account for.

    It is what left, may have left, came back or is owed without an explanation; 0 where nobody
    knows an amount. Other amounts, and who said what, stand in `detail`, in words.
    What it is about never changes. Of a debt `amount` follows the balance, while it is open.
    `assigned_to` is a person; `closed_by` too, or who caused the end.
    """

    id: str
    merchant_id: str
    kind: str
    subject_id: str
    amount: int
    currency: str
    detail: str
    opened_at: datetime
    assigned_to: str | None = None
    closed_at: datetime | None = None
    closed_by: str | None = None
    note: str | None = None


INCIDENTS = Table("incidents", Incident, key=("id",), rank=60)

OPEN_INCIDENTS = ChildSet(
    "open_incidents",
    INCIDENTS,
    lambda row: row.subject_id if row.closed_at is None else None,
)
"""By subject. Reading it locks the rows, since a person may close or take one at any time."""

TABLES = (INCIDENTS,)
CHILD_SETS = (OPEN_INCIDENTS,)


def incident_view(incident: Incident) -> dict[str, object]:
    """An incident as the API shows it: there it is called an alert."""
    return {
        "id": incident.id,
        "object": "alert",
        "kind": incident.kind,
        "state": "open" if incident.closed_at is None else "closed",
        "subject_id": incident.subject_id,
        "amount": incident.amount,
        "currency": incident.currency or None,
        "detail": incident.detail,
        "opened_at": incident.opened_at,
        "assigned_to": incident.assigned_to,
        "closed_at": incident.closed_at,
        "closed_by": incident.closed_by,
        "note": incident.note,
    }
