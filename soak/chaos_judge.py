"""What must hold after chaos: every payout against the providers' statements. Pure.

No alert excuses a payout. An alert must be explained by what a provider did, and what it did must
be in the books, save for what the alert is about: an execution of another amount or currency, and
the second execution of one key. Which orders a provider treats badly is known: its chance is
seeded (`Fates`).
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from bursar.rails.contracts import CONTRACTS
from bursar_sim.draws import fires, fractions
from bursar_sim.provider.rules import Draws

PAID: Final = frozenset({"settled", "returned"})
ENDED: Final = PAID | {"failed", "cancelled", "dead_letter"}
OPEN: Final = frozenset({"sending", "unknown", "accepted"})
ASKED_LATEST: Final = timedelta(seconds=75)
"""An open attempt is asked about every minute at least; so late an alert about it may come."""
SENT_LATEST: Final = timedelta(seconds=15)
"""So long after its attempt began an order that is sent once has come in: three times a lease."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Fates:
    """Which orders the simulated providers treat badly: by the rate of each fault, and one seed.

    `likelier` has the rates that are not `rate`.
    """

    rate: float
    seed: int
    likelier: Mapping[str, float] = field(default_factory=dict)

    def meets(self, knob: str, key: str) -> bool:
        """Whether a fault was due to the order of this key. No fault strikes any other."""
        return fires(self._rate(knob), self.seed, knob, key)

    def tells(self, key: str) -> bool:
        """Whether the webhooks about this key come for certain."""
        return Draws(*fractions(self.seed, key)).lost >= self._rate("webhook_lost")

    def _rate(self, knob: str) -> float:
        return self.likelier.get(knob, self.rate)


@dataclass(frozen=True)
class Evidence:
    """All there is to judge by, read when nothing moved any more.

    `lines` are those of all statements, in our minor units: `kind`, `key`, `reference`, `amount`,
    `currency`. `payouts` have their attempts; `transfers` are by payout id. `unheard_of` are the
    keys of open attempts that their provider says it does not know. `calm_at` is when all faults
    were turned off.
    """

    lines: Sequence[Document]
    payouts: Sequence[Document]
    transfers: Mapping[str, Sequence[Document]]
    accounts: Sequence[Document]
    books: Sequence[Document]
    alerts: Sequence[Document]
    unheard_of: frozenset[str]
    fates: Fates
    calm_at: datetime
    at: datetime


@dataclass
class Verdict:
    """A line for each thing that must not be, and what there was to judge."""

    faults: list[str] = field(default_factory=list)
    twice: int = 0
    unremarkable: int = 0


@dataclass
class Case:
    """One payout: its lines by key in order of booking, its alerts, and the providers' chance."""

    payout: Document
    lines: dict[str, list[Document]]
    transfers: Sequence[Document]
    alerts: Sequence[Document]
    evidence: Evidence

    @property
    def kinds(self) -> set[str]:
        """Of all alerts about it, those that were closed included."""
        return {alert["kind"] for alert in self.alerts}

    def debits(self) -> Iterator[Document]:
        """Each execution."""
        return (line for lines in self.lines.values() for line in lines if line["kind"] == "debit")

    def is_strange(self, debit: Document) -> bool:
        """Whether another amount or currency was executed than was asked for."""
        asked = (self.payout["amount"], self.payout["currency"])
        return (debit["amount"], debit["currency"]) != asked

    def strange(self) -> set[tuple[str, str]]:
        """Key and reference of each execution of another amount or currency."""
        return {
            (debit["key"], debit["reference"]) for debit in self.debits() if self.is_strange(debit)
        }

    def meant(self) -> dict[str, list[Document]]:
        """The lines by key, without strange executions and what came back of them."""
        strange = self.strange()
        return {
            key: [line for line in lines if (key, line["reference"]) not in strange]
            for key, lines in self.lines.items()
        }

    def executed(self) -> list[str]:
        """The keys under which what was asked for was executed."""
        return [
            key
            for key, lines in self.meant().items()
            if any(line["kind"] == "debit" for line in lines)
        ]

    def readings(self) -> Iterator[Counter[str]]:
        """Sums by kind that the books may show.

        Of two executions under one key they follow one, with an alert about the other.
        """
        choices = []
        for lines in self.meant().values():
            references = {line["reference"] for line in lines}
            several = len(references) > 1 and "second_reference" in self.kinds
            wanted = [{one} for one in sorted(references)] if several else [references]
            choices.append([_sums(lines, chosen) for chosen in wanted])
        for chosen in itertools.product(*choices):
            yield sum(chosen, start=Counter())

    def booked(self) -> Counter[str]:
        """What the ledger says that left, came back and was charged."""
        sums: Counter[str] = Counter()
        for one in self.transfers:
            if one["kind"] not in {"post", "posted"}:
                continue
            debit, credit = _role(one["debit"]), _role(one["credit"])
            if credit == "provider:clearing":
                sums["cost" if debit == "costs" else "debit"] += one["amount"]
            elif debit == "provider:clearing":
                sums["return"] += one["amount"]
            elif credit == "fees":
                sums["fee"] += one["amount"]
        return sums


