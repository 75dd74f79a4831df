"""Real processes, every knob of the simulators on, and everything killed at random.

`bursar up` runs as a newcomer runs it. While a file is paid, workers, API and Postgres die by
SIGKILL at seeded moments. Then faults go off, windows close, and the providers' own statements
judge what is in the books.

    python -m soak.chaos --chaos 10000
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx

from bursar.kit.clock import SystemClock
from bursar.settings import SANDBOX_BANK_API_KEY, SANDBOX_OFFRAMP_API_KEY
from bursar_sim.provider.knobs import RATES
from bursar_sim.providers import WIRES
from soak.chaos_judge import ENDED, OPEN, Evidence, Fates, Verdict, is_mute, judged
from soak.tally import positive
from tests.e2e import judge
from tests.e2e.platform import Command, Platform, platform_running

SEED: Final = 20_260_731
KEYS: Final = {"bank": SANDBOX_BANK_API_KEY, "offramp": SANDBOX_OFFRAMP_API_KEY}
VICTIMS: Final = ("worker", "api", "postgres")
ORDERS: Final = {"bank": "/bank/transfers/{}", "offramp": "/offramp/payouts/{}"}
"""Where a provider tells what became of an order."""
PAUSE_S: Final = (0.2, 1.4)
RATE: Final = 0.03
"""Of each fault; there are about thirty of them, so that every second payout meets one."""
LIKELIER: Final[Mapping[str, float]] = {
    "forgets": 0.3,
    "repeat_declined": 0.9,
    "not_found": 0.5,
    "stale": 0.5,
    "inquiry_error": 0.1,
    "return_rate": 0.06,
    "return_parts": 0.9,
    "webhook_disorder": 0.3,
}
"""Rates of those that need an occasion: a repeated order, a question in time, a return."""
NEED_REPEATS: Final = frozenset({"forgets", "repeat_declined"})
"""The bank's contract repeats no order; to the off-ramp few are repeated while it matters."""
OCCASIONAL: Final = 0.01
"""Of executed orders. In a run of 2,500 payouts the rest of `LIKELIER` struck 1.5 times as much."""
IMPROBABLE: Final = 1e-6
FATES: Final = Fates(RATE, seed=1, likelier=LIKELIER)
"""The seed is that of `bursar up` if nobody says another."""
LASTING: Final = 1_000
"""Half of the kills must fall while so many payouts are asked for; fewer are asked for too soon."""
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
QUIET_S: Final = 10.0
"""So long nothing may move before the judge looks: longer than any window and what is worse.

An order is executed at most 2 + 4 + 3 s after it was sent: deadline, window, and `worse_s`.
"""
STILL_S: Final = 90.0
"""If so long nothing has moved, waiting does not help: what is open is asked about each minute."""
PATIENCE_S: Final = 240.0

Document = dict[str, Any]


