"""One seeded schedule: faults, then calm, then the checks of the end."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog

from bursar.bootstrap import RULES, VERIFIERS
from bursar.engine.group import Again, Submission, execute_group, raise_or_value
from bursar.engine.model import Command, Origin
from bursar.identity.commands import CreateMerchant
from bursar.kit.crashpoints import Side, Step
from bursar.kit.ids import SeededIds
from bursar.ledger.commands import FundAccount
from bursar.payouts.memory import new_store
from bursar.rails.bank.adapter import BankRail
from bursar.rails.offramp.adapter import OfframpRail
from bursar.rails.port import PayoutRail, WebhookVerifier
from bursar_sim.provider.knobs import Knobs
from bursar_sim.providers import Provider, build
from bursar_sim.signing import signature
from soak.clients import Clients
from soak.faces import PLACES, SECRETS, merchant_id
from soak.invariants import Checker, rows_of
from soak.judgement import judge, provider_seed, unfinished
from soak.loop import VirtualLoop
from soak.people import People
from soak.process import Node
from soak.store import Commit, Database, Founder, NodeStore
from soak.swarm import draw
from soak.tape import Draws, Tape
from soak.wire import NodePoster, NodeTransport, Wire
from soak.world import Violation, World

T = TypeVar("T")
POINTS = [f"{step}:{side}" for step in Step for side in Side]
PROVIDERS = ["bank", "offramp"]
LIVENESS_S = 1800.0
"""Longer than any pause: of a back-off, of questions, of a webhook that comes late."""
QUIET_S = 90.0
SETTLED_S = 30.0
"""Of an outage: after it every request has ended, and all windows have closed."""
ORIGIN = Origin("per_soak", "cor_soak")


class Result(msgspec.Struct):
    """What became of a schedule."""

    seed: int
    violation: Violation | None
    digest: str
    fired: Counter[str]
    reached: Counter[str]
    crashed: Counter[str]
    draws: Draws
    lines: list[str]
    commits: int
    virtual_s: float
    ends: Counter[str]


class Schedule:
    """All parts of one schedule, wired. Implements `process.Platform`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tape: Tape,
        bias: Mapping[str, float],
        database: Database | None = None,
    ) -> None:
        """`database` is empty, and by itself a twin."""
        self.world = World(loop, tape, draw(tape, POINTS, PROVIDERS, bias))
        self.wire = Wire(self.world)
        self.database = database or Database(new_store(self.world.database_clock))
        self.database.on_commit = self._committed
        self.checker = Checker(self.world, self.wire, self.database.memory)
        self.commits = 0
        self.lives = Counter[str]()
        self.nodes: dict[str, Node] = {}
        self.providers: dict[str, Provider] = {
            name: build(
                name,
                data=None,
                seed=provider_seed(self.world),
                knobs=Knobs(**self.world.swarm.knobs[name]),
                clock=self.world.clock,
                poster=NodePoster(self.world, name, self._webhook),
                workers=4,
            )
            for name in PROVIDERS
        }
        self.clients = Clients(self.world, self._alive, self.checker)
        self.people = People(self.world, self.clients, self.checker, self.providers)
        self._up = asyncio.Event()
        self._down_until = 0.0

    # Platform

    def rails_of(self, node: Node) -> Mapping[str, PayoutRail]:
        """See `process.Platform`."""
        bank, offramp = (
            NodeTransport(self.wire, node, name, self.providers[name].app) for name in PROVIDERS
        )
        return {
            "bank": BankRail(bank, api_key="sandbox-bank-key"),
            "offramp": OfframpRail(offramp, api_key="sandbox-offramp-key"),
        }

    def verifiers(self) -> Mapping[str, WebhookVerifier]:
        """See `process.Platform`."""
        return VERIFIERS

    def wake(self, topics: frozenset[str]) -> None:
        """Notify every process, if the notification is not lost; polling finds it anyway."""
        for topic in sorted(topics):
            for name in sorted(self.nodes):
                if not self.world.strikes("wake.lost"):
                    delay = self.world.tape.uniform("wake.delay", 0.0005, 0.005)
                    self._ring(name, topic, delay)

    def poll(self, node: Node, queue: str, after_s: float) -> None:
        """See `process.Platform`."""
        self._ring(node.name, queue, after_s)

    def respawn(self, node: Node) -> None:
        """See `process.Platform`."""
        self._up.clear()
        delay = self.world.tape.uniform("respawn.after", 0.0, self.world.swarm.respawn_s)
        delay += max(0.0, self._down_until - self.world.loop.time())
        self.world.loop.call_later(delay, self.spawn, node.name)

    # Life

    def spawn(self, name: str) -> None:
        """Start a process in this place."""
        if self.world.over.is_set():
            return
        if self.world.loop.time() < self._down_until:
            self.world.loop.call_at(self._down_until, self.spawn, name)
            return
        self.lives[name] += 1
        node = Node(self, name, self.lives[name])
        self.nodes[name] = node
        PLACES[name].occupy(node, self.verifiers(), self.world.swarm.fee_bps)
        self.world.note(node.label, "starts")
        node.start()
        self._up.set()

    def _alive(self) -> list[str]:
        return [name for name in sorted(self.nodes) if self.nodes[name].alive]

    def _ring(self, name: str, queue: str, after_s: float) -> None:
        def ring() -> None:
            node = self.nodes.get(name)
            if node is not None and node.alive:
                node.wakes[queue].set()

        self.world.loop.call_later(max(after_s, 0.0), ring)

    async def _webhook(self, headers: dict[str, str], body: bytes) -> int | None:
        while not self._alive():
            await self._up.wait()
        place = PLACES[self.world.tape.pick("hook.place", self._alive())]
        for fault, garble in (("hook.foreign", _of_another), ("hook.unreadable", _unreadable)):
            if self.world.strikes(fault):
                more = _signed(headers, garble(json.loads(body)))
                await place.serve("POST", "/webhooks/provider", *more)
        answer = await place.serve("POST", "/webhooks/provider", headers, body)
        return None if answer is None else answer.status

    # Database

    def _committed(self, commit: Commit) -> None:
        self.commits += 1
        self.checker.commit(commit)
        for table, row in commit.inserted:
            self._alarm(table.name, row)
        for table, _, row in commit.updated:
            self._alarm(table.name, row)

    def _alarm(self, table: str, row: Any) -> None:
        """Let every process look at a queue when a row of it falls due, as its polling would."""
        for queue, moment in _due(table, row):
            wait = (moment - self.world.database_clock.wall()).total_seconds()
            for name in ("A", "B"):
                poll_s = self.world.swarm.poll_s * self.world.tape.unit(f"poll.{queue}")
                self._ring(name, queue, max(wait, 0.0) + 0.001 + poll_s)

    # Phases

    async def play(self) -> None:
        """Safety, calm, liveness, judgement."""
        world = self.world
        await self._found()
        for provider in self.providers.values():
            provider.start()
        for name in ("A", "B"):
            self.spawn(name)
        self.clients.start()
        world.go(self._drift())
        world.go(self.people.act(self._up))
        if world.swarm.rates["node.killed"]:
            world.go(self._reaper())
        if world.swarm.outage is not None:
            world.go(self._fall(*world.swarm.outage))
        await self._pass(world.swarm.safety_s)
        if self._down_until:
            await self._pass(max(0.0, self._down_until - world.loop.time()) + world.swarm.safety_s)
        self._calm()
        await self._pass(world.swarm.respawn_s)
        await self._live()
        if world.swarm.people and await self.people.resolve():
            await self._live()
        await self._pass(QUIET_S)
        self._count_knobs()
        if not world.over.is_set():
            judge(
                world,
                self.checker,
                self.wire,
                self.providers,
                self.people.resolved,
                self.people.let_go,
            )

    async def _live(self) -> None:
        """Without faults everything ends, or waits for people (I22, I23)."""
        world = self.world
        deadline = world.loop.time() + LIVENESS_S
        while not world.over.is_set():
            await self._pass(QUIET_S)
            if not self.clients.waiting and not self._unfinished():
                break
            if world.loop.time() > deadline:
                left = self._unfinished()
                world.broken("I22", "; ".join(left[:3]) or "a client waits for ever")

    def _unfinished(self) -> list[str]:
        return unfinished(self.world, self.checker, self.providers)

    async def _fall(self, after_s: float, lasts_s: float) -> None:
        """All processes stop, for long."""
        await asyncio.sleep(after_s)
        self.world.fired["outage"] += 1
        self._down_until = self.world.loop.time() + lasts_s
        for name in self._alive():
            self.nodes[name].kill("in the outage")
        await asyncio.sleep(SETTLED_S)
        self._jump()

    def _jump(self) -> None:
        """The database's clock is put ahead, while no process runs that could have read it."""
        world = self.world
        if world.strikes("clock.database_jumps"):
            ahead = world.tape.pick("clock.ahead", (40.0, 700.0, 90_000.0))
            world.note("database", f"its clock is put ahead by {ahead:.0f} s")
            world.database_clock.jump(ahead)
            for name in ("payouts", "attempts", "inbox"):
                for row in rows_of(self.checker.memory, name):
                    self._alarm(name, row)

    async def _drift(self) -> None:
        """Processes' clocks are set to other times while they run."""
        world = self.world
        while world.swarm.skew_max_s:
            await asyncio.sleep(world.tape.uniform("clock.drift_after", 2.0, 12.0))
            await self._up.wait()
            alive = self._alive()
            if alive and world.strikes("clock.skew_changes"):
                node = self.nodes[world.tape.pick("clock.node", alive)]
                node.clock.skew_s = world.swarm.skew_max_s * (
                    2 * world.tape.unit("clock.offset") - 1
                )

    async def _pass(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.world.over.wait(), seconds)

    def _calm(self) -> None:
        world = self.world
        world.note("world", "faults end")
        world.calm_at = world.loop.time()
        self.people.hurried = False
        world.swarm.calm()
        for provider in self.providers.values():
            provider.knobs = Knobs(
                decline=0.0, settle_delay_s=0.05, timeout_not_executed=1.0 * world.swarm.deaf
            )
        for node in self.nodes.values():
            node.clock.skew_s = 0.0

    async def _reaper(self) -> None:
        """Kill processes between the named points, too."""
        world = self.world
        while world.swarm.kills_max:
            await asyncio.sleep(world.tape.uniform("reaper.pause", 0.3, 4.0))
            await self._up.wait()
            alive = self._alive()
            if (
                alive
                and world.crashed.total() < world.swarm.kills_max
                and world.strikes("node.killed")
            ):
                world.crashed["anywhere"] += 1
                self.nodes[world.tape.pick("reaper.node", alive)].kill("anywhere")

    def _count_knobs(self) -> None:
        for name, provider in self.providers.items():
            for knob, times in provider.fired().items():
                self.world.fired[f"knob.{name}.{knob}"] += times

    async def _found(self) -> None:
        """Merchants, accounts and money, before anything can go wrong."""
        swarm = self.world.swarm
        ids = SeededIds(self.world.tape.seed)
        commands: list[Command[Any]] = []
        for number in range(swarm.merchants):
            commands.append(
                CreateMerchant(
                    origin=ORIGIN,
                    merchant_id=merchant_id(number),
                    name=f"Merchant {number}",
                    currencies=("EUR", "USDC"),
                    payout_fee_bps=swarm.fee_bps,
                )
            )
            commands.extend(
                FundAccount(
                    origin=ORIGIN,
                    merchant_id=merchant_id(number),
                    currency=currency,
                    amount=swarm.funds,
                )
                for currency in ("EUR", "USDC")
            )
        for command in commands:
            await self._do(command, ids)

    async def _do(self, command: Command[Any], ids: SeededIds) -> None:
        session = await NodeStore(self.database, Founder(), on_away=_unasked).begin()
        verdicts, _ = await execute_group(
            [Submission(command)], session, group_id=ids.new("grp"), ids=ids, rules=RULES
        )
        (verdict,) = verdicts
        if isinstance(verdict, Again):
            raise TypeError("nothing here is undecided")
        raise_or_value(verdict)
        await session.commit()


