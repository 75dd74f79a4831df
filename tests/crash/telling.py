"""A story, told over a world: with a death, with cuts, or undisturbed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from bursar.kit.crashpoints import Side, Step
from tests.crash.aim import AimedProxy
from tests.crash.world import KILLED, World
from tests.engine.proxy import Cut

DEATH_S: Final = 90.0
AGAIN_S: Final = 5.0
"""So long at most it takes a process to come to its end, or to answer again."""
_ENDED: Final = ("settled", "failed", "cancelled", "dead_letter")
_STATES: Final = "SELECT state FROM payouts"

Document = dict[str, Any]


@dataclass(frozen=True)
class Death:
    """A process, the step before or after which it dies, and the story that leads there."""

    process: str
    step: Step
    side: Side
    story: Story
    times: int = 1
    stored: bool | None = None
    """Of a client's write: whether it must be found stored when it is asked for again."""

    def __str__(self) -> str:
        return f"{self.process} {self.crash_at} ({self.story.__name__})"

    @property
    def crash_at(self) -> str:
        """What the process is told."""
        return f"{self.step}:{self.side}:{self.times}"


@dataclass(frozen=True)
class Severing:
    """How COMMIT is cut, and the commands, by process, whose first COMMIT is cut in a story."""

    cut: Cut
    story: Story
    api: frozenset[str] = frozenset()
    worker: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"cut.{self.cut.name.lower()} of {sorted(self.commands)} ({self.story.__name__})"

    @property
    def commands(self) -> frozenset[str]:
        """All of them. Each is settled before the next is cut: they share a world."""
        return self.api | self.worker


Case = Death | Severing


@dataclass
class Telling:
    """A story being told over a world: with a case's crash or cuts, or with none."""

    world: World
    case: Case | None = None
    proxies: list[AimedProxy] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _dying: asyncio.Task[None] | None = None

    async def start(self, name: str) -> None:
        """Start a process; the case's own so that it dies, then again so that it does not."""
        case = self.case
        crash_at = case.crash_at if isinstance(case, Death) and case.process == name else None
        if isinstance(case, Severing):
            commands = case.api if name == "api" else case.worker
            self.proxies.append(await self.world.put_proxy(name, case.cut, commands))
        start = self.world.start_api if name == "api" else self.world.start_worker
        ended = await start(crash_at)
        if crash_at is not None:
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

        Without a death at once.
        """
        if isinstance(self.case, Death) and self._dying is not None:
            await self._dying
            assert self.notes == [f"{self.case.process} {KILLED}"], self.notes

    def came(self) -> None:
        """Fail if a COMMIT was not cut that was to be."""
        left = {name for proxy in self.proxies for name in proxy.left}
        assert not left, f"never cut: {sorted(left)}"

    async def write(self, path: str, body: Document, key: str, *, by: int = 0) -> Document:
        """A client's write: sent, and where no answer came sent again under the same key.

        Then once more: the answer is the stored one, byte for byte (F2). `by` is a person.
        """

        async def post() -> httpx.Response | None:
            return await self.world.post(path, body, key, by=by)

        first = await post()
        case = self.case
        if isinstance(case, Death) and case.process == "api":
            while self._dying is not None and not (self.notes or self._dying.done()):
                # Nobody has died of it: it may have been lost on its way in.
                await asyncio.wait([self._dying], timeout=AGAIN_S)
                if not self.notes:
                    first = await post() or first
            await self.restarted()
        second, third = await _answer(post), await _answer(post)
        for answer in (first, second, third):
            assert answer is None or answer.is_success, answer.text
            assert answer is None or answer.content == second.content
        replayed = "idempotency-replayed" in second.headers
        assert third.headers["idempotency-replayed"] == "true"
        if isinstance(case, Death) and case.stored is not None:
            assert replayed == case.stored, "F1, F2: stored exactly if it was committed"
        if isinstance(case, Severing):
            assert first is not None, "F8: a lost COMMIT is settled before the client is answered"
            assert replayed
        found: Document = second.json()
        return found

    async def ended(self) -> None:
        """Return when the process under test was killed and every payout has ended."""
        await self.restarted()
        await self.world.until(_STATES, lambda rows: all(row["state"] in _ENDED for row in rows))


Story = Callable[[Telling], Awaitable[None]]


async def _answer(post: Callable[[], Awaitable[httpx.Response | None]]) -> httpx.Response:
    """The answer to a write; a connection may turn out to be the dead process's."""
    async with asyncio.timeout(DEATH_S):
        while (answer := await post()) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return answer
