"""The merchants' own programs: they ask, ask again, and try what they may not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta

from soak.asgi import Answer
from soak.faces import KEYS, MERCHANTS, PLACES, merchant_id
from soak.invariants import Checker
from soak.promises import REPLAYED_S
from soak.swarm import Plan
from soak.world import World

IBAN = "DE89370400440532013000"
TRIES_MAX = 30
CALM_TRIES = 8
"""Once faults have ended, a client is answered before it has asked so often."""
SHORT_OF_FUNDS = 4
"""How often a client asks anew, under another key, when it had not the funds."""
DONE = frozenset({200, 201, 202, 400, 401, 403, 404, 409, 422})


class Clients:
    """All clients of a schedule, and what they were told."""

    def __init__(self, world: World, alive: Callable[[], list[str]], checker: Checker) -> None:
        """`alive` names the places where a process stands now."""
        self._world = world
        self._alive = alive
        self._checker = checker
        self._asked: dict[tuple[int, str], datetime] = {}
        """When each (merchant, key) was used first, by the database's clock."""
        self.replies: dict[tuple[int, str], tuple[int, bytes]] = {}
        """The first final answer to each (merchant, key)."""
        self.payouts: dict[int, str] = {}
        """By plan: the payout that the client knows that it has."""
        self.waiting = 0
        self._sessions = 0

    def start(self) -> None:
        """Set them to work."""
        for plan in self._world.swarm.plans:
            self.waiting += 1
            self._world.go(self._follow(plan))

    async def _follow(self, plan: Plan) -> None:
        world = self._world
        await asyncio.sleep(plan.at_s)
        key, body = f"k-{plan.ordinal}", self._body(plan)
        if world.strikes("client.same_key_at_once"):
            world.go(self._create(plan, key, body))
        answer = await self._create(plan, key, body)
        for again in range(SHORT_OF_FUNDS):
            if answer is None or answer.status != 422:
                break
            await asyncio.sleep(world.tape.uniform(f"p{plan.number}.short", 0.5, 6.0))
            key = f"k-{plan.ordinal}-{again}"
            answer = await self._create(plan, key, body)
        if answer is not None and answer.status == 201:
            payout_id = json.loads(answer.body)["id"]
            self.payouts[plan.number] = payout_id
            if payout_id not in self._checker.payouts:
                world.broken("I25", f"a client has {payout_id}, the database has not")
            world.note(f"client{plan.number}", f"has {payout_id}")
            await self._bother(plan, key, body, payout_id)
        self.waiting -= 1

    async def _create(self, plan: Plan, key: str, body: bytes) -> Answer | None:
        """Ask for the payout. It is made, or the merchant had too little (I10)."""
        answer = await self._ask(plan, "/payouts", key, body)
        if answer is None or answer.status == 201 or self._is_past_its_life(plan, key, answer):
            return answer
        since = self._world.database_clock.virtual(self._asked[plan.merchant, key])
        free = self._checker.least_free(merchant_id(plan.merchant), plan.currency, since)
        fee = -(-plan.amount * self._world.swarm.fee_bps // 10_000)
        short = answer.status == 422 and free < plan.amount + fee
        if not short:
            self._world.broken("I10", f"{key} was answered {answer.status}, {free} were free")
        return answer

    async def _bother(self, plan: Plan, key: str, body: bytes, payout_id: str) -> None:
        world, name = self._world, f"p{plan.number}"
        if world.strikes("client.cancels"):
            await asyncio.sleep(60.0 * world.tape.unit(f"{name}.cancel") ** 2)
            answer = await self._ask(
                plan, f"/payouts/{payout_id}/cancel", f"c-{plan.ordinal}", b"{}"
            )
            self._expect(answer, {200, 409}, "I11", "cancel")
        if world.strikes("client.same_key_again"):
            await asyncio.sleep(world.tape.uniform(f"{name}.again", 0.0, 8.0))
            await self._create(plan, key, body)
        if world.strikes("client.same_reference"):
            answer = await self._ask(plan, "/payouts", f"r-{plan.ordinal}", body)
            self._expect(answer, {409}, "I9", "the same reference under another key")
        if world.strikes("client.other_body"):
            other = self._body(plan, amount=plan.amount + 1)
            answer = await self._post(plan.merchant, "/payouts", key, other)
            self._expect(answer, {422}, "I10", "the same key with another body")

        if world.strikes("client.retries"):
            for number in range(2):
                await asyncio.sleep(world.tape.uniform(f"{name}.retry", 1.0, 25.0))
                path, retry_key = f"/payouts/{payout_id}/retry", f"t-{plan.ordinal}-{number}"
                answer = await self._ask(plan, path, retry_key, b"{}")
                self._expect(answer, {200, 409, 422}, "I11", "retry")

    async def resolve(
        self, payout_id: str, plan_number: int, reference: str | None, *, early: bool = False
    ) -> bool:
        """Two persons say that an attempt was executed under `reference`, or that it was not.

        False if it is too early for people to say anything. `early`: it may still end by itself.
        """
        plan = next(plan for plan in self._world.swarm.plans if plan.number == plan_number)
        path = f"/payouts/{payout_id}/resolve"
        verdict = "not_executed" if reference is None else "executed"
        said: dict[str, str] = {"verdict": verdict, "evidence": "the provider's statement"}
        if reference is not None:
            said["provider_reference"] = reference
        body = json.dumps(said).encode()
        self._sessions += 1
        key = f"v-{payout_id[-8:]}-{self._sessions}"
        first = await self._post(plan.merchant, path, f"{key}-1", body)
        if first is None or first.status != 202:
            refused = first is not None and b"finality_window_open" not in first.body
            if refused and not early:
                self._expect(first, {202}, "I22", "what becomes of an attempt in question")
            return False
        same = await self._post(plan.merchant, path, f"{key}-2", body)
        # While things go on, it may have ended by itself, or another amount was told in between.
        self._expect(same, {202, 409} if early else {409}, "I16", "the same person's second word")
        other = await self._post(plan.merchant, path, f"{key}-3", body, person=1)
        wanted = {200, 202, 409} if early else {200}
        self._expect(other, wanted, "I22", "the second person's word")
        return other is not None and other.status == 200

    async def close_alert(self, merchant: int, incident_id: str) -> int | None:
        """A person of a merchant says that an alert is dealt with; the answer's status."""
        self._sessions += 1
        path = f"/payouts/ops/alerts/{incident_id}/resolve"
        key = f"a-{incident_id[-8:]}-{self._sessions}"
        answer = await self._post(merchant, path, key, b'{"note": "seen"}')
        self._expect(answer, {200, 409}, "I22", "the closing of an alert")
        return None if answer is None else answer.status

    def _expect(self, answer: Answer | None, wanted: set[int], number: str, what: str) -> None:
        if answer is not None and answer.status not in wanted:
            self._world.broken(number, f"{what} was answered {answer.status}")

    async def _ask(self, plan: Plan, path: str, key: str, body: bytes) -> Answer | None:
        """Ask under a key until there is a final answer: the same one each time (I10)."""
        answer = await self._post(plan.merchant, path, key, body)
        if answer is None:
            return None
        told = (answer.status, answer.body)
        first = self.replies.setdefault((plan.merchant, key), told)
        if first != told and not self._is_past_its_life(plan, key, answer):
            self._world.broken("I10", f"{key}: {first} and then {told}")
        return answer

    def _is_past_its_life(self, plan: Plan, key: str, answer: Answer) -> bool:
        """After 24 hours, and not before, a key is only told that it was used."""
        age = self._world.database_clock.wall() - self._asked[plan.merchant, key]
        used = answer.status == 409 and json.loads(answer.body)["code"].startswith("already_")
        return used and age.total_seconds() >= REPLAYED_S

    async def _post(
        self, merchant: int, path: str, key: str, body: bytes, *, person: int = 0
    ) -> Answer | None:
        world = self._world
        self._asked.setdefault((merchant, key), world.database_clock.wall())
        headers = {
            "authorization": f"Bearer {KEYS[merchant + person * MERCHANTS].text}",
            "idempotency-key": key,
            "content-type": "application/json",
        }
        pause_s, calm = 0.2, 0
        for _ in range(TRIES_MAX):
            calm += world.calm_at is not None
            places = self._alive()
            if places:
                place = PLACES[world.tape.pick("client.place", places)]
                answer = await place.serve("POST", path, headers, body)
                if answer is not None:
                    world.note(f"merchant{merchant}", f"POST {key}: {answer.status}")
                    if answer.status >= 500 and answer.status != 503:
                        world.broken("I10", f"{path} was answered {answer.status}: {answer.body!r}")
                    if answer.status in DONE:
                        return answer
            await asyncio.sleep(world.tape.uniform("client.pause", pause_s, 2 * pause_s))
            pause_s = min(pause_s * 2, 5.0)
        if calm > CALM_TRIES:
            world.broken("I22", f"{key} is not answered, {calm} times asked after the faults")
        return None

    def _body(self, plan: Plan, *, amount: int | None = None) -> bytes:
        body: dict[str, object] = {
            "reference": f"INV-{plan.ordinal}",
            "amount": plan.amount if amount is None else amount,
            "currency": plan.currency,
            "beneficiary": {"name": "Ada Lovelace", "iban": IBAN},
            "max_retries": plan.max_retries,
            "priority": plan.priority,
        }
        if plan.due_in_s:
            due = self._world.clock.wall() + timedelta(seconds=plan.due_in_s)
            body["due_at"] = due.isoformat()
        return json.dumps(body).encode()
