"""What each provider promises, as data. One row per connector; every number is tested."""

import string
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import msgspec

from bursar.kit.ids import is_id
from bursar.money.currency import Currency
from bursar.rails.bank.codes import REASONS as BANK_REASONS
from bursar.rails.offramp.codes import REASONS as OFFRAMP_REASONS
from bursar.rails.reasons import Reason

_ID_BITS: Final = 128
_MAX35_TEXT: Final = 35
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CROCKFORD_WIDTH: Final = 26
_DOUBLINGS_MAX: Final = 20


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """The promises that proofs rest on.

    `finality_window_s`: an instruction never executes later than this after its last send.
    `key_lifetime_s`: how long, from the first send, the same key means the same transfer.
    `request_deadline_s`: we never wait, or write, longer than this on one request.
    `reasons`: the codes that the provider calls definitive; an absent one proves nothing.
    `key_charset`, `key_length_max`: what our key may look like there.
    `exponents`: only where the provider's minor unit differs from ours, by currency code.
    `absence_is_proof`: its status inquiry never forgets an instruction, so "not found" after the
    window means that there is none.
    `resend_after_s`: how long after an unclear first send the same key is sent again, each pause
    twice as long as the one before; None: never. `ordered`: its events carry a sequence.
    `currencies`: what it is there for; None: whatever no other provider is.
    """

    provider: str
    finality_window_s: float
    key_lifetime_s: float
    request_deadline_s: float
    reasons: Mapping[str, Reason]
    key_length_max: int
    key_charset: str
    exponents: Mapping[str, int] = MappingProxyType({})
    absence_is_proof: bool = False
    resend_after_s: float | None = None
    ordered: bool = False
    currencies: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Refuse a key space that cannot hold every attempt id: cutting ids makes two collide."""
        alphabet = len(set(self.key_charset))
        if alphabet != len(self.key_charset) or alphabet**self.key_length_max < 1 << _ID_BITS:
            raise ValueError(f"{self.provider}: the key space is smaller than the attempt ids")

    @property
    def definitive_codes(self) -> frozenset[str]:
        """Codes by which the provider proves that it did not and will not execute."""
        return frozenset(self.reasons)

    @property
    def retryable_codes(self) -> frozenset[str]:
        """Definitive codes after which another try may end differently."""
        return frozenset(code for code, reason in self.reasons.items() if reason.retryable)

    @property
    def finality_window(self) -> timedelta:
        """`finality_window_s` as an interval."""
        return timedelta(seconds=self.finality_window_s)

    @property
    def request_deadline(self) -> timedelta:
        """`request_deadline_s` as an interval."""
        return timedelta(seconds=self.request_deadline_s)

    @property
    def key_lifetime(self) -> timedelta:
        """`key_lifetime_s` as an interval."""
        return timedelta(seconds=self.key_lifetime_s)

    def resend_pause(self, sends: int) -> timedelta | None:
        """How long to wait after send number `sends` before the next; None if there is none."""
        if self.resend_after_s is None:
            return None
        return timedelta(seconds=self.resend_after_s) * (1 << min(sends - 1, _DOUBLINGS_MAX))

    def may_resend(self, begun_at: datetime, now: datetime, lease: timedelta) -> bool:
        """Whether a send that may begin until `now + lease` still meets a key that is known (F19).

        The key's life is counted from `begun_at`, the earliest moment of the first send.
        """
        last_byte_at = now + lease + self.request_deadline
        return self.resend_after_s is not None and last_byte_at < begun_at + self.key_lifetime

    def map_key(self, attempt_id: str) -> str:
        """The provider's idempotency key of an attempt: one to one, in its length and charset.

        Readable (`pa-` and the 32 digits) where that fits; else the id's 128 bits written in the
        provider's own alphabet, never cut. Raises `ValueError` if it is no attempt id.
        """
        if not is_id(attempt_id, "pa"):
            raise ValueError(f"{attempt_id!a} is not an attempt id")
        readable = attempt_id.replace("_", "-")
        if len(readable) <= self.key_length_max and set("pa-0123456789abcdef") <= set(
            self.key_charset
        ):
            return readable
        return _in_alphabet(int(attempt_id[3:], 16), self.key_charset)

    def key_fits(self, key: str) -> bool:
        """Whether the provider takes `key` as it stands."""
        return 0 < len(key) <= self.key_length_max and set(key) <= set(self.key_charset)

    def to_provider_minor(self, amount_minor: int, currency: Currency) -> int | None:
        """Our minor units in the provider's, or None if that would need rounding."""
        return _shifted(amount_minor, self._exponent(currency) - currency.exponent)

    def from_provider_minor(self, provider_minor: int, currency: Currency) -> int | None:
        """The provider's minor units in ours, or None if that would need rounding."""
        return _shifted(provider_minor, currency.exponent - self._exponent(currency))

    def _exponent(self, currency: Currency) -> int:
        return self.exponents.get(currency.code, currency.exponent)


def _shifted(minor: int, decimals: int) -> int | None:
    factor = int(10 ** abs(decimals))
    if decimals >= 0:
        return minor * factor
    whole, lost = divmod(minor, factor)
    return None if lost else whole


def _in_alphabet(number: int, alphabet: str) -> str:
    """`number` (below 2^128) in base `len(alphabet)`, at the width that holds them all."""
    width = 1
    while len(alphabet) ** width < 1 << _ID_BITS:
        width += 1
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(alphabet))
        digits.append(alphabet[digit])
    return "".join(reversed(digits))


CONTRACTS: Final[Mapping[str, Contract]] = MappingProxyType(
    {
        "bank": Contract(
            provider="bank",
            finality_window_s=3,
            key_lifetime_s=60,
            request_deadline_s=2,
            reasons=BANK_REASONS,
            key_length_max=_MAX35_TEXT,
            key_charset=string.ascii_letters + string.digits + "-",
            absence_is_proof=True,
        ),
        "offramp": Contract(
            provider="offramp",
            finality_window_s=4,
            key_lifetime_s=120,
            request_deadline_s=2,
            reasons=OFFRAMP_REASONS,
            key_length_max=_CROCKFORD_WIDTH,
            key_charset=_CROCKFORD,
            resend_after_s=1,
            ordered=True,
            currencies=frozenset({"USDC"}),
        ),
    }
)
