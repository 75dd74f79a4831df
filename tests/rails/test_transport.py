"""The transport over real sockets: whether a byte left, and never twice."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from bursar.kit.clock import SystemClock
from bursar.rails.transport import HttpxTransport, Request, TransportFailure
from tests.rails.scripted_server import OK, Connection, talking_to

ORDER = Request(method="POST", path="/bank/transfers", deadline_s=2.0, body=b'{"amount":1}')


def within(deadline_s: float) -> Request:
    """The order with another deadline."""
    return Request(method="POST", path="/bank/transfers", deadline_s=deadline_s, body=b"{}")


async def failure(transport: HttpxTransport, request: Request = ORDER) -> tuple[bool, str]:
    """Whether bytes may have left, and why the call failed."""
    with pytest.raises(TransportFailure) as failed:
        await transport.send(request)
    return failed.value.request_bytes_written, failed.value.reason


@asynccontextmanager
async def to(url: str, *, connections_max: int = 8) -> AsyncIterator[HttpxTransport]:
    """A transport to an address that nothing in the test serves."""
    async with HttpxTransport(
        url, clock=SystemClock(), connections_max=connections_max
    ) as transport:
        yield transport


async def answer_all(connection: Connection) -> None:
    """A server in good order."""
    while await connection.request():
        await connection.reply(OK)


async def test_a_reply() -> None:
    """Status, lower-case headers, body; and what was sent is what was asked for."""
    request = Request(
        method="POST",
        path="/bank/transfers",
        deadline_s=2.0,
        headers={"Idempotency-Key": "pa-1"},
        body=b'{"amount":1}',
    )
    async with talking_to(answer_all) as (server, transport):
        reply = await transport.send(request)

    assert (reply.status, reply.body) == (200, b"{}")
    assert reply.headers["content-type"] == "application/json"
    assert server.requests[0].startswith(b"POST /bank/transfers HTTP/1.1\r\n")
    assert b"\r\nIdempotency-Key: pa-1\r\n" in server.requests[0]
    assert b"\r\nAccept-Encoding: identity\r\n" in server.requests[0]
    assert server.requests[0].endswith(b'\r\n\r\n{"amount":1}')


@pytest.mark.parametrize("status", [b"301 Moved", b"307 Again", b"429 Slow", b"500 Oops"])
async def test_a_refusal_is_a_reply(status: bytes) -> None:
    """F14, F61: redirects are not followed, nothing is retried."""

    async def script(connection: Connection) -> None:
        while await connection.request():
            head = b"HTTP/1.1 " + status + b"\r\nLocation: /elsewhere\r\nRetry-After: 0\r\n"
            await connection.reply(head + b"Content-Length: 0\r\n\r\n")

    async with talking_to(script) as (server, transport):
        reply = await transport.send(ORDER)

    assert reply.status == int(status[:3])
    assert len(server.requests) == 1


async def test_refused() -> None:
    """F15: nobody listens, so nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with to(f"http://127.0.0.1:{unused.getsockname()[1]}") as transport:
            assert await failure(transport) == (False, "connect_failed")


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """F15: no address, so nothing was sent."""

    async def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere, raising=False)
    async with to("http://bank.invalid") as transport:
        assert await failure(transport) == (False, "connect_failed")


async def test_deadline_while_connecting() -> None:
    """F15: a host that takes no connection (its queue is full) got no request."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with to(f"http://127.0.0.1:{full.getsockname()[1]}") as transport:
            assert await failure(transport, within(0.2)) == (False, "deadline_exceeded")


async def test_tls_fails_before_the_request() -> None:
    """F15: bytes of a handshake are no bytes of the request."""

    async def script(connection: Connection) -> None:
        await connection.reply(b"this is not TLS\r\n")
        await asyncio.sleep(5)

    async with (
        talking_to(script) as (server, _),
        to(server.url.replace("http:", "https:")) as transport,
    ):
        assert await failure(transport) == (False, "connect_failed")


async def test_no_free_connection() -> None:
    """F53: a call that never got a connection was not sent, and left the others alone."""
    release = asyncio.Event()

    async def script(connection: Connection) -> None:
        while await connection.request():
            await release.wait()
            await connection.reply(OK)

    async with talking_to(script, connections_max=1) as (server, transport):
        holding = asyncio.create_task(transport.send(ORDER))
        while not server.requests:  # noqa: ASYNC110 - the server's side has no event to wait for
            await asyncio.sleep(0.005)
        assert await failure(transport, within(0.1)) == (False, "no_free_connection")
        release.set()
        assert (await holding).status == 200

    assert len(server.requests) == 1


async def test_accept_then_close() -> None:
    """F9, F14: the request arrived, the answer did not; whatever was done is not known."""

    async def script(connection: Connection) -> None:
        await connection.request()

    async with talking_to(script) as (server, transport):
        assert await failure(transport) == (True, "reply_truncated")

    assert len(server.requests) == 1


async def test_close_before_reading() -> None:
    """F14: even if the server read nothing, bytes may have left."""

    async def script(connection: Connection) -> None:
        connection.reset()

    async with talking_to(script) as (_, transport):
        written, _ = await failure(transport)

    assert written


async def test_reset_after_the_request() -> None:
    """F14."""

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    async with talking_to(script) as (server, transport):
        assert await failure(transport) == (True, "connection_reset")

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "partial",
    [
        b"HTT",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a"',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n',
        b"\x00\x01\x02 not http at all\r\n\r\n",
    ],
)
async def test_close_in_the_middle(partial: bytes) -> None:
    """F14: half a reply is no reply."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.reply(partial)

    async with talking_to(script) as (_, transport):
        assert await failure(transport) == (True, "reply_truncated")


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"])
async def test_slow_reply(drip: bytes) -> None:
    """F58: the deadline bounds the whole exchange, a drop per moment included."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.reply(drip)
        while drip:
            await asyncio.sleep(0.02)
            await connection.reply(b".")
        await asyncio.sleep(5)

    loop = asyncio.get_running_loop()
    async with talking_to(script) as (_, transport):
        begun = loop.time()
        assert await failure(transport, within(0.2)) == (True, "deadline_exceeded")
        assert loop.time() - begun < 1.5


async def test_too_large_a_reply() -> None:
    """F58: a body is read up to its cap, however it is announced."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.reply(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await connection.reply(b"x" * 10_000)

    async with talking_to(script, reply_bytes_max=50_000) as (_, transport):
        assert await failure(transport) == (True, "reply_too_large")


