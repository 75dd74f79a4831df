"""Named places where a process may be made to die, so that tests can prove that it may.

Every step of the work that another process could have to finish has a name here. What passes a
step says so to the `CrashPoints` that it was handed; in production nothing listens.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol


class Step(StrEnum):
    """A step of the work; a process may die right before it and right after it."""

    ENGINE_WRITE = "engine.write"
    """The statements of a group."""
    ENGINE_COMMIT = "engine.commit"
    """COMMIT. Here the connection can also be cut after it was sent."""
    ENGINE_ANSWER = "engine.answer"
    """Telling the callers of a committed group."""
    API_REPLY = "api.reply"
    """Answering a client's write."""
    INBOX_STORE = "inbox.store"
    """Storing a provider's event."""
    INBOX_APPLY = "inbox.apply"
    """Applying a stored event."""
    PAYOUT_BEGIN = "payout.begin"
    """Taking the lease on an attempt."""
    PAYOUT_SUBMIT = "payout.submit"
    """Calling the provider."""
    PAYOUT_RECORD = "payout.record"
    """Recording what the call ended in."""
    PAYOUT_RESEND = "payout.resend"
    """Taking the lease for another send under the same key."""
    PAYOUT_INQUIRE = "payout.inquire"
    """Asking the provider by our key."""
    PAYOUT_LEARN = "payout.learn"
    """Recording what the answer proves."""
    PAYOUT_TAKE_OVER = "payout.take_over"
    """Ending the lease of a silent worker."""
    PAYOUT_EXPIRE = "payout.expire"
    """Giving up a payout whose time ran out."""


class Side(StrEnum):
    """On which side of a step."""

    BEFORE = "before"
    AFTER = "after"


class CrashPoints(Protocol):
    """Told of every side of every step that is passed."""

    def reach(self, step: Step, side: Side) -> None:
        """Return, or never return."""
        ...


class NoCrash:
    """Nothing happens."""

    def reach(self, step: Step, side: Side) -> None:
        """Return at once."""


@contextmanager
def passing(crash: CrashPoints, step: Step) -> Iterator[None]:
    """Around a step: tells of both its sides; of the second only if the step did not raise."""
    crash.reach(step, Side.BEFORE)
    yield
    crash.reach(step, Side.AFTER)


class KillAt:
    """Kills this process with SIGKILL the `times`-th time that one side of one step is passed."""

    def __init__(self, step: Step, side: Side, *, times: int = 1) -> None:
        self._step = step
        self._side = side
        self._left = times

    def reach(self, step: Step, side: Side) -> None:
        """Count down and die."""
        if (step, side) != (self._step, self._side):
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def parse_crash_point(text: str) -> KillAt:
    """`STEP:SIDE` or `STEP:SIDE:TIMES`, such as `payout.submit:after:3`. Raises `ValueError`."""
    step, _, rest = text.partition(":")
    side, _, times = rest.partition(":")
    known = step in set(Step) and side in set(Side)
    if not known or (times and not (times.isdecimal() and int(times))):
        raise ValueError("a crash point is STEP:SIDE or STEP:SIDE:TIMES, such as api.reply:before")
    return KillAt(Step(step), Side(side), times=int(times or 1))
