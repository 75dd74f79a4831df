"""A currency is its code and the number of decimals between its major and its minor unit."""

from dataclasses import dataclass

from bursar.money.errors import UnknownCurrency
from bursar.money.minor_units import CRYPTO_EXPONENTS, ISO_4217_EXPONENTS


@dataclass(frozen=True, slots=True)
class Currency:
    """`10 ** exponent` minor units make one major unit: USD 2, JPY 0, KWD 3, USDC 6."""

    code: str
    exponent: int


CURRENCIES = {
    code: Currency(code, exponent)
    for code, exponent in (*ISO_4217_EXPONENTS.items(), *CRYPTO_EXPONENTS.items())
}


def currency(code: str) -> Currency:
    """The currency with this code, in capitals.

    Raises `UnknownCurrency` for anything else, lower case included: two spellings of one
    currency would be two books.
    """
    found = CURRENCIES.get(code) if isinstance(code, str) else None
    if found is None:
        shown = code[:8] if isinstance(code, str) else type(code).__name__
        raise UnknownCurrency(f"{shown!a} is not a currency code that is carried here")
    return found
