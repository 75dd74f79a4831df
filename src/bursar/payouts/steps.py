"""The steps every payout command is made of: move the state, journal it, keep the books. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from bursar.engine.model import JournalEntry
from bursar.engine.working_set import WorkingSet
from bursar.ledger import recipes
from bursar.payouts.machine import Event, State, next_state
from bursar.payouts.model import PAYOUTS, Payout

_set = msgspec.structs.replace


def move(
    ws: WorkingSet, payout: Payout, event: Event, *, note: dict[str, Any], **changes: Any
) -> tuple[Payout, JournalEntry]:
    """Take one step of the machine and journal it with `note`; returns the new row and entry.

    Raises `IllegalTransition`.
    """
    target = next_state(State(payout.state), event)
    entry = ws.journal(
        payout.merchant_id,
        f"payout.{target}",
        payout.id,
        {"from": payout.state, "to": target, "version": payout.version + 1, **note},
        correlation_id=payout.correlation_id,
    )
    moved = _set(payout, state=target, version=payout.version + 1, updated_at=ws.now, **changes)
    ws.update(PAYOUTS, moved)
    return moved, entry


def remark(ws: WorkingSet, payout: Payout, kind: str, note: dict[str, Any]) -> JournalEntry:
    """Journal something about a payout that moves no state."""
    return ws.journal(
        payout.merchant_id, kind, payout.id, note, correlation_id=payout.correlation_id
    )


def settle(ws: WorkingSet, payout: Payout, *, cost: int, provider_ref: str | None) -> Payout:
    """Money left: post the hold, whatever state the payout is in while it is held.

    `cost` is what the provider charges, in minor units. Nothing of this execution has come back,
    and what came back of others is theirs: see `facts.amount_returned`.
    """
    moved, entry = move(
        ws,
        payout,
        Event.SETTLE,
        note={"cost": cost, "provider_reference": provider_ref, "returned": 0},
        settled_at=ws.now,
        amount_returned=0,
        provider_ref=provider_ref,
        provider_cost=payout.provider_cost + cost,
        next_attempt_at=None,
        failure_code=None,
        failure_reason=None,
    )
    recipes.payout_settled(ws, entry, moved, hold_id=moved.hold_id, cost=cost)
    return moved


def release(
    ws: WorkingSet,
    payout: Payout,
    event: Event,
    *,
    recipe: str,
    code: str | None,
    reason: str | None,
) -> Payout:
    """The payout ends without money leaving: give the hold back."""
    moved, entry = move(
        ws,
        payout,
        event,
        note={"code": code, "reason": reason},
        next_attempt_at=None,
        failure_code=code,
        failure_reason=reason,
    )
    recipes.payout_released(ws, entry, moved, hold_id=moved.hold_id, recipe=recipe)
    return moved
