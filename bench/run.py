"""The command line of the benchmarks."""

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.against import ContestantFailed, compare
from bench.flatness import flatness
from bench.http_api import over_http
from bench.in_process import in_process
from bench.laboratory import Laboratory, open_laboratory, server_facts
from bench.plan import FULL, QUICK, Plan
from bench.platform_up import platform_up
from bench.report import Figure, machine, table, write_json
from bench.stopwatch import Stopwatch

Part = Callable[[Laboratory, Plan], Awaitable[list[Figure]]]
PARTS: Mapping[str, Part] = {
    "in_process": in_process,
    "http": over_http,
    "platform": platform_up,
    "flat": flatness,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the options name; 0 even where a target is missed: the table says so."""
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else FULL
    if options.big is not None:
        plan = replace(plan, bulk=options.big)
    if options.against is not None:
        return _compare(options.against, plan)
    names = options.only or list(PARTS)
    about = machine()
    figures: list[Figure] = []
    with open_laboratory() as lab:
        about += "; " + uvloop.run(server_facts(lab))
        print(about, flush=True)
        for name in names:
            watch = Stopwatch()
            found = uvloop.run(_measure(PARTS[name], lab, plan))
            figures += found
            print(f"{name}: {watch.seconds():.0f} s", file=sys.stderr, flush=True)
    print(table(figures))
    if options.json is not None:
        write_json(options.json, figures, about=about)
    return 0


def _compare(other: Path, plan: Plan) -> int:
    if not (other / "bench" / "in_process.py").is_file():
        print(f"{other} is no checkout with benchmarks", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    try:
        print(table(uvloop.run(compare(other.resolve(), plan))))
    except ContestantFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


async def _measure(part: Part, lab: Laboratory, plan: Plan) -> list[Figure]:
    return await part(lab, plan)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev bench", description="Measure, each figure beside its baseline of this run."
    )
    parser.add_argument("--quick", action="store_true", help="small counts, about a minute")
    parser.add_argument(
        "--only", action="append", choices=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="measure another checkout, in turns with this"
    )
    parser.add_argument("--big", type=int, metavar="N", help="payouts to load for flatness")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all repeats there")
    return parser
