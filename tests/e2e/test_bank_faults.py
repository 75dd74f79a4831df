"""Everything that the bank may do by its contract, at once; its statement is the judge."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.judge import all_payouts, assert_verified, judged, statement
from tests.e2e.platform import Platform, platform_running
from tests.e2e.test_kills import file_of

pytestmark = pytest.mark.xdist_group("e2e")

KNOBS = (
    "accept_async=0.6",
    "settle_delay_s=0",
    "decline_later=0.1",
    "insufficient_funds=0.05",
    "timeout=0.1",
    "late_s=3",
    "return_rate=0.3",
    "return_delay_s=0",
    "webhook_duplicate=0.5",
)


async def returns_told(platform: Platform) -> None:
    """Wait until every return on the statement has reached a payout."""
    async with asyncio.timeout(30), platform.client() as api, platform.bank() as bank:
        while True:
            lines = await statement(bank)
            back = sum(line["amount"] for line in lines if line["kind"] == "return")
            if back == sum(payout["amount_returned"] for payout in await all_payouts(api)):
                return
            await asyncio.sleep(0.2)


async def test_a_bank_with_every_fault_of_its_contract(data_dir: Path) -> None:
    """F9 to F13, F21 to F26, F29, F79, F90, I5, I8, I22, I24.

    Executed late and unheard, rejected after a promise, short of funds, returned at once, told
    twice under one event id or two, and told in any order.
    """
    with platform_running(data_dir, knobs=KNOBS) as platform:
        paid = platform.bursar("pay", file_of(400, data_dir))
        assert paid.code == 0, paid.text
        await returns_told(platform)
        evidence = await judged(platform)
        assert set(evidence.states()) == {"settled", "returned", "failed"}
        assert evidence.paid_unheard() > 0
        assert evidence.retried() > 0
        assert_verified(platform)
