"""A provider inside this process: no thread, no file, no lifespan."""

import re
import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from bursar_sim.callback import Unreachable
from bursar_sim.clock import SystemClock
from bursar_sim.main import main
from bursar_sim.provider.knobs import Knobs
from bursar_sim.providers import Provider, build
from tests.sim.bank_process import IBAN, Customer, Receiver, bank_running, until


class Nowhere:
    """A poster that reaches nobody."""

    async def post(self, headers: dict[str, str], body: bytes) -> int:
        """Never."""
        raise Unreachable


def made(name: str, seed: int = 1) -> Provider:
    """In memory."""
    return build(name, data=None, seed=seed, knobs=Knobs(), clock=SystemClock(), poster=Nowhere())


def test_building_is_cheap() -> None:
    """Thousands of schedules build one each: under 2 ms, at the best of three tries."""
    best = 1.0
    for _ in range(3):
        began = time.perf_counter()
        for seed in range(20):
            made("bank", seed)
        best = min(best, (time.perf_counter() - began) / 20)

    assert best < 0.002


def test_no_such_provider() -> None:
    """A name that is none."""
    with pytest.raises(ValueError, match="no such provider"):
        made("nonsense")


def test_the_readme_lists_every_knob() -> None:
    """With its default."""
    readme = (Path(__file__).parents[2] / "src/bursar_sim/provider/README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([0-9.]+) \|", readme, re.MULTILINE)

    assert {name: float(default) for name, default in rows} == Knobs().as_dict()
    assert len(rows) == len(Knobs().as_dict())


async def test_two_providers_behind_one_door(tmp_path: Path) -> None:
    """F92: each has its path, key, knobs and books; both outlive the process."""
    knobs = {"decline": 1, "offramp.decline": 0, "offramp.settle_delay_s": 0}
    body = {
        "client_reference": "01K70FZVG00000000000000001",
        "asset": "USDC",
        "amount": "1.000000",
        "recipient": {"name": "Ana Silva", "account": IBAN},
    }
    headers = {"Authorization": "Bearer sandbox-offramp-key"}
    async with Receiver().listening() as receiver:
        with bank_running(tmp_path, callback=receiver.url, knobs=knobs) as bank:
            async with Customer(bank) as customer, httpx.AsyncClient(headers=headers) as http:
                assert (await customer.pay("pa-1")).status_code == 422
                paid = await http.post(f"{bank.url}/offramp/payouts", json=body)
                assert paid.status_code == 202
                unknown = await customer._http.post(f"{bank.url}/offramp/payouts", json=body)
                assert unknown.status_code == 401
                await until(lambda: len(receiver.deliveries) == 2)
                fired = (await http.get(f"{bank.url}/offramp/fired")).json()
            bank.stop()
            bank.start()
            async with httpx.AsyncClient(headers=headers) as http:
                lines = (await http.get(f"{bank.url}/offramp/statement")).json()["lines"]

    assert {d.headers["x-provider-id"] for d in receiver.deliveries} == {"offramp"}
    assert [line["kind"] for line in lines] == ["debit", "cost"]
    assert fired == {}


def test_a_path_of_nobody(tmp_path: Path) -> None:
    """The first provider answers for all that has no other."""
    with bank_running(tmp_path) as bank:
        for path in ("/", "/offramps/payouts", "//offramp/payouts"):
            assert httpx.get(bank.url + path).json()["code"] == "no_such_route"
        assert httpx.get(bank.url + "/offramp/payouts").json()["code"] == "method_not_allowed"


def test_books_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with a reason, not misread."""
    with sqlite3.connect(tmp_path / "bank.sqlite") as books:
        books.execute("CREATE TABLE transfer (end_to_end_id TEXT)")
    books.close()

    assert main(["--port", "0", "--data", str(tmp_path)]) == 1
    assert "another version" in capsys.readouterr().err


def test_no_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Books in memory leave nothing behind."""
    monkeypatch.chdir(tmp_path)
    made("offramp").statement()

    assert list(tmp_path.iterdir()) == []
