"""An amount of money, and how it is read from and written as decimal text."""

import re
from dataclasses import dataclass
from typing import Final

from bursar.money.currency import Currency
from bursar.money.errors import AmountInvalid, CurrencyMismatch

MAX_MINOR: Final = 10**15
"""Bound of a single amount, in minor units: ten trillion dollars, ten million bitcoin.

Below 2^53, so JavaScript reads it exactly; 9,000 amounts at the bound still fit in a bigint.
"""

_DIGITS_MAX: Final = len(str(MAX_MINOR))
_MAJOR: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?\Z")


@dataclass(frozen=True, slots=True)
class Money:
    """`minor` minor units of one currency; may be negative, as a difference.

    Raises `AmountInvalid` for anything but a true `int` within ±`MAX_MINOR`: `True` equals 1
    and 100.0 equals 100 in Python, and neither is an amount.
    """

    minor: int
    currency: Currency

    def __post_init__(self) -> None:
        """Hold the promise of the class."""
        if type(self.minor) is not int:
            raise AmountInvalid(f"an amount is a whole number, not {type(self.minor).__name__}")
        if abs(self.minor) > MAX_MINOR:
            raise AmountInvalid(f"an amount is at most {MAX_MINOR} minor units")

    def __add__(self, other: "Money") -> "Money":
        """The sum. Raises `CurrencyMismatch`, or `AmountInvalid` beyond the bound."""
        self._same_currency(other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        """The difference. Raises `CurrencyMismatch`, or `AmountInvalid` beyond the bound."""
        self._same_currency(other)
        return Money(self.minor - other.minor, self.currency)

    def __str__(self) -> str:
        """For people: `12.34 USD`."""
        return f"{format_major(self.minor, self.currency)} {self.currency.code}"

    def _same_currency(self, other: "Money") -> None:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency.code} and {other.currency.code} do not add up")


def parse_major(text: str, currency: Currency) -> int:
    """Minor units of a decimal in major units: `"12.34"` in USD is 1234. Never negative.

    Only ASCII digits and one point with at least one digit on each side. Signs, grouping,
    exponents, spaces, other scripts' digits, more decimals than the currency has (even zeros)
    and amounts above `MAX_MINOR` raise `AmountInvalid`. No rounding takes place.
    """
    if len(text) > _DIGITS_MAX + 1:
        raise AmountInvalid(f"an amount has at most {_DIGITS_MAX} digits")
    match = _MAJOR.match(text)
    if match is None:
        raise AmountInvalid(f"{text!a} is not a plain decimal such as 12.34")
    whole, decimals = match[1], match[2] or ""
    if len(decimals) > currency.exponent:
        raise AmountInvalid(f"{text!a} has more decimals than {currency.code}: {currency.exponent}")
    minor = int(whole + decimals.ljust(currency.exponent, "0"))
    if minor > MAX_MINOR:
        raise AmountInvalid(f"an amount is at most {MAX_MINOR} minor units")
    return minor


def format_major(minor: int, currency: Currency) -> str:
    """Decimal text in major units with all the currency's decimals: -5 in USD is `-0.05`."""
    digits = str(abs(minor)).rjust(currency.exponent + 1, "0")
    sign = "-" if minor < 0 else ""
    if currency.exponent == 0:
        return sign + digits
    return f"{sign}{digits[: -currency.exponent]}.{digits[-currency.exponent :]}"
