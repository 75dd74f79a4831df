"""`bursar pay` against a small API: once per row, whatever is lost on the way."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from bursar.cli.errors import CommandRefused
from bursar.cli.pay import PayOptions, pay
from tests.cli.fake_api import KEY, FakeApi, answer, in_days, problem

IBAN = "DE89370400440532013000"
HEADER = "reference,amount,currency,beneficiary_name,beneficiary_iban"


def write(path: Path, rows: int, *, amount: str = "10.00", extra: str = "") -> Path:
    """A file of rows; `extra` is a value of due_at with a comma before it."""
    lines = [f"INV-{number},{amount},EUR,Jane Doe,{IBAN}{extra}" for number in range(rows)]
    header = HEADER + (",due_at" if extra else "")
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def options(path: Path, **changes: object) -> PayOptions:
    """What the command line would say."""
    given: dict[str, object] = {
        "path": path,
        "url": "http://api.test",
        "api_key": KEY,
        "demo_file": path.parent / "demo.json",
        "concurrency": 8,
        "wait": True,
        "timeout_s": 20.0,
        "retry_refused": False,
    }
    return PayOptions(**{**given, **changes})  # type: ignore[arg-type]


def run(api: FakeApi, path: Path, **changes: object) -> int:
    """`bursar pay`; its exit code."""
    return pay(options(path, **changes), transport=httpx.ASGITransport(api.app))


def refused(api: FakeApi, path: Path, **changes: object) -> CommandRefused:
    """`bursar pay` that ends early; what it says."""
    with pytest.raises(CommandRefused) as caught:
        run(api, path, **changes)
    return caught.value


def words_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The printed lines, with one space wherever columns were aligned."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def once_each(answers: Callable[[], Response]) -> Callable[[Request], Response | None]:
    """Answer each POST's key with this the first time."""
    seen: set[str] = set()

    def before(request: Request) -> Response | None:
        key = request.headers.get("idempotency-key")
        if key is None or key in seen:
            return None
        seen.add(key)
        return answers()

    return before


def test_a_file_is_paid_and_the_books_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From rows to settled, failures by reason, fees, costs and the ledger's equation."""
    api = FakeApi(ends={"INV-3": "AC04", "INV-7": "AC04", "INV-9": "RR04"})
    assert run(api, write(tmp_path / "p.csv", 250)) == 0
    assert words_of(capsys) == [
        f"{tmp_path / 'p.csv'}: 250 payouts, 2,500.00 EUR",
        "",
        "settled 247 2,470.00 EUR",
        "failed 3 30.00 EUR",
        "fees 61.75 EUR",
        "provider costs 7.41 EUR",
        "",
        "failed by reason",
        "2 AC04 said the bank",
        "1 RR04 said the bank",
        "",
        "ledger",
        "EUR debits 5,000.00 = credits 5,000.00 exact",
        "available 9,997,437.50 Cr",
    ]
    assert api.calls["POST /payouts"] == 250


def test_the_same_file_again_pays_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F82: every row is replayed."""
    api, path = FakeApi(), write(tmp_path / "p.csv", 30)
    assert run(api, path) == 0
    assert run(api, path) == 0
    assert len(api.payouts) == 30
    assert "30 of these payouts existed already; they were not paid twice." in (
        capsys.readouterr().out
    )


def test_one_edited_line_is_refused_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F82: its key is new, but its reference is taken. The others are replayed."""
    api, path = FakeApi(), write(tmp_path / "p.csv", 5)
    assert run(api, path) == 0
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("INV-2,10.00", "INV-2,99.00"), encoding="utf-8")
    assert run(api, path) == 1
    out = capsys.readouterr().out
    holder = next(one["id"] for one in api.payouts.values() if one["reference"] == "INV-2")
    belongs = f"this reference belongs to {holder}, 10.00 EUR, settled"
    assert f"  line 4: INV-2: duplicate_reference: {belongs}" in out
    assert "nothing moved" not in out
    assert len(api.payouts) == 5


