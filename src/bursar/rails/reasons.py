"""A provider's reason for not executing, as its contract lists it."""

import msgspec


class Reason(msgspec.Struct, frozen=True):
    """One definitive code. `ours`: the cause is on our side, so the payout waits unburned."""

    code: str
    text: str
    retryable: bool = False
    ours: bool = False
