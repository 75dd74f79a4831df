"""Processes of the platform, started for a measurement and ended with it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bench.stopwatch import Stopwatch

HOST = "127.0.0.1"
_READY_S = 60.0
_GRACE_S = 20.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**settings: str) -> dict[str, str]:
    """Ours, without any setting of Bursar's but the given ones."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith("BURSAR_")
    }
    return {**kept, **settings}


@asynccontextmanager
async def running(
    *arguments: str, settings: Mapping[str, str], log: Path, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process with these arguments, from when it accepts connections on `port`.

    Raises RuntimeError with the log's end if it never does.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=environment(**settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        if not await _ready(process, port):
            raise RuntimeError(f"it does not serve: {_end_of(log)}")
        yield process
    finally:
        await _end(process)


def _end_of(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace")


async def _ready(process: asyncio.subprocess.Process, port: int) -> bool:
    watch = Stopwatch()
    while process.returncode is None and watch.seconds() < _READY_S:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return True
    return False


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), timeout=_GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def family(pid: int) -> list[int]:
    """A process and all its descendants. Linux only."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
                parent = int(stat.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        waiting += children.get(current, [])
    return found


def memory_mb(pid: int) -> float:
    """PSS of one process in megabytes: shared pages count by share. 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