def test_a_payout_to_another_account_is_not_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same reference and amount are not enough."""
    api, path = FakeApi(), write(tmp_path / "p.csv", 2)
    assert run(api, path) == 0
    other = path.read_text(encoding="utf-8").replace(IBAN, "GB82WEST12345698765432")
    path.write_text(other, encoding="utf-8")
    assert run(api, path) == 1
    assert capsys.readouterr().out.count("this reference belongs to po_") == 2


def test_a_row_that_moves_the_same_is_its_payout(tmp_path: Path) -> None:
    """An edited name is another key, but nothing else would be paid."""
    api, path = FakeApi(), write(tmp_path / "p.csv", 3)
    assert run(api, path) == 0
    path.write_text(path.read_text(encoding="utf-8").replace("Jane", "Joan"), encoding="utf-8")
    assert run(api, path) == 0
    assert len(api.payouts) == 3


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_no_answer_is_asked_again_with_the_same_key(tmp_path: Path, status: int) -> None:
    """F2, F31: busy and failing answers decide nothing."""
    api = FakeApi(before=once_each(lambda: problem(status, "overloaded")))
    assert run(api, write(tmp_path / "p.csv", 12)) == 0
    assert len(api.payouts) == 12
    assert api.calls["POST /payouts"] == 24


def test_a_lost_answer_is_asked_again_with_the_same_key(tmp_path: Path) -> None:
    """F2: the payout was made, the answer was lost; the second asking is a replay."""

    def lose() -> Response:
        raise httpx.ReadError("connection reset")

    api = FakeApi(after=once_each(lose))
    assert run(api, write(tmp_path / "p.csv", 12)) == 0
    assert len(api.payouts) == 12


def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    """F31: the server says when."""
    busy = once_each(lambda: problem(503, "overloaded", **{"Retry-After": "1"}))
    started = time.monotonic()
    assert run(FakeApi(before=busy), write(tmp_path / "p.csv", 2)) == 0
    assert time.monotonic() - started >= 1


def test_a_request_in_flight_is_asked_again(tmp_path: Path) -> None:
    """F41: a 409 that says when to come back decides nothing; other 409s do."""
    in_flight = once_each(lambda: problem(409, "in_flight", **{"Retry-After": "0"}))
    api = FakeApi(before=in_flight)
    assert run(api, write(tmp_path / "p.csv", 3)) == 0


def test_rows_without_funds_are_refused_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server decides row by row; the shortage is announced before."""
    api = FakeApi(funds={"EUR": 2_100})
    assert run(api, write(tmp_path / "p.csv", 3), concurrency=1) == 1
    out = words_of(capsys)
    assert out[1].startswith("Note: 21.00 EUR is free and the file asks for 30.00")
    assert "line 4: INV-2: insufficient_funds: not enough is free" in out
    assert "settled 2 20.00 EUR" in out


def test_refused_rows_are_asked_anew_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stored refusal is replayed for ever; new funds need a new question, and it is explicit."""
    api, path = FakeApi(funds={"EUR": 0}), write(tmp_path / "p.csv", 4)
    assert run(api, path) == 1
    api.funds["EUR"] = 10**6
    assert run(api, path) == 1
    out = capsys.readouterr().out
    assert "--retry-refused asks anew" in out
    assert "nothing moved for these rows" in out
    assert run(api, path, retry_refused=True) == 0
    assert len(api.payouts) == 4


@pytest.mark.parametrize("retry_refused", [False, True])
def test_a_row_paid_after_its_refusal_is_reported_as_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, retry_refused: bool
) -> None:
    """Its base key is refused for ever; its reference finds the payout."""
    api, path = FakeApi(funds={"EUR": 0}), write(tmp_path / "p.csv", 4)
    assert run(api, path) == 1
    api.funds["EUR"] = 10**6
    assert run(api, path, retry_refused=True, wait=False) == 0
    capsys.readouterr()
    assert run(api, path, retry_refused=retry_refused) == 0
    out = words_of(capsys)
    assert "settled 4 40.00 EUR" in out
    assert "4 of these payouts existed already; they were not paid twice." in out
    assert not any("refused" in line for line in out[2:])
    assert len(api.payouts) == 4


def test_a_refusal_that_cannot_be_checked_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the reference is taken stays unknown: nobody says that nothing moved."""

    def before(request: Request) -> Response | None:
        return problem(503, "overloaded") if "reference" in request.query_params else None

    api = FakeApi(funds={"EUR": 0}, before=before)
    assert run(api, write(tmp_path / "p.csv", 2), timeout_s=1.0) == 3
    out = capsys.readouterr().out
    assert "no answer" in out
    assert "nothing moved" not in out


