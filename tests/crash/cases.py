"""What happens at each crash point: which process dies, over which story, and what must be true.

A story gives work to the processes of a world until everything has ended. Told without a crash it
is the measure: its digest is what every other telling must come to (I25).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import httpx

from bursar.engine.model import Origin
from bursar.kit.crashpoints import Side, Step
from bursar.kit.ids import SystemIds
from bursar.payouts.commands import CreatePayout
from tests.crash.world import KILLED, World
from tests.e2e.platform import payout_body
from tests.engine.proxy import Cut, Proxy

AMOUNT: Final = 10_000
FEE: Final = 20
DEATH_S: Final = 90.0
AGAIN_S: Final = 5.0
"""So long at most it takes a process to come to its end, or to answer again."""
_ENDED: Final = ("settled", "failed", "cancelled", "dead_letter")
_STATES: Final = "SELECT state FROM payouts"

Document = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """Before or after a step by SIGKILL, or the socket cut right after COMMIT was sent."""

    side: Side | None = None
    cut: Cut | None = None

    def __str__(self) -> str:
        return f"cut.{self.cut.name.lower()}" if self.cut else str(self.side)


@dataclass(frozen=True)
class Case:
    """A process, the step at which it dies or is cut off, and the story that leads there."""

    process: str
    step: Step
    kind: Kind
    story: Story
    times: int = 1
    stored: bool | None = None
    """Of a client's write: whether it must be found stored when it is asked for again."""

    def __str__(self) -> str:
        story = self.story.__name__
        return f"{self.process} {self.step}:{self.kind}:{self.times} ({story})"

    @property
    def waits(self) -> bool:
        """Whether it lasts for long: a lease must end, or a deadline pass."""
        begun = self.step in {Step.PAYOUT_BEGIN, Step.PAYOUT_SUBMIT, Step.PAYOUT_RECORD}
        grouped = self.process == "worker" and self.step.startswith("engine.")
        return begun or grouped or self.story in {abandoned, resent} or self.kind.cut is Cut.SILENCE

    @property
    def crash_at(self) -> str | None:
        """What the process is told."""
        return f"{self.step}:{self.kind.side}:{self.times}" if self.kind.side else None


