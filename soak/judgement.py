"""What must hold at the end: the providers' own statements are the judge of what was paid."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from bursar.money.currency import CURRENCIES
from bursar.payouts.model import Attempt, Fact, Payout
from bursar.payouts.view import payout_json
from bursar_sim.draws import fires
from bursar_sim.provider.model import Line
from bursar_sim.providers import Provider
from soak import alerts
from soak.invariants import Checker, rows_of
from soak.loop import EPOCH_MS
from soak.promises import PROMISES
from soak.wire import Wire
from soak.world import World

ENDED = frozenset({"settled", "returned", "failed", "cancelled", "dead_letter"})
PAID = frozenset({"settled", "returned"})
OPEN = frozenset({"sending", "unknown", "accepted"})
HEARD_WITHIN_S = 25.0
"""If faults end so soon after an order was begun, it is sent again after that, and heard."""
ABOUT_AMOUNTS = frozenset({"amount_mismatch", "return_exceeds_settled"})
"""Incidents that speak of an amount that nobody asked for."""
ABOUT_DOUBLES = frozenset({"possible_double_execution", "second_reference"})
"""Incidents that say that money may have left twice."""

Providers = Mapping[str, Provider]


def incidents_of(checker: Checker, *, closed: bool) -> dict[str, set[str]]:
    """Kinds of incidents by subject: the open ones; with `closed` all that there ever were."""
    found: dict[str, set[str]] = defaultdict(set)
    for incident in rows_of(checker.memory, "incidents"):
        if closed or incident.closed_at is None:
            found[incident.subject_id].add(incident.kind)
    return found


def attempts_in_question(checker: Checker) -> list[tuple[str, Attempt]]:
    """(payout, attempt): the one that is open, else one that failed and is frozen all the same."""
    found = []
    for payout_id, attempts in checker.attempts.items():
        known = sorted(attempts.values(), key=lambda one: (one.state not in OPEN, one.number))
        found += [(payout_id, one) for one in known if one.state in OPEN or _is_parked(one)][:1]
    return found


def _is_parked(attempt: Attempt) -> bool:
    return attempt.state == "failed" and attempt.frozen_at is not None


def unfinished(world: World, checker: Checker, providers: Providers) -> list[str]:
    """What is neither ended nor rightly before a human (I22, I23).

    Only two things may stay open: an attempt of which another amount was executed, and one of
    which the provider can't or won't tell the end; each with an incident that says so.
    """
    incidents = incidents_of(checker, closed=False)
    left = []
    for payout in checker.payouts.values():
        attempts = list(checker.attempts[payout.id].values())
        strange = [one for one in attempts if _was_mistaken(one, payout, providers)]
        if "amount_mismatch" not in incidents[payout.id]:
            strange = []
        going = [
            one
            for one in attempts
            if one.state in OPEN
            and one not in strange
            and not ("attempt_unproven" in incidents[payout.id] and _is_mute(world, one, providers))
        ]
        left += [f"{attempt.id} is {attempt.state}" for attempt in going]
        under_way = any(one.state in OPEN for one in attempts)
        if payout.state not in ENDED and not strange and not under_way:
            left.append(f"{payout.id} is {payout.state}")
    left += [
        f"event {event.event_id} is not applied"
        for event in rows_of(checker.memory, "inbox")
        if not event.result
    ]
    return left


def _was_mistaken(attempt: Attempt, payout: Payout, providers: Providers) -> bool:
    """Whether another amount was executed under its key than was asked for."""
    debits = providers[attempt.provider].truth(attempt.provider_key).debits
    return any(_is_strange(line, payout) for line in debits)


def _is_mute(world: World, attempt: Attempt, providers: Providers) -> bool:
    """Whether no answer of the provider can ever prove what became of an attempt.

    It says "pending" for ever. Or it knows nothing, where that proves nothing, and could not be
    told again: it goes on losing orders, or nobody was there to send, or it was late for that.
    """
    truth = providers[attempt.provider].truth(attempt.provider_key)
    if truth.known or PROMISES[attempt.provider].absence_is_proof:
        return truth.stuck
    swarm = world.swarm
    begun = world.database_clock.virtual(attempt.begun_at)
    in_time = world.calm_at is not None and world.calm_at < begun + HEARD_WITHIN_S
    return swarm.deaf or swarm.outage is not None or not in_time


def _is_strange(line: Line, payout: Payout) -> bool:
    return line.kind == "debit" and (line.amount, line.currency) != (payout.amount, payout.currency)


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

    def without_strange(self, payout: Payout) -> set[tuple[int, str]]:
        """Leave out the executions of another amount or currency, and what came back of them.

        Nothing of them is booked. Returns what they moved: (minor units, currency).
        """
        strange = {
            (provider, line.key, line.reference)
            for provider, line in self.executions()
            if _is_strange(line, payout)
        }
        moved: set[tuple[int, str]] = set()
        for (provider, key), lines in self.lines.items():
            left_out = [one for one in lines if (provider, key, one.reference) in strange]
            moved |= {(one.amount, one.currency) for one in left_out if one.kind != "cost"}
            lines[:] = [one for one in lines if one not in left_out]
        return moved

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
    providers: Providers,
    resolved: AbstractSet[str],
    let_go: AbstractSet[str],
) -> None:
    """All checks of the end. Of the payouts `resolved` by people nobody told us the cost.

    Of those `let_go` people have said that what was executed is not what was asked for: they knew,
    whether or not the provider had told us by then.
    """
    told = incidents_of(checker, closed=True)
    for event in rows_of(checker.memory, "inbox"):
        if event.result in {"unmatched", "dead_letter"} and not told[event.event_id]:
            world.broken("I23", f"event {event.event_id} is {event.result} without an incident")
    moved: dict[str, Moved] = defaultdict(Moved)
    for name, provider in providers.items():
        for line in provider.statement():
            payout_id = checker.keys.get((name, line.key))
            if payout_id is None:
                world.broken("I8", f"{name} moved money under {line.key}, not a key of ours")
            else:
                moved[payout_id].lines.setdefault((name, line.key), []).append(line)
    _asked(world, checker)
    alerts.check_all(
        world,
        rows_of(checker.memory, "incidents"),
        checker.attempts,
        rows_of(checker.memory, "facts"),
        checker.contradicted,
    )
    for payout_id, payout in checker.payouts.items():
        kinds = told[payout_id]
        every = moved[payout_id].executions()
        strange = moved[payout_id].without_strange(payout)
        # What people let go they may have sent again.
        counted = moved[payout_id].executions() if payout_id in let_go else every
        _executions(world, wire, payout_id, counted)
        if len(moved[payout_id].executions()) > 1 and not kinds & ABOUT_DOUBLES:
            world.broken("I5", f"{payout_id} was executed twice, and nobody was told")
        if strange and "amount_mismatch" not in kinds and payout_id not in let_go:
            world.broken("F18", f"{payout_id}: another amount was executed, and nobody was told")
        _told_amounts(world, checker, payout, strange)
        if not strange and kinds & ABOUT_AMOUNTS:
            world.broken("I8", f"{payout_id}: {kinds & ABOUT_AMOUNTS} without a reason")
        costs = payout_id not in resolved
        booked = _books(world, checker, payout, moved[payout_id], kinds, costs=costs)
        _shown(world, payout, moved[payout_id], booked)


def _told_amounts(
    world: World, checker: Checker, payout: Payout, strange: AbstractSet[tuple[int, str]]
) -> None:
    """F18: an alert about another amount tells that amount, if we carry its currency."""
    moved = {pair for pair in strange if pair[1] in CURRENCIES}
    allowed = moved if moved == strange else moved | {(payout.amount, payout.currency)}
    for incident in rows_of(checker.memory, "incidents"):
        about = (incident.subject_id, incident.kind) == (payout.id, "amount_mismatch")
        if about and (incident.amount, incident.currency) not in allowed:
            told = f"{incident.amount} {incident.currency}"
            world.broken("F18", f"{payout.id}: people are told of {told}, not of {strange}")


def _asked(world: World, checker: Checker) -> None:
    """F26: of what was paid and failed, in no order, the provider was asked until it answered."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    for fact in rows_of(checker.memory, "facts"):
        facts[fact.attempt_id].append(fact)
    for attempt_id, known in facts.items():
        paid = [fact for fact in known if fact.kind == "paid"]
        failed = [fact for fact in known if fact.kind == "failed"]
        ordered = all(fact.sequence is not None for fact in failed) and any(
            fact.sequence is not None for fact in paid
        )
        heard = attempt_id in checker.answered or any(fact.source == "inquiry" for fact in known)
        if paid and failed and not ordered and not heard:
            world.broken("F26", f"{attempt_id} was paid and failed, and nobody asked which")


