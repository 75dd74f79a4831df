"""The bank behind the port, over a transport that plays its part."""

import json

import msgspec
import pytest

from bursar.rails.bank.adapter import BankRail
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import (
    Accepted,
    NotExecuted,
    StatusNotFound,
    StatusPending,
    StatusUnknown,
    Unknown,
)
from bursar.rails.port import PayoutInstruction, PayoutRail
from bursar.rails.transport import START_TOO_LATE, Request, Response, TransportFailure
from tests.rails.scripted_server import Connection, talking_to

KEY = "pa-" + "0" * 31 + "1"
INSTRUCTION = PayoutInstruction(
    key=KEY,
    amount_minor=100,
    currency="EUR",
    creditor_name="Ada",
    creditor_iban="DE89370400440532013000",
    remittance="INV-1",
)
ACCEPTED = json.dumps(
    {
        "transfer_id": "bt_1",
        "end_to_end_id": KEY,
        "status": "accepted",
        "amount": 100,
        "currency": "EUR",
        "cost": 0,
    }
).encode()


class Scripted:
    """A transport that keeps what it was asked and gives one answer."""

    def __init__(self, answer: Response | TransportFailure) -> None:
        self.asked: list[Request] = []
        self._answer = answer

    async def send(self, request: Request) -> Response:
        """The one answer."""
        self.asked.append(request)
        if isinstance(self._answer, TransportFailure):
            raise self._answer
        return self._answer


def reply(status: int, body: bytes) -> Scripted:
    """A transport on which every call is answered so."""
    return Scripted(Response(status=status, headers={}, body=body))


def failing(reason: str, *, written: bool) -> Scripted:
    """A transport on which every call fails so."""
    return Scripted(TransportFailure(request_bytes_written=written, reason=reason))


def bank(transport: Scripted) -> BankRail:
    """The bank over it."""
    return BankRail(transport, api_key="sandbox-bank-key")


async def test_one_submit_is_one_request() -> None:
    """The wire of the bank: path, key, credentials, correlation, deadline."""
    transport = reply(201, ACCEPTED)
    rail: PayoutRail = bank(transport)

    assert await rail.submit(INSTRUCTION, correlation_id="co-1") == Accepted("bt_1")

    (asked,) = transport.asked
    assert (asked.method, asked.path, asked.deadline_s) == ("POST", "/bank/transfers", 2)
    assert asked.headers == {
        "Authorization": "Bearer sandbox-bank-key",
        "Content-Type": "application/json",
        "Idempotency-Key": KEY,
        "X-Correlation-Id": "co-1",
    }
    assert json.loads(asked.body)["end_to_end_id"] == KEY


async def test_one_inquiry_is_one_request() -> None:
    """By our own key."""
    transport = reply(200, ACCEPTED)

    assert await bank(transport).inquire(KEY, correlation_id="co-1") == StatusPending(
        "bt_1", 100, "EUR"
    )

    (asked,) = transport.asked
    assert (asked.method, asked.path, asked.body) == ("GET", f"/bank/transfers/{KEY}", b"")
    assert asked.headers == {
        "Authorization": "Bearer sandbox-bank-key",
        "X-Correlation-Id": "co-1",
    }


async def test_a_failure_before_the_first_byte_is_proof() -> None:
    """F15."""
    rail = bank(failing("connect_failed", written=False))

    outcome = await rail.submit(INSTRUCTION, correlation_id="co-1")

    assert outcome == NotExecuted(
        code="not_sent", reason="connect_failed", retryable=True, sent=False
    )


@pytest.mark.parametrize("reason", ["deadline_exceeded", "connection_reset", "reply_truncated"])
async def test_a_failure_after_it_is_not(reason: str) -> None:
    """F9, F14."""
    rail = bank(failing(reason, written=True))

    assert await rail.submit(INSTRUCTION, correlation_id="co-1") == Unknown(reason)


@pytest.mark.parametrize("written", [True, False])
async def test_a_failed_inquiry_says_nothing(*, written: bool) -> None:
    """F13: that we could not ask proves nothing about the money."""
    rail = bank(failing("connect_failed", written=written))

    assert await rail.inquire(KEY, correlation_id="co-1") == StatusUnknown("connect_failed")


async def test_the_banks_not_found() -> None:
    """F13: left to `judge_inquiry`."""
    rail = bank(reply(404, b'{"code":"not_found"}'))

    assert await rail.inquire(KEY, correlation_id="co-1") == StatusNotFound()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": "pa_1"}, "key_unusable"),
        ({"key": "p" * 36}, "key_unusable"),
        ({"key": "a\r\nX: y"}, "key_unusable"),
        ({"currency": "XXX"}, "unknown_currency"),
        ({"amount_minor": 101, "currency": "HUF"}, "amount_not_representable"),
    ],
)
async def test_what_cannot_be_told_is_not_sent(changes: dict[str, object], code: str) -> None:
    """F20, F74: proven, as no request was made."""
    transport = reply(201, ACCEPTED)
    whole_forints = msgspec.structs.replace(CONTRACTS["bank"], exponents={"HUF": 0})
    rail = BankRail(transport, api_key="k", contract=whole_forints)

    outcome = await rail.submit(
        msgspec.structs.replace(INSTRUCTION, **changes), correlation_id="co-1"
    )

    assert isinstance(outcome, NotExecuted)
    assert (outcome.code, outcome.sent, outcome.retryable) == (code, False, False)
    assert transport.asked == []


async def test_no_request_for_a_key_of_another_form() -> None:
    """A key is part of the path: it cannot lead elsewhere."""
    transport = reply(200, ACCEPTED)

    answer = await bank(transport).inquire("../statement", correlation_id="co-1")

    assert answer == StatusUnknown("key_unusable")
    assert transport.asked == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [("a b\r\nX-Evil: 1", "a-b--X-Evil:-1"), ("é\x00", "--"), ("x" * 500, "x" * 128), ("", "")],
)
async def test_a_clients_correlation_id_cannot_spoil_the_request(given: str, sent: str) -> None:
    """F77."""
    transport = reply(201, ACCEPTED)

    await bank(transport).submit(INSTRUCTION, correlation_id=given)

    assert transport.asked[0].headers["X-Correlation-Id"] == sent


async def test_the_credential_is_never_shown() -> None:
    """F65: not in what a log line or a traceback prints of the rail."""
    assert "sandbox-bank-key" not in repr(bank(reply(200, b"{}")))


async def test_over_a_socket() -> None:
    """The adapter and the real transport, with an answer and with none."""

    async def script(connection: Connection) -> None:
        await connection.request()
        if connection.number == 1:
            head = b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            await connection.reply(head % len(ACCEPTED) + ACCEPTED)

    async with talking_to(script) as (server, transport):
        rail = BankRail(transport, api_key="sandbox-bank-key")
        first = await rail.submit(INSTRUCTION, correlation_id="co-1")
        second = await rail.submit(INSTRUCTION, correlation_id="co-1")

    assert (first, second) == (Accepted("bt_1"), Unknown("reply_truncated"))
    assert len(server.requests) == 2


async def test_a_send_that_began_too_late_is_ours() -> None:
    """F33: the limit reaches the transport; nothing was sent, and the payout loses no try."""
    transport = failing(START_TOO_LATE, written=False)

    outcome = await bank(transport).submit(
        INSTRUCTION, correlation_id="co-1", must_start_before=7.5
    )

    assert transport.asked[0].must_start_before == 7.5
    assert outcome == NotExecuted(
        code="not_sent", reason=START_TOO_LATE, retryable=True, sent=False, ours=True
    )
