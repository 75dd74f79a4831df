"""The bank as a process: its books, its silence, its memory."""

import asyncio
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from bursar_sim.main import main
from tests.sim.bank_process import Bank, Customer, Receiver, bank_running, until

WILD = {
    "accept_async": 0.6,
    "settle_delay_s": 0.02,
    "decline": 0.1,
    "decline_later": 0.1,
    "timeout": 0.2,
    "hold_s": 0.05,
    "late_s": 0.3,
    "return_rate": 0.2,
    "return_delay_s": 0.1,
}


async def answers(customer: Customer, keys: list[str]) -> dict[str, str]:
    """What each order was answered; `silence` if the connection was closed instead."""
    said: dict[str, str] = {}

    async def pay(key: str) -> None:
        try:
            reply = await customer.pay(key)
        except httpx.RemoteProtocolError:
            said[key] = "silence"
        else:
            body = reply.json()
            said[key] = body.get("code") or body["status"]

    for start in range(0, len(keys), 16):
        await asyncio.gather(*[pay(key) for key in keys[start : start + 16]])
    return said


async def truths(customer: Customer, keys: list[str]) -> dict[str, str]:
    """What inquiry says of each order in the end."""
    found: dict[str, str] = {}
    for key in keys:
        reply = await customer.inquire(key)
        found[key] = reply.json().get("status", "not_found")
    return found


async def test_knobs_depend_on_the_key_alone(tmp_path: Path) -> None:
    """The same keys in another order, in another process, meet the same fate; another seed not."""
    keys = [f"pa-{number}" for number in range(120)]
    seen = []
    for run, (seed, sent) in enumerate([(5, keys), (5, keys[::-1]), (6, keys)]):
        with bank_running(tmp_path / str(run), seed=seed, knobs=WILD) as bank:
            async with Customer(bank) as customer:
                said = await answers(customer, sent)
                await asyncio.sleep(0.6)
                seen.append((said, await truths(customer, keys)))

    assert seen[0] == seen[1]
    assert seen[0] != seen[2]
    assert {"silence", "accepted", "executed", "AC04"} <= set(seen[0][0].values())


async def test_the_statement_is_the_truth(tmp_path: Path) -> None:
    """F9 F10 F79: debits are the executed, once each, however often they were sent."""
    keys = [f"pa-{number}" for number in range(120)]
    with bank_running(tmp_path, knobs=WILD) as bank:
        async with Customer(bank) as customer:
            for _ in range(2):
                await answers(customer, keys)
            await asyncio.sleep(0.6)
            truth = await truths(customer, keys)
            lines = await customer.statement()

    assert [line["line"] for line in lines] == list(range(1, len(lines) + 1))
    moved = Counter((line["kind"], line["end_to_end_id"], line["amount"]) for line in lines)
    expected: Counter[tuple[str, str, int]] = Counter()
    for key, status in truth.items():
        if status in {"executed", "returned"}:
            expected.update([("debit", key, 12345), ("cost", key, 20)])
        if status == "returned":
            expected.update([("return", key, 12345)])
    assert expected == moved
    assert {"executed", "returned", "rejected", "not_found"} == set(truth.values())


async def test_one_key_from_many_at_once_is_one_transfer(tmp_path: Path) -> None:
    """F41: one 201, the rest 200, one debit; another order under the key is 409."""
    with bank_running(tmp_path, knobs={"accept_async": 0, "decline": 0}) as bank:
        async with Customer(bank) as customer:
            replies = await asyncio.gather(
                *[customer.pay("pa-1") for _ in range(20)],
                *[customer.pay("pa-1", amount=1) for _ in range(5)],
            )
            lines = await customer.statement()

    statuses = Counter(reply.status_code for reply in replies)
    assert len({reply.content for reply in replies if reply.status_code < 300}) == 1
    assert statuses in ({201: 1, 200: 19, 409: 5}, {201: 1, 200: 4, 409: 20})
    assert [line["kind"] for line in lines] == ["debit", "cost"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_forgets_nothing(tmp_path: Path, how: signal.Signals) -> None:
    """F92: answers, refusals, delayed executions and untold webhooks outlive the process."""
    receiver = Receiver()
    async with receiver.listening():
        url = receiver.url
    knobs = {"accept_async": 0.5, "settle_delay_s": 0.4, "decline": 0.3}
    keys = [f"pa-{number}" for number in range(30)]
    with bank_running(tmp_path, callback=url, knobs=knobs) as bank:
        async with Customer(bank) as customer:
            first = {key: (await customer.pay(key)).json() for key in keys}
        bank.stop(how)
        bank.start()
        async with Customer(bank) as customer:
            again = {key: (await customer.pay(key)).json() for key in keys}
            assert first == again
            accepted = {k for k, body in first.items() if body["status"] == "accepted"}
            executed = {k for k, body in first.items() if body["status"] == "executed"}
            async with receiver.listening():
                await until(lambda: set(receiver.by_key()) == accepted)
            lines = await customer.statement()

    debits = [line["end_to_end_id"] for line in lines if line["kind"] == "debit"]
    assert sorted(executed | accepted) == sorted(debits)
    assert accepted


async def test_a_restart_executes_nothing_later_than_promised(tmp_path: Path) -> None:
    """F11: what fell due while the bank was down is there before the first inquiry, dated then."""
    knobs = {"timeout_executed": 1, "decline": 0, "hold_s": 0, "late_s": 0.5}
    with bank_running(tmp_path, knobs=knobs) as bank:
        async with Customer(bank) as customer:
            with pytest.raises(httpx.RemoteProtocolError):
                await customer.pay("pa-15")
            assert (await customer.inquire("pa-15")).status_code == 404
        bank.stop(signal.SIGKILL)
        await asyncio.sleep(0.8)
        restarted = time.time()
        bank.start()
        async with Customer(bank) as customer:
            assert (await customer.inquire("pa-15")).json()["status"] == "executed"
            (debit, _cost) = await customer.statement()

    booked_at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(restarted - 0.2))
    assert debit["booked_at"] < booked_at + ".999Z"