def _books(
    world: World, checker: Checker, payout: Payout, moved: Moved, told: set[str], *, costs: bool
) -> Counter[str]:
    """I8: the ledger's transfers against the statement; and the fee, once and only if it left."""
    booked, readings = _booked(checker, payout.id), list(moved.readings(told))
    compared = [booked.copy(), *readings]
    if not costs:
        for sums in compared:
            del sums["cost"]
    if compared[0] not in compared[1:]:
        world.broken("I8", f"{payout.id}: books {dict(booked)}, statement {readings}")
    fees, due = _fees(checker, payout.id), payout.fee * bool(booked["debit"])
    # While an attempt is open, the fee may still stand in the hold beside an earlier payment.
    if fees != due and (payout.state in ENDED or fees):
        world.broken("I8", f"{payout.id}: {fees} are charged, {due} are due")
    return booked


def _shown(world: World, payout: Payout, moved: Moved, booked: Counter[str]) -> None:
    """What the merchant is shown of a payout, against what was booked and the statement."""
    shown: dict[str, Any] = json.loads(payout_json(payout))
    one_left = booked["debit"] > 0
    returned = max(0, booked["return"] - max(0, booked["debit"] - payout.amount))
    if (shown["amount_returned"], shown["provider_cost"]) != (returned, booked["cost"]):
        told = f"{shown['amount_returned']} returned, {shown['provider_cost']} cost"
        world.broken("I8", f"{payout.id} shows {told}, not {returned} and {booked['cost']}")
    if shown["state"] in ENDED:
        came_back = "returned" if returned == payout.amount else "settled"
        right = {came_back} if one_left else ENDED - {"settled", "returned"}
        if shown["state"] not in right:
            world.broken("I8", f"{payout.id} is shown as {shown['state']}, not {sorted(right)}")
    references = {line.reference for _, line in moved.executions()}
    if shown["state"] in PAID and shown["provider_reference"] not in references:
        world.broken("I8", f"{payout.id} names {shown['provider_reference']}, not {references}")