def judged(evidence: Evidence) -> Verdict:
    """Every disagreement, in words."""
    verdict = Verdict()
    by_key: dict[str, list[Document]] = defaultdict(list)
    for line in evidence.lines:
        by_key[line["key"]].append(line)
    for payout in evidence.payouts:
        keys = [attempt["provider_key"] for attempt in payout["attempts"]]
        subjects = {payout["id"], *(attempt["id"] for attempt in payout["attempts"])}
        case = Case(
            payout,
            {key: by_key.pop(key, []) for key in keys},
            evidence.transfers[payout["id"]],
            [alert for alert in evidence.alerts if alert["subject_id"] in subjects],
            evidence,
        )
        verdict.twice += len(list(case.debits())) > 1
        verdict.unremarkable += not case.alerts
        verdict.faults += [
            f"{payout['reference']} ({payout['state']}): {fault}"
            for rule in (_executions, _told, _books, _shown, _still_open)
            for fault in rule(case)
        ]
    verdict.faults += [
        f"{key}: {len(strange)} lines that no attempt of ours asked for"
        for key, strange in by_key.items()
        if strange
    ]
    verdict.faults += _accounts(evidence)
    verdict.faults += _strangers(evidence)
    verdict.faults += [
        f"{book['currency']}: debits {book['debits']}, credits {book['credits']}"
        for book in evidence.books
        if not book["balanced"] or book["debits"] != book["credits"]
    ]
    return verdict


def _executions(case: Case) -> Iterator[str]:
    """I5: once, unless a provider broke its contract for this very order.

    Under several keys only where every key but one was executed after its window, against the
    contract. Under a key that it forgets at most once for each send. Another amount only where the
    provider mistakes that order.
    """
    fates = case.evidence.fates
    counts = Counter(debit["key"] for debit in case.debits())
    for attempt in case.payout["attempts"]:
        key = attempt["provider_key"]
        most = 1 + fates.meets("double", key)
        if fates.meets("forgets", key):
            most = sends_at_most(attempt, case.evidence.at)
        if counts[key] > most:
            yield f"executed {counts[key]} times under {key}"
    in_time = [key for key in counts if not fates.meets("worse", key)]
    if len(in_time) > 1:
        yield f"executed under {len(in_time)} keys within their windows"
    for debit in case.debits():
        mistaken = any(
            fates.meets(f"wrong_{what}", debit["key"]) for what in ("amount", "currency")
        )
        if case.is_strange(debit) and not mistaken:
            yield f"{debit['amount']} {debit['currency']} was executed, as nobody mistook it"


def sends_at_most(attempt: Document, at: datetime) -> int:
    """How often an attempt can have been sent: by the pauses of its contract, in its key's life."""
    contract = CONTRACTS[attempt["provider"]]
    over = min(at - datetime.fromisoformat(attempt["begun_at"]), contract.key_lifetime)
    sends, after = 1, timedelta(0)
    while (pause := contract.resend_pause(sends)) is not None and after + pause < over:
        sends, after = sends + 1, after + pause
    return sends


