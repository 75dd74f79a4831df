"""A small HTTP/1.1 client for webhooks: one kept-alive connection, one request at a time.

A general client costs fifty times the processor time for each of these posts (measured:
0.7 ms against 0.01 ms), and a bank that tells of a thousand settlements a second on a core
that it shares with the engine cannot pay that.
"""

import asyncio
import ssl
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S: Final = 2.0
REPLY_TIMEOUT_S: Final = 5.0


class Unreachable(Exception):
    """No connection could be made; nothing was sent."""


class NoReply(Exception):
    """Sent, perhaps in part, and no readable reply came."""


class Poster(Protocol):
    """Whoever takes webhooks to their receiver; many posts may be under way at once."""

    async def post(self, headers: dict[str, str], body: bytes) -> int:
        """The status of the reply. Raises `Unreachable` or `NoReply`."""
        ...


class Target:
    """Where to post: an absolute http or https URL. Raises `ValueError` for anything else."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise ValueError(f"not an http or https URL: {url!r}")
        if not url.isascii() or any(letter <= " " for letter in url):
            raise ValueError(f"a URL has no spaces and only ASCII: {url!r}")
        secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if secure else 80)
        self.tls = ssl.create_default_context() if secure else None
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.head = f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\n".encode()


class Connection:
    """One connection to a target, made when needed and made again when it was lost."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wire: _Wire | None = None

    async def post(self, headers: dict[str, str], body: bytes) -> int:
        """The status of the reply. Raises `Unreachable` or `NoReply`; the next call reconnects.

        A kept-alive connection that turns out to be closed is replaced, and the post sent
        again, once: the receiver must bear duplicates anyhow.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        message = b"%b%bcontent-length: %d\r\n\r\n%b" % (
            self._target.head,
            lines.encode("ascii"),
            len(body),
            body,
        )
        reused = self._wire is not None and self._wire.usable
        try:
            return await self._exchange(message)
        except NoReply:
            if not reused:
                raise
        return await self._exchange(message)

    def close(self) -> None:
        """Let the connection go."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None

    async def _exchange(self, message: bytes) -> int:
        wire = self._wire
        if wire is None or not wire.usable:
            wire = self._wire = await self._connect()
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                return await wire.post(message)
        except TimeoutError:
            self.close()
            raise NoReply("no reply in time") from None
        except NoReply:
            self.close()
            raise

    async def _connect(self) -> "_Wire":
        loop = asyncio.get_running_loop()
        target = self._target
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, wire = await loop.create_connection(
                    _Wire, target.host, target.port, ssl=target.tls
                )
        except (OSError, TimeoutError) as error:
            raise Unreachable(str(error)) from error
        return wire


class Connections:
    """A `Poster` over kept-alive connections: as many as there were posts under way at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[Connection] = []

    async def post(self, headers: dict[str, str], body: bytes) -> int:
        """As `Connection.post`, over one that is not in use."""
        connection = self._idle.pop() if self._idle else Connection(self._target)
        try:
            status = await connection.post(headers, body)
        except asyncio.CancelledError:
            connection.close()
            raise
        except (Unreachable, NoReply):
            self._idle.append(connection)
            raise
        self._idle.append(connection)
        return status

    def close(self) -> None:
        """Let all connections go that are not in use."""
        while self._idle:
            self._idle.pop().close()


class _Wire(asyncio.Protocol):
    """Bytes out, status in."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.WriteTransport | None = None
        self._reply: asyncio.Future[int] | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail(str(exc) if exc else "the connection was closed")

    def data_received(self, data: bytes) -> None:
        if self._reply is None or self._reply.done():
            self.abort()  # a reply that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"unreadable reply: {error}")
            self.abort()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.abort()
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(status)

    async def post(self, message: bytes) -> int:
        if self._transport is None or not self.usable:
            raise NoReply("the connection was closed")
        self._parser = httptools.HttpResponseParser(self)
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._reply

    def abort(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, reason: str) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(NoReply(reason))
