"""What `bursar pay` says to somebody who waits."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from bursar.cli.payout_client import PayoutClient
from bursar.kit.clock import SystemClock
from bursar.kit.ids import SystemRandomness
from tests.cli.fake_api import FakeApi, answer, in_days, problem
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
    assert words_of(capsys)[-6:] == [
        "",
        f"2 payouts wait for their date, the earliest is due {first:%Y-%m-%d %H:%M:%S} UTC.",
        "Run the same command again after that to follow them.",
        "",
        "1 payout is still open. Run the same command again to follow it.",
        "What only people can settle is told at GET /payouts/ops/alerts?state=open.",
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


def test_rows_that_were_never_answered_are_no_open_payouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F82: the API is busy to the end; the next run asks again, with the same keys."""

    def before(request: Request) -> Response | None:
        return problem(503, "overloaded") if request.method == "POST" else None

    path = write(tmp_path / "p.csv", 9)
    assert run(FakeApi(before=before), path, timeout_s=1.0, concurrency=4) == 3
    out = words_of(capsys)
    silent = next(line for line in out if line.startswith("no answer "))
    asked = int(silent.split()[2])
    assert f"{asked} rows have no answer yet: the API may have made the payout or not." in out
    if asked < 9:
        assert f"not asked for {9 - asked} {9 - asked}0.00 EUR" in out
        assert any(line.startswith(f"{9 - asked} row") and "not asked for" in line for line in out)
    assert out[-1] == "Run the same command again to go on; nothing is paid twice."
    assert not any(" open" in line for line in out)


def test_rows_that_nobody_asked_for_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time was over after the first: also where nobody waits for the ends."""

    def slow(request: Request) -> None:
        if request.method == "POST":
            time.sleep(1.2)

    path = write(tmp_path / "p.csv", 3)
    code = run(FakeApi(before=slow), path, timeout_s=1.0, concurrency=1, wait=False)
    assert code == 3
    out = words_of(capsys)
    assert "not asked for 2 20.00 EUR" in out
    assert out[-2:] == [
        "2 rows were not asked for: the time was over.",
        "Run the same command again to go on; nothing is paid twice.",
    ]


def test_too_little_money_is_told_as_people_write_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The API's text counts in minor units; everything else here is in major units."""

    def short(request: Request) -> Response | None:
        if request.method != "POST":
            return None
        body = {"code": "insufficient_funds", "detail": "1002 EUR", "available": 999}
        return answer(422, body)

    assert run(FakeApi(before=short), write(tmp_path / "p.csv", 1)) == 1
    assert (
        "line 2: INV-0: insufficient_funds: 9.99 EUR was free, 10.00 EUR and its fee were asked for"
        in words_of(capsys)
    )


def test_an_outage_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Many tries of many rows, one line."""

    def gone(request: Request) -> None:
        if request.method == "POST":
            raise httpx.ConnectError("refused")

    assert run(FakeApi(before=gone), write(tmp_path / "p.csv", 9), timeout_s=4.0) == 3
    assert capsys.readouterr().err.count("The API does not answer, waiting.") == 1


def test_each_outage_is_told() -> None:
    """An answer in between ends the first one, and that is told once too."""
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
                on_return=lambda: told.append("return"),
            )
            for gone_s in (0.5, 4.5, 4.5):  # the first is too short to speak of
                back_at = clock.monotonic() + gone_s
                assert await client.by_reference("INV-1") is None

    asyncio.run(calls())
    assert told == ["silence", "return", "silence", "return"]
