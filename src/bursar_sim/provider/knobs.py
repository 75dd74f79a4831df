"""The knobs of the bank: how often it misbehaves, and how slow it is. Pure."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

FINALITY_WINDOW_S: Final = 3.0
"The contract: later than this after it came in, no order of ours is executed unannounced."

_RATES: Final = frozenset(
    {
        "accept_async",
        "decline",
        "decline_later",
        "insufficient_funds",
        "timeout_executed",
        "timeout_not_executed",
        "return_rate",
        "webhook_duplicate",
        "webhook_lost",
    }
)
_SECONDS_MAX: Final = {
    "settle_delay_s": FINALITY_WINDOW_S,
    "late_s": FINALITY_WINDOW_S,
    "delay_s": 30.0,
    "hold_s": 60.0,
    "return_delay_s": 3600.0,
}


class KnobInvalid(ValueError):
    """A knob has no such name, or not such a value. `name` is the knob."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Rates are shares of all new orders, 0 to 1; names that end in `_s` are seconds.

    Five fates exclude each other: `timeout_not_executed`, `timeout_executed`,
    `insufficient_funds`, `decline`, `decline_later`. Their rates add up to at most 1, and
    the rest of the orders is executed in good order.
    """

    accept_async: float = 0.8
    "Answered `accepted`; settled by webhook. The others are `executed` in the answer."
    settle_delay_s: float = 0.05
    "From the answer to the settlement (half to one and a half of it, at most 3 s)."
    decline: float = 0.02
    "Refused in the answer, 422."
    decline_later: float = 0.0
    "Answered `accepted`, rejected by webhook."
    insufficient_funds: float = 0.0
    "Refused with AM04: our own account at the bank is short."
    timeout_executed: float = 0.0
    "Executed, but the answer never comes."
    timeout_not_executed: float = 0.0
    "Lost on the way: no answer, and never executed."
    late_s: float = 0.0
    "With `timeout_executed`: executed only up to so long after, and unknown to inquiry till then."
    hold_s: float = 4.0
    "How long a connection without answer is held before it is cut."
    delay_s: float = 0.0
    "Added to each answer on `POST /bank/transfers`."
    return_rate: float = 0.0
    "Of the executed: sent back in full by the creditor's bank."
    return_delay_s: float = 0.5
    "From the execution to the return."
    webhook_duplicate: float = 0.0
    "Told twice: half with the same event id, half with another."
    webhook_lost: float = 0.0
    "Never told."

    def as_dict(self) -> dict[str, float]:
        """Value by name."""
        return asdict(self)


def _checked(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise KnobInvalid(name, "must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise KnobInvalid(name, "must be finite")
    top = 1.0 if name in _RATES else _SECONDS_MAX[name]
    if not 0 <= value <= top:
        raise KnobInvalid(name, f"must be from 0 to {top:g}")
    return float(value)


def turned(knobs: Knobs, changes: Mapping[str, object]) -> Knobs:
    """`knobs` with some values changed; raises `KnobInvalid` and changes nothing.

    `timeout` is short for half of it in `timeout_executed` and half in `timeout_not_executed`.
    """
    wanted = dict(changes)
    if "timeout" in wanted:
        timeout = wanted.pop("timeout")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise KnobInvalid("timeout", "must be a number")
        if not 0 <= timeout <= 1:
            raise KnobInvalid("timeout", "must be from 0 to 1")
        wanted = {
            "timeout_executed": timeout / 2,
            "timeout_not_executed": timeout / 2,
        } | wanted
    names = {field.name for field in fields(Knobs)}
    for name in wanted:
        if name not in names:
            raise KnobInvalid(name, "no such knob")
    new = replace(knobs, **{name: _checked(name, value) for name, value in wanted.items()})
    fates = (
        new.timeout_not_executed
        + new.timeout_executed
        + new.insufficient_funds
        + new.decline
        + new.decline_later
    )
    if fates > 1 + 1e-9:
        raise KnobInvalid(next(iter(wanted)), "the five fates add up to more than 1")
    return new


def parse_settings(settings: list[str]) -> Knobs:
    """Knobs from `name=value` words of a command line. Raises `KnobInvalid`."""
    wanted: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        try:
            wanted[name] = float(text)
        except ValueError:
            detail = "must be a number" if equals else "write it as name=value"
            raise KnobInvalid(name, detail) from None
    return turned(Knobs(), wanted)
