"""The command line: `python -m bursar_sim --data DIR`."""

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from bursar_sim.bank.app import Bank
from bursar_sim.bank.knobs import KnobInvalid, Knobs, parse_settings
from bursar_sim.bank.processor import Processor
from bursar_sim.bank.store import Store
from bursar_sim.bank.webhooks import Messenger
from bursar_sim.callback import Target
from bursar_sim.clock import SystemClock
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
            store = Store(options.data)
        except (OSError, sqlite3.Error) as error:
            return _refuse(1, f"cannot open the books in {options.data}: {error}")
        host, port = listener.getsockname()[:2]
        bank = _bank(store, seed=options.seed, knobs=knobs, target=target)
        said = f"bank simulator: http://{host}:{port} seed {options.seed}"
        server = SimServer(bank.app, on_start=lambda: _say(said), on_stop=bank.release)
        serve(server, listener)
    return 0


def _bank(store: Store, *, seed: int, knobs: Knobs, target: Target) -> Bank:
    clock = SystemClock()
    processor = Processor(store, seed=seed, knobs=knobs, clock=clock)
    secret = os.environ.get("BURSAR_BANK_WEBHOOK_SECRET") or "sandbox-bank-webhook-secret"
    messenger = Messenger(store, processor, target=target, secret=secret, clock=clock)
    api_key = os.environ.get("BURSAR_BANK_API_KEY") or "sandbox-bank-key"
    return Bank(store, processor, messenger, api_key=api_key)


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
