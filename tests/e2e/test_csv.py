"""The way from a file to settled, through real processes; the bank's statement is the judge."""

from pathlib import Path

import pytest

from tests.e2e.judge import all_payouts, assert_verified, document, judged, statement
from tests.e2e.platform import platform_running

pytestmark = pytest.mark.xdist_group("e2e")

EXAMPLE = Path(__file__).parents[2] / "examples" / "payouts.csv"
ROWS = 1_000


async def test_a_thousand_rows_go_from_the_file_to_settled(data_dir: Path) -> None:
    """F9, F10, F40, I5, I8, I9, I22: with 5 % timeouts each is executed at most once.

    The same file again moves nothing: every row is a replay.
    """
    with platform_running(data_dir, knobs=["timeout=0.05"]) as platform:
        paid = platform.bursar("pay", str(EXAMPLE))
        assert paid.code == 0, paid.text
        assert "NOT BALANCED" not in paid.text

        evidence = await judged(platform)
        states = evidence.states()
        assert states.total() == ROWS
        assert set(states) == {"settled", "failed"}
        assert states["settled"] > ROWS * 0.9
        assert states["failed"] > 0
        assert evidence.unknown_for()["deadline_exceeded"] > ROWS * 0.02
        assert evidence.retried() > 0
        assert evidence.paid_unheard() > 0
        assert_verified(platform)

        again = platform.bursar("pay", str(EXAMPLE))
        assert again.code == 0, again.text
        assert f"{ROWS:,} of these payouts existed already" in again.text
        async with platform.bank() as bank:
            assert await statement(bank) == evidence.statement
        async with platform.client() as api:
            assert (await document(api, "/accounts"))["data"] == evidence.accounts
            ids = [payout["id"] for payout in await all_payouts(api)]
        assert ids == [payout["id"] for payout in evidence.payouts]