def _of_another(event: dict[str, Any]) -> dict[str, Any]:
    """An event about a payment that is not ours."""
    key = "end_to_end_id" if "end_to_end_id" in event["data"] else "client_reference"
    other = "Z" if key == "client_reference" else "z"
    data = event["data"] | {key: event["data"][key][:-1] + other}
    return event | {"event_id": event["event_id"] + "_x", "data": data}


def _unreadable(event: dict[str, Any]) -> dict[str, Any]:
    """An event of a kind that no contract names."""
    return event | {"event_id": event["event_id"] + "_u", "type": "unheard_of"}


def _signed(headers: dict[str, str], event: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Well signed by the provider whose event the headers come from."""
    name, timestamp = headers["x-provider-id"], headers["x-webhook-timestamp"]
    body = json.dumps(event).encode()
    signed = signature(SECRETS[name], name, int(timestamp), body)
    return headers | {"x-webhook-signature": signed}, body


def _unasked(_queue: str) -> None:
    """No queue is read."""


def _due(table: str, row: Any) -> Iterator[tuple[str, datetime]]:
    """The queues that a row will be due in, and when."""
    if table == "payouts" and row.state == "funds_locked":
        if row.next_attempt_at is not None:
            yield "payouts", row.next_attempt_at
        yield "expiries", row.expires_at
    elif table == "attempts":
        if row.state == "sending":
            yield "leases", row.lease_until
        if row.inquire_at is not None:
            yield "inquiries", row.inquire_at
        if row.resend_at is not None:
            yield "resends", row.resend_at
    elif table == "inbox" and row.next_try_at is not None:
        yield "inbox", row.next_try_at


@contextmanager
def silence() -> Iterator[None]:
    """No logging: what a schedule tells is its trace."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("critical"),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def run(
    seed: int,
    *,
    draws: Draws | None = None,
    dropped: frozenset[int] = frozenset(),
    bias: Mapping[str, float] | None = None,
) -> Result:
    """Play one schedule: that of a seed, or of a recorded tape. Call within `silence`.

    `bias` forces rates by name: a fault's, `provider.knob`, or a swarm option's.
    """
    loop = VirtualLoop()
    tape = Tape(seed, draws, dropped=dropped)
    return run_on(loop, _play(loop, tape, bias or {}))


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop of its own to its end."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        if collecting:
            gc.enable()


