"""Splits that lose nothing, and the one rounding rule."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.money.allocation import allocate, basis_points
from bursar.money.errors import AmountInvalid
from bursar.money.model import MAX_MINOR

totals = st.integers(-MAX_MINOR, MAX_MINOR)
weights = st.lists(st.integers(0, 10**9), min_size=1, max_size=30).filter(any)


@given(totals, weights)
def test_parts_add_up_to_the_whole(total: int, shares: list[int]) -> None:
    """F71."""
    assert sum(allocate(total, shares)) == total


@given(totals, weights)
def test_each_part_is_within_a_unit_of_its_exact_share(total: int, shares: list[int]) -> None:
    """F71: nobody pays for another's rounding; a zero weight gets nothing."""
    for part, weight in zip(allocate(total, shares), shares, strict=True):
        assert abs(part - Fraction(total * weight, sum(shares))) < 1
        assert weight > 0 or part == 0


@given(totals, weights, st.integers(1, 1000))
def test_only_proportions_matter(total: int, shares: list[int], factor: int) -> None:
    """F71: the same split for the same proportions, however they are written."""
    assert allocate(total, shares) == allocate(total, [weight * factor for weight in shares])


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (5, [3, 7], [2, 3]),
        (1, [0, 1, 1], [0, 1, 0]),
        (0, [1, 2], [0, 0]),
        (10, [1], [10]),
        (101, [50, 30, 20], [51, 30, 20]),
    ],
)
def test_largest_remainder_first(total: int, shares: list[int], parts: list[int]) -> None:
    """F71: among equal remainders the earlier part."""
    assert allocate(total, shares) == parts


@pytest.mark.parametrize(
    ("total", "shares"), [(1, []), (1, [0, 0]), (1, [-1, 2]), (1, [True]), (1.0, [1]), (1, [0.5])]
)
def test_splits_without_meaning_are_refused(total: object, shares: object) -> None:
    """F75."""
    with pytest.raises(AmountInvalid):
        allocate(total, shares)  # type: ignore[arg-type]


@given(st.integers(0, MAX_MINOR), st.integers(0, 20_000))
def test_shares_round_half_up(amount: int, bps: int) -> None:
    """F71: against decimal arithmetic."""
    exact = Decimal(amount) * bps / 10_000

    assert basis_points(amount, bps) == int(exact.to_integral_value(ROUND_HALF_UP))


@pytest.mark.parametrize(("amount", "bps", "share"), [(50, 100, 1), (49, 100, 0), (1, 10_000, 1)])
def test_shares_at_the_edge(amount: int, bps: int, share: int) -> None:
    """F71: exactly half a unit goes up."""
    assert basis_points(amount, bps) == share


@pytest.mark.parametrize(("amount", "bps"), [(-1, 1), (1, -1), (True, 1), (1.0, 1), (1, 0.5)])
def test_shares_without_meaning_are_refused(amount: object, bps: object) -> None:
    """F73, F75."""
    with pytest.raises(AmountInvalid):
        basis_points(amount, bps)  # type: ignore[arg-type]
