"""Errors of incidents. The API calls an incident an alert.

BursarError
└── Refusal
    ├── AlertNotFound       404  no such alert in this scope
    ├── AlertAlreadyClosed  409  somebody closed it
    └── StillOwed           409  it ends by payment, not by a person's word
"""

from bursar.kit.errors import Refusal


class AlertNotFound(Refusal):
    """No such alert for this merchant, or for the platform."""

    code = "alert_not_found"
    status = 404
    title = "Alert not found"


class AlertAlreadyClosed(Refusal):
    """It was closed before."""

    code = "already_closed"
    status = 409
    title = "Already closed"


class StillOwed(Refusal):
    """The merchant still owes the amount: the alert ends when that is paid."""

    code = "still_owed"
    status = 409
    title = "Still owed"
