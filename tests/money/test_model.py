"""Amounts, and their decimal text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.money.currency import CURRENCIES, Currency, currency
from bursar.money.errors import AmountInvalid, CurrencyMismatch
from bursar.money.model import MAX_MINOR, Money, format_major, parse_major

USD, JPY, KWD, USDC = (currency(code) for code in ("USD", "JPY", "KWD", "USDC"))

some_currency = st.sampled_from([JPY, USD, KWD, USDC])
any_currency = st.sampled_from(sorted(CURRENCIES.values(), key=lambda c: c.code))


@pytest.mark.parametrize("minor", [True, False, 1.0, "1", None, MAX_MINOR + 1, -MAX_MINOR - 1])
def test_only_bounded_integers_are_amounts(minor: object) -> None:
    """F70, F75: True equals 1 in Python, and 100.0 equals 100."""
    with pytest.raises(AmountInvalid):
        Money(minor, USD)  # type: ignore[arg-type]


@pytest.mark.parametrize("minor", [MAX_MINOR, -MAX_MINOR, 0])
def test_the_bound_itself_is_an_amount(minor: int) -> None:
    """F70."""
    assert Money(minor, USD).minor == minor


def test_currencies_do_not_mix() -> None:
    """F72."""
    with pytest.raises(CurrencyMismatch):
        Money(1, USD) + Money(1, JPY)
    with pytest.raises(CurrencyMismatch):
        Money(1, USD) - Money(1, JPY)


def test_sums_stay_in_bounds() -> None:
    """F70: no wrap, no silent growth."""
    assert Money(1, USD) + Money(2, USD) == Money(3, USD)
    assert Money(1, USD) - Money(2, USD) == Money(-1, USD)
    with pytest.raises(AmountInvalid):
        Money(MAX_MINOR, USD) + Money(1, USD)


@pytest.mark.parametrize(
    ("text", "code", "minor"),
    [
        ("12.34", "USD", 1234),
        ("12.3", "USD", 1230),
        ("12", "USD", 1200),
        ("0.05", "USD", 5),
        ("007.00", "USD", 700),
        ("0", "USD", 0),
        ("500", "JPY", 500),
        ("1.234", "KWD", 1234),
        ("0.000001", "USDC", 1),
        ("10000000000000.00", "USD", MAX_MINOR),
        (str(MAX_MINOR), "JPY", MAX_MINOR),
    ],
)
def test_major_text(text: str, code: str, minor: int) -> None:
    """F74."""
    assert parse_major(text, currency(code)) == minor


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(
            (text, "USD")
            for text in ("", " ", ".", "1.", ".5", "1.234", "1.000", "1 ", " 1", "1\n")
        ),
        *((text, "USD") for text in ("-1", "+1", "1e2", "1E2", "0x10", "1_000", "1,000.00", "1,5")),
        *((text, "USD") for text in ("NaN", "inf", "١٢", "１２", "1.٢", "²", "1\x00", "\ud800")),  # noqa: RUF001
        *((text, "USD") for text in ("10000000000000.01", "9" * 16, "9" * 5000, "1.2.3")),
        ("1.0", "JPY"),
        ("1.2345", "KWD"),
        ("0.0000001", "USDC"),
        (str(MAX_MINOR + 1), "JPY"),
    ],
)
def test_text_that_is_no_amount(text: str, code: str) -> None:
    """F70, F73, F75, F77: nothing is guessed, rounded or read from another script."""
    with pytest.raises(AmountInvalid) as refused:
        parse_major(text, currency(code))

    assert refused.value.detail.isascii()
    assert len(refused.value.detail) < 120


@pytest.mark.parametrize(
    ("minor", "code", "text"),
    [(-5, "USD", "-0.05"), (0, "JPY", "0"), (-7, "JPY", "-7"), (1, "USDC", "0.000001")],
)
def test_written_text(minor: int, code: str, text: str) -> None:
    """F74: all the decimals of the currency, and the sign."""
    assert format_major(minor, currency(code)) == text


@given(st.integers(0, MAX_MINOR), any_currency)
def test_text_round_trips(minor: int, money: Currency) -> None:
    """F74: for every currency in the table."""
    assert parse_major(format_major(minor, money), money) == minor


@given(st.text(max_size=20), some_currency)
def test_reading_refuses_or_gives_a_bounded_integer(text: str, money: Currency) -> None:
    """F75: no other error comes out of any text."""
    try:
        minor = parse_major(text, money)
    except AmountInvalid:
        return

    assert 0 <= minor <= MAX_MINOR


def test_for_people() -> None:
    """An amount prints with its currency."""
    assert str(Money(1234, USD)) == "12.34 USD"
