"""Real processes, every knob of the simulators on, and everything killed at random.

`bursar up` runs as a newcomer runs it. While a file is paid, workers, API and Postgres die by
SIGKILL at seeded moments. Then faults go off, windows close, and the providers' own statements
judge what is in the books.

    python -m soak.chaos --chaos 10000
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx

from bursar.kit.clock import SystemClock
from bursar.settings import SANDBOX_BANK_API_KEY, SANDBOX_OFFRAMP_API_KEY
from bursar_sim.provider.knobs import RATES
from bursar_sim.providers import WIRES
from tests.e2e import judge
from tests.e2e.platform import Platform, platform_running

SEED: Final = 20_260_731
KEYS: Final = {"bank": SANDBOX_BANK_API_KEY, "offramp": SANDBOX_OFFRAMP_API_KEY}
VICTIMS: Final = ("worker", "api", "postgres")
PAUSE_S: Final = (0.3, 1.8)
RATE: Final = 0.03
"""Of each fault; there are about thirty of them, so that every second payout meets one."""
SECONDS: Final = {
    "late_s": 2.0,
    "worse_s": 3.0,
    "hold_s": 2.5,
    "slow_s": 1.0,
    "webhook_late_s": 1.5,
    "not_found_s": 1.0,
    "stale_s": 1.0,
    "return_delay_s": 0.5,
    "settle_delay_s": 0.2,
}
QUIET_S: Final = 15.0
"""So long nothing may move before the judge looks: longer than any window and what is worse."""
PATIENCE_S: Final = 240.0
_OPEN: Final = frozenset({"sending", "unknown", "accepted"})

Document = dict[str, Any]


@dataclass
class Outcome:
    """What happened, and a line for each thing that must not be."""

    rows: int
    killed: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    twice: int = 0
    unremarkable: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The figures, for a person."""
        yield f"{self.rows} payouts in {self.seconds:.0f} s; killed: {_counts(self.killed)}"
        yield f"ended: {_counts(self.states)}; without any alert: {self.unremarkable}"
        yield f"alerts: {_counts(self.alerts)}; executed twice, each with an alert: {self.twice}"
        yield f"faults: {len(self.faults)}"
        yield from (f"  {fault}" for fault in self.faults[:30])


def every_knob() -> list[str]:
    """Each fault that a provider offers, at a small rate, as options of `bursar up`."""
    found = []
    for name, wire in WIRES.items():
        rates = [rate for rate in RATES if rate not in {"accept_async", *wire.terms.without}]
        values = dict.fromkeys(rates, RATE) | SECONDS
        found += [f"{name}.{knob}={value:g}" for knob, value in values.items()]
    return [knob.removeprefix("bank.") for knob in found]


def calm_knobs(name: str) -> dict[str, float]:
    """Every fault off; `decline` too."""
    without = {"accept_async", *WIRES[name].terms.without}
    return {rate: 0.0 for rate in RATES if rate not in without}


def write_file(rows: int, seed: int, path: Path) -> str:
    """A file of payouts of which every fifth goes by the off-ramp."""
    chance = random.Random(seed)
    lines = ["reference,amount,currency,beneficiary_name,beneficiary_iban,description,priority"]
    for number in range(1, rows + 1):
        currency = "USDC" if number % 5 == 0 else "EUR"
        amount = f"{chance.randint(100, 90_000) / 100:.2f}"
        lines.append(
            f"CH-{number:06d},{amount},{currency},Ana Silva,DE89370400440532013000,Chaos,standard"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


async def rampage(platform: Platform, rows: int, *, kills: int, seed: int = SEED) -> Outcome:
    """Pay a file while everything is killed; then calm, and the judge."""
    clock = SystemClock()
    began = clock.monotonic()
    outcome = Outcome(rows)
    file = await asyncio.to_thread(write_file, rows, seed, platform.data_dir / "chaos.csv")
    paying = platform.start_bursar("pay", file, "--no-wait", "--concurrency", "4")
    outcome.killed = await _kill_at_random(platform, kills, seed)
    paid = await asyncio.to_thread(paying.wait, max(240.0, rows / 5))
    if paid.code != 0:
        outcome.faults.append(f"`bursar pay` ended with {paid.code}: {paid.text[-500:]}")
    for name in KEYS:
        await _turn(platform, name, calm_knobs(name))
    await _until_quiet(platform, rows)
    await _judge(platform, outcome)
    outcome.seconds = clock.monotonic() - began
    return outcome


async def _kill_at_random(platform: Platform, kills: int, seed: int) -> Counter[str]:
    """SIGKILL somebody at a time, at seeded moments, each as often as the others."""
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    plan = [name for _ in range(kills) for name in chance.sample(VICTIMS, len(VICTIMS))]
    for name in plan:
        await asyncio.sleep(chance.uniform(*PAUSE_S))
        async with asyncio.timeout(60):
            while not platform.signal(name, signal.SIGKILL):  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.02)
        killed[name] += 1
    return killed


async def _turn(platform: Platform, name: str, knobs: Mapping[str, float]) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        reply = await http.put(
            f"{platform.bank_url}/{name}/knobs",
            json=knobs,
            headers={"Authorization": f"Bearer {KEYS[name]}"},
        )
        reply.raise_for_status()


