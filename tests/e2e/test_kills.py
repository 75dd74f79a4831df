"""Processes are killed while a file is paid; in the end nothing is lost, open or paid twice."""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from soak.chaos import every_knob, rampage
from tests.e2e.judge import assert_verified, judged, statement
from tests.e2e.platform import Command, Platform, alive, platform_running

pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(__file__).parents[2] / "examples" / "payouts.csv"
SEED = 20_260_731
FEW_AT_ONCE = {"BURSAR_WORKER_CONCURRENCY": "12"}
"""Twelve calls in flight: with a slow bank a run lasts long enough on any machine."""

ONE_BY_ONE = ("--concurrency", "1")
"""So that the first kills meet payouts that are being made."""


def file_of(rows: int, directory: Path) -> str:
    """The first rows of the example."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines(keepends=True)
    file = directory / "payouts.csv"
    file.write_text("".join(lines[: rows + 1]), encoding="utf-8")
    return str(file)


async def begun(platform: Platform) -> None:
    """Return when the bank has executed the first payout of a run."""
    async with asyncio.timeout(90), platform.bank() as bank:
        while not await statement(bank):  # noqa: ASYNC110 - the bank is another process
            await asyncio.sleep(0.05)


async def harass(
    platform: Platform,
    command: Command,
    number: signal.Signals,
    names: Sequence[str],
    *,
    times: int,
    pause_s: tuple[float, float],
) -> Counter[str]:
    """Signal each process `times` times, at seeded moments, while `command` runs."""
    await begun(platform)
    chance = random.Random(SEED)
    done: Counter[str] = Counter()
    plan = [name for _ in range(times) for name in chance.sample(names, len(names))]
    for name in plan:
        await asyncio.sleep(chance.uniform(*pause_s))
        while command.running and not platform.signal(name, number):  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.02)
        if command.running:
            done[name] += 1
    return done


def statuses_in(log: str) -> Counter[int]:
    """How often the API logged each status."""
    lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return Counter(line["status"] for line in lines if line.get("event") == "request")


async def test_killing_worker_api_and_postgres_during_a_run_of_500(data_dir: Path) -> None:
    """F2 to F6, F9, F10, F49, F92, I5, I6, I8, I9, I22: SIGKILL, three times each.

    `bursar pay` goes on by itself: what got no answer is asked again under the same key.
    """
    rows = 500
    with platform_running(
        data_dir, knobs=["timeout=0.05", "delay_s=0.2"], environment=FEW_AT_ONCE
    ) as platform:
        paying = platform.start_bursar("pay", file_of(rows, data_dir), *ONE_BY_ONE)
        killed = await harass(
            platform,
            paying,
            signal.SIGKILL,
            ("worker", "api", "postgres"),
            times=3,
            pause_s=(0.2, 1.2),
        )
        paid = paying.wait(300)
        assert paid.code == 0, paid.text
        assert killed == {"worker": 3, "api": 3, "postgres": 3}
        evidence = await judged(platform)
        assert evidence.states().total() == rows
        assert evidence.unknown_for()["lease_expired"] > 0
        assert statuses_in(platform.log("api"))[500] == 0
        assert_verified(platform)


async def test_a_rolling_restart_leaves_nothing_in_doubt(data_dir: Path) -> None:
    """F92: on SIGTERM a worker finishes the calls that it began, so no lease runs out.

    The bank answers every call, so any unknown attempt would be the restart's doing.
    """
    rows = 120
    with platform_running(data_dir, knobs=["delay_s=0.5"], environment=FEW_AT_ONCE) as platform:
        paying = platform.start_bursar("pay", file_of(rows, data_dir))
        asked = await harass(
            platform, paying, signal.SIGTERM, ("worker", "api"), times=2, pause_s=(0.3, 1.3)
        )
        paid = paying.wait(240)
        assert paid.code == 0, paid.text
        assert asked == {"worker": 2, "api": 2}
        evidence = await judged(platform)
        assert evidence.states().total() == rows
        assert evidence.unknown_for() == {}
        assert evidence.retried() == 0
        assert_verified(platform)


async def test_a_killed_supervisor_takes_its_children_along_and_the_next_goes_on(
    data_dir: Path,
) -> None:
    """F2 to F6, F92, I5, I8, I22: SIGKILL of `bursar up` in the middle of a run.

    No child outlives it. The next `bursar up` finds Postgres, finishes what was open, and the
    demo key still works: `bursar pay`, which ran all the time, ends well.
    """
    rows = 120
    with platform_running(
        data_dir, knobs=["timeout=0.05", "delay_s=0.4"], environment=FEW_AT_ONCE
    ) as platform:
        key = platform.demo["api_key"]
        paying = platform.start_bursar("pay", file_of(rows, data_dir))
        await begun(platform)
        await asyncio.sleep(random.Random(SEED).uniform(0, 2))
        assert paying.running
        orphans = platform.kill_supervisor()
        assert len(orphans) == len(("api", "worker", "sim"))
        async with asyncio.timeout(30):
            while any(map(alive, orphans)):  # noqa: ASYNC110 - processes
                await asyncio.sleep(0.05)
        platform.start()
        assert platform.demo["api_key"] == key
        paid = paying.wait(240)
        assert paid.code == 0, paid.text
        evidence = await judged(platform)
        assert evidence.states().total() == rows
        assert_verified(platform)


async def test_chaos(data_dir: Path) -> None:
    """F2 to F6, F9 to F18, F21 to F26, F29, F49, F92, I5, I6, I8, I9, I22, I26: all at once.

    Every knob of bank and off-ramp is on, and worker, API and Postgres are killed at random.
    Afterwards only what carries an alert may be open, or be executed otherwise than it stands in
    the books. `./dev soak` does the same with 10,000 payouts.
    """
    with platform_running(data_dir, knobs=every_knob()) as platform:
        outcome = await rampage(platform, 500, kills=4)
        assert not outcome.faults, "\n".join(outcome.lines())
        assert outcome.killed == {"worker": 4, "api": 4, "postgres": 4}
        assert statuses_in(platform.log("api"))[500] == 0
