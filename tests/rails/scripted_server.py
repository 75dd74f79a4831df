"""A server on a real socket whose every misstep is written in the test."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bursar.kit.clock import Clock, SystemClock
from bursar.rails.transport import HttpxTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Connection:
    """One accepted connection; `number` counts from 1."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer
        self.requests: list[bytes] = []

    async def request(self) -> bytes:
        """The next whole request; empty if the client left."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        whole = head + await self._reader.readexactly(length)
        self.requests.append(whole)
        return whole

    async def reply(self, raw: bytes) -> None:
        """Write these bytes as they stand."""
        self._writer.write(raw)
        await self._writer.drain()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close in good order."""
        self._writer.close()


Script = Callable[[Connection], Awaitable[None]]


class Server:
    """What the clients connected to, and all that they sent."""

    def __init__(self, port: int, connections: list[Connection]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.connections = connections

    @property
    def requests(self) -> list[bytes]:
        """Every request that arrived whole, over all connections."""
        return [request for connection in self.connections for request in connection.requests]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    """A server that plays `script` on each connection, closing it at the end."""
    connections: list[Connection] = []
    playing: set[asyncio.Task[None]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.add(task)
        connection = Connection(len(connections) + 1, reader, writer)
        connections.append(connection)
        try:
            await script(connection)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            playing.discard(task)

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    try:
        yield Server(server.sockets[0].getsockname()[1], connections)
    finally:
        server.close()
        for task in list(playing):
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


@asynccontextmanager
async def talking_to(
    script: Script,
    *,
    connections_max: int = 8,
    reply_bytes_max: int = 65_536,
    clock: Clock | None = None,
) -> AsyncIterator[tuple[Server, HttpxTransport]]:
    """A scripted server and a transport to it."""
    async with (
        serving(script) as server,
        HttpxTransport(
            server.url,
            clock=clock or SystemClock(),
            connections_max=connections_max,
            reply_bytes_max=reply_bytes_max,
        ) as transport,
    ):
        yield server, transport
