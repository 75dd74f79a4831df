"""Auditing payouts: each one told again from its journal, its hold, its attempts and its facts.

`audit` runs the whole of `bursar verify`: it stands here because this context is the topmost one
that keeps books. All amounts are minor units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from bursar.db.connection import Connection
from bursar.engine import checkpoints
from bursar.engine.verify import Audit, Check, Disagreement, chains, open_stream, run_checks
from bursar.ledger import verify as ledger
from bursar.payouts.facts import Standing, amount_returned, standing
from bursar.payouts.machine import HELD, OPEN_ATTEMPT, TRANSITIONS, AttemptState, State
from bursar.payouts.resolutions import resolutions
from bursar.payouts.store import QUERIES

_OUT = frozenset({State.SENDING, State.SENT})
_REFUSED = "payout.return_refused"
_RETURNS = frozenset(
    {
        "payout.returned",
        "payout.part_returned",
        "payout.again_returned",
        "payout.return_undone",
    }
)
_LEGAL = frozenset(
    (state, target) for state, events in TRANSITIONS.items() for target in events.values()
)


async def audit(dsn: str, *, anchor: Path | None) -> Audit:
    """Replay everything, in one snapshot: chains, checkpoints, books, payouts.

    With `anchor`, also against the checkpoints exported to that file. Raises OSError or
    `AnchorDamaged` for a file that can't be read, and the driver's errors.
    """
    return await run_checks(dsn, checks(anchor))


def checks(anchor: Path | None) -> tuple[Check, ...]:
    """All checks, in the order in which they make sense: first that nobody changed the rows.

    Raises OSError if there is no file at `anchor`.
    """
    return (
        chains([ledger.CHAINED_TRANSFERS]),
        checkpoints.stored,
        *(() if anchor is None else (checkpoints.anchored(anchor),)),
        *ledger.CHECKS,
        payouts,
        resolutions,
    )


class _Payout(msgspec.Struct, frozen=True):
    """A payout, its hold, and the payout that its reference names."""

    id: str
    merchant_id: str
    reference: str
    amount: int
    currency: str
    fee: int
    state: str
    version: int
    beneficiary_name: str
    beneficiary_iban: str
    attempt_count: int
    hold_id: str
    provider_cost: int
    amount_returned: int
    created_at: datetime
    settled_at: datetime | None
    hold_state: str | None
    hold_merchant_id: str | None
    hold_subject_id: str | None
    reference_payout_id: str | None


class _Entry(msgspec.Struct, frozen=True):
    """A journal entry about a payout."""

    payout_id: str
    merchant_id: str
    seq: int
    kind: str
    at: datetime
    body: str


class _Note(msgspec.Struct, frozen=True, rename={"source": "from"}):
    """What an audit needs of an entry's body. Entries with `to` move the payout's state."""

    source: str | None = None
    to: str | None = None
    version: int | None = None
    attempt: str | None = None
    amount: int = 0
    cost: int = 0
    reference: str | None = None
    currency: str | None = None
    fee: int | None = None
    name: str | None = None
    iban: str | None = None
    code: str | None = None
    paid_by: str | None = None
    returned: int | None = None


class _Fact(msgspec.Struct, frozen=True):
    """What a fact's standing depends on."""

    kind: str
    item: str
    provider_ref: str | None
    amount: int
    sequence: int | None


class _Attempt(msgspec.Struct, frozen=True):
    """An attempt, whose its provider key is, and the columns of its facts."""

    payout_id: str
    id: str
    merchant_id: str
    number: int
    hold_id: str
    amount: int
    currency: str
    state: str
    key_attempt_id: str | None
    key_payout_id: str | None
    kinds: list[str]
    items: list[str]
    provider_refs: list[str | None]
    amounts: list[int]
    sequences: list[int | None]

    def standing(self) -> Standing:
        """How it stands by its facts."""
        facts = zip(
            self.kinds,
            self.items,
            self.provider_refs,
            self.amounts,
            self.sequences,
            strict=True,
        )
        return standing((_Fact(*fact) for fact in facts), self.amount)


async def payouts(connection: Connection) -> str:
    """Every payout is what its journal says (I11), every attempt what its facts say.

    A payout's hold is active exactly while it is held, and ended as its payout did (I4); at most
    one attempt is open (I6).
    """
    await _strays(connection)
    rows = await open_stream(connection, QUERIES["verify_payouts"], _Payout)
    history = await open_stream(connection, QUERIES["verify_history"], _Entry)
    attempts = await open_stream(connection, QUERIES["verify_attempts"], _Attempt)
    while (row := await rows.next()) is not None:
        of_it = _about(row.id)
        told = _Retold()
        for entry in await history.take_while(of_it):
            told.take(row, entry)
        _judge(row, told)
        tries = await attempts.take_while(of_it)
        _judge_attempts(row, tries, told)
    return (
        f"payouts: {rows.taken} stand where {history.taken} journal entries left them, "
        f"{attempts.taken} attempts as their facts say"
    )


