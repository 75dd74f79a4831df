"""The command line: `python -m bursar_sim --data DIR`."""

import argparse
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from bursar_sim.callback import Connections, Target
from bursar_sim.clock import SystemClock
from bursar_sim.provider.knobs import KnobInvalid, Knobs, parse_settings
from bursar_sim.providers import WIRES, Provider, build
from bursar_sim.server import SimServer, listen, serve

_SEED_MAX = 2**63 - 1
_FIRST = "bank"
"Whose knobs need no prefix, and who answers for paths that nobody knows."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the simulators until SIGTERM or SIGINT. 0 after a clean stop, 1 cannot start, 2 usage."""
    options = _parser().parse_args(argv)
    try:
        knobs = _knobs(options.knob)
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
            providers = {
                name: _provider(name, options.data, options.seed, knobs[name], target)
                for name in WIRES
            }
        except (OSError, sqlite3.Error) as error:
            return _refuse(1, f"cannot open the books in {options.data}: {error}")
        host, port = listener.getsockname()[:2]
        said = f"bank simulator: http://{host}:{port} seed {options.seed}"
        front = _Front(providers)
        serve(SimServer(front, on_start=lambda: _say(said), on_stop=front.release), listener)
    return 0


class _Front:
    """All providers behind one door, told apart by the first part of the path."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._lifespan = Starlette(lifespan=self._live)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request, or the server's start and stop."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        name, _, _ = scope["path"].removeprefix("/").partition("/")
        provider = self._providers.get(name, self._providers[_FIRST])
        await provider.app(scope, receive, send)

    def release(self) -> None:
        """End every hold and delay now."""
        for provider in self._providers.values():
            provider.release()

    @asynccontextmanager
    async def _live(self, _app: Starlette) -> AsyncIterator[None]:
        for provider in self._providers.values():
            provider.start()
        try:
            yield
        finally:
            for provider in self._providers.values():
                await provider.close()


def _knobs(settings: list[str]) -> dict[str, Knobs]:
    named: dict[str, list[str]] = {name: [] for name in WIRES}
    for setting in settings:
        name, dot, rest = setting.partition(".")
        if dot and name in named:
            named[name].append(rest)
        else:
            named[_FIRST].append(setting)
    return {name: parse_settings(own, WIRES[name].terms) for name, own in named.items()}


def _provider(name: str, data: Path, seed: int, knobs: Knobs, target: Target) -> Provider:
    variable = f"BURSAR_{name.upper()}"
    return build(
        name,
        data=data,
        seed=seed,
        knobs=knobs,
        clock=SystemClock(),
        poster=Connections(target),
        api_key=os.environ.get(f"{variable}_API_KEY"),
        secret=os.environ.get(f"{variable}_WEBHOOK_SECRET"),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bursar_sim",
        description="Simulated providers: an instant bank and an off-ramp.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8028, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory of the books")
    parser.add_argument("--seed", type=_seed, default=1, help="of all chance (default 1)")
    parser.add_argument("--callback", default="http://127.0.0.1:8026/webhooks/provider")
    parser.add_argument(
        "--knob",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the bank, as in provider/README.md; offramp.NAME=VALUE of the off-ramp",
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
