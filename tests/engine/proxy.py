"""A TCP proxy between an engine and Postgres that can lose a COMMIT on either leg of its way.

`pg_terminate_backend` never makes an outcome unknown: only a connection that breaks after COMMIT
was sent does. The proxy reads the client's messages (protocol 3.0: a type byte, a length that
counts itself, the body) and acts on the one that says COMMIT.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


class Cut(Enum):
    """What happens to the next COMMIT. The client always loses its connection."""

    ANSWER = "the server commits, its answer is lost"
    REQUEST = "the server never gets it, and sees the connection close"
    LATE = "the server gets it after the client has gone, and commits"
    SILENCE = "the server commits, the client hears nothing on a connection that stays open"


class Proxy:
    """Forwards bytes to a server until told to cut."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.cuts: list[Cut] = []
        self.made: list[Cut] = []
        self.late_s = 0.3
        self.open = True
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.open:
                # Cancelled by `close`: a server's own tasks have nobody else to tell.
                with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await self._forward(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """Cut everybody off."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(*self._server)
        back = asyncio.create_task(_copy(answers, writer))
        try:
            size = await reader.readexactly(4)  # the start-up message has no type byte
            requests.write(size + await reader.readexactly(int.from_bytes(size, "big") - 4))
            while True:
                head = await reader.readexactly(5)
                message = head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                if message == _COMMIT and self.cuts:
                    await self._cut(self.cuts.pop(0), requests, answers, writer, back)
                    return
                requests.write(message)
                await requests.drain()
        finally:
            back.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await back
            requests.transport.abort()

    async def _cut(
        self,
        cut: Cut,
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        back: asyncio.Task[None],
    ) -> None:
        back.cancel()
        with suppress(asyncio.CancelledError):
            await back
        self.made.append(cut)
        if cut is Cut.REQUEST:
            return
        if cut is Cut.LATE:
            client.transport.abort()
            await asyncio.sleep(self.late_s)
        requests.write(_COMMIT)
        await answers.readuntil(b"COMMIT\x00")
        if cut is Cut.SILENCE:
            await client.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def proxy_before(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of `dsn`, and the address that leads through it."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    account = parts.netloc.rpartition("@")[0]
    through = urlunsplit(parts._replace(netloc=f"{account}@127.0.0.1:{port}"))
    try:
        yield proxy, through
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
