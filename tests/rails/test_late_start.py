"""No byte of a request leaves after the caller's `must_start_before` (F33)."""

import asyncio
from collections.abc import Sequence

import pytest

from bursar.kit.clock import SystemClock
from bursar.rails.transport import START_TOO_LATE, HttpxTransport, Request, TransportFailure
from tests.rails.scripted_server import OK, Connection, talking_to

LIMIT = 100.0


class Readings(SystemClock):
    """Monotonic time that reads as written down; the last reading stays."""

    def __init__(self, readings: Sequence[float]) -> None:
        self._readings = list(readings)

    def monotonic(self) -> float:
        """The next reading."""
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]


def order(must_start_before: float | None = LIMIT) -> Request:
    """An order that has to begin in time."""
    return Request(
        method="POST",
        path="/bank/transfers",
        deadline_s=2.0,
        body=b'{"amount":1}',
        must_start_before=must_start_before,
    )


async def failure(transport: HttpxTransport) -> tuple[bool, str]:
    """Whether bytes may have left, and why the call failed."""
    with pytest.raises(TransportFailure) as failed:
        await transport.send(order())
    return failed.value.request_bytes_written, failed.value.reason


class Bytes:
    """A server that answers whole requests and counts every byte that reaches it."""

    def __init__(self) -> None:
        self.heard = 0

    async def __call__(self, connection: Connection) -> None:
        """Until the client leaves."""
        while whole := await connection.request():
            self.heard += len(whole)
            await connection.reply(OK)


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param([LIMIT], id="while waiting for a free connection"),
        pytest.param([LIMIT - 1, LIMIT], id="while connecting"),
    ],
)
async def test_too_late_means_not_a_byte(readings: list[float]) -> None:
    """F33, F15: the moment that counts is the one before the first byte, and it is proof."""
    server = Bytes()
    async with talking_to(server, clock=Readings(readings)) as (_, transport):
        assert await failure(transport) == (False, START_TOO_LATE)
        await asyncio.sleep(0.02)
    assert server.heard == 0


async def test_too_late_on_an_idle_connection() -> None:
    """F33: a connection that is kept reports no connecting; it is proof all the same."""
    server = Bytes()
    clock = Readings([LIMIT - 1] * 4 + [LIMIT])
    async with talking_to(server, clock=clock) as (found, transport):
        await transport.send(order())
        before = server.heard
        assert await failure(transport) == (False, START_TOO_LATE)
        assert len(found.connections) == 1
    assert server.heard == before


async def test_headers_in_time_and_a_late_body_are_ambiguous() -> None:
    """F33, F9: something left, so nothing is proven; the body that would act stays here."""
    server = Bytes()
    clock = Readings([LIMIT - 1, LIMIT - 1, LIMIT])
    async with talking_to(server, clock=clock) as (_, transport):
        assert await failure(transport) == (True, START_TOO_LATE)


@pytest.mark.parametrize("limit", [None, LIMIT])
async def test_in_time(limit: float | None) -> None:
    """A limit that has not passed, or none, changes nothing."""
    server = Bytes()
    async with talking_to(server, clock=Readings([LIMIT - 0.001])) as (_, transport):
        assert (await transport.send(order(limit))).status == 200
