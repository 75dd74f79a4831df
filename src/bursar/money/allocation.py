"""Splits and shares of an amount. The only place where money is rounded."""

from collections.abc import Sequence
from typing import Final

from bursar.money.errors import AmountInvalid

_BASIS: Final = 10_000


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` minor units in proportion to `weights`; the parts always add up to it.

    Largest remainder: each part gets its share rounded down, then the units left over go one
    each to the largest remainders, earlier parts first among equals. So a part is within one
    unit of its exact share, and a weight of zero gets nothing. A negative total is split as its
    opposite. Raises `AmountInvalid` if a weight is negative, or none is positive.
    """
    if any(type(number) is not int for number in (total, *weights)):
        raise AmountInvalid("totals and weights are whole numbers")
    weight_sum = sum(weights)
    if weight_sum <= 0 or min(weights) < 0:
        raise AmountInvalid("weights are zero or more, and not all zero")
    if total < 0:
        return [-part for part in allocate(-total, weights)]
    shares = [divmod(total * weight, weight_sum) for weight in weights]
    parts = [whole for whole, _ in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: -shares[i][1])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def basis_points(amount: int, bps: int) -> int:
    """`bps` ten-thousandths of `amount`, in minor units, half a unit rounded up.

    Both are zero or more; otherwise `AmountInvalid`. A fee that must not lose the residue of
    many roundings is computed once on the sum, then split with `allocate`.
    """
    if type(amount) is not int or type(bps) is not int or amount < 0 or bps < 0:
        raise AmountInvalid("amount and basis points are whole numbers, zero or more")
    return (amount * bps + _BASIS // 2) // _BASIS
