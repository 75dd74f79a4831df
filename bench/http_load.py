"""The load generator: `python -m bench.http_load`, a process of its own.

Takes a JSON document on standard input and writes one to standard output. Keep-alive
connections, each with one request in flight; requests are built before the clock starts, and of
a reply only the status and the length are read, so that little of the machine goes to it.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import cast

import msgspec
import uvloop

from bench.stopwatch import Stopwatch, percentile

_HEADER_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


class Load(msgspec.Struct, frozen=True):
    """What to send: `requests` payouts of `amount` minor units over `connections`."""

    host: str
    port: int
    api_key: str
    connections: int
    requests: int
    tag: str
    amount: int = 1_000


class Result(msgspec.Struct, frozen=True):
    """Requests per second, replies by status, and latency in milliseconds."""

    rate: float
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float


def _requests(load: Load) -> list[bytes]:
    head = (
        f"POST /payouts HTTP/1.1\r\nHost: {load.host}:{load.port}\r\n"
        f"Authorization: Bearer {load.api_key}\r\nContent-Type: application/json\r\n"
    )
    made = []
    for number in range(load.requests):
        name = f"{load.tag}-{number}"
        body = json.dumps(
            {
                "reference": name,
                "amount": load.amount,
                "currency": "EUR",
                "beneficiary": {"name": "Ada Lovelace", "iban": "DE89370400440532013000"},
            }
        )
        text = f"{head}Idempotency-Key: {name}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        made.append(text.encode())
    return made


class _Client(asyncio.Protocol):
    """One connection: sends the next request when the reply is complete."""

    def __init__(self, requests: Iterator[bytes], seconds: list[float]) -> None:
        self._requests = requests
        self._seconds = seconds
        self._buffer = b""
        self._watch = Stopwatch()
        self._transport: asyncio.Transport | None = None
        self.statuses: Counter[str] = Counter()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def start(self) -> None:
        """Send the next request, or be done."""
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._watch.reset()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_HEADER_END)
        if end < 0:
            return
        at = self._buffer.index(_LENGTH, 0, end + 2) + len(_LENGTH)
        length = int(self._buffer[at : self._buffer.index(b"\r\n", at)])
        if len(self._buffer) < end + len(_HEADER_END) + length:
            return
        self._seconds.append(self._watch.seconds())
        self.statuses[self._buffer[9:12].decode()] += 1
        self._buffer = b""
        self.start()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def run(load: Load) -> Result:
    """Send everything and count. Replies that never came are missing from `statuses`."""
    requests = iter(_requests(load))
    seconds: list[float] = []
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(load.connections):
        _, client = await loop.create_connection(
            lambda: _Client(requests, seconds), load.host, load.port
        )
        clients.append(client)
    watch = Stopwatch()
    for client in clients:
        client.start()
    await asyncio.gather(*(client.ended for client in clients))
    took = watch.seconds()
    statuses = sum((client.statuses for client in clients), Counter[str]())
    return Result(
        len(seconds) / took,
        dict(statuses),
        percentile(seconds, 0.5) * 1000,
        percentile(seconds, 0.99) * 1000,
    )


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(asked))))