def test_payouts_that_do_not_end_are_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3: somebody has to come back."""
    api = FakeApi(stuck={"INV-1"})
    assert run(api, write(tmp_path / "p.csv", 3), timeout_s=2.5) == 3
    out = words_of(capsys)
    assert "open: sending 1 10.00 EUR" in out
    assert out[-2] == "1 payout is still open. Run the same command again to follow it."
    assert "/payouts/ops/alerts" in out[-1]


def test_payouts_due_after_the_deadline_are_not_waited_for(tmp_path: Path) -> None:
    """They are open; waiting for them would be waiting for nothing."""
    started = time.monotonic()
    path = write(tmp_path / "p.csv", 3, extra=f",{in_days(300)}")
    assert run(FakeApi(), path) == 3
    assert time.monotonic() - started < 5


def test_no_wait_only_asks(tmp_path: Path) -> None:
    """Exit 0 means here that every payout exists."""
    api = FakeApi()
    assert run(api, write(tmp_path / "p.csv", 3), wait=False) == 0
    assert {payout["state"] for payout in api.payouts.values()} == {"funds_locked"}


def test_books_that_do_not_balance_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else went well."""
    assert run(FakeApi(balanced=False), write(tmp_path / "p.csv", 1)) == 1
    assert "NOT BALANCED" in capsys.readouterr().out


def test_a_bad_file_reaches_no_server(tmp_path: Path) -> None:
    """Nothing moves unless every row is good."""
    api, path = FakeApi(), write(tmp_path / "p.csv", 3)
    path.write_text(path.read_text(encoding="utf-8") + "x,-1,EUR,y,z\n", encoding="utf-8")
    error = refused(api, path)
    assert error.code == 2
    assert error.lines == (
        "line 5: amount: '-1' is negative",
        "line 5: beneficiary_iban: 'z' is not an IBAN: wrong form",
        f"{path}: 2 faults, nothing moved",
    )
    assert not api.calls


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (lambda _: answer(200, [1]), "does not answer JSON"),
        (lambda _: answer(200, {"x": 1}), "not a list of accounts"),
        (lambda _: answer(200, {"data": [], "books": None}), "not a list of accounts"),
        (lambda _: answer(200, {"data": [{"role": 1}], "books": []}), "not a list of accounts"),
        (lambda _: answer(200, {"data": [1], "books": []}), "not a list of accounts"),
        (lambda _: Response("<html>", 200), "does not answer JSON"),
        (lambda _: Response("[" * 100_000, 200), "does not answer JSON"),
        (lambda _: Response("", 200), "is this a Bursar API?"),
        (lambda _: Response("x", 302, {"Location": "http://elsewhere"}), "answers 302"),
        (lambda _: problem(404, "not_found"), "answers 404"),
        (lambda _: problem(503, "overloaded"), "no API answers"),
    ],
)
def test_what_is_no_bursar_api_is_told_in_a_line(
    tmp_path: Path, before: Callable[[Request], Response | None], words: str
) -> None:
    """API10: what answers is not trusted to be what we think."""
    error = refused(FakeApi(before=before), write(tmp_path / "p.csv", 1))
    assert error.code == 1
    assert words in str(error)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"id": "po_1", "state": "sent", "amount": "10", "currency": "EUR"},
        {"id": 1, "state": "sent", "amount": 10, "currency": "EUR"},
        {"id": "po_1", "state": "sent", "amount": 10, "currency": "EUR", "fee": [1]},
        {"id": "po_1", "state": "sent", "amount": 10, "currency": "EUR", "failure": "x"},
        {"id": "po_1", "state": "sent", "amount": 10, "currency": "EUR", "due_at": 7},
    ],
)
def test_what_is_no_payout_is_told_in_a_line(tmp_path: Path, document: object) -> None:
    """API10: also where the accounts looked right."""

    def before(request: Request) -> Response | None:
        return answer(201, document) if request.method == "POST" else None

    error = refused(FakeApi(before=before), write(tmp_path / "p.csv", 1))
    assert str(error) == "the answer is not a payout: is this a Bursar API?"


def test_a_refused_key_is_told_in_a_line(tmp_path: Path) -> None:
    """Before anything is asked for."""
    api = FakeApi()
    error = refused(api, write(tmp_path / "p.csv", 1), api_key="sk_wrong")
    assert "refuses the API key (401 unauthorized)" in str(error)
    assert api.calls["POST /payouts"] == 0


