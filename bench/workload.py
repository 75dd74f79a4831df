"""The payouts that every variant makes."""

from collections.abc import Iterator
from itertools import count, cycle

from bench.laboratory import CURRENCY
from bursar.engine.model import Origin, Request
from bursar.kit.ids import SystemIds
from bursar.payouts.commands import CreatePayout

AMOUNT_MINOR = 10_000
FEE_MINOR = 20
NAME = "Ada Lovelace"
IBAN = "DE89370400440532013000"

_ids = SystemIds()
_numbers = count()
_FINGERPRINT = b"\x5a" * 32


def next_number() -> int:
    """A number that no other payout of this run has: keys and references hold it."""
    return next(_numbers)


def create_payout(merchant_id: str, number: int) -> CreatePayout:
    """A payout with a key, a reference and a correlation id of its own."""
    return CreatePayout(
        origin=Origin("per_bench", _ids.new("cor")),
        request=Request(merchant_id, f"bench-{number}", _FINGERPRINT),
        merchant_id=merchant_id,
        payout_id=_ids.new("po"),
        reference=f"INV-{number}",
        amount=AMOUNT_MINOR,
        currency=CURRENCY,
        fee=FEE_MINOR,
        beneficiary_name=NAME,
        beneficiary_iban=IBAN,
        description="",
        priority=1,
        due_at=None,
        max_retries=3,
        metadata={},
    )


def stream(merchants: tuple[str, ...], payouts: int) -> Iterator[CreatePayout]:
    """`payouts` new payouts, spread evenly over the merchants."""
    merchant = cycle(merchants)
    for _ in range(payouts):
        yield create_payout(next(merchant), next_number())
