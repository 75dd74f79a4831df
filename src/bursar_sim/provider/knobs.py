"""The knobs of a provider: how often it misbehaves, and how slow it is. Pure."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from bursar_sim.provider.terms import Terms

FATES: Final = (
    "timeout_not_executed",
    "timeout_executed",
    "insufficient_funds",
    "decline",
    "decline_later",
)
"Of these an order has at most one."
SECONDS_MAX: Final[Mapping[str, float]] = {
    "settle_delay_s": 60.0,
    "late_s": 60.0,
    "delay_s": 30.0,
    "slow_s": 30.0,
    "early_s": 5.0,
    "hold_s": 60.0,
    "not_found_s": 60.0,
    "stale_s": 60.0,
    "webhook_late_s": 3600.0,
    "return_delay_s": 3600.0,
    "worse_s": 3600.0,
}
"The knobs that are times, and how far each can be turned."
_IN_WINDOW: Final = frozenset({"settle_delay_s", "late_s"})
"No provider offers more of these than its window; more counts as that."


class KnobInvalid(ValueError):
    """A knob has no such name, or not such a value. `name` is the knob."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Rates are from 0 to 1; names that end in `_s` are seconds.

    The rates of the `FATES` are shares of all new orders and add up to at most 1; the rest of
    the orders is executed. All others are drawn each for itself.
    """

    # What becomes of an order.
    accept_async: float = 0.8
    "Answered `accepted`; settled by webhook. The others are `executed` in the answer."
    settle_delay_s: float = 0.05
    "From the answer to the settlement (half to one and a half of it, within the window)."
    decline: float = 0.02
    "Refused in the answer, 422."
    decline_later: float = 0.0
    "Taken, and rejected by webhook."
    insufficient_funds: float = 0.0
    "Refused because our own account there is short."
    timeout_executed: float = 0.0
    "Executed, but the answer never comes."
    timeout_not_executed: float = 0.0
    "Lost on the way: no answer, never executed; the same key is lost each time."
    late_s: float = 0.0
    "With `timeout_executed`: executed only up to so long after, and unknown to inquiry till then."
    late: float = 0.0
    "Executed at any time within the window, and unknown to inquiry till then."
    stuck: float = 0.0
    "Taken, and pending for ever: never executed, never rejected."
    worse: float = 0.0
    "Against the contract: executed after the window; silent and unknown to inquiry till then."
    worse_s: float = 5.0
    "How long after the window at most."
    wrong_amount: float = 0.0
    "Another amount is executed, smaller or larger, and told."
    wrong_currency: float = 0.0
    "Another currency is executed, and told."
    double: float = 0.0
    "Executed twice within the window, the second time under another reference."
    forgets: float = 0.0
    "Against the contract: a key is forgotten at once, and a repeated order executed once more."
    flip: float = 0.0
    "Told as failed, and executed after all, within the window."
    undo: float = 0.0
    "Told as failed after it was executed: all of it comes back. Where events have an order."
    return_rate: float = 0.0
    "Of the executed: sent back by the creditor's bank."
    return_delay_s: float = 0.5
    "From the execution to the return, and from the first part of it to the second."
    return_parts: float = 0.0
    "Of the returned: come back in two parts."

    # What its sender hears.
    credentials: float = 0.0
    "Of the orders and inquiries: a 401, as if our credentials had expired. Nothing is taken."
    lost: float = 0.0
    "This arrival is lost: no answer. The next under the same key may get through."
    error_not_executed: float = 0.0
    "A 5xx, and this arrival was not taken. The next may be."
    error_executed: float = 0.0
    "A 5xx, though the order was taken."
    reset: float = 0.0
    "The connection is cut in the middle of the answer's body."
    truncated: float = 0.0
    "The answer is complete HTTP, but its JSON is cut."
    repeat_declined: float = 0.0
    "A repeated order is answered with a refusal while the first is on its way to be executed."
    slow: float = 0.0
    "The answer takes `slow_s` longer."
    slow_s: float = 1.0
    "See `slow`."
    delay_s: float = 0.0
    "Added to each answer to an order."
    hold_s: float = 4.0
    "How long a connection without answer is held before it is cut."

    # What inquiry says.
    not_found: float = 0.0
    "Unknown to inquiry for up to `not_found_s`, whatever became of it."
    not_found_s: float = 1.0
    "See `not_found`; never beyond the window where that would count as proof."
    stale: float = 0.0
    "Of the changes: inquiry answers what was before, for up to `stale_s`."
    stale_s: float = 1.0
    "See `stale`; what was told as failed is not told so beyond the window."
    inquiry_error: float = 0.0
    "Of the inquiries: a 5xx, a cut connection or cut JSON."

    # What webhooks tell.
    webhook_lost: float = 0.0
    "Never told. Only what inquiry will be asked about: no return, no correction."
    webhook_duplicate: float = 0.0
    "Told twice: half with the same event id, half with another."
    webhook_new_id: float = 0.0
    "Told twice, the second time under another event id."
    webhook_early: float = 0.0
    "Executed and told at once, while the answer takes `early_s` longer."
    early_s: float = 0.3
    "See `webhook_early`."
    webhook_late: float = 0.0
    "Told up to `webhook_late_s` later."
    webhook_late_s: float = 2.0
    "See `webhook_late`."
    webhook_disorder: float = 0.0
    "Of those after which another is to come: told after it."

    @property
    def bends_webhooks(self) -> bool:
        """Whether any webhook may be lost, told twice, late or out of order."""
        return (
            self.webhook_lost > 0
            or self.webhook_duplicate > 0
            or self.webhook_new_id > 0
            or self.webhook_late > 0
            or self.webhook_disorder > 0
        )

    def as_dict(self) -> dict[str, float]:
        """Value by name."""
        return asdict(self)


def _checked(name: str, value: object, terms: Terms | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise KnobInvalid(name, "must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise KnobInvalid(name, "must be finite")
    top = SECONDS_MAX.get(name, 1.0)
    if terms is not None and name in _IN_WINDOW:
        top = terms.window_s
    if not 0 <= value <= top:
        raise KnobInvalid(name, f"must be from 0 to {top:g}")
    return float(value)


def turned(knobs: Knobs, changes: Mapping[str, object], terms: Terms | None = None) -> Knobs:
    """`knobs` with some values changed; raises `KnobInvalid` and changes nothing.

    With a provider's `terms`, what it does not offer is refused, too; else it has no effect.
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
    names = {field.name for field in fields(Knobs)} - (
        frozenset() if terms is None else terms.without
    )
    for name in wanted:
        if name not in names:
            raise KnobInvalid(name, "no such knob")
    new = replace(knobs, **{name: _checked(name, value, terms) for name, value in wanted.items()})
    fates = sum(getattr(new, name) for name in FATES)
    if fates > 1 + 1e-9:
        shares = ", ".join(f"{name}={getattr(new, name):g}" for name in FATES if getattr(new, name))
        raise KnobInvalid(
            next(iter(wanted)), f"an order has one fate, and these add up to more than 1: {shares}"
        )
    return new


def parse_settings(settings: list[str], terms: Terms | None = None) -> Knobs:
    """Knobs from `name=value` words of a command line. Raises `KnobInvalid`."""
    wanted: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        try:
            wanted[name] = float(text)
        except ValueError:
            detail = "must be a number" if equals else "write it as name=value"
            raise KnobInvalid(name, detail) from None
    return turned(Knobs(), wanted, terms)


RATES: Final = tuple(f.name for f in fields(Knobs) if f.name not in SECONDS_MAX)
"The knobs that are rates, in order."
