"""What must hold at the end: the providers' own statements are the judge of what was paid."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from bursar_sim.providers import Provider
from soak.invariants import Checker, rows_of
from soak.world import World

ENDED = frozenset({"settled", "returned", "failed", "cancelled", "dead_letter"})
OPEN = frozenset({"sending", "unknown", "accepted"})
DOUBLE = frozenset({"duplicate_success", "worse_s", "second_reference"})
"""Knobs that execute more than was asked."""


def open_incidents(checker: Checker) -> dict[str, set[str]]:
    """Kinds of open incidents, by subject."""
    found: dict[str, set[str]] = defaultdict(set)
    for incident in rows_of(checker.memory, "incidents"):
        if incident.closed_at is None:
            found[incident.subject_id].add(incident.kind)
    return found


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


def judge(
    world: World, checker: Checker, providers: Mapping[str, Provider], told: set[tuple[str, str]]
) -> None:
    """All checks of the end. `told` are (key, return or debit) that a provider told us of."""
    incidents = open_incidents(checker)
    for event in rows_of(checker.memory, "inbox"):
        if event.result in {"unmatched", "dead_letter"} and not incidents[event.event_id]:
            world.broken("I23", f"event {event.event_id} is {event.result} without an incident")
    moved: dict[str, Counter[str]] = defaultdict(Counter)
    times: Counter[str] = Counter()
    for name, provider in providers.items():
        for line in provider.statement():
            payout_id = checker.keys.get((name, line.end_to_end_id))
            if payout_id is None:
                world.broken("I8", f"{name} moved money under {line.end_to_end_id}, not our key")
                continue
            if line.kind == "return" and (line.end_to_end_id, "return") not in told:
                continue
            moved[payout_id][line.kind] += line.amount
            times[payout_id] += line.kind == "debit"
    for payout_id in checker.payouts:
        _payout(world, checker, payout_id, moved[payout_id], times[payout_id], incidents)


def _payout(
    world: World,
    checker: Checker,
    payout_id: str,
    moved: Counter[str],
    times: int,
    incidents: Mapping[str, set[str]],
) -> None:
    """I5 and I8 of one payout, from transfers and the statement alone."""
    booked = _booked(checker, payout_id)
    looked_at = incidents.get(payout_id, set())
    if times > 1 and not looked_at:
        world.broken("I5", f"{payout_id} was executed {times} times, and nobody was told")
    if times > 1 and not worse(world):
        world.broken("I5", f"{payout_id} was executed {times} times")
    if booked != moved and not (looked_at & {"amount_mismatch", "return_exceeds_settled"}):
        world.broken("I8", f"{payout_id}: books {dict(+booked)}, statement {dict(+moved)}")


def worse(world: World) -> bool:
    """Whether a knob that executes more than its contract says has had its effect."""
    return any(world.fired[f"knob.{name}"] for name in DOUBLE)


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


def _role(address: str) -> Any:
    return address.split("/")[1]
