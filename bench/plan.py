"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Counts of one run: `payouts` per repeat through groups, `rows` one at a time."""

    merchants: int = 10_000
    payouts: int = 12_800
    rows: int = 2_000
    singles: int = 400
    repeats: int = 3
    requests: int = 6_000
    settled: int = 2_000
    bulk: int = 1_000_000


FULL = Plan()
QUICK = Plan(
    merchants=2_000, payouts=3_840, rows=400, singles=100, requests=1_500, settled=300, bulk=20_000
)
SMOKE = Plan(
    merchants=8, payouts=256, rows=16, singles=4, repeats=1, requests=64, settled=8, bulk=64
)
