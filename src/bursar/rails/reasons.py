"""A provider's reason for not executing, as its contract lists it."""

import msgspec


class Reason(msgspec.Struct, frozen=True):
    """One definitive code. `ours`: the cause is on our side, so the payout waits unburned.

    `order_unread`: the request was turned away before its order was read, so the code says nothing
    of an earlier send under the same key.
    """

    code: str
    text: str
    retryable: bool = False
    ours: bool = False
    order_unread: bool = False
