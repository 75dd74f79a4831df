"""Golden scenarios with every single crash, and every ordered pair of crashes.

Each scenario is one payout over the twin, without any chance: the same two processes, providers
and checks as in a seeded schedule, but every choice is the harmless one, save for the scenario's
own fault and the crashes that are asked for. In the end all that the business sees must be as it
is without a crash: the payout, balances, holds, incidents, and what the providers executed.

A crash is the death of a process before or after a step, or a COMMIT whose answer is lost, applied
or not. It is named as in `kit/crashpoints.py`, with the number of the passing at which it comes:
`engine.commit:before:3` is the third time that any process comes there. After a crash the count
begins anew.

    python -m soak.pairs --pairs
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections import Counter, UserDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bursar.kit.clock import SystemClock
from bursar.kit.crashpoints import Step
from soak.invariants import rows_of
from soak.judgement import OPEN
from soak.loop import VirtualLoop
from soak.schedule import Schedule, _end, silence
from soak.tape import Draws, Tape

SAFETY_S: Final = 300.0
"""Virtual time in which the scenario's fault stays on: longer than any retry here."""
SEEN: Final[Mapping[str, tuple[str, ...]]] = {
    "payouts": (
        *("reference", "state", "amount", "currency", "fee"),
        *("amount_returned", "provider_cost", "failure_code"),
    ),
    "accounts": (
        *("address", "debits_pending", "debits_posted"),
        *("credits_pending", "credits_posted"),
    ),
    "holds": ("state",),
    "incidents": ("kind", "amount", "currency", "closed_at"),
}
"""By table. How many attempts and inquiries it took may differ, nothing that is here."""
PRESENT: Final = frozenset({"failure_code", "closed_at"})

CUTS: Final[Mapping[str, str]] = {
    f"{Step.ENGINE_COMMIT}:cut_applied": "db.cut_applied",
    f"{Step.ENGINE_COMMIT}:cut_lost": "db.cut_lost",
}
"""The points where a process lives on without COMMIT's answer, with the fault that does it."""
PASSINGS: Final = 12
"""At how many passings of a point there is a crash: the worker's groups come after the client's."""

Digest = dict[str, list[str]]


@dataclass(frozen=True)
class Scenario:
    """One payout: what is forced (`bias`), the choices that are not the first, and its end."""

    name: str
    end: str
    bias: Mapping[str, float]
    draws: Draws = field(default_factory=dict)
    seed: int = 1


SCENARIOS: Final = (
    Scenario("accepted, then settled", "settled", {"bank.accept_async": 1}),
    Scenario("executed at once", "settled", {"bank.accept_async": 0}),
    Scenario("declined", "failed", {"bank.decline": 1}),
    Scenario("no answer, executed", "settled", {"bank.timeout_executed": 1}),
    Scenario("no answer, never executed", "dead_letter", {"bank.timeout_not_executed": 1}),
    Scenario("accepted, then rejected", "failed", {"bank.decline_later": 1}),
    Scenario(
        "webhook late",
        "settled",
        {"bank.accept_async": 1, "bank.webhook_late": 1, "bank.webhook_late_s": 10},
    ),
    Scenario(
        "returned",
        "returned",
        {"bank.accept_async": 0, "bank.return_rate": 1},
        {"p0.amount": [0.3]},
    ),
    Scenario("sent again", "settled", {"offramp.lost": 0.5}, {"p0.currency": [0.9]}, seed=3),
    Scenario("cancelled", "cancelled", {"client.cancels": 1}, {"p0.due": [0.95]}),
    Scenario(
        "all die while it is sent",
        "settled",
        {"bank.timeout_executed": 1, "bank.hold_s": 5, "outage": 1},
    ),
    Scenario(
        "no worker for a week",
        "failed",
        {"outage": 1},
        {"p0.due": [0.95], "outage.at": [0.5], "outage.lasts": [0.7]},
    ),
)


class Script:
    """The crashes of one run, in order. It stands where a schedule keeps its crash targets."""

    def __init__(self, crashes: Sequence[str]) -> None:
        self._left = [_parsed(crash) for crash in crashes]
        self.done = 0
        self.passed: Counter[str] = Counter()
        """How often each point was passed since the last crash."""

    def __contains__(self, point: object) -> bool:
        """Whether the next crash is to be here, now that the point is passed once more."""
        name = str(point)
        self.passed[name] += 1
        if not self._left or self._left[0] != (name, self.passed[name]):
            return False
        self._left.pop(0)
        self.done += 1
        self.passed.clear()
        return True


def _parsed(crash: str) -> tuple[str, int]:
    step, kind, *times = crash.split(":")
    return f"{step}:{kind}", int(times[0]) if times else 1


class Rates(UserDict[str, float]):
    """The faults' rates: as they are drawn, but COMMIT is cut exactly where the script says so."""

    def __init__(self, drawn: Mapping[str, float], script: Script) -> None:
        super().__init__(drawn)
        self._script = script
        self._points = {fault: point for point, fault in CUTS.items()}

    def __getitem__(self, fault: str) -> float:
        """Asked once by every COMMIT."""
        if fault not in self._points:
            return super().__getitem__(fault)
        return 1.0 if self._points[fault] in self._script else 0.0


class Golden(Schedule):
    """A scenario, with these crashes one after the other."""

    def __init__(self, loop: VirtualLoop, scenario: Scenario, crashes: Sequence[str]) -> None:
        tape = Tape(scenario.seed, scenario.draws)
        super().__init__(loop, tape, {"outage": 0, "people": 0, "deaf": 0, **scenario.bias})
        self.script = Script(crashes)
        swarm: Any = self.world.swarm
        swarm.safety_s = SAFETY_S
        swarm.kills_max = len(crashes)
        swarm.crash_rate = 1.0
        swarm.crash_targets = self.script
        swarm.rates = Rates(swarm.rates, self.script)


