"""A provider's terms: what its wire's page promises in figures and words. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The facts by which one provider's decisions differ from another's. Amounts in minor units."""

    prefix: str
    "Of the references that it gives, as `bt_`."
    return_prefix: str
    "Of the ids of returns."
    window_s: float
    "An order is executed at most so long after it came in."
    key_life_s: float
    "So long after it came in the same key means the same order; afterwards it is another one."
    cost: int
    "What it charges for one execution."
    currencies: frozenset[str]
    mistakes: tuple[str, str]
    "The currency that it takes by mistake: the first, or the second where the first is ordered."
    reasons: Mapping[str, str]
    "Reason code to words."
    declines: tuple[str, ...]
    "Codes drawn for a refusal that is the creditor's."
    returns: tuple[str, ...]
    "Codes drawn for money that comes back."
    short_code: str
    "Our own account there is short."
    account_code: str
    "The account number is none."
    currency_code: str
    "The currency is not served."
    synchronous: bool
    "Whether an answer to an order may say that the money left."
    tells_processing: bool
    "Whether a webhook tells that an order was taken."
    ordered: bool
    "Whether events carry a sequence, so that failed after paid can be told from paid after failed."
    not_found_proves: bool
    'Whether "not found" is proof once the window has closed.'
    without: frozenset[str] = field(default_factory=frozenset)
    "Knobs that this provider has not."

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return int(1000 * self.window_s)

    @property
    def key_life_ms(self) -> int:
        """The life of a key in milliseconds."""
        return int(1000 * self.key_life_s)

    def explained(self, code: str | None) -> dict[str, object]:
        """A code and its words, as fields of a body."""
        return {"code": code, "reason": self.reasons[str(code)]}