async def test_a_packed_reply() -> None:
    """F58: nothing is unpacked, so no bomb goes off."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.reply(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
        )

    async with talking_to(script) as (_, transport):
        assert await failure(transport) == (True, "reply_encoded")


async def test_keep_alive_is_used() -> None:
    """Ten calls, one connection."""
    async with talking_to(answer_all) as (server, transport):
        for _ in range(10):
            await transport.send(ORDER)

    assert (len(server.connections), len(server.requests)) == (1, 10)


async def test_a_connection_closed_while_idle() -> None:
    """F14: a stale connection is noticed before the request; each call arrives once."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.reply(OK)

    async with talking_to(script) as (server, transport):
        await transport.send(ORDER)
        await asyncio.sleep(0.05)
        assert (await transport.send(ORDER)).status == 200

    assert (len(server.connections), len(server.requests)) == (2, 2)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_connection_that_dies_under_the_request(how: str) -> None:
    """F9, F14: no silent second copy on a fresh connection; the call is ambiguous."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.reply(OK)
        await connection.request()
        if connection.number == 1 and how == "rst":
            connection.reset()
        elif connection.number > 1:
            await connection.reply(OK)

    async with talking_to(script) as (server, transport):
        await transport.send(ORDER)
        written, _ = await failure(transport)
        await asyncio.sleep(0.05)

        assert written
        assert (len(server.connections), len(server.requests)) == (1, 2)


async def test_after_a_failure_the_transport_works_on() -> None:
    """F53: a connection that failed is not used again, and its place is free."""

    async def script(connection: Connection) -> None:
        if connection.number <= 3:
            await connection.request()
            return
        await answer_all(connection)

    async with talking_to(script, connections_max=1) as (_, transport):
        for _ in range(3):
            await failure(transport)
        assert (await transport.send(ORDER)).status == 200


async def test_cancellation_is_passed_on() -> None:
    """F92: the caller stopped; it must take the send as ambiguous."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await asyncio.sleep(5)

    async with talking_to(script) as (server, transport):
        sending = asyncio.create_task(transport.send(ORDER))
        while not server.requests:  # noqa: ASYNC110 - the server's side has no event to wait for
            await asyncio.sleep(0.005)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


@pytest.mark.parametrize(
    "request_",
    [
        Request(method="GET", path="/", deadline_s=1.0, headers={"X-A": "b\r\nX-C: d"}),
        Request(method="GET", path="/", deadline_s=1.0, headers={"X-A": "\ud800"}),
        Request(method="GET", path="/", deadline_s=1.0, headers={"X A": "b"}),
    ],
)
async def test_a_request_that_cannot_be_written(request_: Request) -> None:
    """F77: refused before a byte, so a bad header spoils no payout."""
    async with talking_to(answer_all) as (server, transport):
        assert await failure(transport, request_) == (False, "header_unusable")

    assert server.requests == []


class _Silent(httpx.AsyncBaseTransport):
    """A network layer that reports nothing."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)


class _Repeating(httpx.AsyncBaseTransport):
    """A network layer that would send again by itself."""

    copies = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        trace = request.extensions["trace"]
        for _ in range(2):
            await trace("connection.connect_tcp.started", {})
            await trace("http11.send_request_headers.started", {})
            self.copies += 1
        return httpx.Response(200)


class _Renamed(httpx.AsyncBaseTransport):
    """A network layer with an event that we do not know."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.extensions["trace"]("connection.connect_tcp.complete", {})
        await request.extensions["trace"]("http3.early_data.started", {})
        raise httpx.ConnectError("refused", request=request)


@asynccontextmanager
async def over(layer: httpx.AsyncBaseTransport) -> AsyncIterator[HttpxTransport]:
    """A transport over another network layer."""
    async with HttpxTransport("http://bank.invalid", clock=SystemClock()) as transport:
        await transport._client.aclose()
        transport._client = httpx.AsyncClient(transport=layer, base_url="http://bank.invalid")
        yield transport


@pytest.mark.parametrize("layer", [_Silent(), _Renamed()])
async def test_without_a_sign_bytes_may_have_left(layer: httpx.AsyncBaseTransport) -> None:
    """F15: the trace is believed, not the class of the exception."""
    async with over(layer) as transport:
        assert await failure(transport) == (True, "connect_failed")


async def test_a_second_copy_is_stopped() -> None:
    """F9: should httpx ever learn to retry, it fails before the second copy's first byte."""
    layer = _Repeating()
    async with over(layer) as transport:
        written, _ = await failure(transport)

    assert written
    assert layer.copies == 1


async def test_a_closed_transport_fails_as_any_other() -> None:
    """A call after the close is no crash."""
    async with to("http://127.0.0.1:9") as transport:
        pass

    assert (await failure(transport))[1] == "transport_error:RuntimeError"
