"""What must hold at the end: the providers' own statements are the judge of what was paid."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta

import msgspec

from bursar.payouts.model import Attempt, Payout
from bursar.rails.contracts import CONTRACTS
from bursar_sim.provider.model import Line
from bursar_sim.providers import Provider
from soak.invariants import Checker, at, rows_of
from soak.loop import EPOCH_MS
from soak.wire import Wire
from soak.world import World

ENDED = frozenset({"settled", "returned", "failed", "cancelled", "dead_letter"})
OPEN = frozenset({"sending", "unknown", "accepted"})
ABOUT_AMOUNTS = frozenset({"amount_mismatch", "return_exceeds_settled"})
"""Incidents that speak of an amount that nobody asked for."""


def open_incidents(checker: Checker) -> dict[str, set[str]]:
    """Kinds of open incidents, by subject."""
    found: dict[str, set[str]] = defaultdict(set)
    for incident in rows_of(checker.memory, "incidents"):
        if incident.closed_at is None:
            found[incident.subject_id].add(incident.kind)
    return found


def open_attempts(checker: Checker) -> list[tuple[str, Attempt]]:
    """(payout, attempt) of all attempts that are open."""
    return [
        (payout_id, attempt)
        for payout_id, attempts in checker.attempts.items()
        for attempt in attempts.values()
        if attempt.state in OPEN
    ]


def unfinished(checker: Checker) -> list[str]:
    """What is neither ended nor before a human (I22, I23)."""
    incidents = open_incidents(checker)
    left = [
        f"{payout.id} is {payout.state}"
        for payout in checker.payouts.values()
        if payout.state not in ENDED and not incidents[payout.id]
    ]
    left += [
        f"{attempt.id} is {attempt.state}"
        for attempts in checker.attempts.values()
        for attempt in attempts.values()
        if attempt.state in OPEN and not incidents[attempt.payout_id]
    ]
    left += [
        f"event {event.event_id} is not applied"
        for event in rows_of(checker.memory, "inbox")
        if not event.result
    ]
    return left


class Moved(msgspec.Struct):
    """The providers' statement lines about one payout, in order of booking, by (provider, key)."""

    lines: dict[tuple[str, str], list[Line]] = msgspec.field(default_factory=dict)

    def executions(self) -> list[tuple[str, Line]]:
        """(provider, line) of each."""
        return [
            (provider, line)
            for (provider, _), lines in self.lines.items()
            for line in lines
            if line.kind == "debit"
        ]

    def readings(self, looked_at: set[str]) -> Iterator[Counter[str]]:
        """Sums by kind that the books may show.

        Of two executions under one key the books follow one, with an incident about the other.
        """
        choices: list[list[Counter[str]]] = []
        for lines in self.lines.values():
            references = {line.reference for line in lines}
            wanted: list[set[str]] = [references]
            if len(references) > 1 and "second_reference" in looked_at:
                wanted = [{reference} for reference in sorted(references)]
            choices.append([_sums(lines, chosen) for chosen in wanted])
        for chosen in itertools.product(*choices):
            yield sum(chosen, start=Counter())