def _told(case: Case) -> Iterator[str]:
    """I5, F17, F18, F25: people are told of what is strange, of nothing else, and not again."""
    needed = {
        "amount_mismatch": bool(case.strange()),
        "second_reference": any(
            len({line["reference"] for line in lines}) > 1 for lines in case.meant().values()
        ),
        "possible_double_execution": len(case.executed()) > 1,
        "paid_and_failed": any(_was_flipped(case, one) for one in case.payout["attempts"]),
    }
    for kind in sorted({kind for kind, due in needed.items() if due} - case.kinds):
        yield f"nobody was told: no {kind}"
    causes = _causes(case)
    for kind, times in sorted(Counter(alert["kind"] for alert in case.alerts).items()):
        if not causes[kind]:
            yield f"{kind} without a reason"
        elif times > causes[kind]:
            yield f"{kind} is told {times} times, and has {causes[kind]} causes"


def _causes(case: Case) -> Counter[str]:
    """How many alerts of each kind there may be: one for each thing that people must be told."""
    fates, strange, executed = case.evidence.fates, case.strange(), case.executed()
    attempts = case.payout["attempts"]
    lines = [line for found in case.lines.values() for line in found]
    late = any(fates.meets("worse", key) for key in case.lines)
    backs = [line for line in lines if line["kind"] == "return"]
    return Counter(
        {
            # What came back in part of another amount may be told as one more amount.
            "amount_mismatch": len(
                {
                    (line["key"], line["currency"], line["amount"])
                    for line in lines
                    if (line["key"], line["reference"]) in strange and line["kind"] != "cost"
                }
            ),
            "second_reference": sum(
                max(0, len({line["reference"] for line in found}) - 1)
                for found in case.lines.values()
            ),
            "possible_double_execution": min(len(executed), len(attempts) - 1) if late else 0,
            "paid_and_failed": sum(_contradictions(case, attempt) for attempt in attempts),
            "return_exceeds_settled": len(backs) if strange else 0,
            "return_unexplained": len({line["key"] for line in backs}),
            "attempt_unproven": sum(_is_old(case, attempt) for attempt in attempts),
        }
    )


def _contradictions(case: Case, attempt: Document) -> int:
    """How often an executed attempt may be told, or proven, to have failed.

    By what its provider does to it; or by a refusal of a repeated order. Where the provider's
    order says later what came last, that may be a second time.
    """
    contract, key = CONTRACTS[attempt["provider"]], attempt["provider_key"]
    if key not in case.executed():
        return 0
    meets = any(case.evidence.fates.meets(knob, key) for knob in ("flip", "undo", "worse"))
    return (1 + contract.ordered) * (meets or contract.resend_after_s is not None)


def _was_flipped(case: Case, attempt: Document) -> bool:
    """Whether it was for certain told as failed, then executed, and nobody can tell which is true.

    Where events have an order, that tells. An order that comes in after calm is not flipped, and
    one that is executed after its window is not, either.
    """
    contract, key = CONTRACTS[attempt["provider"]], attempt["provider_key"]
    fates, begun_at = case.evidence.fates, datetime.fromisoformat(attempt["begun_at"])
    return (
        contract.resend_after_s is None
        and not contract.ordered
        and begun_at + SENT_LATEST < case.evidence.calm_at
        and key in case.executed()
        and fates.meets("flip", key)
        and not fates.meets("worse", key)
        and fates.tells(key)
    )


def _strangers(evidence: Evidence) -> Iterator[str]:
    """Alerts are about what is known here; one that is not about a payout is open but once."""
    ours = {one["id"] for one in evidence.payouts}
    ours |= {attempt["id"] for one in evidence.payouts for attempt in one["attempts"]}
    others = {account["address"] for account in evidence.accounts} | set(CONTRACTS)
    standing: Counter[tuple[str, str]] = Counter()
    for alert in evidence.alerts:
        kind, subject = alert["kind"], alert["subject_id"]
        if subject not in ours | others:
            yield f"{kind} about {subject}, which nobody knows"
        elif subject in others and alert["state"] == "open":
            standing[kind, subject] += 1
    for (kind, subject), times in standing.items():
        if times > 1:
            yield f"{subject}: {kind} is open {times} times"


def _books(case: Case) -> Iterator[str]:
    """I8: the books are a reading of the statement; the fee is charged once if it left."""
    booked, readings = case.booked(), list(case.readings())
    fee = booked.pop("fee", 0)
    if booked not in readings:
        yield f"books {dict(booked)}, statement {[dict(one) for one in readings]}"
    due = case.payout["fee"] * bool(booked["debit"])
    # While an attempt is open, the fee may still stand in the hold beside an earlier payment.
    if fee != due and (fee or case.payout["state"] in ENDED):
        yield f"{fee} was booked as our fee, {due} is due"


