"""Errors of payouts.

BursarError
└── Refusal
    ├── DuplicateReference  409  the merchant has a payout with this reference
    ├── PayoutNotFound      404  no such payout for this merchant
    ├── AlreadyDispatched   409  it has left or is over, and can't be cancelled
    ├── NotRetryable        409  it has not failed, or it may have been paid
    ├── FinalityWindowOpen  409  a provider may still carry out what was sent
    ├── StillOpen           409  the alert asks what became of an attempt, and nobody knows yet
    ├── NothingToResolve    409  it has no attempt whose end is unknown
    ├── SecondPersonRequired 409 who proposed a resolution can't confirm it
    ├── DueTooLate          422  it would be due in more than a year
    ├── IllegalTransition   409  the machine has no such step
    └── NotDue              409  a worker came too late or too early; nothing to do
"""

from bursar.kit.errors import Refusal


class DuplicateReference(Refusal):
    """The merchant has a payout with this reference."""

    code = "duplicate_reference"
    status = 409
    title = "Duplicate reference"


class StillOpen(Refusal):
    """The alert's attempt is open or frozen; it ends by proof, by payment or by two persons."""

    code = "still_open"
    status = 409
    title = "Still open"


class PayoutNotFound(Refusal):
    """No such payout for this merchant."""

    code = "payout_not_found"
    status = 404
    title = "Payout not found"


class AlreadyDispatched(Refusal):
    """It has left for the provider or is over, and can't be cancelled; `state` says which."""

    code = "already_dispatched"
    status = 409
    title = "Already dispatched"


class NotRetryable(Refusal):
    """It has not failed, or an attempt of it is open or has paid."""

    code = "not_retryable"
    status = 409
    title = "Not retryable"


class FinalityWindowOpen(Refusal):
    """A provider may still carry out what was sent: nothing proves that it will not."""

    code = "finality_window_open"
    status = 409
    title = "Finality window open"


class NothingToResolve(Refusal):
    """It has no attempt whose end is unknown."""

    code = "nothing_to_resolve"
    status = 409
    title = "Nothing to resolve"


class SecondPersonRequired(Refusal):
    """Who proposed a resolution can't confirm it, with whatever key (F68)."""

    code = "second_person_required"
    status = 409
    title = "Second person required"


class DueTooLate(Refusal):
    """It would be due in more than a year: a field of the body, told as any other."""

    code = "invalid_field"
    status = 422
    title = "Invalid field"


class IllegalTransition(Refusal):
    """The machine has no such step."""

    code = "illegal_transition"
    status = 409
    title = "Illegal transition"


class NotDue(Refusal):
    """There is nothing to do for this worker: somebody was faster, or it is too early."""

    code = "not_due"
    status = 409
    title = "Not due"
