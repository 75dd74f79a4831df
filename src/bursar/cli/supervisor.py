"""Keeps a set of child processes alive: starts, watches, restarts and stops them.

Each child leads its own process group, so that a Ctrl-C at the terminal reaches the supervisor
alone, which then stops the children in order. A child dies with its supervisor even if that is
killed with SIGKILL: see `lifeline`.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bursar.cli.data_dir import log_tail, prepare_log
from bursar.cli.errors import CommandRefused
from bursar.cli.lifeline import SUPERVISOR_PID
from bursar.db.errors import DatabaseError
from bursar.kit.clock import Clock

BACKOFF_BASE_S: Final = 0.2
BACKOFF_CAP_S: Final = 5.0
STEADY_S: Final = 30.0
"A child that lived this long starts its back-off anew."
_HEALTHY_WITHIN_S: Final = 30.0
_HEALTHY_POLL_S: Final = 0.05


@dataclass(frozen=True)
class ChildSpec:
    """What to run, where its output goes, and how to know that it serves.

    `environment` is asked at every start: all that the process is told beside its command line.
    """

    name: str
    command: Sequence[str]
    log: Path
    healthy: Callable[[], Awaitable[bool]]
    environment: Callable[[], Mapping[str, str]]


def backoff_s(deaths: int) -> float:
    """Seconds before restart number `deaths` of a child that keeps dying: 0.2, 0.4 ... 5."""
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(deaths - 1, 16))


class Child:
    """One supervised process and its successors."""

    def __init__(self, spec: ChildSpec, clock: Clock) -> None:
        self.spec = spec
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The living process, or None."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Run the command, its output appended to the log. Raises `OSError` if it cannot run."""
        prepare_log(self.spec.log)
        with self.spec.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.spec.environment(), SUPERVISOR_PID: str(os.getpid())},
                start_new_session=True,
            )

    async def ended(self) -> int:
        """Wait for the process to end; its return code, negative for a signal."""
        return await self._process.wait() if self._process is not None else 0

    async def wait_healthy(self) -> None:
        """Return once it serves. Raises `CommandRefused` with the log's end if it will not."""
        deadline = self._clock.monotonic() + _HEALTHY_WITHIN_S
        while not await self.spec.healthy():
            code = self._process.returncode if self._process is not None else 0
            if code is not None or self._clock.monotonic() > deadline:
                what = f"ended with {code}" if code is not None else "does not answer"
                raise CommandRefused(
                    f"{self.spec.name} {what}; the end of {self.spec.log}:",
                    log_tail(self.spec.log, since=self._log_start),
                )
            await self._clock.sleep(_HEALTHY_POLL_S)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its group."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(process.pid, number)
            elif process.returncode is None:
                process.send_signal(number)


class Supervisor:
    """The children of one `bursar up`. `announce` gets a line for each thing worth telling."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        clock: Clock,
        announce: Callable[[str], None],
    ) -> None:
        self.children = [Child(spec, clock) for spec in specs]
        self._clock = clock
        self._announce = announce

    async def start(self) -> None:
        """Start all; return when all serve. Raises `CommandRefused` if one does not."""
        for child in self.children:
            await child.start()
        for child in self.children:
            await child.wait_healthy()

    async def watch(self) -> None:
        """Restart whatever ends, for ever."""
        await asyncio.gather(*(self._keep(child) for child in self.children))

    async def _keep(self, child: Child) -> None:
        deaths = 0
        while True:
            started = self._clock.monotonic()
            code = await child.ended()
            deaths = 1 if self._clock.monotonic() - started > STEADY_S else deaths + 1
            pause_s = backoff_s(deaths)
            self._announce(
                f"{child.spec.name} ended with {code}; again in {pause_s:.1f} s"
                f" (see {child.spec.log})"
            )
            await self._clock.sleep(pause_s)
            try:
                await child.start()
            except (OSError, DatabaseError) as error:
                self._announce(f"{child.spec.name} cannot be started: {error}")

    async def stop(self, *, grace_s: float) -> None:
        """Ask all to end, last started first in line; kill what is left after `grace_s`."""
        for child in reversed(self.children):
            child.signal(signal.SIGTERM)
        ends = [child.ended() for child in self.children]
        try:
            await asyncio.wait_for(asyncio.gather(*ends), grace_s)
        except TimeoutError:
            late = [child.spec.name for child in self.children if child.pid is not None]
            self._announce(f"killing {', '.join(late)}: still running after {grace_s:.0f} s")
        finally:
            self.kill()
        await asyncio.gather(*(child.ended() for child in self.children))

    def restart_all(self) -> None:
        """End all children, so that `watch` starts them anew with what is true now."""
        for child in self.children:
            child.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL every child's whole group."""
        for child in self.children:
            child.signal(signal.SIGKILL, group=True)