def _about(payout_id: str) -> Callable[[_Entry | _Attempt], bool]:
    return lambda row: row.payout_id == payout_id


async def _strays(connection: Connection) -> None:
    stray = await connection.fetchrow(QUERIES["verify_stray_rows"])
    if stray is not None:
        table, key, subject = stray
        raise Disagreement(table, {"key": key}, expected=subject, found="none")
    hold = await connection.fetchrow(QUERIES["verify_stray_holds"])
    if hold is not None:
        raise Disagreement(
            "holds",
            {"id": hold[0]},
            expected=f"payout {hold[1]} to name this active hold",
            found="another hold, or no payout",
        )


class _Retold:
    """A payout as its journal entries tell it."""

    def __init__(self) -> None:
        self.state = State.CREATED.value
        self.version = 0
        self.created_at: datetime | None = None
        self.settled_at: datetime | None = None
        self.hold = "active"
        self.begun = 0
        self.cost = 0
        self.returned = 0
        self.back: Counter[str | None] = Counter()
        self.refused: Counter[str | None] = Counter()
        self.first = _Note()

    def take(self, payout: _Payout, entry: _Entry) -> None:
        """The next entry. Raises `Disagreement` if it can't follow the ones before."""
        key: dict[str, object] = {"merchant_id": entry.merchant_id, "seq": entry.seq}
        if entry.merchant_id != payout.merchant_id:
            raise Disagreement(
                "payouts",
                {"id": payout.id},
                expected=f"merchant_id {entry.merchant_id}, as its journal says,",
                found=payout.merchant_id,
            )
        try:
            note = _decoder.decode(entry.body)
        except msgspec.DecodeError as error:
            raise Disagreement(
                "journal", key, expected="a body as JSON", found=str(error)
            ) from error
        self.cost += note.cost
        if note.returned is not None:
            self.returned = note.returned
        if entry.kind in _RETURNS:
            self.back[note.attempt] += note.amount
        elif entry.kind == _REFUSED:
            self.refused[note.attempt] += note.amount
        if note.to is not None:
            self._step(key, entry, note)

    def _step(self, key: dict[str, object], entry: _Entry, note: _Note) -> None:
        step = (note.source, note.to, note.version)
        if note.source != self.state or note.version != self.version + 1:
            raise Disagreement(
                "journal",
                key,
                expected=f"{entry.payout_id} to move from {self.state} as version "
                f"{self.version + 1}",
                found=f"from {note.source} as version {note.version}",
            )
        if (note.source, note.to) not in _LEGAL or entry.kind != f"payout.{note.to}":
            raise Disagreement(
                "journal",
                key,
                expected=f"a legal step of {entry.payout_id} from {self.state}",
                found=f"{entry.kind} with {step}",
            )
        if self.version == 0:
            self.first, self.created_at = note, entry.at
        self.hold = _hold_after(note, self.hold)
        self.state, self.version = str(note.to), self.version + 1
        self.begun += note.to == State.SENDING
        if note.to == State.SETTLED:
            self.settled_at = entry.at


def _hold_after(note: _Note, before: str) -> str:
    """How the hold stands after a step of the machine."""
    if note.to in HELD:
        return "active"
    if note.to == State.SETTLED and note.source in HELD:
        # Paid by an earlier attempt: that was posted then, and the open one's hold is given back.
        return "posted" if note.paid_by is None else "voided"
    if note.to in (State.SETTLED, State.RETURNED):
        return before
    return "expired" if note.code == "hold_expired" else "voided"


_decoder = msgspec.json.Decoder(_Note)