async def _until_quiet(platform: Platform, rows: int) -> None:
    """Return when all have ended or wait for a person, and nothing has moved for a while."""
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE_S + rows / 20
    before: object = None
    since = clock.monotonic()
    while clock.monotonic() < deadline:
        try:
            async with platform.client() as api:
                payouts = await judge.all_payouts(api)
                alerts = await _alerts(api)
        except (AssertionError, httpx.TransportError):  # somebody is not up again yet
            await asyncio.sleep(0.5)
            continue
        now = (
            sorted((one["id"], one["state"], one["amount_returned"]) for one in payouts),
            len(alerts),
        )
        if now != before:
            before, since = now, clock.monotonic()
        ended = sum(one["state"] in judge.ENDED for one in payouts)
        waiting = len({one["subject_id"] for one in alerts if one["state"] == "open"})
        if clock.monotonic() - since > QUIET_S and ended + waiting >= rows:
            return
        await asyncio.sleep(1)


async def _judge(platform: Platform, outcome: Outcome) -> None:
    lines: list[Document] = []
    for name in KEYS:
        lines += await _statement(platform, name)
    async with platform.client() as api:
        payouts = await judge.all_payouts(api)
        details = [await judge.document(api, f"/payouts/{one['id']}") for one in payouts]
        transfers = {
            one["id"]: (await judge.document(api, f"/ledger/{one['id']}"))["data"]
            for one in payouts
        }
        accounts = await judge.document(api, "/accounts")
        alerts = await _alerts(api)
    outcome.states = Counter(one["state"] for one in details)
    outcome.alerts = Counter(one["kind"] for one in alerts)
    outcome.faults += _faults(outcome, lines, details, transfers, alerts)
    outcome.faults += [
        f"{book['currency']}: debits {book['debits']}, credits {book['credits']}"
        for book in accounts["books"]
        if not book["balanced"]
    ]
    anchor = platform.data_dir / "checkpoints.jsonl"
    verified = platform.bursar("verify", "--anchor", str(anchor), timeout_s=300)
    if verified.code != 0:
        outcome.faults.append(f"verify: {verified.text[-500:]}")


def _faults(
    outcome: Outcome,
    lines: Sequence[Document],
    details: Sequence[Document],
    transfers: Mapping[str, Sequence[Document]],
    alerts: Sequence[Document],
) -> Iterator[str]:
    """Every disagreement, in words."""
    if len(details) != outcome.rows:
        yield f"{len(details)} payouts for {outcome.rows} rows"
    by_key = defaultdict(list)
    for line in lines:
        by_key[line["end_to_end_id"]].append(line)
    named = {alert["subject_id"] for alert in alerts}
    still = {alert["subject_id"] for alert in alerts if alert["state"] == "open"}
    for payout in details:
        attempts = payout["attempts"]
        subjects = {payout["id"], *(one["id"] for one in attempts)}
        mine = [line for one in attempts for line in by_key.pop(one["provider_key"], [])]
        debits = sum(line["kind"] == "debit" for line in mine)
        name = f"{payout['reference']} ({payout['state']})"
        outcome.twice += debits > 1
        if subjects & named:
            is_open = payout["state"] not in judge.ENDED or _open_attempt(attempts)
            if is_open and not subjects & still:
                yield f"{name}: still open, and no open alert tells of it"
            continue
        outcome.unremarkable += 1
        for fault in judge.one_payout(payout, mine, transfers[payout["id"]]):
            yield f"{name}: {fault}"
    for key, strange in by_key.items():
        yield f"{key}: {len(strange)} lines that no attempt of ours asked for"
    if outcome.unremarkable < outcome.rows / 2:
        yield f"only {outcome.unremarkable} payouts had no alert: the judge had little to judge"


def _open_attempt(attempts: Sequence[Document]) -> bool:
    return any(one["state"] in _OPEN for one in attempts)


async def _alerts(api: httpx.AsyncClient) -> list[Document]:
    found: list[Document] = []
    query: dict[str, str | int] = {"limit": 100}
    while True:
        page = await judge.document(api, "/payouts/ops/alerts", **query)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def _statement(platform: Platform, name: str) -> list[Document]:
    """A provider's lines in one form: our key, and the amount in our minor units."""
    found: list[Document] = []
    after: int | None = 0
    headers = {"Authorization": f"Bearer {KEYS[name]}"}
    async with httpx.AsyncClient(
        base_url=platform.bank_url, headers=headers, timeout=30, trust_env=False
    ) as http:
        while after is not None:
            page = await judge.document(http, f"/{name}/statement", after=after)
            found += page["lines"]
            after = page["next"]
    return [_plain(line) for line in found]


def _plain(line: Document) -> Document:
    if "client_reference" not in line:
        return line
    return {
        "kind": line["kind"],
        "end_to_end_id": line["client_reference"],
        "amount": int(Decimal(line["amount"]) * 10**6),
        "currency": line["asset"],
    }


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in counter.most_common()) or "none"


def play(rows: int, *, kills: int, seed: int = SEED) -> Outcome:
    """The whole of it on a platform of its own, deleted at the end. Blocks."""
    directory = Path(tempfile.mkdtemp(prefix="bursar-chaos-"))
    directory.chmod(0o711)
    try:
        with platform_running(directory, knobs=every_knob()) as platform:
            return asyncio.run(rampage(platform, rows, kills=kills, seed=seed))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `./dev soak` takes for this."""
    parser.add_argument("--chaos", type=int, help="payouts through real processes that are killed")


def run(asked: argparse.Namespace) -> int | None:
    """Exit code 1 if anything disagrees; None if nothing was asked."""
    if asked.chaos is None:
        return None
    outcome = play(asked.chaos, kills=max(4, asked.chaos // 250), seed=asked.seed or SEED)
    print("\n".join(outcome.lines()))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m soak.chaos", description=__doc__)
    add_arguments(_parser)
    _parser.add_argument("--seed", type=int, default=SEED, help="of moments and amounts")
    sys.exit(run(_parser.parse_args()) or 0)