def _sums(lines: list[Line], references: set[str]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for line in lines:
        if line.reference in references:
            sums[line.kind] += line.amount
    return sums


def judge(
    world: World,
    checker: Checker,
    wire: Wire,
    providers: Mapping[str, Provider],
    resolved: AbstractSet[str],
) -> None:
    """All checks of the end. Of the payouts `resolved` by people nobody told us the cost."""
    incidents = open_incidents(checker)
    for event in rows_of(checker.memory, "inbox"):
        if event.result in {"unmatched", "dead_letter"} and not incidents[event.event_id]:
            world.broken("I23", f"event {event.event_id} is {event.result} without an incident")
    moved: dict[str, Moved] = defaultdict(Moved)
    for name, provider in providers.items():
        for line in provider.statement():
            payout_id = checker.keys.get((name, line.key))
            if payout_id is None:
                world.broken("I8", f"{name} moved money under {line.key}, not a key of ours")
            else:
                moved[payout_id].lines.setdefault((name, line.key), []).append(line)
    flips = any(world.fired[f"knob.{name}.flip"] for name in providers)
    for payout_id, payout in checker.payouts.items():
        # A provider called failed, by a code that its contract calls definitive, what it carried
        # out after all; and later than that a person had it sent again. No rule of ours can tell.
        if not (flips and _reopened_late(checker, wire, payout_id)):
            _executions(world, wire, payout_id, moved[payout_id].executions(), incidents[payout_id])
        told = incidents[payout_id]
        _books(world, checker, payout, moved[payout_id], told, costs=payout_id not in resolved)


def _books(
    world: World, checker: Checker, payout: Payout, moved: Moved, told: set[str], *, costs: bool
) -> None:
    """I8: the ledger's transfers against the statement; and the fee, once and only if it left."""
    booked, readings = _booked(checker, payout.id), list(moved.readings(told))
    if not costs:
        for sums in (booked, *readings):
            del sums["cost"]
    strange = any(
        (line.amount, line.currency) != (payout.amount, payout.currency)
        for _, line in moved.executions()
    )
    if strange and not told:
        world.broken("F18", f"{payout.id}: another amount was executed, and nobody was told")
    if not strange and booked not in readings:
        world.broken("I8", f"{payout.id}: books {dict(booked)}, statement {readings}")
    if not strange and told & ABOUT_AMOUNTS:
        world.broken("I8", f"{payout.id}: {told & ABOUT_AMOUNTS} without a reason")
    fees, due = _fees(checker, payout.id), payout.fee * bool(booked["debit"])
    # While an attempt is open, the fee may still stand in the hold beside an earlier payment.
    if fees != due and (payout.state in ENDED or fees):
        world.broken("I8", f"{payout.id}: {fees} are charged, {due} are due")


def _executions(
    world: World,
    wire: Wire,
    payout_id: str,
    executions: list[tuple[str, Line]],
    looked_at: set[str],
) -> None:
    """I5: once, unless a provider broke its contract for this payout; and then somebody is told."""
    if len(executions) < 2:
        return
    times = f"{payout_id} was executed {len(executions)} times"
    if not looked_at:
        world.broken("I5", f"{times}, and nobody was told")
    keys = Counter((name, line.key) for name, line in executions)
    for name, key in keys:
        if keys[name, key] > 1 and not world.fired[f"knob.{name}.double"]:
            world.broken("I5", f"{times}, {keys[name, key]} of them under {key}")
    if len(keys) > 1 and not any(_too_late(wire, name, line) for name, line in executions):
        world.broken("I5", f"{times}, under {len(keys)} keys")


def _reopened_late(checker: Checker, wire: Wire, payout_id: str) -> bool:
    """Whether people sent it again, each time after the windows of all that was sent before."""
    reopened = checker.reopened_at.get(payout_id, [])
    keys = [(a.provider, a.provider_key) for a in checker.attempts[payout_id].values()]
    for moment in reopened:
        for provider, key in keys:
            contract = CONTRACTS[provider]
            open_s = contract.request_deadline_s + contract.finality_window_s
            sent = [at(send.at) for send in wire.sends.get((provider, key), ())]
            if any(one <= moment < one + timedelta(seconds=open_s) for one in sent):
                return False
    return bool(reopened)


def _too_late(wire: Wire, provider: str, line: Line) -> bool:
    """Whether an execution was booked after its window, as the network saw the sends."""
    contract = CONTRACTS[provider]
    sends = wire.sends.get((provider, line.key), [])
    last = max((send.at for send in sends), default=0.0)
    allowed_s = contract.request_deadline_s + contract.finality_window_s
    return (line.booked_at - EPOCH_MS) / 1000 > last + allowed_s


def _booked(checker: Checker, payout_id: str) -> Counter[str]:
    """What the ledger's transfers say that left, came back and was charged."""
    sums: Counter[str] = Counter()
    for row in checker.transfers.get(payout_id, ()):
        if row.kind not in {"post", "posted"}:
            continue
        debit, credit = _role(row.debit), _role(row.credit)
        if credit == "provider:clearing":
            sums["cost" if debit == "costs" else "debit"] += row.amount
        elif debit == "provider:clearing":
            sums["return"] += row.amount
    return sums


def _fees(checker: Checker, payout_id: str) -> int:
    return sum(
        row.amount
        for row in checker.transfers.get(payout_id, ())
        if row.kind in {"post", "posted"} and _role(row.credit) == "fees"
    )


def _role(address: str) -> str:
    return address.split("/")[1]
