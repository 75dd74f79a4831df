"""Operators: they say what became of attempts, and close alerts, while faults go on or later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bursar_sim.providers import Provider
from soak.clients import Clients
from soak.faces import merchant_id
from soak.invariants import Checker, rows_of
from soak.judgement import attempts_in_question
from soak.world import World

CLOSED, REFUSED = 200, 409


class People:
    """The merchants' operators. They read the providers' books, and may err only in haste."""

    def __init__(
        self,
        world: World,
        clients: Clients,
        checker: Checker,
        providers: Mapping[str, Provider],
    ) -> None:
        """`hurried`: they act while faults go on."""
        self._world = world
        self._clients = clients
        self._checker = checker
        self._providers = providers
        self.hurried = True
        self.resolved: set[str] = set()
        """Payouts of which they said something: what it cost nobody told us."""
        self.let_go: set[str] = set()
        """Payouts of which they said that what was executed is not what was asked for."""

    async def act(self, up: asyncio.Event) -> None:
        """Do not wait until the faults are over. `up` is set while processes run."""
        world = self._world
        while self.hurried:
            await asyncio.sleep(world.tape.uniform("people.after", 1.0, 8.0))
            await up.wait()
            if world.strikes("people.hurry") and await self.resolve(early=True):
                world.fired["people.resolve_early"] += 1
            if world.strikes("people.close"):
                await self._close_an_alert()

    async def _close_an_alert(self) -> None:
        """A person takes any open alert for done; some may not be closed."""
        merchants = {merchant_id(number): number for number in range(self._world.swarm.merchants)}
        alerts = [
            incident
            for incident in rows_of(self._checker.memory, "incidents")
            if incident.closed_at is None and incident.merchant_id in merchants
        ]
        if alerts:
            alert = self._world.tape.pick("people.alert", alerts)
            status = await self._clients.close_alert(merchants[alert.merchant_id], alert.id)
            self._world.fired["people.alert_closed"] += status == CLOSED
            self._world.fired["people.alert_refused"] += status == REFUSED

    async def resolve(self, *, early: bool = False) -> bool:
        """People end the attempts in question by the provider's truth, where books can follow it.

        What was executed otherwise than asked was not executed: its amount is for reconciliation.
        `early` is while faults go on. They name a payout, not its attempt: so not where the
        provider may still execute after its window, when another attempt is open.
        """
        numbers = {payout_id: number for number, payout_id in self._clients.payouts.items()}
        done = False
        for payout_id, attempt in attempts_in_question(self._checker):
            if early and self._world.swarm.knobs[attempt.provider]["worse"]:
                continue
            truth = self._providers[attempt.provider].truth(attempt.provider_key)
            amounts = [(line.amount, line.currency) for line in truth.debits]
            asked = (attempt.amount, attempt.currency)
            strange = bool(amounts) and asked not in amounts
            if payout_id not in numbers or not (strange or amounts in ([], [asked])):
                continue
            reference = truth.debits[0].reference if truth.debits and not strange else None
            number = numbers[payout_id]
            if strange:
                self.let_go.add(payout_id)
            if await self._clients.resolve(payout_id, number, reference, early=early):
                self.resolved.add(payout_id)
                self._world.fired["people.resolve"] += 1
                self._world.fired["people.let_go"] += strange
                done = True
        return done
