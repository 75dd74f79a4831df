"""The whole platform as a newcomer runs it: `bursar up` in a process, on a directory of its own.

Processes are found as children of the supervisor in /proc, so a test kills what really runs.
"""

import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from bursar.db.binaries import wheel_binaries
from bursar.db.embedded import EmbeddedPostgres
from bursar.settings import SANDBOX_BANK_API_KEY, SANDBOX_OFFRAMP_API_KEY

START_S: Final = 120.0
STOP_S: Final = 90.0
# Below the range from which the kernel takes the ports of outgoing connections: a process that
# was killed finds its port free when it comes back.
_PORTS: Final = range(18_000, 32_000)
_PR_SET_PDEATHSIG: Final = 1


@dataclass
class Platform:
    """One `bursar up` over one data directory, started and stopped at will."""

    data_dir: Path
    knobs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    api_port: int = 0
    sim_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def api_url(self) -> str:
        """Where the API listens."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def bank_url(self) -> str:
        """Where the simulated bank listens."""
        return f"http://127.0.0.1:{self.sim_port}"

    @property
    def demo(self) -> dict[str, str]:
        """What `bursar up` left for whoever wants to pay."""
        found: dict[str, str] = json.loads((self.data_dir / "demo.json").read_bytes())
        return found

    def start(self) -> None:
        """Run `bursar up` and return when it says that it is up."""
        assert self.process is None
        self.api_port = self.api_port or free_port()
        self.sim_port = self.sim_port or free_port()
        said = self.data_dir / "up.log"
        already = said.stat().st_size if said.exists() else 0
        with said.open("ab") as log:
            self.process = subprocess.Popen(
                [*_BURSAR, "up", *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                preexec_fn=_stop_with_parent(),  # noqa: PLW1509 - one system call
            )
        deadline = time.monotonic() + START_S
        while b"Bursar is up" not in (text := said.read_bytes()[already:]):
            assert self.process.poll() is None, text.decode()
            assert time.monotonic() < deadline, text.decode()
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, as a person or a machine that shuts down would; the exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        finally:
            process.kill()
            process.wait()

    def kill_supervisor(self) -> list[int]:
        """SIGKILL the supervisor; the processes that it had started and must not outlive it."""
        assert self.process is not None
        process, self.process = self.process, None
        orphans = [pid for name in ("api", "worker", "sim") if (pid := self.pid_of(name, process))]
        process.kill()
        process.wait()
        return orphans

    def pid_of(self, name: str, supervisor: subprocess.Popen[bytes] | None = None) -> int | None:
        """The living `api`, `worker`, `sim` or `postgres` of this platform, or None."""
        parent = supervisor or self.process
        assert parent is not None
        for pid in children_of(parent.pid):
            command = _command_of(pid)
            if name == "postgres":
                if command and Path(command[0]).name == "postgres":
                    return pid
            elif command[1:4] == ["-m", "bursar", name]:
                return pid
        return None

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to one of the processes; False if it is not there just now."""
        pid = self.pid_of(name)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def start_bursar(self, *arguments: str) -> "Command":
        """`bursar ARGUMENTS --data-dir ...` in a process, its output kept."""
        process = subprocess.Popen(
            [*_BURSAR, *arguments, "--data-dir", str(self.data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            preexec_fn=_stop_with_parent(),  # noqa: PLW1509 - one system call
        )
        return Command(process)

    def bursar(self, *arguments: str, timeout_s: float = 120) -> "Ended":
        """The same, waited for."""
        return self.start_bursar(*arguments).wait(timeout_s)

    @contextlib.asynccontextmanager
    async def client(self, *, connections: int = 16) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the API with the demo key."""
        async with httpx.AsyncClient(
            base_url=self.api_url,
            headers={"Authorization": f"Bearer {self.demo['api_key']}"},
            limits=httpx.Limits(max_connections=connections),
            timeout=httpx.Timeout(30, pool=None),
            trust_env=False,
        ) as http:
            yield http

    def bank(self) -> httpx.AsyncClient:
        """A client of the simulated bank."""
        return self._provider(SANDBOX_BANK_API_KEY)

    def offramp(self) -> httpx.AsyncClient:
        """A client of the simulated off-ramp."""
        return self._provider(SANDBOX_OFFRAMP_API_KEY)

    def _provider(self, key: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(
            base_url=self.bank_url, headers=headers, timeout=30, trust_env=False
        )

    async def turn(self, **knobs: float) -> None:
        """Set knobs of the running bank; its next start forgets them."""
        async with self.bank() as http:
            (await http.put("/bank/knobs", json=knobs)).raise_for_status()

    def log(self, name: str) -> str:
        """All that a process has written, over all its lives."""
        path = self.data_dir / "logs" / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _options(self) -> list[str]:
        options = ["--data-dir", str(self.data_dir)]
        options += ["--api-port", str(self.api_port), "--sim-port", str(self.sim_port)]
        return options + [text for knob in self.knobs for text in ("--sim-knob", knob)]

    def _environment(self) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("BURSAR_", "DATABASE_"))}
        return {**ours, **self.environment}


_BURSAR: Final = (sys.executable, "-m", "bursar")


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code and all that it printed."""

    code: int
    text: str


class Command:
    """A `bursar` command that runs. Its output is small and fits the pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> Ended:
        """Its end; killed, and a failure, if that does not come in time."""
        try:
            text, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            text, _ = self._process.communicate()
            raise AssertionError(f"still running after {timeout_s} s:\n{text}") from None
        return Ended(self._process.returncode, text)


@contextlib.contextmanager
def platform_running(
    data_dir: Path, *, knobs: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Platform]:
    """A platform on the wheel's Postgres. At the end it is stopped and its cluster deleted."""
    server = EmbeddedPostgres(data_dir, binaries=wheel_binaries()[0])
    server.start()  # `bursar up` takes the Postgres that an existing cluster was made by
    server.stop()
    platform = Platform(data_dir, knobs, environment or {})
    try:
        platform.start()
        yield platform
        assert platform.process is None or platform.stop() == 0
    finally:
        if platform.process is not None:
            platform.stop()
        server.destroy()


def free_port() -> int:
    """A port that nobody listens on now."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port in a hundred tries")


def alive(pid: int) -> bool:
    """Whether the process runs: it is there and no zombie."""
    fields = _stat_of(pid)
    return bool(fields) and fields[0] not in {"Z", "X"}


def children_of(parent: int) -> list[int]:
    """The living processes that `parent` started."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _stat_of(pid)[1:2] == [str(parent)] and alive(pid)]


def _stat_of(pid: int) -> list[str]:
    """State, parent and more; empty where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _command_of(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.split("\0")


def _stop_with_parent() -> Callable[[], object]:
    """A call for the child, between fork and exec: no platform outlives a killed test run."""
    library = ctypes.CDLL(None)
    return lambda: library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def payout_body(reference: str, **changes: Any) -> dict[str, Any]:
    """A payout that the API takes."""
    beneficiary = {"name": "Ana Silva", "iban": "DE89370400440532013000"}
    body = {"reference": reference, "amount": 1_000, "currency": "EUR", "beneficiary": beneficiary}
    return body | changes
