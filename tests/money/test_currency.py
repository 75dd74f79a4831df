"""The currency table."""

import iso4217
import pytest

from bursar.money.currency import CURRENCIES, Currency, currency
from bursar.money.errors import UnknownCurrency
from bursar.money.minor_units import CRYPTO_EXPONENTS, ISO_4217_EXPONENTS


def test_the_written_table_is_the_packages_table() -> None:
    """F74: every ISO currency with a minor unit, and nothing else."""
    published = {c.code: c.exponent for c in iso4217.Currency if c.exponent is not None}

    assert dict(ISO_4217_EXPONENTS) == published
    assert not published.keys() & CRYPTO_EXPONENTS.keys()


@pytest.mark.parametrize(
    ("code", "exponent"), [("JPY", 0), ("USD", 2), ("EUR", 2), ("KWD", 3), ("USDC", 6), ("BTC", 8)]
)
def test_exponents(code: str, exponent: int) -> None:
    """F74: currencies of 0, 2, 3, 6 and 8 decimals."""
    assert currency(code) == Currency(code, exponent)


@pytest.mark.parametrize(
    "code", ["", "usd", "USD ", "XAU", "XXX", "XTS", "ETH", "EURO", "\ud800", "A" * 9999, None, 978]
)
def test_anything_else_is_refused(code: object) -> None:
    """F72: no near miss becomes a second book, and the refusal can be shown."""
    with pytest.raises(UnknownCurrency) as refused:
        currency(code)  # type: ignore[arg-type]

    assert (refused.value.code, refused.value.status) == ("unknown_currency", 422)
    assert refused.value.detail.isascii()
    assert len(refused.value.detail) < 120


def test_lookups_share_one_value() -> None:
    """The table is built once."""
    assert currency("EUR") is CURRENCIES["EUR"]
