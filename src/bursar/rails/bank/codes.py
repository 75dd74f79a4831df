"""The codes by which the bank proves that a transfer was not and will not be executed.

Codes and meanings: ISO 20022 external code set ExternalStatusReason1Code. The choice of which are
definitive, and of the two flags, is the contract with this bank. `MS03` (reason not specified) and
the time-out codes `AB05` to `AB10` are left out on purpose: they do not say what was decided.
`unauthorized` is the bank's own word with a 401 (F90).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bursar.rails.reasons import Reason

_DEFINITIVE: Final = (
    Reason("AC01", "The account number is incorrect"),
    Reason("AC04", "The account is closed"),
    Reason("AC06", "The account is blocked"),
    Reason("AG01", "Credit transfers to this account are forbidden"),
    Reason("AM03", "The bank does not serve this currency"),
    Reason("AM04", "Our account at the bank has too little money", retryable=True, ours=True),
    Reason("BE04", "The creditor's address is missing or wrong"),
    Reason("MD07", "The end customer has died"),
    Reason("RR04", "Refused for a regulatory reason"),
    Reason(
        "unauthorized",
        "The bank refused our credentials",
        retryable=True,
        ours=True,
        order_unread=True,
    ),
)

REASONS: Final[Mapping[str, Reason]] = MappingProxyType({r.code: r for r in _DEFINITIVE})
