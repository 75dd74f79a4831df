"""The codes by which the off-ramp proves that a payout was not and will not be executed.

`recipient_returned`, the code of its refunds, is left out on purpose: there the money had left.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bursar.rails.reasons import Reason

_DEFINITIVE: Final = (
    Reason("account_invalid", "The account number is incorrect"),
    Reason("account_closed", "The account is closed"),
    Reason("recipient_blocked", "The recipient is blocked"),
    Reason("compliance_rejected", "Refused by the off-ramp's compliance"),
    Reason(
        "float_insufficient",
        "Our float at the off-ramp is too small",
        retryable=True,
        ours=True,
    ),
    Reason(
        "unauthorized",
        "The off-ramp refused our credentials",
        retryable=True,
        ours=True,
        order_unread=True,
    ),
)

REASONS: Final[Mapping[str, Reason]] = MappingProxyType({r.code: r for r in _DEFINITIVE})
