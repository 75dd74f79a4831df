"""Auditing what two persons said of attempts: against the journal and the facts that came of it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from bursar.db.connection import Connection
from bursar.engine.verify import Disagreement, open_stream
from bursar.payouts.store import QUERIES


class _Resolution(msgspec.Struct, frozen=True):
    """What stands of an attempt, and the facts that operators made. None where there is nothing."""

    attempt_id: str
    payout_id: str | None
    verdict: str | None
    provider_ref: str | None
    proposed_by: str | None
    proposed_at: datetime | None
    confirmed_by: str | None
    confirmed_at: datetime | None
    fits_attempt: bool | None
    said: list[str]
    failed: bool


class _Note(msgspec.Struct, frozen=True):
    """What the journal says of it."""

    attempt: str
    verdict: str
    proposed_by: str
    provider_reference: str | None = None


class _Word(msgspec.Struct, frozen=True):
    """What two persons said once, as the journal has it."""

    payout_id: str
    verdict: str
    provider_ref: str | None
    proposed_by: str
    confirmed_by: str
    at: datetime

    @property
    def fact(self) -> str:
        """The operator's fact that comes of it, as the statement words it."""
        kind = "paid" if self.verdict == "executed" else "failed"
        return f"{kind} {self.provider_ref or ''}"


async def resolutions(connection: Connection) -> str:
    """Every operator's fact has two persons behind it, as the journal names them (F68)."""
    told: dict[str, list[_Word]] = {}
    for payout_id, actor, at, body in await connection.fetch(QUERIES["verify_resolved"]):
        note = _note(payout_id, body)
        word = _Word(payout_id, note.verdict, note.provider_reference, note.proposed_by, actor, at)
        told.setdefault(note.attempt, []).append(word)
    confirmed = sum(map(len, told.values()))
    stream = await open_stream(connection, QUERIES["verify_resolutions"], _Resolution)
    while (found := await stream.next()) is not None:
        words = told.pop(found.attempt_id, [])
        _judge(found, words)
        _judge_facts(found, words)
    if told:
        raise Disagreement(
            "resolutions",
            {"attempt_id": min(told)},
            expected="a confirmed resolution, as the journal says,",
            found="none",
        )
    return f"resolutions: {confirmed} by two persons each"


def _note(payout_id: str, body: str) -> _Note:
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise Disagreement(
            "journal",
            {"subject_id": payout_id, "kind": "attempt.resolved"},
            expected="a body that tells a resolution",
            found=str(error),
        ) from error


_decoder = msgspec.json.Decoder(_Note)


def _judge(found: _Resolution, words: list[_Word]) -> None:
    """What stands is the last word of the journal, or a proposal that came after it."""
    key: dict[str, object] = {"attempt_id": found.attempt_id}
    if found.verdict is None:
        raise Disagreement(
            "facts", key, expected="two persons behind what an operator said", found="none"
        )
    last = words[-1] if words else None
    if found.confirmed_at is None:
        if last is not None and found.proposed_at is not None and found.proposed_at < last.at:
            raise Disagreement(
                "resolutions",
                key,
                expected="a confirmed resolution, as the journal says,",
                found="a proposal from before",
            )
        return
    stored = (
        *(found.payout_id, found.verdict, found.provider_ref),
        *(found.proposed_by, found.confirmed_by, found.confirmed_at),
    )
    expected = None if last is None else msgspec.structs.astuple(last)
    if stored != expected:
        says = "nothing" if expected is None else ", ".join(map(str, expected))
        raise Disagreement(
            "resolutions",
            key,
            expected=f"{says}, as the journal says,",
            found=", ".join(map(str, stored)),
        )
    if not found.fits_attempt:
        raise Disagreement(
            "resolutions", key, expected="amount and merchant of its attempt", found="others"
        )
    if found.proposed_by == found.confirmed_by:
        raise Disagreement("resolutions", key, expected="two persons", found="one")


def _judge_facts(found: _Resolution, words: list[_Word]) -> None:
    """Each word has its fact, and each fact of an operator has its word."""
    key: dict[str, object] = {"attempt_id": found.attempt_id}
    known = {*found.said, *(["failed "] if found.failed else [])}
    for word in words:
        if word.fact not in known:
            raise Disagreement(
                "facts",
                key,
                expected=f"{word.fact.strip()}, as was resolved,",
                found=", ".join(map(str.strip, found.said)) or "none",
            )
    for fact in found.said:
        if fact not in {word.fact for word in words}:
            raise Disagreement(
                "facts",
                key,
                expected="what two persons said",
                found=f"{fact.strip()}, by an operator",
            )
