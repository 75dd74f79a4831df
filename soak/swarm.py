"""What kind of run a seed is: which faults may happen how often, and what is asked of the product.

Each fault's rate is drawn from {0, 0, U(0, max), max}: some runs have one fault only, some all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bursar_sim.provider.knobs import FATES, RATES
from bursar_sim.providers import WIRES
from soak.tape import Tape

FAULTS = {
    # The database, as a process meets it.
    "db.slow": 0.2,
    "db.away": 0.08,
    "db.conflict": 0.08,
    "db.refused_commit": 0.05,
    "db.cut_applied": 0.06,
    "db.cut_lost": 0.06,
    "db.tombstone_unheard": 0.3,
    # The network between us and the providers.
    "net.connect_refused": 0.15,
    "net.request_lost": 0.15,
    "net.reply_lost": 0.2,
    "net.reset_mid_body": 0.12,
    "net.reply_cut_short": 0.12,
    "net.unlisted_code": 0.3,
    "net.slow": 0.25,
    "net.stall_before": 0.1,
    "net.stall_after": 0.1,
    # The network between the providers and us.
    "hook.lost": 0.3,
    "hook.reply_lost": 0.2,
    "hook.slow": 0.3,
    "hook.foreign": 0.05,
    "hook.unreadable": 0.05,
    # The processes.
    "node.killed": 0.15,
    "wake.lost": 0.5,
    # The clients.
    "client.same_key_again": 0.3,
    "client.same_key_at_once": 0.2,
    "client.same_reference": 0.2,
    "client.other_body": 0.2,
    "client.cancels": 0.4,
    "client.retries": 0.6,
    # People who act while faults go on, and clocks that are set.
    "people.hurry": 0.5,
    "people.close": 0.4,
    "clock.skew_changes": 0.5,
    "clock.database_jumps": 1.0,
}
"""Every fault of ours with its highest rate."""

USUAL = 0.3
"""The highest rate of a knob that is not named in `KNOBS`."""
KNOBS = {
    "accept_async": 1.0,
    "timeout_executed": 0.5,
    "late": 0.5,
    "webhook_duplicate": 0.6,
    "webhook_disorder": 0.6,
    "repeat_declined": 1.0,
    "not_found": 0.8,
    "stale": 0.8,
    "return_parts": 0.8,
    "webhook_early": 0.6,
    "return_rate": 0.4,
    "wrong_amount": 0.1,
    "wrong_currency": 0.1,
    "double": 0.1,
    "forgets": 0.5,
    "stuck": 0.05,
    "credentials": 0.2,
}
"""The providers' knobs with another."""
OCCASIONS = {
    "repeat_declined": {"late": 0.5, "error_executed": 0.5},
    "forgets": {"error_executed": 0.5},
}
"""Knobs that have an effect only where an order is sent again, and what makes that happen."""
SECONDS = {
    "settle_delay_s": 3.0,
    "late_s": 3.0,
    "delay_s": 2.5,
    "slow_s": 4.0,
    "early_s": 3.0,
    "hold_s": 5.0,
    "not_found_s": 6.0,
    "stale_s": 6.0,
    "webhook_late_s": 20.0,
    "return_delay_s": 30.0,
    "worse_s": 20.0,
}
"""Those that are times, with their highest."""
WEEK_S = 7.5 * 86_400
"""Longer than a payout's hold lives."""
OUTAGES = 0.08
"""How many of the seeds lose all processes for long."""
WORSE = 0.05
"""How many of the seeds have a provider that breaks its contract."""


@dataclass
class Plan:
    """One payout that a client will ask for, and what else it will do about it."""

    number: int
    ordinal: int
    """Among its merchant's: two merchants use the same keys and references (F42)."""
    merchant: int
    amount: int
    currency: str
    at_s: float
    due_in_s: float
    max_retries: int
    priority: str


@dataclass
class Swarm:
    """The drawn options of one seed. `rates` are by the names of `FAULTS`."""

    rates: dict[str, float]
    knobs: dict[str, dict[str, float]]
    crash_targets: frozenset[str]
    crash_rate: float
    kills_max: int
    skew_max_s: float
    poll_s: float
    respawn_s: float
    merchants: int
    funds: int
    fee_bps: int
    safety_s: float
    outage: tuple[float, float] | None
    """When all processes stop, and for how long, in seconds."""
    people: bool
    """Whether persons say at the end what became of the attempts that are open."""
    deaf: bool
    """Whether providers go on losing orders after our own faults have ended."""
    plans: list[Plan] = field(default_factory=list)

    def calm(self) -> None:
        """End all faults of ours."""
        self.rates = dict.fromkeys(self.rates, 0.0)
        self.crash_targets = frozenset()
        self.kills_max = 0


def _rate(tape: Tape, name: str, top: float) -> float:
    kind = tape.unit(f"rate.{name}")
    if kind < 0.5:
        return 0.0
    return top * tape.unit(f"rate.{name}") if kind < 0.75 else top


