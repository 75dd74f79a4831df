"""What people are called for: when they must be, when they may be, and how often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from bursar.payouts.model import Attempt
from soak.promises import PROMISES
from soak.world import World

OPEN = frozenset({"sending", "unknown", "accepted"})
PAID = frozenset({"paid", "returned"})


def check_opened(
    world: World,
    incident: Any,
    attempts: Iterable[Attempt],
    before: Iterable[Attempt],
    now: datetime,
) -> None:
    """I22, I5: nobody is called without a reason. `before` are the attempts as they were."""
    states = [*attempts]
    if incident.kind == "attempt_unproven":
        lives = [
            attempt.begun_at + timedelta(seconds=PROMISES[attempt.provider].key_life_s)
            for attempt in states
            if attempt.state in OPEN
        ]
        if not any(life <= now for life in lives):
            world.broken("I22", f"{incident.subject_id} is called unproven, and may be proven yet")
    if incident.kind == "possible_double_execution":
        moving = {attempt.id for attempt in [*states, *before] if attempt.state in OPEN | PAID}
        if len(moving) < 2:
            world.broken("I5", f"{incident.subject_id} can't have been executed twice")


def check_all(
    world: World,
    incidents: Iterable[Any],
    attempts: Mapping[str, Mapping[str, Attempt]],
    facts: Iterable[Any],
    contradicted: Iterable[str],
) -> None:
    """At the end: each cause has its alert, once, and no alert outlives its question.

    `attempts` are by payout, and `contradicted` payouts that were paid after they had failed.
    """
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for incident in incidents:
        told[incident.subject_id][incident.kind] += 1
        known = attempts.get(incident.subject_id)
        asks = incident.kind == "attempt_unproven" and incident.closed_at is None
        if asks and known and not any(one.state in OPEN for one in known.values()):
            world.broken("I22", f"{incident.subject_id} has ended, and is still called unproven")
    for attempt in (one for known in attempts.values() for one in known.values()):
        ours = attempt.state == "failed" and attempt.code in PROMISES[attempt.provider].ours
        if ours and not told[attempt.provider]["provider_refuses_us"]:
            world.broken("F90", f"{attempt.provider} refused {attempt.id}, and nobody knows")
    for payout_id in contradicted:
        if not told[payout_id]["paid_and_failed"]:
            world.broken("F25", f"{payout_id} was paid after it had failed, and nobody was told")
    for payout_id, causes in _causes(attempts, facts).items():
        for kind, most in causes.items():
            times = told[payout_id][kind]
            if times > most:
                world.broken("I26", f"{payout_id}: {kind} is told {times} times, not {most}")


def _causes(
    attempts: Mapping[str, Mapping[str, Attempt]], facts: Iterable[Any]
) -> dict[str, dict[str, int]]:
    """By payout and kind, how many alerts there may have been."""
    amounts: Counter[str] = Counter()
    references: dict[str, set[str | None]] = defaultdict(set)
    owners = {attempt_id: payout for payout, known in attempts.items() for attempt_id in known}
    for fact in facts:
        payout_id = owners[fact.attempt_id]
        if fact.kind == "foreign":
            amounts[payout_id] += 1
        elif fact.kind in PAID:
            references[payout_id].add(fact.provider_ref)
    return {
        payout_id: {
            "attempt_unproven": len(known),
            "return_unexplained": len(known),
            "promised_after_all": len(known),
            "possible_double_execution": len(known),
            # A contradiction, and its end by the provider's order.
            "paid_and_failed": 2 * len(known),
            "amount_mismatch": amounts[payout_id],
            "second_reference": max(0, len(references[payout_id]) - 1),
        }
        for payout_id, known in attempts.items()
    }
