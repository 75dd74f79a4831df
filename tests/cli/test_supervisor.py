"""Children are kept alive, stopped in order, and never outlive their supervisor."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bursar.cli.errors import CommandRefused
from bursar.cli.supervisor import ChildSpec, Supervisor, backoff_s
from bursar.kit.clock import SystemClock

SLEEPER = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
WAIT_S = 10


async def always() -> bool:
    """A child that needs no time to get ready."""
    return True


async def never() -> bool:
    """A child that does not get ready."""
    return False


def supervisor(
    tmp_path: Path, *programs: str, healthy: Callable[[], Awaitable[bool]] = always
) -> tuple[Supervisor, list[str]]:
    """Children that run these Python programs, and what is announced about them."""
    said: list[str] = []
    specs = [
        ChildSpec(
            f"child{n}",
            (sys.executable, "-c", code),
            tmp_path / f"child{n}.log",
            healthy,
            os.environ.copy,
        )
        for n, code in enumerate(programs)
    ]
    made = Supervisor(specs, clock=SystemClock(), announce=said.append)
    return made, said


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other processes do."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what other processes do sends no event
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs: it is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def test_the_pause_before_a_restart_grows_and_is_bounded() -> None:
    """F30: a child that dies at once is not started in a busy loop, and not given up."""
    assert [backoff_s(n) for n in (1, 2, 3, 4, 5)] == [0.2, 0.4, 0.8, 1.6, 3.2]
    assert backoff_s(6) == backoff_s(10_000) == 5.0


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """F92: killed, it comes back as another process."""
    made, said = supervisor(tmp_path, SLEEPER)
    await made.start()
    watching = asyncio.create_task(made.watch())
    try:
        first = made.children[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: made.children[0].pid not in {None, first})
        assert said == [f"child0 ended with -9; again in 0.2 s (see {tmp_path}/child0.log)"]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await made.stop(grace_s=5)


async def test_stop_ends_all_and_kills_who_does_not_listen(tmp_path: Path) -> None:
    """F92: bounded by the grace; nobody is left."""
    made, said = supervisor(tmp_path, SLEEPER, f"print('up', flush=True); {STUBBORN}")
    await made.start()
    pids = [child.pid or 0 for child in made.children]
    await until(lambda: (tmp_path / "child1.log").read_bytes() == b"up\n")
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await made.stop(grace_s=0.5)
    assert time.monotonic() - started < 5
    assert said == ["killing child1: still running after 0 s"]
    assert not any(alive(pid) for pid in pids)


async def test_a_stopped_child_takes_its_own_children_along(tmp_path: Path) -> None:
    """The whole process group goes."""
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]);"
    made, _ = supervisor(tmp_path, f"{code} print(p.pid, flush=True); p.wait()")
    await made.start()
    log = tmp_path / "child0.log"
    await until(lambda: log.read_bytes().endswith(b"\n"))
    grandchild = int(log.read_bytes())
    await made.stop(grace_s=5)
    await until(lambda: not alive(grandchild))


async def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The end of its log is what the person sees, and nothing of earlier starts."""
    (tmp_path / "child0.log").write_text("no such callback\n")
    made, _ = supervisor(tmp_path, "raise SystemExit('no such knob')", healthy=never)
    with pytest.raises(CommandRefused) as refused:
        await made.start()
    await made.stop(grace_s=1)
    assert refused.value.lines == (
        f"child0 ended with 1; the end of {tmp_path}/child0.log:",
        "no such knob",
    )


async def test_stop_before_start_is_nothing(tmp_path: Path) -> None:
    """A start that failed early is cleaned up by the same road."""
    made, _ = supervisor(tmp_path, SLEEPER)
    await made.stop(grace_s=1)


LIFELINE = """
import asyncio, os, sys
from pathlib import Path
from bursar.cli.supervisor import ChildSpec, Supervisor
from bursar.kit.clock import SystemClock

async def always(): return True

async def main():
    log = Path(sys.argv[1])
    code = ("from bursar.cli.lifeline import hold_lifeline; hold_lifeline();"
            "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    spec = ChildSpec("child", (sys.executable, "-c", code), log, always, os.environ.copy)
    made = Supervisor([spec], clock=SystemClock(), announce=print)
    await made.start()
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """F92: SIGKILL leaves it no time to stop anybody; the kernel does."""
    log = tmp_path / "child.log"
    parent = subprocess.Popen([sys.executable, "-c", LIFELINE, str(log)])  # noqa: ASYNC220
    try:
        await until(lambda: log.exists() and log.read_bytes().endswith(b"\n"))
        child = int(log.read_bytes())
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    await until(lambda: not alive(child))
