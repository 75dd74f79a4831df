"""The off-ramp behind the port: the wire's path, headers and body, and no send of what can't be."""

import json

from bursar.rails.contracts import CONTRACTS
from bursar.rails.offramp.adapter import OfframpRail
from bursar.rails.outcomes import Accepted, NotExecuted, StatusNotFound, Unknown
from bursar.rails.port import PayoutInstruction, PayoutRail
from bursar.rails.transport import START_TOO_LATE, Request, Response, TransportFailure

KEY = CONTRACTS["offramp"].map_key("pa_" + "0" * 31 + "1")
INSTRUCTION = PayoutInstruction(
    key=KEY,
    amount_minor=100_250_000,
    currency="USDC",
    creditor_name="Ada",
    creditor_iban="DE89370400440532013000",
    remittance="INV-1",
)
PROCESSING = json.dumps(
    {
        "payout_id": "op_1",
        "client_reference": KEY,
        "status": "processing",
        "asset": "USDC",
        "amount": "100.250000",
        "cost": "0.010000",
        "sequence": 1,
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


async def test_one_submit_is_one_request() -> None:
    """The wire of the off-ramp: path, credentials, correlation, deadline; the key in the body."""
    transport = Scripted(Response(status=202, headers={}, body=PROCESSING))
    rail: PayoutRail = OfframpRail(transport, api_key="k")

    said = await rail.submit(INSTRUCTION, correlation_id="co 1", must_start_before=9.0)

    assert said == Accepted("op_1")
    (asked,) = transport.asked
    assert (asked.method, asked.path, asked.deadline_s) == ("POST", "/offramp/payouts", 2)
    assert asked.must_start_before == 9.0
    assert asked.headers == {
        "Authorization": "Bearer k",
        "Content-Type": "application/json",
        "X-Correlation-Id": "co-1",
    }
    assert json.loads(asked.body) == {
        "client_reference": KEY,
        "asset": "USDC",
        "amount": "100.250000",
        "recipient": {"name": "Ada", "account": "DE89370400440532013000"},
        "memo": "INV-1",
    }


async def test_an_inquiry_is_by_our_key() -> None:
    """F13: left to `judge_inquiry`."""
    transport = Scripted(Response(status=404, headers={}, body=b'{"code":"not_found"}'))
    rail = OfframpRail(transport, api_key="k")

    assert await rail.inquire(KEY, correlation_id="co") == StatusNotFound()
    (asked,) = transport.asked
    assert (asked.method, asked.path) == ("GET", f"/offramp/payouts/{KEY}")


async def test_failed_calls() -> None:
    """F9 F33: proof only where no byte left."""
    for written, reason, outcome in (
        (True, "deadline_exceeded", Unknown("deadline_exceeded")),
        (
            False,
            "connect_failed",
            NotExecuted(code="not_sent", reason="connect_failed", retryable=True, sent=False),
        ),
        (
            False,
            START_TOO_LATE,
            NotExecuted(
                code="not_sent", reason=START_TOO_LATE, retryable=True, sent=False, ours=True
            ),
        ),
    ):
        failure = TransportFailure(request_bytes_written=written, reason=reason)
        rail = OfframpRail(Scripted(failure), api_key="k")
        assert await rail.submit(INSTRUCTION, correlation_id="co") == outcome