def _executions(
    world: World, wire: Wire, payout_id: str, executions: list[tuple[str, Line]]
) -> None:
    """I5: once, unless a provider broke its contract for this payout.

    Several times under one key only where the provider doubles that key, or forgets it and gets
    it again. Under several keys only where each key but one was executed first after its window.
    """
    times = f"{payout_id} was executed {len(executions)} times"
    keys = Counter((name, line.key) for name, line in executions)
    for (name, key), count in keys.items():
        if count > _allowed(world, wire, name, key):
            world.broken("I5", f"{times}, {count} of them under {key}")
    in_time = [(name, key) for name, key in keys if not _too_late(wire, name, key, executions)]
    if len(in_time) > 1:
        world.broken("I5", f"{times}, within the window under {len(in_time)} keys")


def _allowed(world: World, wire: Wire, provider: str, key: str) -> int:
    """How often a key may have been executed by what its provider does against its contract."""
    knobs, seed = world.swarm.knobs[provider], provider_seed(world)
    if fires(knobs["forgets"], seed, "forgets", key):
        return len(wire.sends[provider, key])
    return 1 + fires(knobs["double"], seed, "double", key)


def provider_seed(world: World) -> int:
    """The seed of the providers' chance."""
    return world.tape.seed & 0x7FFFFFFF


def _too_late(wire: Wire, provider: str, key: str, executions: list[tuple[str, Line]]) -> bool:
    """Whether a key was first executed after its window, as the network saw the sends."""
    first = min(line.booked_at for name, line in executions if (name, line.key) == (provider, key))
    last = max((send.at for send in wire.sends.get((provider, key), ())), default=0.0)
    return (first - EPOCH_MS) / 1000 > last + PROMISES[provider].over_s


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
