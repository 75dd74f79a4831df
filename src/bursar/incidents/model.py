"""An incident: its kind, its subject, and the amount in question. Pure."""

from __future__ import annotations

from datetime import datetime

from bursar.engine.model import Row, Table


class Incident(Row, frozen=True):
    """`amount` is in minor units of `currency`, 0 where none is at stake."""

    id: str
    merchant_id: str
    kind: str
    subject_id: str
    amount: int
    currency: str
    detail: str
    opened_at: datetime


INCIDENTS = Table("incidents", Incident, key=("id",), rank=60)
