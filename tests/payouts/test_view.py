"""A payout as the API shows it."""

import msgspec

from bursar.payouts.view import payout_json
from tests.payouts.story import Story


def test_metadata_read_back_from_postgres_gives_the_same_bytes() -> None:
    """I10: `jsonb` puts spaces between, and short keys before long ones; the reply has neither."""
    written = msgspec.structs.replace(Story().payout(), metadata='{"aa":"2","b":"1"}')
    read = msgspec.structs.replace(written, metadata='{"b": "1", "aa": "2"}')
    assert payout_json(read) == payout_json(written)
    assert b'"metadata":{"aa":"2","b":"1"}' in payout_json(read)
