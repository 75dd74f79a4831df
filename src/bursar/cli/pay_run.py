"""One run of a payout file: every row asked for, every payout followed to its end.

Asking is idempotent by the row's content, so a run that was cut off is finished by running the
same file again: what exists is replayed, the rest is made.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from typing import Final, Protocol

from bursar.cli.payout_client import IDS_PER_QUERY, Created, NoAnswer, Payout, PayoutClient, Refused
from bursar.cli.payout_file import PayoutRow
from bursar.kit.clock import Clock

END_STATES: Final = frozenset({"settled", "returned", "failed", "cancelled", "dead_letter"})
_ASK_AGAIN_CODES: Final = frozenset({"insufficient_funds"})
_POLL_MIN_S: Final = 0.2
_POLL_MAX_S: Final = 1.0
_POLL_GROWTH: Final = 1.5
_POLL_IDS_MAX: Final = 2_000


@dataclass(slots=True)
class RowResult:
    """What became of one row: a payout, a refusal, or neither yet."""

    row: PayoutRow
    payout: Payout | None = None
    refused: Refused | None = None
    replayed: bool = False
    unanswered: bool = False

    @property
    def state(self) -> str:
        """The payout's state, or `refused`, or `unanswered`, or `waiting` for its turn."""
        if self.payout is not None:
            return self.payout.state
        if self.refused is not None:
            return "refused"
        return "unanswered" if self.unanswered else "waiting"

    @property
    def open(self) -> bool:
        """Whether its end is still to come."""
        return self.refused is None and self.state not in END_STATES


@dataclass(slots=True)
class Run:
    """All rows with their results. `asked` turns true when every row has had its turn."""

    results: list[RowResult]
    asked: bool = False

    def tally(self) -> Counter[str]:
        """How many rows are in each state; the counts add up to the number of rows."""
        return Counter(result.state for result in self.results)

    def open_count(self) -> int:
        """Rows whose end is still to come."""
        return sum(result.open for result in self.results)


class Display(Protocol):
    """Shows how far a run is."""

    def update(self, run: Run) -> None:
        """Called after every change that was seen; must be quick."""
        ...


@dataclass(slots=True)
class Payer:
    """Runs files against one API. `deadline` is a monotonic time of the clock."""

    client: PayoutClient
    clock: Clock
    display: Display
    concurrency: int
    deadline: float
    again_suffix: str | None = None
    "Makes new keys for rows that were refused for lack of funds; None leaves them refused."
    _cursor: int = field(default=0, init=False)

    async def run(self, rows: Sequence[PayoutRow], *, wait: bool) -> Run:
        """Ask for every row, then, if `wait`, follow all until they end or the deadline comes.

        Raises `ApiError` if the API is not usable; payouts asked for until then go on.
        """
        run = Run([RowResult(row) for row in rows])
        follower = asyncio.create_task(self._follow(run)) if wait else None
        try:
            await self._ask_all(run)
            run.asked = True
            self.display.update(run)
            if follower is not None:
                await follower
        finally:
            if follower is not None:
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)
        return run

    async def _ask_all(self, run: Run) -> None:
        pending = iter(run.results)
        tasks = [asyncio.create_task(self._ask_some(run, pending)) for _ in range(self.concurrency)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_some(self, run: Run, pending: Iterator[RowResult]) -> None:
        for result in pending:
            if self.clock.monotonic() >= self.deadline:
                return  # the rest stays `waiting`
            try:
                answer = await self._ask(result.row)
            except NoAnswer:
                result.unanswered = True  # the next run asks again with the same key
                continue
            if isinstance(answer, Created):
                result.payout, result.replayed = answer.payout, answer.replayed
            else:
                result.refused, result.replayed = answer, answer.replayed
            self.display.update(run)

    async def _ask(self, row: PayoutRow) -> Created | Refused:
        """Ask for the row; a refusal is believed only if no payout has the row's reference.

        A stored refusal is replayed for ever, also after the row was paid under another key.
        """
        answer = await self._ask_once(row, row.key)
        if (
            isinstance(answer, Refused)
            and answer.replayed
            and answer.holder is None
            and self.again_suffix is not None
            and answer.code in {*_ASK_AGAIN_CODES, "already_refused"}
        ):
            return await self._ask_once(row, f"{row.key}-{self.again_suffix}")
        return answer

    async def _ask_once(self, row: PayoutRow, key: str) -> Created | Refused:
        answer = await self.client.create(row, key=key)
        if isinstance(answer, Created):
            return answer
        holder = await self.client.by_reference(row.reference)
        if holder is not None and _is_of(row, holder):
            return Created(holder, replayed=True)
        return replace(answer, holder=holder)

    async def _follow(self, run: Run) -> None:
        """Look at the open payouts, quickly while they change and slower while they do not."""
        pause_s = _POLL_MIN_S
        while self.clock.monotonic() < self.deadline:
            await self.clock.sleep(pause_s)
            waiting = [result for result in run.results if self._worth_waiting(result)]
            if not waiting:
                if run.asked:
                    return
                continue
            try:
                changed = await self._look(waiting)
            except NoAnswer:
                return
            pause_s = _POLL_MIN_S if changed else min(pause_s * _POLL_GROWTH, _POLL_MAX_S)
            if changed:
                self.display.update(run)

    async def _look(self, waiting: Sequence[RowResult]) -> bool:
        """Refresh some of the waiting payouts, in turn, so that no round asks for too many."""
        start = self._cursor % len(waiting)
        turn = [*waiting[start:], *waiting[:start]][:_POLL_IDS_MAX]
        self._cursor = start + len(turn)
        by_id = {result.payout.id: result for result in turn if result.payout is not None}
        changed = False
        ids = iter(by_id)
        while chunk := list(islice(ids, IDS_PER_QUERY)):
            for payout in await self.client.by_ids(chunk):
                result = by_id.get(payout.id)
                if result is None or result.payout is None:
                    continue
                changed = changed or payout.state != result.payout.state
                result.payout = payout
        return changed

    def _worth_waiting(self, result: RowResult) -> bool:
        """A payout that is due only after the deadline is left alone."""
        payout = result.payout
        if payout is None or not result.open:
            return False
        if (due := payout.due) is None:
            return True
        return due <= self.clock.wall() + timedelta(seconds=self.deadline - self.clock.monotonic())


def _is_of(row: PayoutRow, payout: Payout) -> bool:
    """Whether the payout moves what the row says, to where it says."""
    said = (row.body["amount"], row.body["currency"], row.body["beneficiary"]["iban"])
    return said == (payout.amount, payout.currency, payout.iban)