async def _play(loop: VirtualLoop, tape: Tape, bias: Mapping[str, float]) -> Result:
    return await played(Schedule(loop, tape, bias), tape)


async def played(schedule: Schedule, tape: Tape) -> Result:
    """Play a schedule to its end and let go of all its tasks."""
    await schedule.play()
    result = _result(schedule, tape)
    await _end(schedule)
    return result


async def _end(schedule: Schedule) -> None:
    schedule.world.over.set()
    for provider in schedule.providers.values():
        await provider.close()
    for node in schedule.nodes.values():
        node.alive = True  # what hangs at a port may go on, to be cancelled
    own = asyncio.current_task()
    for _ in range(8):
        tasks = [task for task in asyncio.all_tasks() if task is not own]
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)
    for task in asyncio.all_tasks():
        if task.done() and not task.cancelled():
            task.exception()


def _result(schedule: Schedule, tape: Tape) -> Result:
    world = schedule.world
    return Result(
        seed=tape.seed,
        violation=world.violation,
        digest=world.digest(),
        fired=world.fired,
        reached=world.reached,
        crashed=world.crashed,
        draws=tape.taken,
        lines=world.lines(),
        commits=schedule.commits,
        virtual_s=world.loop.time(),
        ends=Counter(payout.state for payout in schedule.checker.payouts.values()),
    )