@dataclass(frozen=True)
class Ending:
    """How a run ended: how many crashes truly came, and what was wrong.

    `passed` is how often each point was passed after the last crash. `digest` is what the business
    sees.
    """

    crashes: int
    passed: Mapping[str, int]
    fault: str | None
    digest: Digest


def play(scenario: Scenario, crashes: Sequence[str] = ()) -> Ending:
    """Run a scenario once. Call within `silence`."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_play(loop, scenario, crashes))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _play(loop: VirtualLoop, scenario: Scenario, crashes: Sequence[str]) -> Ending:
    golden = Golden(loop, scenario, crashes)
    await golden.play()
    world = golden.world
    ends = [str(payout.state) for payout in golden.checker.payouts.values()]
    fault = None if world.violation is None else str(world.violation)
    if fault is None and ends != [scenario.end]:
        fault = f"it ended {ends}, not {scenario.end}"
    digest = digest_of(golden)
    ending = Ending(golden.script.done, golden.script.passed, fault, digest)
    await _end(golden)
    return ending


def digest_of(schedule: Schedule) -> Digest:
    """All that the business sees of a run, and what the providers say that they executed."""
    memory = schedule.checker.memory
    digest = {
        table: sorted(
            ", ".join(_shown(row, name) for name in names) for row in rows_of(memory, table)
        )
        for table, names in SEEN.items()
    }
    digest["open attempts"] = sorted(
        str(row.state) for row in rows_of(memory, "attempts") if row.state in OPEN
    )
    digest["statements"] = sorted(
        f"{name}, {line.kind}, {line.amount}, {line.currency}"
        for name, provider in schedule.providers.items()
        for line in provider.statement()
    )
    return digest


def _shown(row: Any, name: str) -> str:
    """A field; of a moment, or of a code that the provider draws by key, whether there is one."""
    value = getattr(row, name)
    return str(value is not None if name in PRESENT else value)


def differences(found: Digest, calm: Digest) -> str | None:
    """What is otherwise than without a crash, in words; None if nothing is."""
    wrong = [
        f"{name}: {[row for row in found[name] if row not in rows] or len(found[name])}, "
        f"not {[row for row in rows if row not in found[name]] or len(rows)}"
        for name, rows in calm.items()
        if found[name] != rows
    ]
    return "; ".join(wrong) or None


@dataclass
class Report:
    """How many runs there were, and a line for each that went wrong."""

    calm: int = 0
    singles: int = 0
    pairs: int = 0
    seconds: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    """By point with the number of the passing: how often somebody crashed there."""
    faults: list[str] = field(default_factory=list)

    @property
    def points(self) -> frozenset[str]:
        """Where somebody crashed, at whatever passing."""
        return frozenset(crash.rpartition(":")[0] for crash in self.reached)

    def lines(self) -> Iterator[str]:
        """The figures, for a person."""
        total = self.calm + self.singles + self.pairs
        yield f"{self.calm} golden scenarios, {total} runs in {self.seconds:.0f} s"
        yield f"single crashes: {self.singles}; ordered pairs: {self.pairs}"
        yield f"crash points met: {len(self.points)}"
        yield f"faults: {len(self.faults)}"
        yield from (f"  {fault}" for fault in self.faults[:30])


def all_pairs(
    scenarios: Sequence[Scenario] = SCENARIOS, *, pairs: bool = True, passings: int = PASSINGS
) -> Report:
    """Every crash that each scenario can meet, then every second one that it can meet after it.

    Single crashes come at each of the first `passings` passings of a point, and so do the first
    of pairs. The second comes at the first passing after that.
    """
    clock = SystemClock()
    began = clock.monotonic()
    report = Report()
    with silence(), _unwound():
        for scenario in scenarios:
            calm = _run(report, scenario, None)
            report.calm += 1
            for first in crashes_of(calm, passings):
                single = _run(report, scenario, calm, first)
                report.singles += 1
                for second in crashes_of(single, 1) if pairs else ():
                    _run(report, scenario, calm, first, second)
                    report.pairs += 1
    report.seconds = clock.monotonic() - began
    return report


def crashes_of(ending: Ending, passings: int) -> list[str]:
    """The crashes that could have come next: at each point, at each of its first passings."""
    return [
        f"{point}:{number}"
        for point, times in sorted(ending.passed.items())
        for number in range(1, min(times, passings) + 1)
    ]


@contextmanager
def _unwound() -> Iterator[None]:
    """No word of the coroutines of dead processes, which are thrown away where they stand."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _run(report: Report, scenario: Scenario, calm: Ending | None, *crashes: str) -> Ending:
    ending = play(scenario, crashes)
    report.reached.update(crashes[: ending.crashes])
    fault = ending.fault
    if fault is None and calm is not None:
        fault = differences(ending.digest, calm.digest)
    name = f"{scenario.name}, {' then '.join(crashes) or 'calm'}"
    if fault is not None:
        report.faults.append(f"{name}: {fault}")
    elif ending.crashes != len(crashes):
        report.faults.append(f"{name}: only {ending.crashes} of {len(crashes)} crashes came")
    return ending


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `./dev soak` takes for this."""
    parser.add_argument(
        "--pairs", action="store_true", help="golden scenarios with every pair of crashes"
    )


def run(asked: argparse.Namespace) -> int | None:
    """Exit code 1 if a scenario ended another way; None if nothing was asked."""
    if not asked.pairs:
        return None
    report = all_pairs()
    print("\n".join(report.lines()))
    return 1 if report.faults else 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m soak.pairs", description=__doc__)
    add_arguments(_parser)
    sys.exit(run(_parser.parse_args()) or 0)
