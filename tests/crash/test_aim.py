"""Cuts are aimed at the COMMIT of a command: the right one, and once."""

import asyncio

import pytest

from tests.crash.aim import WRITES, AimedProxy, Tap
from tests.engine.proxy import Cut


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def _text(value: str) -> bytes:
    return len(value).to_bytes(4, "big") + value.encode()


BEGIN = _message(b"Q", b"BEGIN ISOLATION LEVEL READ COMMITTED\x00")
COMMIT = _message(b"Q", b"COMMIT\x00")


async def test_a_transaction_is_told_at_its_commit() -> None:
    """What was written in it, and nothing of the transaction before."""
    told: list[bytes] = []
    reader = asyncio.StreamReader()
    tap = Tap(reader, told.append)
    first, second = _message(b"B", b"first"), _message(b"B", b"second")
    for message in (BEGIN, first, COMMIT, BEGIN, second, COMMIT):
        reader.feed_data(message)
        assert await tap.readexactly(5) == message[:5]
        assert await tap.readexactly(len(message) - 5) == message[5:]
    assert [b"first" in one for one in told] == [True, False]
    assert [b"second" in one for one in told] == [False, True]


@pytest.mark.parametrize("cut", Cut)
def test_a_command_is_cut_at_its_first_commit_only(cut: Cut) -> None:
    """Others go through, and so does the same when it is committed again."""
    proxy = AimedProxy("127.0.0.1", 5432, cut, {"CancelPayout", "ReceiveEvent"})
    for written, expected in (
        (_text("payout.sending"), []),
        (b"payout.cancelled, but no value of its own", []),
        (_text("payout.cancelled"), [cut]),
        (_text("payout.cancelled"), []),
    ):
        proxy.aim(written)
        assert proxy.cuts == expected
    assert proxy.left == {"ReceiveEvent"}


def test_no_command_is_taken_for_another() -> None:
    """What one writes is no other's."""
    samples = {
        "CreatePayout": b'{"from":"created","to":"funds_locked"}',
        "CancelPayout": _text("payout.cancelled"),
        "RetryPayout": _text("payout.funds_locked") + _text("payout_retried"),
        "ResolvePayout.propose": _text("attempt.resolution_proposed"),
        "ResolvePayout.confirm": _text("attempt.resolved") + _text("operator"),
        "AssignIncident": _text("incident.assigned"),
        "ReceiveEvent": b'{"event_id":"evt_1"}' + _text(""),
        "BeginAttempt": _text("payout.sending"),
        "ResendAttempt": _text("attempt.resent"),
        "RecordReply": _text("attempt.unknown") + _text("reply"),
        "RecordInquiry": _text("payout.settled") + _text("inquiry"),
        "ExpireLease": _text("attempt.unknown") + b'{"source":"sweeper"}',
        "ExpirePayout": _text("payout.failed") + _text("payout_expired"),
        "ApplyEvent": _text("payout.settled") + _text("webhook") + _text("applied"),
    }
    for name, written in samples.items():
        proxy = AimedProxy("127.0.0.1", 5432, Cut.ANSWER, WRITES)
        proxy.aim(written)
        assert set(WRITES) - proxy.left == {name}
    assert set(samples) == set(WRITES)
