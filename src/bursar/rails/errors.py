"""What the rails refuse.

    BursarError
    ├── WebhookSignatureInvalid     not proven to come from the provider: 401
    └── ProviderEventInvalid        signed, but not an event of the contract: kept for people

What a provider answers is never an exception: it is an `Outcome` or an `Inquiry`.
"""

from bursar.kit.errors import BursarError


class WebhookSignatureInvalid(BursarError):
    """The signature is absent, wrong, or too old. One detail for all, so it teaches nothing."""

    code = "webhook_signature_invalid"
    status = 401
    title = "Invalid webhook signature"


class ProviderEventInvalid(BursarError):
    """The body is not an event that the provider's contract describes.

    No client hears of it: it is stored as it came, and put before people.
    """

    code = "provider_event_invalid"
    status = 400
    title = "Invalid provider event"
