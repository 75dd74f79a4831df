"""The seam to the network: one request out, one reply back, and whether a byte of it left.

`request_bytes_written` decides whether a failed call is proven not to have happened, so it comes
from what the connection reported, never from the class of an exception. In doubt it is true.
"""

import asyncio
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, Self

import httpx
import msgspec

from bursar.kit.clock import Clock
from bursar.rails.spread import SpreadTransport

REPLY_BYTES_MAX: Final = 64 * 1024

START_TOO_LATE: Final = "start_too_late"
"""The reason of a failure for which the caller's `must_start_before` had passed."""

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]+\Z")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*\Z")
_HEADERS_STARTED: Final = ".send_request_headers.started"
_BODY_STARTED: Final = ".send_request_body.started"
_BEFORE_REQUEST: Final = ("connection.connect_tcp.", "connection.start_tls.")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. `deadline_s` bounds all of it, from the first wait to the last byte.

    None of it is sent from `must_start_before` on (seconds of the clock's `monotonic`): this is
    looked at when the connection is ready and the first byte is about to leave.
    """

    method: str
    path: str
    deadline_s: float
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    must_start_before: float | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A complete reply. Header names are in lower case; the body is as received."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TransportFailure(Exception):
    """No complete reply. `reason` is a stable token.

    `request_bytes_written` is false only if it is certain that no byte of the request left.
    """

    def __init__(self, *, request_bytes_written: bool, reason: str) -> None:
        """Both facts; no detail of the underlying error, which may hold what we sent."""
        super().__init__(reason)
        self.request_bytes_written = request_bytes_written
        self.reason = reason


class Transport(Protocol):
    """Sends one request at most once."""

    async def send(self, request: Request) -> Response:
        """The reply. Raises `TransportFailure`; a status such as 500 is a reply, not a failure."""
        ...


class _Trace:
    """What the connection reported about one request, by httpcore's `trace` extension.

    "Not written" needs a positive sign (the events of connecting) and no event beyond it, so an
    httpcore that stops reporting, or reports in new words, makes us careful, not wrong. Raising
    here keeps back what was about to be written.
    """

    def __init__(self, must_start_before: float | None, clock: Clock) -> None:
        self._must_start_before = must_start_before
        self._clock = clock
        self._connecting = False
        self._beyond = False
        self._held_back = False
        self._sends = 0

    async def __call__(self, event: str, _info: Mapping[str, object]) -> None:
        if event.startswith(_BEFORE_REQUEST):
            self._connecting = True
            return
        self._beyond = True
        if event.endswith(_HEADERS_STARTED):
            self._sends += 1
            if self._sends > 1:  # raised before a byte of the second copy is written
                raise httpx.LocalProtocolError("a request is sent once")
            self.hold_back_if_late()
        elif event.endswith(_BODY_STARTED) and self._late:  # the headers have left: ambiguous
            raise _StartTooLate

    def hold_back_if_late(self) -> None:
        """Before the first byte: raise `_StartTooLate` where it may no longer leave."""
        if self._late:
            self._held_back = True
            raise _StartTooLate

    @property
    def _late(self) -> bool:
        limit = self._must_start_before
        return limit is not None and self._clock.monotonic() >= limit

    @property
    def may_have_written(self) -> bool:
        return not self._held_back and (self._beyond or not self._connecting)


class HttpxTransport:
    """HTTP/1.1 over one `httpx.AsyncClient`: keep-alive, no redirects, no proxies, no retry.

    Waiting for a free connection happens in front of httpx, so that a request that timed out
    there is known not to have been written.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        connections_max: int = 64,
        keepalive_s: float = 20.0,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> None:
        """`connections_max` bounds the calls in flight; idle connections live `keepalive_s`.

        `clock` is the one that `must_start_before` is measured with.
        """
        self._clock = clock
        self._slots = asyncio.Semaphore(connections_max)
        self._reply_bytes_max = reply_bytes_max
        self._client = httpx.AsyncClient(
            base_url=base_url,
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113 - each request has one deadline over all its phases
            transport=SpreadTransport(
                connections_max, secure=base_url.startswith("https:"), keepalive_s=keepalive_s
            ),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        """The transport itself; its connections close at exit."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Calls in flight fail."""
        await self._client.aclose()

    async def send(self, request: Request) -> Response:
        """The complete reply, at most `reply_bytes_max` of body, within the deadline."""
        outgoing = self._build(request)
        trace = _Trace(request.must_start_before, self._clock)
        outgoing.extensions["trace"] = trace
        queued = True
        try:
            async with asyncio.timeout(request.deadline_s), self._slots:
                queued = False
                trace.hold_back_if_late()
                return await self._exchange(outgoing)
        except TimeoutError:
            reason = "no_free_connection" if queued else "deadline_exceeded"
        except _StartTooLate:
            reason = START_TOO_LATE
        except _ReplyRefused as refused:
            reason = refused.reason
        except Exception as error:  # noqa: BLE001 - whatever went wrong: did a byte leave?
            reason = _reason(error)
        raise TransportFailure(
            request_bytes_written=not queued and trace.may_have_written, reason=reason
        )

    def _build(self, request: Request) -> httpx.Request:
        usable = all(
            _HEADER_NAME.match(name) and _HEADER_VALUE.match(value)
            for name, value in request.headers.items()
        )
        if not usable:
            raise TransportFailure(request_bytes_written=False, reason="header_unusable")
        try:
            return self._client.build_request(
                request.method,
                request.path,
                headers=dict(request.headers),
                content=request.body or None,
            )
        except (httpx.InvalidURL, ValueError):
            raise TransportFailure(request_bytes_written=False, reason="request_unusable") from None

    async def _exchange(self, outgoing: httpx.Request) -> Response:
        reply = await self._client.send(outgoing, stream=True)
        try:
            if reply.headers.get("content-encoding", "identity") != "identity":
                raise _ReplyRefused("reply_encoded")
            chunks: list[bytes] = []
            size = 0
            async for chunk in reply.aiter_raw():
                size += len(chunk)
                if size > self._reply_bytes_max:
                    raise _ReplyRefused("reply_too_large")
                chunks.append(chunk)
        finally:
            await reply.aclose()
        return Response(
            status=reply.status_code, headers=dict(reply.headers), body=b"".join(chunks)
        )


class _StartTooLate(Exception):
    """The caller's `must_start_before` has passed."""


class _ReplyRefused(Exception):
    """A reply arrived that we do not read on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _reason(error: Exception) -> str:
    match error:
        case httpx.ConnectError():
            return "connect_failed"
        case httpx.RemoteProtocolError():
            return "reply_truncated"
        case httpx.ReadError() | httpx.WriteError():
            return "connection_reset"
        case _:
            return f"transport_error:{type(error).__name__}"
