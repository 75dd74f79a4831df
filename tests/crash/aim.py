"""Which COMMIT to cut: a proxy before Postgres that knows whose transaction it forwards.

A group's COMMIT names no command. What was written before it does: each command has words that
only it writes. So a cut can be aimed at a command's COMMIT, however often the process commits
before, and a later COMMIT of the same command goes through.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final, cast
from urllib.parse import urlsplit, urlunsplit

from tests.engine.proxy import Cut, Proxy

_BEGIN: Final = b"BEGIN ISOLATION LEVEL"
_COMMIT: Final = b"COMMIT\x00"


def _value(text: str) -> str:
    """A text in an array of parameters: its length, and itself."""
    return re.escape(len(text).to_bytes(4, "big").decode("latin-1") + text)


WRITES: Final = {
    "CreatePayout": r'"from":"created"',
    "CancelPayout": _value("payout.cancelled"),
    "RetryPayout": _value("payout_retried"),
    "ResolvePayout.propose": _value("attempt.resolution_proposed"),
    "ResolvePayout.confirm": _value("attempt.resolved"),
    "AssignIncident": _value("incident.assigned"),
    "ReceiveEvent": r'"event_id"',
    "ApplyEvent": _value("applied"),
    "BeginAttempt": _value("payout.sending"),
    "ResendAttempt": _value("attempt.resent"),
    "RecordReply": f"{_value('reply')}|{_value('attempt.late_reply')}",
    "RecordInquiry": _value("inquiry"),
    "ExpireLease": r'"source":"sweeper"',
    "ExpirePayout": _value("payout_expired"),
}
"""By command, and by its part where it does two things: words that only it writes."""
_PATTERNS: Final = {name: re.compile(words.encode("latin-1")) for name, words in WRITES.items()}


class AimedProxy(Proxy):
    """Cuts the first COMMIT of each of these commands, all in the same way."""

    def __init__(self, host: str, port: int, cut: Cut, commands: Collection[str]) -> None:
        super().__init__(host, port)
        self.late_s = 0.1
        self._cut_as = cut
        self.left = set(commands)
        """The commands that were not cut yet."""

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tap = cast("asyncio.StreamReader", Tap(reader, self.aim))
        await super()._forward(tap, writer)

    def aim(self, written: bytes) -> None:
        """A COMMIT comes by, after all this: it is cut if it is the first of a command to cut."""
        hit = {name for name in self.left if _PATTERNS[name].search(written)}
        self.left -= hit
        # Nothing is awaited between here and the look at it.
        self.cuts[:] = [self._cut_as] if hit else []


class Tap:
    """A client's messages, read on; tells all of a transaction when its COMMIT comes by."""

    def __init__(self, reader: asyncio.StreamReader, aim: Callable[[bytes], None]) -> None:
        self._reader = reader
        self._aim = aim
        self._written = bytearray()

    async def readexactly(self, size: int) -> bytes:
        """As the reader."""
        found = await self._reader.readexactly(size)
        if found.startswith(_BEGIN):
            self._written.clear()
        elif found == _COMMIT:
            self._aim(bytes(self._written))
        self._written += found
        return found


@asynccontextmanager
async def aimed_proxy_before(
    dsn: str, cut: Cut, commands: Collection[str]
) -> AsyncIterator[tuple[AimedProxy, str]]:
    """A proxy before the server of `dsn`, and the address that leads through it."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = AimedProxy(parts.hostname, parts.port, cut, commands)
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
