"""What the providers promise, written by hand from docs/wire/.

The judge must not read the product's own table: a wrong figure there would excuse what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Promises:
    """One provider's. Times are in seconds.

    `window_s`: executed at most so long after it came in. `deadline_s`: so long a request may be
    on its way. `key_life_s`: so long a key means the same order. `absence_is_proof`: "not found"
    is, after the window. `ours`: codes of causes that are ours; `theirs`: of the payee's. Any
    other code says nothing.
    """

    window_s: float
    deadline_s: float
    key_life_s: float
    absence_is_proof: bool
    ours: frozenset[str]
    theirs: frozenset[str]

    @property
    def over_s(self) -> float:
        """So long after a send began it can't be executed any more."""
        return self.deadline_s + self.window_s


PROMISES: Mapping[str, Promises] = MappingProxyType(
    {
        "bank": Promises(
            window_s=3.0,
            deadline_s=2.0,
            key_life_s=60.0,
            absence_is_proof=True,
            ours=frozenset({"AM04", "unauthorized"}),
            theirs=frozenset({"AC01", "AC04", "AC06", "AG01", "AM03", "BE04", "MD07", "RR04"}),
        ),
        "offramp": Promises(
            window_s=4.0,
            deadline_s=2.0,
            key_life_s=120.0,
            absence_is_proof=False,
            ours=frozenset({"float_insufficient", "unauthorized"}),
            theirs=frozenset(
                {
                    "account_invalid",
                    "account_closed",
                    "recipient_blocked",
                    "compliance_rejected",
                }
            ),
        ),
    }
)
NOT_SENT = "not_sent"
"""The code of an attempt of which nothing left: no provider's."""
HOLD_LIVES_S = 7 * 86_400.0
"""A payout's hold lives so long after it was due, or was sent again by hand."""
REPLAYED_S = 86_400.0
"""A request's key is answered with its first reply for so long."""
