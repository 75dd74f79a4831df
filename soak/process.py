"""A process: API, engine and worker over ports that stop answering when it dies.

A dead process's code may run on to its next port, which never answers. So it changes nothing,
and nothing of it has to be unwound: no handler of ours runs that a SIGKILL would not have run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from bursar.bootstrap import RULES
from bursar.engine.engine import Engine
from bursar.kit.crashpoints import Side, Step
from bursar.kit.ids import SeededIds
from bursar.payouts import jobs as handlers
from bursar.payouts.jobs import Jobs
from bursar.rails.port import PayoutRail, WebhookVerifier
from bursar.worker.lanes import Lane
from soak.loop import SkewedClock
from soak.store import Database, NodeReads, NodeSession, NodeStore
from soak.world import World

CONCURRENCY = 4
NEVER_S = 1e7
"""The lanes' own polling: alarms stand for it, so that idle hours cost nothing."""
REST_S = 1.0


class Killed(BaseException):
    """The process died here. Not an Exception: no code of the product may catch it."""


class Platform(Protocol):
    """What a process is connected to."""

    @property
    def world(self) -> World:
        """Time, choices, record."""
        ...

    @property
    def database(self) -> Database:
        """The database that all processes share."""
        ...

    def rails_of(self, node: Node) -> Mapping[str, PayoutRail]:
        """The connectors of a process."""
        ...

    def verifiers(self) -> Mapping[str, WebhookVerifier]:
        """How providers sign."""
        ...

    def wake(self, topics: frozenset[str]) -> None:
        """Tell all processes of a commit."""
        ...

    def poll(self, node: Node, queue: str, after_s: float) -> None:
        """Let a process look at a queue again, after a while."""
        ...

    def respawn(self, node: Node) -> None:
        """Start a process in the place of a dead one, after a while."""
        ...


class Node:
    """One life of one process. Also its `CrashPoints`, and its luck with the database."""

    def __init__(self, platform: Platform, name: str, life: int) -> None:
        self.platform = platform
        self.world = world = platform.world
        self.name = name
        self.life = life
        self.alive = True
        self.died = asyncio.Event()
        self.clock = SkewedClock(world.loop, origin_s=1000.0 + 77.0 * (name == "B"))
        self.clock.skew_s = world.swarm.skew_max_s * (2 * world.tape.unit("clock.offset") - 1)
        self.ids = SeededIds(hash_of(world.tape.seed, name, life))
        store = NodeStore(platform.database, self, on_away=self._poll_again)
        self.engine = Engine(
            store,
            RULES,
            clock=self.clock,
            ids=self.ids,
            randomness=self.ids,
            on_wake=self._on_wake,
            crash=self,
        )
        self.jobs = Jobs(
            engine=self.engine,
            reads=NodeReads(platform.database, self),
            rails=platform.rails_of(self),
            verifiers=platform.verifiers(),
            clock=self.clock,
            ids=self.ids,
            randomness=self.ids,
            worker_id=self.ids.new("wrk"),
            crash=self,
        )
        self.wakes: dict[str, asyncio.Event] = {}
        self._lanes = [self._lane(store, queue, handler) for queue, handler in QUEUES.items()]

    def start(self) -> None:
        """Begin to work."""
        for lane in self._lanes:
            self.world.go(lane.run())

    def kill(self, where: str) -> None:
        """SIGKILL. The server rolls back what was not committed, when it notices."""
        if not self.alive:
            return
        self.alive = False
        self.died.set()
        self.world.note(self.name, f"dies {where}")
        for session in list(self.platform.database.sessions):
            if session.commit_state.node == self.label and not session.limbo:
                self.world.go(self._dispose(session))
        self.platform.respawn(self)

    @property
    def label(self) -> str:
        """The name of this life."""
        return f"{self.name}{self.life}"

    async def _dispose(self, session: NodeSession) -> None:
        applied = session.committing and self.world.tape.unit("dead.commit") >= 0.5
        await self.limbo()
        await session.end(applied=applied)

    # CrashPoints

    def reach(self, step: Step, side: Side) -> None:
        """Die here, if this seed wants it."""
        if not self.alive:
            raise Killed
        world = self.world
        point = f"{step}:{side}"
        world.reached[point] += 1
        swarm = world.swarm
        if point not in swarm.crash_targets or world.crashed.total() >= swarm.kills_max:
            return
        if world.tape.chance("crash.here", swarm.crash_rate):
            world.crashed[point] += 1
            self.kill(f"at {point}")
            raise Killed

    # Process

    def strikes(self, fault: str) -> bool:
        """See `soak.store.Process`."""
        return self.world.strikes(fault)

    async def latency(self) -> None:
        """A round trip to the server: mostly under 2 ms, at times up to 2 s."""
        world = self.world
        if not self.alive:
            await self.forever()
        low, high = 0.0002, 0.002
        if world.strikes("db.slow"):
            high = 2.0
        await asyncio.sleep(world.tape.uniform("db.latency", low, high))
        if not self.alive:
            await self.forever()

    async def limbo(self) -> None:
        """See `soak.store.Process`."""
        await asyncio.sleep(self.world.tape.uniform("db.limbo", 0.0, 1.5))

    async def forever(self) -> None:
        """See `soak.store.Process`."""
        if not self.alive:
            await asyncio.get_running_loop().create_future()

    # Lanes

    def _lane(self, store: NodeStore, queue: str, handler: Callable[[Jobs, str], Any]) -> Lane:
        wake = self.wakes[queue] = asyncio.Event()
        return Lane(
            store,
            queue,
            partial(self._work, queue, handler),
            concurrency=CONCURRENCY,
            poll_s=NEVER_S,
            rest_s=REST_S,
            wake=wake,
            excludes=queue not in NOT_EXCLUDING,
        )

    async def _work(self, queue: str, handler: Callable[[Jobs, str], Any], key: str) -> None:
        """Do a job; afterwards the queue is polled, since the key may be due again already."""
        rest_s = REST_S
        try:
            await handler(self.jobs, key)
            rest_s = 0.0
        finally:
            self.platform.poll(self, queue, rest_s + self.world.swarm.poll_s)

    def _on_wake(self, topics: frozenset[str]) -> None:
        if self.alive:
            self.platform.wake(topics)

    def _poll_again(self, queue: str) -> None:
        self.platform.poll(self, queue, self.world.swarm.poll_s)


QUEUES: dict[str, Callable[[Jobs, str], Any]] = {
    "payouts": handlers.send,
    "inbox": handlers.apply_event,
    "inquiries": handlers.ask,
    "resends": handlers.resend,
    "leases": handlers.take_over,
    "expiries": handlers.expire,
}
NOT_EXCLUDING = frozenset({"leases", "expiries"})


def hash_of(seed: int, name: str, life: int) -> int:
    """A seed for the identifiers of one life of one process."""
    return (seed * 1_000_003 + ord(name[0])) * 1_009 + life