def _knobs(tape: Tape, provider: str, bias: Mapping[str, float]) -> dict[str, float]:
    drawn = {
        name: _rate(tape, f"{provider}.{name}", KNOBS.get(name, USUAL))
        for name in RATES
        if name not in WIRES[provider].terms.without
    }
    for name, needs in OCCASIONS.items():
        if drawn[name]:
            drawn |= {other: max(drawn[other], least) for other, least in needs.items()}
    breaks = tape.chance(f"{provider}.breaks_contract", WORSE)
    drawn["worse"] = tape.uniform(f"{provider}.worse", 0.3, 0.9) if breaks else 0.0
    for name, top in SECONDS.items():
        drawn[name] = top * tape.unit(f"{provider}.{name}")
    drawn |= {name: bias[f"{provider}.{name}"] for name in drawn if f"{provider}.{name}" in bias}
    total = sum(drawn.get(name, 0.0) for name in FATES)
    if total > 1:
        drawn |= {name: drawn[name] / total for name in FATES if name in drawn}
    return drawn


def draw(tape: Tape, points: list[str], providers: list[str], bias: Mapping[str, float]) -> Swarm:
    """The options of a tape. `points` are all names of crash points; `bias` forces rates."""
    crashing = tape.unit("crash.mode") >= 0.5
    targets = frozenset(
        tape.pick("crash.target", points) for _ in range(1 + tape.below("crash.targets", 4))
    )
    swarm = Swarm(
        rates={name: _rate(tape, name, top) for name, top in FAULTS.items()},
        knobs={provider: _knobs(tape, provider, bias) for provider in providers},
        crash_targets=targets if crashing else frozenset(),
        crash_rate=tape.uniform("crash.rate", 0.02, 0.5),
        kills_max=1 + tape.below("crash.kills", 4),
        skew_max_s=_rate(tape, "clock.skew", 330.0),
        poll_s=tape.uniform("poll", 0.05, 1.5),
        respawn_s=tape.uniform("respawn", 0.1, 12.0),
        merchants=int(bias.get("merchants", 1 + tape.below("merchants", 3))),
        funds=int(bias.get("funds", tape.pick("funds", (1_000_000, 100_000, 700, 260)))),
        fee_bps=tape.pick("fee", (20, 0, 500)),
        safety_s=tape.uniform("safety", 8.0, 40.0),
        outage=_outage(tape, bias.get("outage", OUTAGES)),
        people=tape.chance("people", bias.get("people", 0.6)),
        deaf=tape.chance("deaf", bias.get("deaf", 0.1)),
    )
    if swarm.outage is not None and swarm.outage[1] == WEEK_S and crashing:
        expiring = [point for point in points if "expire" in point]
        swarm.crash_targets |= {tape.pick("crash.expiring", expiring)}
    swarm.rates |= {name: rate for name, rate in bias.items() if name in FAULTS}
    count = 1 + tape.below("payouts", 6)
    spread = tape.pick("arrivals", (1.0, 0.0, 10.0))
    for number in range(count):
        plan = _plan(tape, number, swarm, spread)
        if number not in tape.dropped:
            plan.ordinal = sum(other.merchant == plan.merchant for other in swarm.plans)
            swarm.plans.append(plan)
    return swarm


def _outage(tape: Tape, rate: float) -> tuple[float, float] | None:
    if not tape.chance("outage", rate):
        return None
    lasts = tape.pick("outage.lasts", (50.0, 130.0, 600.0, WEEK_S, WEEK_S))
    return tape.uniform("outage.at", 0.5, 8.0), lasts


def _plan(tape: Tape, number: int, swarm: Swarm, spread: float) -> Plan:
    name = f"p{number}"
    due = tape.unit(f"{name}.due")
    return Plan(
        number=number,
        ordinal=0,
        merchant=tape.below(f"{name}.merchant", swarm.merchants),
        amount=tape.pick(f"{name}.amount", (100, 101, 250, 1)),
        currency=tape.pick(f"{name}.currency", ("EUR", "EUR", "USDC")),
        at_s=spread * tape.unit(f"{name}.at"),
        due_in_s=0.0 if due < 0.8 else 60.0 * (due - 0.8),
        max_retries=tape.pick(f"{name}.retries", (2, 0, 1, 3)),
        priority=tape.pick(f"{name}.priority", ("standard", "batch", "instant")),
    )


PEOPLE = (
    "people.resolve",
    "people.let_go",
    "people.resolve_early",
    "people.alert_closed",
    "people.alert_refused",
)
UNHEARD = frozenset({"bank.repeat_declined", "bank.forgets"})
"""Knobs that cannot have an effect: the bank's contract sends no order again."""


def expected_faults() -> list[str]:
    """Every fault and knob that must fire in a thousand seeds."""
    knobs = [
        f"knob.{name}.{knob}"
        for name, wire in sorted(WIRES.items())
        for knob in RATES
        if knob not in wire.terms.without and f"{name}.{knob}" not in UNHEARD
    ]
    return [*FAULTS, "net.start_too_late", "outage", *PEOPLE, *knobs]
