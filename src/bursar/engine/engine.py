"""The engine: a queue of commands, one group in flight, and the way out of a lost commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, TypeVar, cast

import msgspec
import structlog

from bursar.engine.errors import (
    CommandFailed,
    CommitUnknown,
    ConstraintError,
    ConstraintViolated,
    DatabaseAway,
    OutcomeUnknown,
    Overloaded,
    RowHeld,
    TransactionConflict,
)
from bursar.engine.group import (
    Again,
    Done,
    Failed,
    GroupRules,
    Submission,
    Verdict,
    execute_group,
    raise_or_value,
)
from bursar.engine.model import Command
from bursar.engine.store import Session, Store
from bursar.kit.clock import Clock
from bursar.kit.crashpoints import CrashPoints, NoCrash, Step, passing
from bursar.kit.errors import BursarError
from bursar.kit.ids import Ids, Randomness

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

GROUP_MAX = 512
QUEUE_MAX = 4096
CONFLICTS_MAX = 8
LOCK_CONFLICTS_MAX = 3
HELD_RESPITE_S = 5.0
"""For so long after a row was held too long, groups wait `GROUP_PATIENCE_S` for a lock and not as
long as their role may: a group that waits stops the whole process."""
GROUP_PATIENCE_S = 0.25
PATIENCE_S = 0.1
PATIENCE_SPENT_S = 0.01
HELD_PATIENTLY_MAX = 20
"""Where a group met a held row, each command runs alone and waits `PATIENCE_S` for each lock; after
so many that waited for nothing, `PATIENCE_SPENT_S`."""
UNDECIDED_MAX = 8
SETTLE_DEADLINE_S = 20.0


class _Away(Overloaded):
    """The database stayed away: there is no use in trying with another command."""


class _Waiting(msgspec.Struct, eq=False):
    submission: Submission
    future: asyncio.Future[Any]
    rounds: int = 0


class Engine:
    """Runs commands in groups over a store. One per process; one group in flight."""

    def __init__(
        self,
        store: Store,
        rules: GroupRules,
        *,
        clock: Clock,
        ids: Ids,
        randomness: Randomness,
        on_wake: Callable[[frozenset[str]], None] = lambda _topics: None,
        group_max: int = GROUP_MAX,
        queue_max: int = QUEUE_MAX,
        crash: CrashPoints | None = None,
    ) -> None:
        """`group_max` bounds a group, `queue_max` what waits for one.

        `on_wake` is told the topics of each committed group; it must not block.
        """
        self._store = store
        self._rules = rules
        self._clock = clock
        self._ids = ids
        self._randomness = randomness
        self._on_wake = on_wake
        self._group_max = group_max
        self._queue_max = queue_max
        self._crash = crash or NoCrash()
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._closing = False
        self._held_until = 0.0

    async def submit(self, command: Command[Result]) -> Result:
        """Decide `command` in the next group and answer once that is committed.

        Raises the command's `Refusal`; `Overloaded` if the queue is full (nothing happened);
        `OutcomeUnknown` if the database could not say whether it committed; `CommandFailed`
        for a fault of ours (nothing happened).
        """
        if len(self._queue) >= self._queue_max or self._closing:
            raise Overloaded("Too many requests are waiting. Nothing was done.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(Submission(command), future))
        self._arrived.set()
        if self._runner is None or self._runner.done():
            # A context of its own: not the correlation id of the request that came first.
            self._runner = asyncio.create_task(self._run(), name="engine", context=Context())
        return cast("Result", await future)

    async def close(self) -> None:
        """Finish what is queued and in flight, then stop. Later submissions are refused."""
        self._closing = True
        self._arrived.set()
        if self._runner is not None:
            await self._runner

    async def _run(self) -> None:
        while True:
            while not self._queue:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            group = [self._queue.popleft() for _ in range(min(len(self._queue), self._group_max))]
            try:
                await self._run_group(group)
            except BaseException:
                for waiting in group:
                    _fail(waiting, OutcomeUnknown("The process stopped before the answer."))
                raise

    async def _run_group(
        self, group: Sequence[_Waiting], *, patience_s: float | None = None
    ) -> BursarError | None:
        """Run a group to its end; the error that all of it was answered with, if there is one.

        If the database or a command's own code refuses the group as a whole, each command runs
        alone, so that only the offender fails.
        """
        try:
            verdicts = await self._commit([waiting.submission for waiting in group], patience_s)
        except (Overloaded, OutcomeUnknown) as error:
            for waiting in group:
                _fail(waiting, error)
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, only the offender fails
            if len(group) == 1:
                blamed = _blamed(error)
                _fail(group[0], blamed)
                return blamed
            await self._run_each(group, held=isinstance(error, RowHeld))
        else:
            with passing(self._crash, Step.ENGINE_ANSWER):
                self._deliver(group, verdicts)
        return None

    async def _run_each(self, group: Sequence[_Waiting], *, held: bool) -> None:
        """Run the commands of a group one by one.

        If the group met a row that is `held`, those that need it are answered `Overloaded` after
        a short wait each, and the others are done. If the database goes meanwhile, that is the
        answer of all that are left.
        """
        lost = 0
        patience_s: float | None = None
        for place, waiting in enumerate(group):
            if held:
                patience_s = PATIENCE_S if lost < HELD_PATIENTLY_MAX else PATIENCE_SPENT_S
            error = await self._run_group([waiting], patience_s=patience_s)
            lost += isinstance(error, Overloaded)
            if isinstance(error, _Away | OutcomeUnknown):
                for left in group[place + 1 :]:
                    _fail(left, _Away("The database is away. Nothing was done.", retry_after_s=2))
                return

    def _deliver(self, group: Sequence[_Waiting], verdicts: Sequence[Verdict]) -> None:
        """Answer who was decided; the others go first in the next group, in their order."""
        undecided: list[_Waiting] = []
        for waiting, verdict in zip(group, verdicts, strict=True):
            if not isinstance(verdict, Again):
                _resolve(waiting, verdict)
                continue
            waiting.rounds += 1
            if waiting.rounds > UNDECIDED_MAX:
                _fail(waiting, Overloaded("The request kept meeting others. Nothing was done."))
                continue
            old = waiting.submission
            waiting.submission = Submission(old.command, (*old.extra, verdict.extra))
            undecided.append(waiting)
        self._queue.extendleft(reversed(undecided))

    async def _commit(
        self, submissions: Sequence[Submission], patience_s: float | None
    ) -> list[Verdict]:
        """Run the transaction until it is known to have committed or given up.

        A group that meets a row that somebody holds, or goes on meeting conflicts, is given up to
        be run one by one; a lone command is then `Overloaded`.
        """
        gave_up: type[Overloaded] = _Away
        for conflicts in range(CONFLICTS_MAX):
            if conflicts:
                await self._clock.sleep(self._randomness.uniform(0.0, 0.01 * 2**conflicts))
            try:
                return await self._attempt(submissions, patience_s)
            except DatabaseAway as away:
                log.info("database_away", reason=str(away), size=len(submissions))
            except TransactionConflict as conflict:
                log.info("group_conflict", conflict=str(conflict), size=len(submissions))
                held = isinstance(conflict, RowHeld)
                if held:
                    self._held_until = self._clock.monotonic() + HELD_RESPITE_S
                if held or conflicts + 1 >= LOCK_CONFLICTS_MAX:
                    if len(submissions) > 1:
                        raise
                    gave_up = Overloaded
                    break
        raise gave_up("The database is busy or away. Nothing was done.", retry_after_s=2)

    async def _attempt(
        self, submissions: Sequence[Submission], patience_s: float | None
    ) -> list[Verdict]:
        group_id = self._ids.new("grp")
        if patience_s is None and self._clock.monotonic() < self._held_until:
            patience_s = GROUP_PATIENCE_S
        session = await self._store.begin(patience_s=patience_s)
        try:
            with passing(self._crash, Step.ENGINE_WRITE):
                verdicts, changes = await execute_group(
                    submissions, session, group_id=group_id, ids=self._ids, rules=self._rules
                )
        except BaseException:
            await session.rollback()
            raise
        with passing(self._crash, Step.ENGINE_COMMIT):
            await self._end(session, group_id)
        if changes.wakes:
            self._wake(changes.wakes)
        return verdicts

    async def _end(self, session: Session, group_id: str) -> None:
        """Commit; return only if it is certain that the group is in the database."""
        try:
            await session.commit()
        except CommitUnknown:
            if not await self._settle(group_id):
                raise TransactionConflict("the lost commit never happened") from None

    def _wake(self, topics: frozenset[str]) -> None:
        """Tell of a committed group. A failure here must not look like the group's own."""
        try:
            self._on_wake(topics)
        except Exception:
            log.exception("wake_failed", topics=sorted(topics))

    async def _settle(self, group_id: str) -> bool:
        """Whether the group of a lost COMMIT is in the database, by its tombstone.

        Any error means not known yet: a group that may be committed must neither run again nor be
        told that it changed nothing. Raises `OutcomeUnknown` at the deadline.
        """
        deadline = self._clock.monotonic() + SETTLE_DEADLINE_S
        pause_s = 0.05
        while self._clock.monotonic() < deadline:
            try:
                committed = await self._store.entomb(group_id)
            except Exception as error:  # noqa: BLE001 - it says nothing about the lost group
                log.warning("lost_commit_not_settled", group_id=group_id, error=repr(error))
                await self._clock.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)
            else:
                log.info("lost_commit_settled", group_id=group_id, committed=committed)
                return committed
        raise OutcomeUnknown("The change may or may not have been made. Ask again, same key.")


def _blamed(error: Exception) -> BursarError:
    """The error that the one command of a failed group is answered with."""
    if isinstance(error, ConstraintError):
        log.warning("constraint_violated", constraint=error.constraint)
        return ConstraintViolated("The database refused this change.", constraint=error.constraint)
    log.error("command_failed", exc_info=error)
    return CommandFailed("The request could not be carried out.")


def _fail(waiting: _Waiting, error: BursarError) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)


def _resolve(waiting: _Waiting, verdict: Done | Failed) -> None:
    if waiting.future.done():
        return
    try:
        value = raise_or_value(verdict)
    except BursarError as error:
        waiting.future.set_exception(error)
    else:
        waiting.future.set_result(value)
