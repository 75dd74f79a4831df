"""Ties a child process to its supervisor: it never outlives it, however that one ends.

Everything that a child does survives being killed at any point, so a kill is a safe end, and the
only one that always works. Linux's kernel does it; elsewhere a thread looks at the parent.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Final

SUPERVISOR_PID: Final = "BURSAR_SUPERVISOR_PID"
"Set by the supervisor for its children; unset for a process that somebody started by hand."
_PR_SET_PDEATHSIG: Final = 1
_LOOK_EVERY_S: Final = 0.5


def hold_lifeline(environment: Mapping[str, str] = os.environ) -> None:
    """Die with the supervisor named in the environment, if there is one. Call it first."""
    named = environment.get(SUPERVISOR_PID, "")
    if not named.isdigit():
        return
    supervisor = int(named)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(supervisor,), daemon=True).start()
    if os.getppid() != supervisor:  # it died before the line was tied
        os._exit(1)


def _watch(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
