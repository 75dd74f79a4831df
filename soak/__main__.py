"""`./dev soak`: any number of seeded schedules, and the replay of one."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import msgspec

from bursar.kit.clock import SystemClock
from soak import chaos, kills, on_postgres, pairs
from soak.schedule import Result, run, silence
from soak.shrink import Shrinker
from soak.swarm import expected_faults
from soak.tally import Tally, Thousands, lacking, missing_lines, play_many, positive
from soak.tape import Draws

RULE_OF_THREE = 3
LINES_MAX = 200
SCHEDULES = 2000
RUNS = ("schedules", "replay", "tape", "pairs", "kills", "chaos", "postgres")
"""Options of which each asks for a run of its own."""
OTHERS = (kills, pairs, chaos, on_postgres)
"""Other long runs: each takes its own option."""


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A schedule in a file: its seed, its draws by name, and the payouts that were left out."""

    seed: int
    draws: Draws
    dropped: frozenset[int]


def _recorded(text: str) -> Recorded:
    """A tape that `--shrink` wrote."""
    try:
        return msgspec.json.decode(Path(text).read_bytes(), type=Recorded)
    except OSError as error:
        why = f"{text} cannot be read: {error.strerror}"
    except msgspec.DecodeError as error:
        why = f"{text} is no tape: {error}"
    raise argparse.ArgumentTypeError(why)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--schedules", type=positive, help=f"how many seeds, else {SCHEDULES:,}")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=positive, default=2, help="processes")
    parser.add_argument("--replay", type=int, help="play one seed and print its trace")
    parser.add_argument("--tape", type=_recorded, help="play a recorded tape and print its trace")
    parser.add_argument("--shrink", action="store_true", help="make failing schedules small")
    parser.add_argument("--out", type=Path, default=Path("data/soak"), help="where tapes go")
    for other in OTHERS:
        other.add_arguments(parser)
    asked = parser.parse_args(arguments)
    given = [f"--{name}" for name in RUNS if getattr(asked, name) != parser.get_default(name)]
    if len(given) > 1:
        parser.error(f"one run at a time, not {' and '.join(given)}")
    return asked


def main(arguments: list[str]) -> int:
    """Exit code 1 if an invariant was broken, or if a fault did not strike as often as it should.

    2 if what was asked is nothing, or two runs at once.
    """
    asked = _parsed(arguments)
    for other in OTHERS:
        code: int | None = other.run(asked)
        if code is not None:
            return code
    if asked.tape is not None:
        tape: Recorded = asked.tape
        with silence():
            result = run(tape.seed, draws=tape.draws, dropped=tape.dropped)
        return _show(result)
    if asked.replay is not None:
        with silence():
            result, again = run(asked.replay), run(asked.replay)
        if result.digest != again.digest:
            print("the second run went another way: the schedule is not deterministic")
            return 1
        if asked.shrink and result.violation is not None:
            result = _shrunk(result, asked.out)
        return _show(result)
    return _soak(asked)


def _soak(asked: argparse.Namespace) -> int:
    clock, tally = SystemClock(), Tally()
    thousands = Thousands(asked.seed, tuple(expected_faults()))
    began = clock.monotonic()
    for first, part in play_many(asked.seed, asked.schedules or SCHEDULES, asked.workers):
        tally.add(part)
        thousands.add(first, part)
        for seed, detail in part.violations:
            print(f"\nseed {seed}: {detail}")
        per_minute = tally.schedules / (clock.monotonic() - began) * 60
        print(
            f"\r{tally.schedules} schedules, {per_minute:.0f} a minute, "
            f"{len(tally.violations)} violations",
            end="",
            file=sys.stderr,
            flush=True,
        )
    print(file=sys.stderr)
    report(tally, clock.monotonic() - began)
    for line in missing_lines(thousands, tally):
        print(line)
    if asked.shrink:
        for seed, _ in sorted(tally.violations)[:3]:
            with silence():
                failed = run(seed)
            _show(_shrunk(failed, asked.out))
    return 1 if tally.violations or lacking(thousands, tally) else 0


def report(tally: Tally, seconds: float) -> None:
    """Print a tally."""
    count = tally.schedules
    print(f"{count} schedules in {seconds:.0f} s: {count / seconds * 60:.0f} a minute")
    print(f"{tally.commits} commits; payouts stand at the end: {_counts(tally.ends)}")
    print(f"faults fired: {_counts(tally.fired)}")
    covered = [name for name in sorted(tally.reached) if tally.crashed[name]]
    print(f"crash points: {len(covered)} of {len(tally.reached)} reached, {_counts(tally.crashed)}")
    bare = [name for name in sorted(tally.reached) if not tally.crashed[name]]
    if bare:
        print(f"reached without a crash: {', '.join(bare)}")
    print(f"violations: {len(tally.violations)}")
    for seed, detail in sorted(tally.violations):
        print(f"  seed {seed}: {detail}")
    if not tally.violations and count >= RULE_OF_THREE:
        one_in = count // RULE_OF_THREE
        print(f"so with 95 % confidence fewer than 1 schedule in {one_in} breaks a rule (3/N)")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in counter.most_common())


def _shrunk(failed: Result, out: Path) -> Result:
    shrinker = Shrinker(failed, clock=SystemClock(), seconds=60)
    with silence():
        result = shrinker.shrink()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"seed-{failed.seed}.json"
    tape = Recorded(failed.seed, result.draws, frozenset(shrinker.dropped))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(tape), indent=1))
    print(f"shrunk in {shrinker.tried} tries; replay with --tape {path}")
    return result


def _show(result: Result) -> int:
    print("\n".join(result.lines[-LINES_MAX:]))
    print(f"seed {result.seed}, trace {result.digest}")
    print(f"{result.commits} commits in {result.virtual_s:.0f} virtual s; {_counts(result.ends)}")
    print(f"violation: {result.violation}")
    return 1 if result.violation is not None else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
