"""Parent of the processes under test: it has imported everything, so that one starts in no time.

Run as `python -m tests.crash.nursery`. A line of JSON on standard input starts a process, or kills
one; a line on standard output says that one ended, and how. Each runs the real command line in a
fork of its own. All of them die with the nursery, and the nursery ends with its standard input.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any

import uvicorn.lifespan.off
import uvicorn.lifespan.on
import uvicorn.protocols.http.httptools_impl  # noqa: F401 - for those who are forked

import bursar.api.app
import bursar.bootstrap
import bursar.payouts.jobs
import bursar.rails.bank.adapter
import bursar.rails.transport
import bursar.worker.main  # noqa: F401 - for those who are forked
from bursar.cli.lifeline import SUPERVISOR_PID, hold_lifeline
from bursar.cli.main import main as bursar_main
from bursar_sim.main import main as sim_main


def main() -> None:
    """Start what is asked for and tell of each end, until standard input closes."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    gc.freeze()  # what is shared with the forks stays so
    names: dict[int, str] = {}
    waiting = b""
    while True:
        ready, _, _ = select.select([sys.stdin.fileno(), woken], [], [])
        if sys.stdin.fileno() in ready:
            chunk = os.read(sys.stdin.fileno(), 65_536)
            if not chunk:
                break
            *lines, waiting = (waiting + chunk).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if "arguments" in order:
                    names[_start(order)] = order["name"]
                    continue
                for pid in [pid for pid, name in names.items() if name == order["name"]]:
                    os.kill(pid, signal.SIGKILL)
        if woken in ready:
            woken.recv(4096)
            _tell_of_ended(names)
    for pid in names:
        os.kill(pid, signal.SIGKILL)


def _start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(order)
        if order["arguments"][0] == "sim":
            sys.exit(sim_main(order["arguments"][1:]))
        sys.argv = ["bursar", *order["arguments"]]
        bursar_main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:  # noqa: BLE001 - the fork must not go on as a second nursery
        sys.excepthook(*sys.exc_info())
    os._exit(70)


def _become(order: dict[str, Any]) -> None:
    """A process as the supervisor would have made it: own environment, own log, own signals."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(order["environment"], **{SUPERVISOR_PID: str(os.getppid())})
    hold_lifeline()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _tell_of_ended(names: dict[int, str]) -> None:
    while names:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        said = {"name": names.pop(pid), "code": os.waitstatus_to_exitcode(status)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