def test_nobody_listens(tmp_path: Path) -> None:
    """A real connection refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(CommandRefused, match=f"no API answers at http://127.0.0.1:{port}"):
        pay(options(write(tmp_path / "p.csv", 1), url=f"http://127.0.0.1:{port}"))


# --- the API restarts ----------------------------------------------------------------------------


@contextmanager
def served(api: FakeApi, port: int) -> Iterator[uvicorn.Server]:
    """The API on a real port, in a thread, until the block ends."""
    config = uvicorn.Config(api.app, port=port, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


def test_a_restart_in_the_middle_is_survived(tmp_path: Path) -> None:
    """F92: while rows are asked for, the API is gone for a while; all end, each made once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = FakeApi(before=lambda _: time.sleep(0.005))  # slow enough to be met in the middle
    path = write(tmp_path / "p.csv", 300)
    codes: list[int] = []
    paying = threading.Thread(
        target=lambda: codes.append(pay(options(path, url=f"http://127.0.0.1:{port}")))
    )
    with served(api, port):
        paying.start()
        while len(api.payouts) < 60:
            time.sleep(0.002)
    made = len(api.payouts)
    time.sleep(0.5)
    with served(api, port):
        paying.join(30)
    assert 60 <= made < 300
    assert codes == [0]
    assert len(api.payouts) == 300
    assert {payout["state"] for payout in api.payouts.values()} == {"settled"}


# A shell that runs the tests in the background has them ignore Ctrl-C, and their children too.
_HEARS: Any = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    """Exit 130; what was accepted goes on, and the same command finishes the rest."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = FakeApi(stuck={"INV-1"})
    path = write(tmp_path / "p.csv", 40)
    command = [sys.executable, "-m", "bursar", "pay", str(path)]
    command += ["--url", f"http://127.0.0.1:{port}", "--api-key", KEY]
    with served(api, port):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **_HEARS) as paying:
            while len(api.payouts) < 40:
                time.sleep(0.01)
            paying.send_signal(signal.SIGINT)
            _, errors = paying.communicate(timeout=20)
        assert paying.returncode == 130
        assert "run the same command again to follow them" in errors
        assert "Traceback" not in errors
        api.stuck.clear()
        assert pay(options(path, url=f"http://127.0.0.1:{port}")) == 0
    assert len(api.payouts) == 40


# --- which API, which key ------------------------------------------------------------------------


def test_the_demo_key_is_used_when_nothing_is_given(tmp_path: Path) -> None:
    """What `bursar up` left."""
    demo = {"api_url": "http://api.test", "api_key": KEY, "merchant_id": "mer_x"}
    (tmp_path / "demo.json").write_text(json.dumps(demo), encoding="utf-8")
    path = write(tmp_path / "p.csv", 1)
    assert run(FakeApi(), path, url=None, api_key=None) == 0
    assert run(FakeApi(), path, url="http://api.test/", api_key=None) == 0


def test_the_demo_key_goes_nowhere_else(tmp_path: Path) -> None:
    """A key for one API is never sent to another."""
    demo = {"api_url": "http://api.test", "api_key": KEY, "merchant_id": "mer_x"}
    (tmp_path / "demo.json").write_text(json.dumps(demo), encoding="utf-8")
    error = refused(FakeApi(), write(tmp_path / "p.csv", 1), url="http://other", api_key=None)
    assert str(error) == "--api-key is needed for http://other: the demo key is for http://api.test"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": None, "api_key": None}, "start one with `bursar up`"),
        ({"url": "ftp://x"}, "is not a URL"),
        ({"url": "http://"}, "is not a URL"),
        ({"url": "http://a:99999"}, "is not a URL"),
        ({"url": "http://a b"}, "is not a URL"),
        ({"url": "http://[::1"}, "is not a URL"),
        ({"url": "http://a\n"}, "is not a URL"),
        ({"api_key": ""}, "the API key is empty"),
        ({"api_key": "a\nb"}, "the API key is empty or has characters"),
        ({"api_key": "\u00e9"}, "the API key is empty or has characters"),
    ],
)
def test_what_names_no_api(tmp_path: Path, changes: dict[str, str | None], words: str) -> None:
    """Each in a line."""
    assert words in str(refused(FakeApi(), write(tmp_path / "p.csv", 1), **changes))


@pytest.mark.parametrize("content", ["", "[]", "{}", "\ufeff", '{"api_url": 1}', "\x00"])
def test_a_broken_demo_file_is_named(tmp_path: Path, content: str) -> None:
    """No traceback."""
    (tmp_path / "demo.json").write_text(content, encoding="utf-8")
    path = write(tmp_path / "p.csv", 1)
    assert "demo.json" in str(refused(FakeApi(), path, url=None, api_key=None))
