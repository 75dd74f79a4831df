"""The payout's transition table, and the states of an attempt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from bursar.payouts.errors import IllegalTransition


class State(StrEnum):
    """Where a payout stands."""

    CREATED = "created"
    FUNDS_LOCKED = "funds_locked"
    IN_REVIEW = "in_review"
    SENDING = "sending"
    SENT = "sent"
    SETTLED = "settled"
    RETURNED = "returned"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD_LETTER = "dead_letter"


class Event(StrEnum):
    """What moves a payout."""

    LOCK = "lock"
    REVIEW = "review"
    APPROVE = "approve"
    REJECT = "reject"
    BEGIN = "begin"
    ACCEPT = "accept"
    SETTLE = "settle"
    RETRY = "retry"
    DECLINE = "decline"
    EXHAUST = "exhaust"
    CANCEL = "cancel"
    EXPIRE = "expire"
    RETURN = "return"
    REOPEN = "reopen"


S, E = State, Event

TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        S.CREATED: {E.LOCK: S.FUNDS_LOCKED},
        S.FUNDS_LOCKED: {
            E.BEGIN: S.SENDING,
            E.REVIEW: S.IN_REVIEW,
            E.CANCEL: S.CANCELLED,
            E.EXPIRE: S.FAILED,
            E.SETTLE: S.SETTLED,
        },
        S.IN_REVIEW: {
            E.APPROVE: S.FUNDS_LOCKED,
            E.REJECT: S.FAILED,
            E.CANCEL: S.CANCELLED,
            E.SETTLE: S.SETTLED,
        },
        S.SENDING: {
            E.ACCEPT: S.SENT,
            E.SETTLE: S.SETTLED,
            E.RETRY: S.FUNDS_LOCKED,
            E.DECLINE: S.FAILED,
            E.EXHAUST: S.DEAD_LETTER,
        },
        S.SENT: {
            E.SETTLE: S.SETTLED,
            E.RETRY: S.FUNDS_LOCKED,
            E.DECLINE: S.FAILED,
            E.EXHAUST: S.DEAD_LETTER,
        },
        S.SETTLED: {E.RETURN: S.RETURNED},
        S.FAILED: {E.REOPEN: S.FUNDS_LOCKED, E.SETTLE: S.SETTLED},
        S.DEAD_LETTER: {E.REOPEN: S.FUNDS_LOCKED, E.SETTLE: S.SETTLED},
        S.CANCELLED: {E.SETTLE: S.SETTLED},
        S.RETURNED: {E.SETTLE: S.SETTLED},
    }
)

HELD = frozenset({S.FUNDS_LOCKED, S.IN_REVIEW, S.SENDING, S.SENT})
"""States in which the payout's hold is active (I4)."""

ENDED = frozenset({S.SETTLED, S.RETURNED, S.FAILED, S.CANCELLED, S.DEAD_LETTER})
"""States that nothing of ours moves on from."""


def next_state(state: State, event: Event) -> State:
    """The state after `event`. Raises `IllegalTransition`."""
    target = TRANSITIONS[state].get(event)
    if target is None:
        raise IllegalTransition(f"A payout that is {state} can't {event}.")
    return target


def diagram() -> str:
    """The table as a Mermaid state diagram, for the README."""
    lines = ["stateDiagram-v2"]
    for state, events in TRANSITIONS.items():
        lines += [f"    {state} --> {target}: {event}" for event, target in events.items()]
    return "\n".join(lines)


class AttemptState(StrEnum):
    """Where an attempt stands: see `facts`. The first three are open: money may still leave."""

    SENDING = "sending"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"


OPEN_ATTEMPT = frozenset({AttemptState.SENDING, AttemptState.UNKNOWN, AttemptState.ACCEPTED})
PAID_ATTEMPT = frozenset({AttemptState.PAID, AttemptState.RETURNED})
