"""What `bursar pay` says to somebody who waits."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

from bursar.cli.payout_client import PayoutClient
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SystemRandomness
from tests.cli.fake_api import FakeApi, in_days
from tests.cli.test_pay import HEADER, IBAN, run, words_of, write


def test_payouts_that_wait_for_their_date_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many, the earliest date, and what else is open."""
    path = tmp_path / "p.csv"
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(days=200)
    elsewhere = first.astimezone(timezone(timedelta(hours=1))).isoformat()
    dates = (in_days(300), elsewhere, "", "")
    rows = [f"INV-{n},10.00,EUR,Jane Doe,{IBAN},{due}" for n, due in enumerate(dates)]
    path.write_text("\n".join([f"{HEADER},due_at", *rows]) + "\n", encoding="utf-8")
    assert run(FakeApi(stuck={"INV-2"}), path, timeout_s=2.0) == 3
    assert words_of(capsys)[-5:] == [
        "",
        f"2 payouts wait for their date, the earliest is due {first:%Y-%m-%d %H:%M:%S} UTC.",
        "Run the same command again after that to follow them.",
        "",
        "1 payout is still open. Run the same command again to follow it.",
    ]


def test_one_payout_that_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else is said to be open."""
    due = in_days(300)
    path = write(tmp_path / "p.csv", 1, extra=f",{due}")
    assert run(FakeApi(), path, timeout_s=2.0) == 3
    out = words_of(capsys)
    shown = due.replace("T", " ").replace("Z", " UTC")
    assert f"1 payout waits for its date, due {shown}." in out
    assert not any("still open" in line for line in out)


def test_an_outage_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Many tries of many rows, one line."""

    def gone(request: Request) -> None:
        if request.method == "POST":
            raise httpx.ConnectError("refused")

    assert run(FakeApi(before=gone), write(tmp_path / "p.csv", 9), timeout_s=4.0) == 3
    assert capsys.readouterr().err.count("The API does not answer, waiting.") == 1


def test_each_outage_is_told() -> None:
    """An answer in between ends the first one."""
    told: list[str] = []

    async def calls() -> None:
        clock = SystemClock()
        back_at = 0.0

        def serve(_: httpx.Request) -> httpx.Response:
            if clock.monotonic() < back_at:
                raise httpx.ConnectError("refused")
            return httpx.Response(200, json={"data": []})

        transport = httpx.MockTransport(serve)
        async with httpx.AsyncClient(base_url="http://api.test", transport=transport) as http:
            client = PayoutClient(
                http,
                clock=clock,
                randomness=SystemRandomness(),
                deadline=clock.monotonic() + 30,
                on_silence=lambda: told.append("silence"),
            )
            for gone_s in (0.5, 4.5, 4.5):  # the first is too short to speak of
                back_at = clock.monotonic() + gone_s
                assert await client.by_reference("INV-1") is None

    asyncio.run(calls())
    assert told == ["silence", "silence"]
