"""Everything that the bank may do by its contract, at once; its statement is the judge."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.e2e.judge import all_payouts, assert_verified, judged, statement
from tests.e2e.platform import Platform, platform_running
from tests.e2e.test_kills import FEW_AT_ONCE, file_of, harass

pytestmark = pytest.mark.timeout(900)

KNOBS = (
    "delay_s=0.2",
    "accept_async=0.3",
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
    async with asyncio.timeout(120), platform.client() as api, platform.bank() as bank:
        while True:
            lines = await statement(bank)
            back = sum(line["amount"] for line in lines if line["kind"] == "return")
            if back == sum(payout["amount_returned"] for payout in await all_payouts(api)):
                return
            await asyncio.sleep(0.2)


async def test_a_bank_with_every_fault_of_its_contract_that_is_killed(data_dir: Path) -> None:
    """F9 to F15, F21 to F26, F29, F79, F90, I5, I8, I22, I24.

    Executed late and unheard, rejected after a promise, short of funds, returned at once, told
    twice under one event id or two, and told in any order; and SIGKILL cuts orders and answers
    off. What could not be sent is sent again; what may have been sent is asked about.
    """
    with platform_running(data_dir, knobs=KNOBS, environment=FEW_AT_ONCE) as platform:
        paying = platform.start_bursar("pay", file_of(200, data_dir))
        killed = await harass(
            platform, paying, signal.SIGKILL, ["sim"], times=3, pause_s=(0.5, 1.5)
        )
        paid = paying.wait(240)
        assert paid.code == 0, paid.text
        assert killed == {"sim": 3}
        await returns_told(platform)
        evidence = await judged(platform)
        assert {"settled", "returned", "failed"} <= set(evidence.states())
        reasons = evidence.unknown_for()
        assert reasons["deadline_exceeded"] > 0
        assert reasons["reply_truncated"] + reasons["connection_reset"] > 0
        assert evidence.retried() > 0
        assert_verified(platform)
