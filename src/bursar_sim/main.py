"""The command line: `python -m bursar_sim --data DIR`."""

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from bursar_sim.callback import Connections, Target
from bursar_sim.clock import SystemClock
from bursar_sim.provider.knobs import KnobInvalid, Knobs, parse_settings
from bursar_sim.providers import Provider, build
from bursar_sim.server import SimServer, listen, serve

_SEED_MAX = 2**63 - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the simulators until SIGTERM or SIGINT. 0 after a clean stop, 1 cannot start, 2 usage."""
    options = _parser().parse_args(argv)
    try:
        knobs = parse_settings(options.knob)
        target = Target(options.callback)
    except KnobInvalid as error:
        return _refuse(2, f"--knob {error}")
    except ValueError as error:
        return _refuse(2, f"--callback: {error}")
    try:
        listener = listen(options.host, options.port)
    except (OSError, OverflowError) as error:
        return _refuse(1, f"cannot listen on {options.host}:{options.port}: {error}")
    with listener:
        try:
            bank = _bank(options.data, seed=options.seed, knobs=knobs, target=target)
        except (OSError, sqlite3.Error) as error:
            return _refuse(1, f"cannot open the books in {options.data}: {error}")
        host, port = listener.getsockname()[:2]
        said = f"bank simulator: http://{host}:{port} seed {options.seed}"
        server = SimServer(bank.app, on_start=lambda: _say(said), on_stop=bank.release)
        serve(server, listener)
    return 0


def _bank(data: Path, *, seed: int, knobs: Knobs, target: Target) -> Provider:
    return build(
        "bank",
        data=data,
        seed=seed,
        knobs=knobs,
        clock=SystemClock(),
        poster=Connections(target),
        api_key=os.environ.get("BURSAR_BANK_API_KEY"),
        secret=os.environ.get("BURSAR_BANK_WEBHOOK_SECRET"),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bursar_sim", description="Simulated providers: an instant bank."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8028, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory of bank.sqlite")
    parser.add_argument("--seed", type=_seed, default=1, help="of all chance (default 1)")
    parser.add_argument("--callback", default="http://127.0.0.1:8026/webhooks/provider")
    parser.add_argument(
        "--knob", action="append", default=[], metavar="NAME=VALUE", help="as in bank/README.md"
    )
    return parser


def _seed(text: str) -> int:
    seed = int(text)
    if abs(seed) > _SEED_MAX:
        raise ValueError
    return seed


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _refuse(status: int, reason: str) -> int:
    sys.stderr.write(f"bursar_sim: {reason}\n")
    return status