@dataclass
class Telling:
    """A story being told over a world: with a case's crash, or with none."""

    world: World
    case: Case | None = None
    proxy: Proxy | None = None
    notes: list[str] = field(default_factory=list)
    _dying: asyncio.Task[None] | None = None

    async def start(self, name: str) -> None:
        """Start a process; the case's own so that it dies, then again so that it does not."""
        case = self.case
        mine = case is not None and case.process == name
        if mine and case is not None and case.kind.cut is not None:
            self.proxy = await self.world.put_proxy(name)
            self.proxy.late_s = 0.1
            # The story's first writes of this process; its start makes none.
            self.proxy.cuts += [case.kind.cut]
        start = self.world.start_api if name == "api" else self.world.start_worker
        ended = await start(case.crash_at if mine and case is not None else None)
        if mine and case is not None and case.crash_at is not None:
            self._dying = asyncio.create_task(self._again(name, ended))

    async def _again(self, name: str, ended: asyncio.Future[int]) -> None:
        async with asyncio.timeout(DEATH_S):
            code = await asyncio.shield(ended)
        self.notes.append(f"{name} {code}")
        await (self.world.start_api() if name == "api" else self.world.start_worker())

    async def close(self) -> None:
        """Start nobody any more."""
        if self._dying is not None:
            self._dying.cancel()
            await asyncio.wait([self._dying])

    async def restarted(self) -> None:
        """Return when the process has died where it was told to, and its successor is there.

        Without a crash, or with a cut, at once.
        """
        if self.case is not None and self._dying is not None:
            await self._dying
            assert self.notes == [f"{self.case.process} {KILLED}"], self.notes

    async def write(self, path: str, body: Document, key: str) -> Document:
        """A client's write: sent, and where no answer came sent again under the same key.

        Then once more: the answer is the stored one, byte for byte (F2).
        """
        first = await self.world.post(path, body, key)
        if self.case is not None and self.case.process == "api":
            while self._dying is not None and not (self.notes or self._dying.done()):
                # Nobody has died of it: it may have been lost on its way in.
                await asyncio.wait([self._dying], timeout=AGAIN_S)
                if not self.notes:
                    first = await self.world.post(path, body, key) or first
            await self.restarted()
        second = await self._answer(path, body, key)
        third = await self._answer(path, body, key)
        for answer in (first, second, third):
            assert answer is None or answer.is_success, answer.text
            assert answer is None or answer.content == second.content
        replayed = "idempotency-replayed" in second.headers
        assert third.headers["idempotency-replayed"] == "true"
        if self.case is not None and self.case.stored is not None:
            assert replayed == self.case.stored, "F1, F2: stored exactly if it was committed"
        found: Document = second.json()
        return found

    async def _answer(self, path: str, body: Document, key: str) -> httpx.Response:
        """The answer to a write; a connection may turn out to be the dead process's."""
        async with asyncio.timeout(DEATH_S):
            while (answer := await self.world.post(path, body, key)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return answer

    async def ended(self) -> None:
        """Return when the process under test was killed and every payout has ended."""
        await self.restarted()
        await self.world.until(_STATES, lambda rows: all(row["state"] in _ENDED for row in rows))


Story = Callable[[Telling], Awaitable[None]]


async def _due(telling: Telling, **changes: Any) -> str:
    ids = SystemIds()
    payout_id = ids.new("po")
    create: Any = {
        "origin": Origin("per_test", "cor_test"),
        "merchant_id": telling.world.merchant_id,
        "payout_id": payout_id,
        "reference": "INV-1",
        "amount": AMOUNT,
        "currency": "EUR",
        "fee": FEE,
        "beneficiary_name": "Ana Silva",
        "beneficiary_iban": "DE89370400440532013000",
        "description": "",
        "priority": 1,
        "due_at": None,
        "max_retries": 3,
        "metadata": {},
    }
    await telling.world.submit(CreatePayout(**create | changes))
    return payout_id


async def created(telling: Telling) -> None:
    """A client creates a payout, which the bank executes at once."""
    await telling.world.start_bank(accept_async=0, decline=0)
    await telling.start("api")
    await telling.write("/payouts", payout_body("INV-1", amount=AMOUNT), "key-1")
    await telling.start("worker")
    await telling.ended()


async def cancelled(telling: Telling) -> None:
    """A client takes back a payout that is due tomorrow."""
    clock_ahead = timedelta(days=1)
    (now,) = await telling.world.rows("SELECT now() AS now")
    payout_id = await _due(telling, due_at=now["now"] + clock_ahead)
    await telling.world.start_bank(decline=0)
    await telling.start("api")
    await telling.write(f"/payouts/{payout_id}/cancel", {"reason": "mistake"}, "key-2")
    await telling.ended()


async def paid(telling: Telling) -> None:
    """A worker sends a payout, which the bank executes at once."""
    await _due(telling)
    await telling.world.start_bank(accept_async=0, decline=0)
    await telling.start("worker")
    await telling.ended()


async def told(telling: Telling) -> None:
    """The bank accepts a payout and tells by webhook that it was executed."""
    await _due(telling)
    await telling.world.start_bank(accept_async=1, decline=0)
    await telling.start("api")
    await telling.start("worker")
    await telling.ended()
    await telling.world.until(
        "SELECT result FROM inbox", lambda rows: bool(rows) and all(row["result"] for row in rows)
    )


async def unanswered(telling: Telling) -> None:
    """The bank executes a payout and never answers; it is asked."""
    await _due(telling)
    await telling.world.start_bank(timeout_executed=1, decline=0, hold_s=0.1)
    await telling.start("worker")
    await telling.ended()


async def abandoned(telling: Telling) -> None:
    """A worker dies with a lease; another takes over, and the bank knows of nothing."""
    await _due(telling)
    await telling.world.start_bank(accept_async=0, decline=0)
    first = await telling.world.start_worker("payout.submit:before")
    async with asyncio.timeout(DEATH_S):
        assert await asyncio.shield(first) == KILLED
    await telling.start("worker")
    await telling.ended()


async def expired(telling: Telling) -> None:
    """A payout's time runs out before a worker is there."""
    await _due(telling)
    await telling.world.rows("UPDATE payouts SET expires_at = now()")
    await telling.world.start_bank(decline=0)
    await telling.start("worker")
    await telling.ended()


async def resent(telling: Telling) -> None:
    """The off-ramp never gets an order; it gets the same again under the same key."""
    await _due(telling, currency="USDC")
    await telling.world.start_bank(
        **{"offramp.lost": 1, "offramp.hold_s": 0.1, "offramp.decline": 0}
    )
    await telling.start("api")
    await telling.start("worker")
    await telling.world.until(
        "SELECT state FROM attempts", lambda rows: [row["state"] for row in rows] == ["unknown"]
    )
    await telling.world.turn("offramp", lost=0)
    await telling.ended()


STORIES: Final[tuple[Story, ...]] = (
    *(created, cancelled, paid, told, unanswered, resent, abandoned, expired),
)
BEFORE, AFTER = Kind(Side.BEFORE), Kind(Side.AFTER)
CUTS: Final = tuple(Kind(cut=cut) for cut in Cut)
CAN_BE_CUT: Final = frozenset({Step.ENGINE_COMMIT})
"""COMMIT alone is sent by us, takes effect, and can lose its answer where nobody may repeat it.

A provider's lost answer is the simulator's to make: F9, F10, F14.
"""


def both(process: str, step: Step, story: Story, *, times: int = 1) -> tuple[Case, Case]:
    """Death before the step, and after it."""
    return (
        Case(process, step, BEFORE, story, times),
        Case(process, step, AFTER, story, times),
    )


API_CASES: Final = (
    Case("api", Step.ENGINE_WRITE, BEFORE, created, stored=False),
    Case("api", Step.ENGINE_WRITE, AFTER, created, stored=False),
    Case("api", Step.ENGINE_COMMIT, BEFORE, created, stored=False),
    Case("api", Step.ENGINE_COMMIT, AFTER, created, stored=True),
    Case("api", Step.ENGINE_ANSWER, BEFORE, created, stored=True),
    Case("api", Step.ENGINE_ANSWER, AFTER, created, stored=True),
    Case("api", Step.API_REPLY, BEFORE, created, stored=True),
    Case("api", Step.API_REPLY, AFTER, created, stored=True),
    Case("api", Step.API_REPLY, BEFORE, cancelled, stored=True),
    Case("api", Step.API_REPLY, AFTER, cancelled, stored=True),
    *both("api", Step.INBOX_STORE, told),
    *(Case("api", Step.ENGINE_COMMIT, kind, created, stored=True) for kind in CUTS),
)
WORKER_CASES: Final = (
    # The first group takes the lease, the second records the reply.
    *both("worker", Step.ENGINE_WRITE, paid),
    *both("worker", Step.ENGINE_COMMIT, paid),
    *both("worker", Step.ENGINE_ANSWER, paid),
    *both("worker", Step.ENGINE_WRITE, paid, times=2),
    *both("worker", Step.ENGINE_COMMIT, paid, times=2),
    *both("worker", Step.ENGINE_ANSWER, paid, times=2),
    *both("worker", Step.PAYOUT_BEGIN, paid),
    *both("worker", Step.PAYOUT_SUBMIT, paid),
    *both("worker", Step.PAYOUT_RECORD, paid),
    *both("worker", Step.PAYOUT_INQUIRE, unanswered),
    *both("worker", Step.PAYOUT_LEARN, unanswered),
    *both("worker", Step.PAYOUT_RESEND, resent),
    *both("worker", Step.PAYOUT_TAKE_OVER, abandoned),
    *both("worker", Step.PAYOUT_EXPIRE, expired),
    *both("worker", Step.INBOX_APPLY, told),
    *(Case("worker", Step.ENGINE_COMMIT, kind, paid) for kind in CUTS),
)