def _shown(case: Case) -> Iterator[str]:
    """What the merchant is shown of it, against the books and the statement."""
    payout, booked = case.payout, case.booked()
    returned = max(0, booked["return"] - max(0, booked["debit"] - payout["amount"]))
    if payout["amount_returned"] != returned:
        yield f"{payout['amount_returned']} is said to be returned, {returned} came back"
    if payout["provider_cost"] != booked["cost"]:
        yield f"{payout['provider_cost']} is said to be the cost, {booked['cost']} was charged"
    if payout["state"] in ENDED:
        came_back = "returned" if returned == payout["amount"] else "settled"
        right = {came_back} if booked["debit"] else ENDED - PAID
        if payout["state"] not in right:
            yield f"should be {' or '.join(sorted(right))}"
    references = {debit["reference"] for debit in case.debits() if not case.is_strange(debit)}
    if payout["state"] in PAID and payout["provider_reference"] not in references:
        yield f"names {payout['provider_reference']}, the statement {sorted(references)}"


def _still_open(case: Case) -> Iterator[str]:
    """I22, I23: only what a provider mistook, or will never tell, is open; and people know."""
    open_alerts = {alert["kind"] for alert in case.alerts if alert["state"] == "open"}
    if case.strange() and "amount_mismatch" in open_alerts:
        return
    going = [one for one in case.payout["attempts"] if one["state"] in OPEN]
    if case.payout["state"] not in ENDED and not going:
        yield "is open, and nothing is under way"
    for attempt in going:
        if not is_mute(case.evidence, attempt):
            yield f"{attempt['provider_key']} is still {attempt['state']}"
        elif _is_old(case, attempt, ASKED_LATEST) and "attempt_unproven" not in open_alerts:
            yield f"{attempt['provider_key']} is still {attempt['state']}, and nobody was told"


def is_mute(evidence: Evidence, attempt: Document) -> bool:
    """Whether its provider will never tell what became of it, and nothing has become of it.

    It keeps the order for ever; or does not know it, where that is no proof by the contract.
    """
    key = attempt["provider_key"]
    if any(line["key"] == key for line in evidence.lines):
        return False
    if key in evidence.unheard_of:
        return not CONTRACTS[attempt["provider"]].absence_is_proof
    return evidence.fates.meets("stuck", key)


def _is_old(case: Case, attempt: Document, grace: timedelta = timedelta(0)) -> bool:
    """Whether its key's life is over, since `grace`: then people are told if it is open still."""
    life = CONTRACTS[attempt["provider"]].key_lifetime
    return case.evidence.at > datetime.fromisoformat(attempt["begun_at"]) + life + grace


def _accounts(evidence: Evidence) -> Iterator[str]:
    """I1, I8, I21, I26: holds are the open payouts', clearing is what left, debts have alerts."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for payout in evidence.payouts:
        booked = Case(payout, {}, evidence.transfers[payout["id"]], (), evidence).booked()
        sums[payout["currency"]] += booked
        if payout["state"] not in ENDED:
            sums[payout["currency"]]["held"] += payout["amount"] + payout["fee"]
    owed = {
        alert["subject_id"]: alert["amount"]
        for alert in evidence.alerts
        if (alert["kind"], alert["state"]) == ("merchant_owes", "open")
    }
    for account in evidence.accounts:
        name, due = account["address"], sums[account["currency"]]
        if account["role"] == "available" and account["debits_pending"] != due["held"]:
            yield f"{name}: {account['debits_pending']} is held, {due['held']} is open"
        if account["role"] == "provider:clearing":
            found = (account["credits_posted"], account["debits_posted"])
            if found != (due["debit"] + due["cost"], due["return"]):
                yield f"{name}: {found} is not what the payouts' transfers add up to: {due}"
        if account["role"] == "receivable" and account["balance"] != owed.get(name, 0):
            yield f"{name}: {account['balance']} is owed, the alert says {owed.get(name, 0)}"


def _sums(lines: Sequence[Document], references: set[str]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for line in lines:
        if line["reference"] in references:
            sums[line["kind"]] += line["amount"]
    return sums


def _role(address: str) -> str:
    return str(address.split("/")[1])
