"""The way from a file to settled, through real processes; the bank's statement is the judge."""

from pathlib import Path

import pytest

from tests.e2e.judge import all_payouts, assert_verified, document, judged, statement, statements
from tests.e2e.platform import Platform, platform_running

pytestmark = pytest.mark.timeout(900)

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
        assert evidence.unknown_for()["deadline_exceeded"] > 0
        assert evidence.retried() > 0
        assert_verified(platform)

        again = platform.bursar("pay", str(EXAMPLE))
        assert again.code == 0, again.text
        assert f"{ROWS:,} of these payouts existed already" in again.text
        assert await statements(platform) == evidence.statement
        async with platform.client() as api:
            assert (await document(api, "/accounts"))["data"] == evidence.accounts
            ids = [payout["id"] for payout in await all_payouts(api)]
        assert ids == [payout["id"] for payout in evidence.payouts]


async def test_a_file_with_faults_moves_nothing(calm: Platform, tmp_path: Path) -> None:
    """Every bad line is named, the exit code is 2, and neither books nor bank have changed."""
    good = EXAMPLE.read_bytes().splitlines()[:20]
    good[4] = good[4].replace(b",EUR,", b",EURO,")
    good[9] = good[9].replace(b".", b".1234567", 1)
    good[12] = good[11]
    good[15] += b"\xe9"
    file = tmp_path / "payouts.csv"
    file.write_bytes(b"\r\n".join(good))
    async with calm.client() as api, calm.bank() as bank:
        before = (await document(api, "/accounts"), len(await statement(bank)))
        refused = calm.bursar("pay", str(file))
        assert refused.code == 2, refused.text
        assert "nothing moved" in refused.text
        assert "Traceback" not in refused.text
        for line in (5, 10, 13, 16):
            assert f"line {line}: " in refused.text
        assert (await document(api, "/accounts"), len(await statement(bank))) == before