def _judge(payout: _Payout, told: _Retold) -> None:
    """The payout's row, and its hold, against what the journal tells."""
    key: dict[str, object] = {"id": payout.id}
    first = told.first
    facts: tuple[tuple[str, object, object], ...] = (
        ("state", payout.state, told.state),
        ("version", payout.version, told.version),
        ("amount_returned", payout.amount_returned, told.returned),
        ("provider_cost", payout.provider_cost, told.cost),
        ("attempt_count", payout.attempt_count, told.begun),
        ("created_at", payout.created_at, told.created_at),
        ("settled_at", payout.settled_at, told.settled_at),
        ("reference", payout.reference, first.reference),
        ("amount", payout.amount, first.amount),
        ("currency", payout.currency, first.currency),
        ("fee", payout.fee, first.fee),
        ("beneficiary_name", payout.beneficiary_name, first.name),
        ("beneficiary_iban", payout.beneficiary_iban, first.iban),
    )
    for name, stored, expected in facts:
        if stored != expected:
            raise Disagreement(
                "payouts", key, expected=f"{name} {expected}, as its journal says,",
                found=str(stored),
            )  # fmt: skip
    if payout.reference_payout_id != payout.id:
        raise Disagreement(
            "payout_references",
            {"merchant_id": payout.merchant_id, "reference": payout.reference},
            expected=f"payout {payout.id}",
            found=payout.reference_payout_id or "none",
        )
    if (payout.hold_merchant_id, payout.hold_subject_id) != (payout.merchant_id, payout.id):
        raise Disagreement(
            "payouts",
            key,
            expected=f"hold_id of a hold of {payout.merchant_id} for this payout",
            found=f"{payout.hold_id}, of {payout.hold_merchant_id} for {payout.hold_subject_id}",
        )
    if payout.hold_state != told.hold:
        raise Disagreement(
            "holds",
            {"id": payout.hold_id},
            expected=f"{told.hold}, as payout {payout.id} is {payout.state},",
            found=payout.hold_state or "none",
        )


def _judge_attempts(payout: _Payout, attempts: list[_Attempt], told: _Retold) -> None:
    """The payout's attempts, in order of their numbers."""
    stand = [attempt.standing() for attempt in attempts]
    for number, (attempt, stands) in enumerate(zip(attempts, stand, strict=True), start=1):
        _judge_attempt(payout, attempt, number, stands)
        _judge_returns(attempt, stands, told)
    if len(attempts) != payout.attempt_count:
        raise Disagreement(
            "attempts",
            {"payout_id": payout.id},
            expected=f"{payout.attempt_count}, as many as were begun,",
            found=str(len(attempts)),
        )
    states = Counter(attempt.state for attempt in attempts)
    still_open = sum(states[state] for state in OPEN_ATTEMPT)
    if still_open != (payout.state in _OUT):
        raise Disagreement(
            "attempts",
            {"payout_id": payout.id},
            expected=f"{int(payout.state in _OUT)} open, as the payout is {payout.state},",
            found=str(still_open),
        )
    _judge_end(payout, stand, is_open=bool(still_open))


def _judge_end(payout: _Payout, stand: list[Standing], *, is_open: bool) -> None:
    """What became of the payout, by the facts of all its attempts (I8, I24)."""
    total = amount_returned(payout.amount, stand)
    if payout.amount_returned != total:
        raise Disagreement(
            "payouts",
            {"id": payout.id},
            expected=f"amount_returned {total}, as the facts of its attempts say,",
            found=str(payout.amount_returned),
        )
    paid = any(stands.paid for stands in stand)
    ended = State.RETURNED if total == payout.amount else State.SETTLED
    is_paid = payout.state in (State.SETTLED, State.RETURNED)
    if (paid and not is_open and payout.state != ended) or (is_paid and not paid):
        raise Disagreement(
            "payouts",
            {"id": payout.id},
            expected=f"state {ended if paid else 'of one that nothing was paid for'}, "
            "as the facts of its attempts say,",
            found=payout.state,
        )


def _judge_returns(attempt: _Attempt, stands: Standing, told: _Retold) -> None:
    """What came back of one attempt, and what was told beyond its amount (F80)."""
    found = (stands.returned, stands.excess)
    expected = (told.back[attempt.id], told.refused[attempt.id])
    if found != expected:
        raise Disagreement(
            "facts",
            {"attempt_id": attempt.id},
            expected=f"returns of {expected[0]} and {expected[1]} too much, as the journal says,",
            found=f"{found[0]} and {found[1]} too much",
        )


def _judge_attempt(payout: _Payout, attempt: _Attempt, number: int, stands: Standing) -> None:
    undecided = {AttemptState.SENDING, AttemptState.UNKNOWN}
    otherwise = AttemptState.UNKNOWN if attempt.state not in undecided else attempt.state
    is_open = attempt.state in OPEN_ATTEMPT
    facts: tuple[tuple[str, object, object], ...] = (
        ("number", attempt.number, number),
        ("merchant_id", attempt.merchant_id, payout.merchant_id),
        ("amount", attempt.amount, payout.amount),
        ("currency", attempt.currency, payout.currency),
        ("hold_id", attempt.hold_id, payout.hold_id if is_open else attempt.hold_id),
        ("state", attempt.state, stands.state(AttemptState(otherwise))),
        ("provider_key of attempt", attempt.key_attempt_id, attempt.id),
        ("provider_key of payout", attempt.key_payout_id, payout.id),
    )
    for name, stored, expected in facts:
        if stored != expected:
            raise Disagreement(
                "attempts", {"id": attempt.id}, expected=f"{name} {expected}", found=str(stored)
            )
