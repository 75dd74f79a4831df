"""Opening an incident inside another decision; people taking one up and closing it. Pure."""

from __future__ import annotations

import msgspec

from bursar.engine.model import CommandBase, JournalEntry, Needs, Peeked, Reply
from bursar.engine.working_set import WorkingSet
from bursar.incidents.errors import AlertAlreadyClosed, AlertNotFound, StillOwed
from bursar.incidents.model import (
    INCIDENTS,
    MERCHANT_OWES,
    OPEN_INCIDENTS,
    Incident,
    incident_view,
)
from bursar.kit.canonical import canonical_json

_set = msgspec.structs.replace


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
    """Record that a human must look at `subject_id`; commits with its cause or not at all.

    `amount` is the money that somebody must account for. `detail` has the facts that a person
    needs, in words; nothing secret, and no account of a payee.
    """
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


def open_incidents(ws: WorkingSet, subject_id: str) -> list[Incident]:
    """The open incidents about a subject, those of this group's other commands included."""
    # One that this group has closed stays in the set that was read.
    return [row for row in ws.children(OPEN_INCIDENTS, subject_id) if row.closed_at is None]


def keep_incident(
    ws: WorkingSet, entry: JournalEntry, *, kind: str, subject_id: str, amount: int, currency: str
) -> None:
    """Make the one open incident of this kind and subject say `amount`, in minor units.

    Opens it if there is none, closes it at 0. Called under the lock of what has the amount.
    """
    standing = next((row for row in open_incidents(ws, subject_id) if row.kind == kind), None)
    if standing is None:
        if amount:
            # Without the amount, which moves while the incident is open.
            open_incident(
                ws,
                entry,
                kind=kind,
                subject_id=subject_id,
                amount=amount,
                currency=currency,
                detail=f"Since {entry.kind} of {entry.subject_id}. The amount is what is left now.",
            )
    elif not amount:
        close_incident(ws, standing, entry=entry, note="Nothing is left of it.")
    elif amount != standing.amount:
        ws.update(INCIDENTS, _set(standing, amount=amount))
        ws.journal(
            standing.merchant_id,
            "incident.changed",
            standing.id,
            {"amount": amount, "was": standing.amount, "currency": currency},
            correlation_id=entry.correlation_id,
        )


def close_incident(
    ws: WorkingSet, incident: Incident, *, note: str, entry: JournalEntry | None = None
) -> Incident:
    """Close an open incident in the name of whoever sent the command, perhaps under `entry`."""
    closed = _set(incident, closed_at=ws.now, closed_by=ws.origin.actor, note=note)
    ws.update(INCIDENTS, closed)
    ws.journal(
        incident.merchant_id,
        "incident.closed",
        incident.id,
        {"kind": incident.kind, "subject": incident.subject_id, "note": note},
        correlation_id="" if entry is None else entry.correlation_id,
    )
    return closed


class _OnIncident(CommandBase, frozen=True, kw_only=True):
    """A person's command about one incident. `merchant_id` is the scope of the person's key."""

    merchant_id: str
    incident_id: str

    def needs(self, _peeked: Peeked) -> Needs:
        """The incident."""
        return Needs(locks=((INCIDENTS, self.incident_id),), journals=(self.merchant_id,))

    def _open(self, ws: WorkingSet) -> Incident:
        incident = ws.find(INCIDENTS, self.incident_id)
        if incident is None or incident.merchant_id != self.merchant_id:
            raise AlertNotFound("There is no such alert.")
        if incident.closed_at is not None:
            raise AlertAlreadyClosed("The alert was closed.", closed_at=incident.closed_at)
        return incident


class CloseIncident(_OnIncident, frozen=True, kw_only=True):
    """Say that an incident has been dealt with; `note` says how."""

    note: str

    def decide(self, ws: WorkingSet) -> Reply:
        """Raises `AlertNotFound`, `AlertAlreadyClosed`; `StillOwed` for a debt (I26)."""
        incident = self._open(ws)
        if incident.kind == MERCHANT_OWES:
            raise StillOwed(
                "The alert ends when what is owed has been paid.",
                amount=incident.amount,
                currency=incident.currency,
            )
        closed = close_incident(ws, incident, note=self.note)
        return Reply(200, canonical_json(incident_view(closed)), incident.id)


class AssignIncident(_OnIncident, frozen=True, kw_only=True):
    """Say which person looks at an incident."""

    person_id: str

    def decide(self, ws: WorkingSet) -> Reply:
        """Raises `AlertNotFound` or `AlertAlreadyClosed`."""
        incident = self._open(ws)
        assigned = _set(incident, assigned_to=self.person_id)
        ws.update(INCIDENTS, assigned)
        ws.journal(self.merchant_id, "incident.assigned", incident.id, {"person": self.person_id})
        return Reply(200, canonical_json(incident_view(assigned)), incident.id)
