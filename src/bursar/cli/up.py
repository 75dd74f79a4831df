"""`bursar up`: the whole platform on one machine, kept alive until it is told to stop.

Start: lock, ports, Postgres, migrations and roles, demo merchant, then API, worker and simulator.
Stop (SIGINT, SIGTERM, SIGHUP): the children in reverse order, then Postgres. A second signal
kills. Whatever is killed with SIGKILL, the supervisor included, the next start goes on from what
was committed.
"""

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bursar import bootstrap
from bursar.cli.data_dir import DataDirLock, write_demo_file
from bursar.cli.errors import CommandRefused
from bursar.cli.ports import answers_healthy, port_fault
from bursar.cli.supervisor import ChildSpec, Supervisor, backoff_s
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.errors import DatabaseError
from bursar.db.roles import API, WORKER
from bursar.kit.clock import Clock, SystemClock
from bursar.settings import Settings, reachable

_PORT_WAIT_S: Final = 3.0
_PORT_LOOK_S: Final = 0.1
_GRACE_S: Final = 10.0
_POSTGRES_LOOK_S: Final = 0.5
_PROVIDER_KEYS: Final = ("BURSAR_BANK_API_KEY", "BURSAR_OFFRAMP_API_KEY")
_WEBHOOK_SECRETS: Final = ("BURSAR_BANK_WEBHOOK_SECRET", "BURSAR_OFFRAMP_WEBHOOK_SECRET")
_SECRETS: Final = frozenset(
    {
        *("DATABASE_URL", "BURSAR_DATABASE_URL", "BURSAR_PROCESS_DSN"),
        *("PGPASSWORD", "PGPASSFILE", "BURSAR_API_KEY", *_PROVIDER_KEYS, *_WEBHOOK_SECRETS),
    }
)
_SIM_NEEDS: Final = frozenset(
    {
        *("PATH", "HOME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
        *(*_PROVIDER_KEYS, *_WEBHOOK_SECRETS),
    }
)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class SimOptions:
    """How the simulated providers behave: their seed and `name=value` rates."""

    seed: int = 1
    knobs: Sequence[str] = field(default=())


def up(settings: Settings, sim: SimOptions) -> int:
    """Run the platform until a signal; 0 after a clean stop.

    Raises `CommandRefused` if the data directory or a port is taken or a part does not start.
    """
    if settings.mode == "production":
        raise CommandRefused(
            "`bursar up` makes a demo merchant and is for the sandbox; in production run"
            " `bursar api` and `bursar worker`"
        )
    with DataDirLock(settings.data_dir):
        return asyncio.run(_serve(settings, sim))


async def _serve(settings: Settings, sim: SimOptions) -> int:
    await _await_ports(settings, SystemClock())
    return await _until_signal(_Platform(settings, sim))


async def _await_ports(settings: Settings, clock: Clock) -> None:
    """Wait a little for ports that a killed predecessor is still giving up."""
    wanted = [("API", "--api-port", settings.api_host, settings.api_port)]
    if settings.simulates:
        wanted.append(("simulator", "--sim-port", settings.sim_host, settings.sim_port))
        if settings.api_port == settings.sim_port:
            raise CommandRefused("--api-port and --sim-port must differ", code=2)
    deadline = clock.monotonic() + _PORT_WAIT_S
    for what, option, host, port in wanted:
        while fault := port_fault(host, port):
            if clock.monotonic() > deadline:
                raise CommandRefused(f"{what}: {fault}; choose another with {option}")
            await clock.sleep(_PORT_LOOK_S)


async def _until_signal(platform: "_Platform") -> int:
    """Run the platform; stop it in order at the first signal, kill it at the second."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(platform.run())
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            platform.announce("stopping (once more to kill)")
            running.cancel()
        else:
            platform.kill()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        await running
    except asyncio.CancelledError:
        platform.announce("stopped")
    return 0


class _Platform:
    """Postgres and the children of one run."""

    def __init__(self, settings: Settings, sim: SimOptions) -> None:
        self._settings = settings
        self._clock: Clock = SystemClock()
        self._server = bootstrap.embedded_server(settings)
        self._supervisor = Supervisor(
            child_specs(settings, sim),
            clock=self._clock,
            announce=self.announce,
        )

    def announce(self, line: str) -> None:
        """One line for the person at the terminal."""
        print(f"bursar: {line}", file=sys.stderr, flush=True)

    def kill(self) -> None:
        """End the children at once."""
        self._supervisor.kill()

    async def run(self) -> None:
        """Start, show the banner, keep alive; whatever ends it, stop everything in order."""
        started = self._clock.monotonic()
        try:
            if self._server is not None:
                self.announce(f"starting Postgres in {self._settings.data_dir}")
                await asyncio.to_thread(self._server.start)
            dsns = await bootstrap.prepare_database(self._settings, self._server)
            known_key = _known_key(self._settings.demo_file)
            demo = await bootstrap.ensure_demo(self._settings, dsns, known_key=known_key)
            write_demo_file(
                self._settings.demo_file,
                api_url=self._settings.api_url,
                api_key=demo.api_key,
                merchant_id=demo.merchant_id,
            )
            await self._supervisor.start()
            took_s = self._clock.monotonic() - started
            print(banner(self._settings, demo.api_key, took_s), flush=True)
            await asyncio.gather(self._supervisor.watch(), self._keep_postgres())
        finally:
            await self._supervisor.stop(grace_s=_GRACE_S)
            if self._server is not None:
                await asyncio.to_thread(self._server.stop)

    async def _keep_postgres(self) -> None:
        """Start the server again when it is gone; the processes reconnect by themselves."""
        server = self._server
        if server is None:
            return
        address, failures = server.dsn(), 0
        while True:
            await self._clock.sleep(_POSTGRES_LOOK_S)
            if await asyncio.to_thread(_pid_of, server) is not None:
                continue
            self.announce("Postgres is gone; starting it again")
            try:
                await asyncio.to_thread(server.start)
            except DatabaseError as error:
                failures += 1
                self.announce(f"Postgres did not start: {error.detail}")
                await self._clock.sleep(backoff_s(failures))
                continue
            failures = 0
            self.announce("Postgres is back")
            if server.dsn() != address:  # its old port was taken meanwhile
                address = server.dsn()
                self._supervisor.restart_all()


def _pid_of(server: EmbeddedPostgres) -> int | None:
    return server.pid


def process_environment(settings: Settings, role: str, *secrets: str) -> dict[str, str]:
    """Our environment with the settings that options may have changed, for an API or worker.

    Of all secrets it has the address of its own role and those named in `secrets`. Asked again
    at each start: the database may have moved to another port.
    """
    changed = {
        "BURSAR_DATA_DIR": str(settings.data_dir.absolute()),
        "BURSAR_API_HOST": settings.api_host,
        "BURSAR_API_PORT": str(settings.api_port),
        "BURSAR_SIM_HOST": settings.sim_host,
        "BURSAR_SIM_PORT": str(settings.sim_port),
        "BURSAR_PROCESS_DSN": bootstrap.process_dsn(settings, role),
        "PYTHONUNBUFFERED": "1",
    }
    kept = {
        name: value for name, value in os.environ.items() if name in secrets or name not in _SECRETS
    }
    return {**kept, **changed}


def sim_environment() -> dict[str, str]:
    """The simulator is somebody else's process: it gets where Python is, and providers' secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _SIM_NEEDS or name.startswith(("LC_", "PYTHON"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1"}


def child_specs(settings: Settings, sim: SimOptions) -> list[ChildSpec]:
    """Simulator (unless the settings name all providers), API and worker, in order of start."""
    logs = settings.data_dir / "logs"

    def spec(
        name: str,
        *arguments: str,
        environment: Callable[[], dict[str, str]],
        port: tuple[str, int] | None = None,
    ) -> ChildSpec:
        healthy = partial(answers_healthy, *port) if port is not None else _always
        command = (sys.executable, "-m", "bursar", name, *arguments)
        return ChildSpec(name, command, logs / f"{name}.log", healthy, environment)

    specs = []
    if settings.simulates:
        specs.append(
            spec(
                "sim",
                *sim_arguments(settings, sim),
                environment=sim_environment,
                port=(reachable(settings.sim_host), settings.sim_port),
            )
        )
    for_api = partial(process_environment, settings, API, *_WEBHOOK_SECRETS)
    for_worker = partial(process_environment, settings, WORKER, *_PROVIDER_KEYS)
    specs.append(
        spec("api", environment=for_api, port=(reachable(settings.api_host), settings.api_port))
    )
    specs.append(spec("worker", environment=for_worker))
    return specs


def sim_arguments(settings: Settings, sim: SimOptions) -> list[str]:
    """The simulator's command line: where it listens, keeps its books and calls back."""
    return [
        *("--host", settings.sim_host),
        *("--port", str(settings.sim_port)),
        *("--data", str((settings.data_dir / "sim").absolute())),
        *("--seed", str(sim.seed)),
        *("--callback", f"{settings.api_url}/webhooks/provider"),
        *(text for knob in sim.knobs for text in ("--knob", knob)),
    ]


async def _always() -> bool:
    return True


def _known_key(demo_file: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(demo_file.read_bytes())["api_key"])
    return None


def program() -> str:
    """How to call this `bursar` from the current directory, whatever PATH says."""
    script = Path(sys.executable).with_name("bursar")
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m bursar"
    with suppress(ValueError):
        script = script.relative_to(Path.cwd())
    return shlex.quote(str(script))


def banner(settings: Settings, api_key: str, took_s: float) -> str:
    """What runs where, the demo key, and what to do next."""
    bank = settings.provider_url + ("" if settings.bank_url else " (simulated)")
    offramp = settings.offramp_provider_url + ("" if settings.offramp_url else " (simulated)")
    database = "of DATABASE_URL" if settings.database_url else f"embedded, in {settings.data_dir}"
    usual = settings.data_dir == Settings.model_fields["data_dir"].default
    where = "" if usual else f" --data-dir {settings.data_dir}"
    return "\n".join(
        [
            "",
            f"Bursar is up ({took_s:.1f} s, sandbox mode: nothing here moves real money)",
            "",
            f"  API       {settings.api_url}   (described at /openapi.json)",
            f"  Bank      {bank}",
            f"  Off-ramp  {offramp}",
            f"  Postgres  {database}",
            f"  Logs      {settings.data_dir / 'logs'}",
            f"  API key   {api_key}   (also in {settings.demo_file})",
            "",
            f"Next, in another terminal:  {program()} pay examples/payouts.csv{where}",
            "Stop with Ctrl-C.",
            "",
        ]
    )
