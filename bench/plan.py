"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Counts of one run.

    `payouts` go through groups in each repeat, `rows` one at a time over each number of
    `connections` that is tried; `singles` one after the other; `requests` over HTTP; `settled`
    through the whole platform; `bulk` are loaded before flatness is measured. Another checkout
    takes `turns` with this one.
    """

    merchants: int = 10_000
    payouts: int = 12_800
    rows: int = 2_000
    singles: int = 400
    connections: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    repeats: int = 3
    requests: int = 6_000
    settled: int = 2_000
    bulk: int = 1_000_000
    turns: int = 15


FULL = Plan()
QUICK = Plan(
    merchants=2_000,
    payouts=3_840,
    rows=400,
    singles=100,
    requests=1_500,
    settled=300,
    bulk=20_000,
    turns=5,
)
SMOKE = Plan(
    connections=(1, 4),
    merchants=8,
    payouts=256,
    rows=16,
    singles=4,
    repeats=1,
    requests=64,
    settled=8,
    bulk=64,
    turns=2,
)
