"""Auditing what two persons said of attempts: against the journal and the facts that came of it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from bursar.db.connection import Connection
from bursar.engine.verify import Disagreement, open_stream
from bursar.payouts.store import QUERIES

_KIND_OF = {"executed": "paid", "not_executed": "failed"}


class _Resolution(msgspec.Struct, frozen=True):
    """A confirmed resolution and the operator's fact. None where there is no such thing."""

    attempt_id: str
    payout_id: str | None
    verdict: str | None
    provider_ref: str | None
    proposed_by: str | None
    confirmed_by: str | None
    confirmed_at: datetime | None
    fits_attempt: bool | None
    fact_kind: str | None
    fact_ref: str | None


class _Note(msgspec.Struct, frozen=True):
    """What the journal says of it."""

    attempt: str
    verdict: str
    proposed_by: str
    provider_reference: str | None = None


async def resolutions(connection: Connection) -> str:
    """Every operator's fact has two persons behind it, as the journal names them (F68)."""
    told: dict[str, tuple[object, ...]] = {}
    for payout_id, actor, at, body in await connection.fetch(QUERIES["verify_resolved"]):
        note = _note(payout_id, body)
        told[note.attempt] = (
            *(payout_id, note.verdict, note.provider_reference),
            *(note.proposed_by, actor, at),
        )
    stream = await open_stream(connection, QUERIES["verify_resolutions"], _Resolution)
    while (found := await stream.next()) is not None:
        _judge(found, told.pop(found.attempt_id, None))
    if told:
        raise Disagreement(
            "resolutions",
            {"attempt_id": min(told)},
            expected="a confirmed resolution, as the journal says,",
            found="none",
        )
    return f"resolutions: {stream.taken} by two persons each"


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


def _judge(found: _Resolution, told: tuple[object, ...] | None) -> None:
    key: dict[str, object] = {"attempt_id": found.attempt_id}
    if found.verdict is None:
        raise Disagreement(
            "facts", key, expected="two persons behind what an operator said", found="none"
        )
    stored = (
        *(found.payout_id, found.verdict, found.provider_ref),
        *(found.proposed_by, found.confirmed_by, found.confirmed_at),
    )
    if stored != told:
        expected = "nothing" if told is None else ", ".join(map(str, told))
        raise Disagreement(
            "resolutions",
            key,
            expected=f"{expected}, as the journal says,",
            found=", ".join(map(str, stored)),
        )
    if not found.fits_attempt:
        raise Disagreement(
            "resolutions", key, expected="amount and merchant of its attempt", found="others"
        )
    if found.proposed_by == found.confirmed_by:
        raise Disagreement("resolutions", key, expected="two persons", found="one")
    if (found.fact_kind, found.fact_ref) != (_KIND_OF[found.verdict], found.provider_ref):
        raise Disagreement(
            "facts",
            key,
            expected=f"{_KIND_OF[found.verdict]} under {found.provider_ref}, as was resolved,",
            found=f"{found.fact_kind} under {found.fact_ref}",
        )
