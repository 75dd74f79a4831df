"""Closing an alert about a payout: not while the question that it asks is open. Pure."""

from __future__ import annotations

from bursar.engine.model import Reply
from bursar.engine.working_set import WorkingSet
from bursar.incidents.commands import CloseIncident
from bursar.incidents.model import INCIDENTS
from bursar.payouts.errors import StillOpen
from bursar.payouts.machine import OPEN_ATTEMPT
from bursar.payouts.model import ATTEMPTS_OF_PAYOUT, PAYOUTS, Attempt
from bursar.payouts.silence import ASKS_WHILE_FROZEN, UNPROVEN_INCIDENT, is_frozen


class CloseAlert(CloseIncident, frozen=True, kw_only=True):
    """`CloseIncident`, for alerts of every kind.

    What became of an attempt is not for one person to say: while that is what the alert asks, it
    ends by proof, by payment, or by two persons.
    """

    def decide(self, ws: WorkingSet) -> Reply:
        """Raises `StillOpen`, and all that `CloseIncident` does."""
        incident = ws.find(INCIDENTS, self.incident_id)
        if incident is None or incident.merchant_id != self.merchant_id:
            return super().decide(ws)
        payout_id = incident.subject_id
        if incident.kind == UNPROVEN_INCIDENT:
            attempts = self._attempts(ws, payout_id)
            asks = any(attempt.state in OPEN_ATTEMPT for attempt in attempts)
        elif incident.kind in ASKS_WHILE_FROZEN:
            asks = any(map(is_frozen, self._attempts(ws, payout_id)))
        else:
            asks = False
        if asks and incident.closed_at is None:
            raise StillOpen(
                "It is not known yet what became of the payout's attempt.", payout_id=payout_id
            )
        return super().decide(ws)

    def _attempts(self, ws: WorkingSet, payout_id: str) -> list[Attempt]:
        # Under the payout's lock, as whoever moves them. Which payout it is was not known before:
        # the engine loads it and decides again.
        ws.find(PAYOUTS, payout_id)
        return ws.children(ATTEMPTS_OF_PAYOUT, payout_id)