@dataclass
class Outcome:
    """What happened, and a line for each thing that must not be."""

    rows: int
    killed: Counter[str] = field(default_factory=Counter)
    killed_after: int = 0
    """How many of the kills fell after `bursar pay` had ended."""
    idle: dict[str, float] = field(default_factory=dict)
    """Knobs without effect, and how often they were to have it at least."""
    states: Counter[str] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    twice: int = 0
    unremarkable: int = 0
    open: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The figures, for a person."""
        yield f"{self.rows} payouts in {self.seconds:.0f} s; killed: {_counts(self.killed)}"
        yield f"kills after `bursar pay` had ended: {self.killed_after} of {self.killed.total()}"
        idle = ", ".join(f"{name} ({least:.1f})" for name, least in sorted(self.idle.items()))
        yield f"knobs without effect, and how often at least they were to have it: {idle or 'none'}"
        yield f"states: {_counts(self.states)}; open: {self.open}, each with its reason"
        yield f"without any alert: {self.unremarkable}"
        yield f"alerts: {_counts(self.alerts)}; executed twice, each with an alert: {self.twice}"
        yield f"faults: {len(self.faults)}"
        yield from (f"  {fault}" for fault in self.faults[:30])


def every_knob() -> list[str]:
    """Each fault that a provider offers, at a small rate, as options of `bursar up`."""
    found = []
    for name in WIRES:
        values = {rate: LIKELIER.get(rate, RATE) for rate in _faults_of(name)} | SECONDS
        found += [f"{name}.{knob}={value:g}" for knob, value in values.items()]
    return [knob.removeprefix("bank.") for knob in found]


def calm_knobs(name: str) -> dict[str, float]:
    """Every fault off; `decline` too."""
    return dict.fromkeys(_faults_of(name), 0.0)


def _faults_of(name: str) -> list[str]:
    without = {"accept_async", *WIRES[name].terms.without}
    return [rate for rate in RATES if rate not in without]


def idle_knobs(name: str, fired: Mapping[str, int], executed: int) -> dict[str, float]:
    """The knobs of a provider that never had their effect, and how often they were to have it.

    At least so often, of so many orders that it `executed`; 0 where that cannot be said.
    """

    def share(knob: str) -> float:
        if knob in NEED_REPEATS:
            return 0.0
        return OCCASIONAL if knob in LIKELIER else RATE / 2

    return {
        f"{name}.{knob}": executed * share(knob) for knob in _faults_of(name) if not fired.get(knob)
    }


def idle_faults(idle: Mapping[str, float]) -> list[str]:
    """Of the knobs without effect those of which that is improbable."""
    return [
        f"{knob} never had its effect, and was to have it {least:.0f} times at least"
        for knob, least in sorted(idle.items())
        if math.exp(-least) < IMPROBABLE
    ]


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


async def rampage(
    platform: Platform, rows: int, *, kills: int, seed: int = SEED, until_told: bool = False
) -> Outcome:
    """Pay a file while everything is killed; then calm, and the judge.

    With `until_told` it waits until people are told of every order whose end no provider tells.
    That is when its key's life is over, which takes up to three minutes.
    """
    clock = SystemClock()
    began = clock.monotonic()
    outcome = Outcome(rows)
    file = await asyncio.to_thread(write_file, rows, seed, platform.data_dir / "chaos.csv")
    paying = platform.start_bursar("pay", file, "--no-wait", "--concurrency", "4")
    await _begun(platform)
    await _kill_at_random(platform, paying, outcome, kills, seed)
    paid = await asyncio.to_thread(paying.wait, max(240.0, rows / 5))
    if paid.code != 0:
        outcome.faults.append(f"`bursar pay` ended with {paid.code}: {paid.text[-500:]}")
    for name in KEYS:
        outcome.idle |= await _idle(platform, name)
    outcome.faults += idle_faults(outcome.idle)
    calm_at = clock.wall()
    for name in KEYS:
        await _turn(platform, name, calm_knobs(name))
    _conclude(outcome, await _when_quiet(platform, rows, calm_at, until_told=until_told))
    anchor = platform.data_dir / "checkpoints.jsonl"
    verified = await asyncio.to_thread(
        platform.bursar, "verify", "--anchor", str(anchor), timeout_s=300
    )
    if verified.code != 0:
        outcome.faults.append(f"verify: {verified.text[-500:]}")
    outcome.seconds = clock.monotonic() - began
    return outcome


async def _begun(platform: Platform) -> None:
    """Return when the first payout is made: a `bursar pay` that finds no API at all gives up."""
    async with asyncio.timeout(120), platform.client() as api:
        while not (await judge.document(api, "/payouts", limit=1))["data"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _kill_at_random(
    platform: Platform, paying: Command, outcome: Outcome, kills: int, seed: int
) -> None:
    """SIGKILL somebody at a time, at seeded moments, each as often as the others."""
    chance = random.Random(seed)
    plan = [name for _ in range(kills) for name in chance.sample(VICTIMS, len(VICTIMS))]
    for name in plan:
        await asyncio.sleep(chance.uniform(*PAUSE_S))
        async with asyncio.timeout(60):
            while not platform.signal(name, signal.SIGKILL):  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.02)
        outcome.killed[name] += 1
        outcome.killed_after += not paying.running
    if outcome.rows >= LASTING and outcome.killed_after > len(plan) / 2:
        outcome.faults.append(f"{outcome.killed_after} kills fell after `bursar pay` had ended")


async def _idle(platform: Platform, name: str) -> dict[str, float]:
    """See `idle_knobs`; by what a provider says before its knobs are turned off."""
    async with _provider(platform, name) as http:
        fired = await judge.document(http, f"/{name}/fired")
    lines = await _statement(platform, name)
    return idle_knobs(name, fired, len({line["key"] for line in lines if line["kind"] == "debit"}))


async def _turn(platform: Platform, name: str, knobs: Mapping[str, float]) -> None:
    async with _provider(platform, name) as http:
        (await http.put(f"/{name}/knobs", json=knobs)).raise_for_status()


async def _when_quiet(
    platform: Platform, rows: int, calm_at: datetime, *, until_told: bool
) -> Evidence:
    """All there is to judge by, once nothing has moved for a while and the judge is content.

    Or whatever there is when patience ends: then he says what is wrong.
    """
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE_S + rows / 20
    before: object = None
    since = clock.monotonic()
    while True:
        still_s = clock.monotonic() - since
        over = clock.monotonic() > deadline or (still_s > STILL_S and not until_told)
        try:
            now = await _position(platform)
            if now != before:
                before, since = now, clock.monotonic()
            elif over or still_s > QUIET_S:
                evidence = await _gather(platform, calm_at)
                told = not (until_told and _untold(evidence))
                if over or (told and not judged(evidence).faults):
                    return evidence
        except (AssertionError, httpx.TransportError):  # somebody is not up again yet
            if over:
                raise
        await asyncio.sleep(1)


async def _position(platform: Platform) -> object:
    """What changes whenever a payout, an alert or a statement does."""
    async with platform.client() as api:
        payouts = await judge.all_payouts(api)
        alerts = await _alerts(api)
    lines = [len(await _statement(platform, name)) for name in KEYS]
    moving = sorted((one["id"], one["updated_at"], one["attempt_count"]) for one in payouts)
    return moving, len(alerts), lines


def _untold(evidence: Evidence) -> bool:
    """Whether an order whose end no provider tells is open, and no alert says so yet."""
    told = {alert["subject_id"] for alert in evidence.alerts if alert["state"] == "open"}
    return any(
        attempt["state"] in OPEN and is_mute(evidence, attempt) and payout["id"] not in told
        for payout in evidence.payouts
        for attempt in payout["attempts"]
    )


async def _gather(platform: Platform, calm_at: datetime) -> Evidence:
    """Statements first, then all of ours; each payout over HTTP, as its merchant sees it."""
    lines = [line for name in KEYS for line in await _statement(platform, name)]
    async with platform.client() as api:
        ids = [one["id"] for one in await judge.all_payouts(api)]
        payouts = await judge.each(api, [f"/payouts/{one}" for one in ids])
        transfers = await judge.each(api, [f"/ledger/{one}" for one in ids])
        accounts = await judge.document(api, "/accounts")
        alerts = await _alerts(api)
    return Evidence(
        lines=lines,
        payouts=payouts,
        transfers={one: found["data"] for one, found in zip(ids, transfers, strict=True)},
        accounts=accounts["data"],
        books=accounts["books"],
        alerts=alerts,
        unheard_of=await _unheard_of(platform, payouts),
        fates=FATES,
        calm_at=calm_at,
        at=SystemClock().wall(),
    )


async def _unheard_of(platform: Platform, payouts: list[Document]) -> frozenset[str]:
    """The keys of open attempts that their provider does not know."""
    found = set()
    for attempt in (one for payout in payouts for one in payout["attempts"]):
        if attempt["state"] not in OPEN:
            continue
        key = attempt["provider_key"]
        async with _provider(platform, attempt["provider"]) as http:
            reply = await http.get(ORDERS[attempt["provider"]].format(key))
        if reply.status_code == httpx.codes.NOT_FOUND:
            found.add(key)
    return frozenset(found)


def _conclude(outcome: Outcome, evidence: Evidence) -> None:
    """Let the judge speak."""
    verdict: Verdict = judged(evidence)
    outcome.states = Counter(one["state"] for one in evidence.payouts)
    outcome.alerts = Counter(one["kind"] for one in evidence.alerts)
    outcome.twice, outcome.unremarkable = verdict.twice, verdict.unremarkable
    outcome.open = sum(one["state"] not in ENDED for one in evidence.payouts)
    outcome.faults += verdict.faults
    if len(evidence.payouts) != outcome.rows:
        outcome.faults.append(f"{len(evidence.payouts)} payouts for {outcome.rows} rows")
    # A run in which the providers behaved, or in which nobody did, would prove little.
    if not outcome.rows / 2 <= verdict.unremarkable < outcome.rows:
        outcome.faults.append(f"{verdict.unremarkable} payouts had no alert")


async def _alerts(api: httpx.AsyncClient) -> list[Document]:
    found: list[Document] = []
    query: dict[str, str | int] = {"limit": 100}
    while True:
        page = await judge.document(api, "/payouts/ops/alerts", **query)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


def _provider(platform: Platform, name: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {KEYS[name]}"}
    return httpx.AsyncClient(
        base_url=platform.bank_url, headers=headers, timeout=30, trust_env=False
    )


async def _statement(platform: Platform, name: str) -> list[Document]:
    """A provider's lines in one form: our key, its reference, the amount in our minor units."""
    found: list[Document] = []
    after: int | None = 0
    async with _provider(platform, name) as http:
        while after is not None:
            page = await judge.document(http, f"/{name}/statement", after=after, limit=1000)
            found += page["lines"]
            after = page["next"]
    return [_plain(line) for line in found]


def _plain(line: Document) -> Document:
    if "client_reference" not in line:
        key, reference = line["end_to_end_id"], line["transfer_id"]
        amount, currency = line["amount"], line["currency"]
    else:
        key, reference = line["client_reference"], line["payout_id"]
        amount, currency = int(Decimal(line["amount"]) * 10**6), line["asset"]
    return {
        "kind": line["kind"],
        "key": key,
        "reference": reference,
        "amount": amount,
        "currency": currency,
    }


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in counter.most_common()) or "none"


def play(rows: int, *, kills: int, seed: int = SEED) -> Outcome:
    """The whole of it on a platform of its own, deleted at the end. Blocks, and is patient."""
    directory = Path(tempfile.mkdtemp(prefix="bursar-chaos-"))
    directory.chmod(0o711)
    try:
        with platform_running(directory, knobs=every_knob()) as platform:
            return asyncio.run(rampage(platform, rows, kills=kills, seed=seed, until_told=True))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `./dev soak` takes for this."""
    parser.add_argument(
        "--chaos", type=positive, help="payouts through real processes that are killed"
    )


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
    _code = run(_parser.parse_args())
    if _code is None:
        _parser.error("how many? See --chaos")
    sys.exit(_code)