async def test_silence_is_longer_than_a_clients_patience(tmp_path: Path) -> None:
    """F9: the client's deadline passes, and the money has gone; later the bank hangs up itself."""
    knobs = {"timeout_executed": 1, "accept_async": 0, "decline": 0, "hold_s": 1}
    with bank_running(tmp_path, knobs=knobs) as bank:
        async with Customer(bank, timeout_s=0.3) as hasty:
            with pytest.raises(httpx.ReadTimeout):
                await hasty.pay("pa-1")
            assert (await hasty.inquire("pa-1")).json()["status"] == "executed"
        async with Customer(bank) as patient:
            began = time.monotonic()
            with pytest.raises(httpx.RemoteProtocolError):
                await patient.pay("pa-2")
            assert 0.9 < time.monotonic() - began < 2.5


async def test_a_stop_ends_holds_and_leaves_in_time(tmp_path: Path) -> None:
    """F92: SIGTERM within 2 s with a held and a slow connection; the held gets no reply."""
    knobs = {"accept_async": 0, "decline": 0, "hold_s": 60}
    with bank_running(tmp_path, knobs=knobs) as bank:
        async with Customer(bank, timeout_s=20) as customer:
            await customer.turn(delay_s=30)
            slow = asyncio.create_task(customer.pay("pa-1"))
            await asyncio.sleep(0.2)
            await customer.turn(delay_s=0, timeout_executed=1)
            held = asyncio.create_task(customer.pay("pa-2"))
            await asyncio.sleep(0.2)

            assert await asyncio.to_thread(bank.stop) == 0
            assert (await slow).status_code == 201
            with pytest.raises(httpx.RemoteProtocolError):
                await held


async def test_knobs_turn_at_run_time(tmp_path: Path) -> None:
    """A change merges; a wrong one changes nothing."""
    with bank_running(tmp_path, knobs={"decline": 0.5}) as bank:
        async with Customer(bank) as customer:
            assert (await customer.turn(decline=1)).json()["decline"] == 1
            refused = await customer.turn(decline=0, nonsense=1)
            assert (refused.status_code, refused.json()["code"]) == (400, "knob_invalid")
            knobs: dict[str, Any] = await customer.get("/bank/knobs")
            assert knobs["decline"] == 1
            assert (await customer.pay("pa-1")).status_code == 422


async def test_a_slow_answer_is_slow(tmp_path: Path) -> None:
    """`delay_s` comes on top, and after the commit."""
    knobs = {"delay_s": 0.4, "decline": 0, "accept_async": 0}
    with bank_running(tmp_path, knobs=knobs) as bank:
        async with Customer(bank) as customer:
            began = time.monotonic()
            paying = asyncio.create_task(customer.pay("pa-1"))
            await asyncio.sleep(0.2)
            assert (await customer.inquire("pa-1")).json()["status"] == "executed"
            assert (await paying).status_code == 201
            assert time.monotonic() - began >= 0.4


async def test_full_books_are_503_and_leave_no_trace(tmp_path: Path) -> None:
    """F54: an order that cannot be written is not answered as if it were."""
    with bank_running(tmp_path, knobs={"accept_async": 0, "decline": 0}) as bank:
        bank.stop()
        books = sqlite3.connect(tmp_path / "bank.sqlite")
        books.execute(
            "CREATE TRIGGER full BEFORE INSERT ON line WHEN new.amount = 13 "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        books.close()
        bank.start()
        async with Customer(bank) as customer:
            assert (await customer.pay("pa-1", amount=13)).status_code == 503
            assert (await customer.inquire("pa-1")).status_code == 404
            assert (await customer.pay("pa-2")).status_code == 201


async def test_one_bank_to_a_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A second bank over the same books does not start, and says why."""
    with bank_running(tmp_path) as bank:
        assert main(["--port", "0", "--data", str(tmp_path)]) == 1
        port = bank.url.rsplit(":", 1)[1]
        assert main(["--port", port, "--data", str(tmp_path / "other")]) == 1
    books, address = capfd.readouterr().err.splitlines()
    assert books.startswith("bursar_sim: cannot open the books")
    assert address.startswith("bursar_sim: cannot listen on")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--knob", "decline=2"],
        ["--knob", "nonsense"],
        ["--callback", "ftp://x"],
        ["--callback", "http://a b/"],
    ],
)
def test_wrong_usage(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and one line that names the option."""
    assert main(["--data", str(tmp_path / "none"), *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_not_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Books that are none: one line, exit status 1."""
    (tmp_path / "bank.sqlite").write_bytes(b"not a database, but long enough to look at" * 30)
    assert main(["--port", "0", "--data", str(tmp_path)]) == 1
    assert "cannot open the books" in capsys.readouterr().err


def test_a_stopped_bank_starts_again_on_its_own_books(tmp_path: Path) -> None:
    """A clean stop is status 0, by either signal."""
    bank = Bank(tmp_path)
    for number in (signal.SIGTERM, signal.SIGINT):
        bank.start()
        assert bank.stop(number) == 0
