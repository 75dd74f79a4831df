"""A real bank process, a receiver of its webhooks, and a customer's client."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

API_KEY = "sandbox-bank-key"
SECRET = "sandbox-bank-webhook-secret"
IBAN = "DE89370400440532013000"
NOWHERE = "http://127.0.0.1:9/webhooks/provider"


class Bank:
    """`python -m bursar_sim`, started and stopped at will over one data directory."""

    def __init__(
        self,
        data: Path,
        *,
        seed: int = 1,
        callback: str = NOWHERE,
        knobs: Mapping[str, float] | None = None,
    ) -> None:
        self._arguments = ["--port", "0", "--data", str(data), "--seed", str(seed)]
        self._arguments += ["--callback", callback]
        for name, value in (knobs or {}).items():
            self._arguments += ["--knob", f"{name}={value}"]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start and wait until it listens."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BURSAR_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bursar_sim", *self._arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[2]

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 2.0) -> int:
        """Stop by a signal; the exit status."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(timeout_s)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None


@contextlib.contextmanager
def bank_running(data: Path, **options: Any) -> Iterator[Bank]:
    """A bank that is killed at the end if the test left it running."""
    bank = Bank(data, **options)
    bank.start()
    try:
        yield bank
    finally:
        if bank.running:
            bank.stop(signal.SIGKILL)


class Customer:
    """A client of the bank's API."""

    def __init__(self, bank: Bank, *, timeout_s: float = 5.0) -> None:
        self._bank = bank
        headers = {"Authorization": f"Bearer {API_KEY}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def pay(self, key: str, amount: int = 12345, **changes: Any) -> httpx.Response:
        """`POST /bank/transfers`."""
        return await self._http.post(
            f"{self._bank.url}/bank/transfers",
            headers={"Idempotency-Key": key},
            json=order(key, amount) | changes,
        )

    async def get(self, path: str, **query: int) -> Any:
        """The JSON of a 200."""
        reply = await self._http.get(self._bank.url + path, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def inquire(self, key: str) -> httpx.Response:
        """`GET /bank/transfers/{key}`."""
        return await self._http.get(f"{self._bank.url}/bank/transfers/{key}")

    async def turn(self, **knobs: float) -> httpx.Response:
        """`PUT /bank/knobs`."""
        return await self._http.put(f"{self._bank.url}/bank/knobs", json=knobs)

    async def statement(self) -> list[dict[str, Any]]:
        """All lines, page by page."""
        lines: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = await self.get("/bank/statement", after=after, limit=7)
            lines += page["lines"]
            after = page["next"]
        return lines


def order(key: str, amount: int = 12345) -> dict[str, Any]:
    """A well-formed order."""
    return {
        "end_to_end_id": key,
        "amount": amount,
        "currency": "EUR",
        "creditor": {"name": "Ana Silva", "iban": IBAN},
        "remittance": "INV-1",
    }


@dataclass
class Delivery:
    """One webhook as it came over the wire."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The parsed body."""
        event: dict[str, Any] = json.loads(self.body)
        return event


@dataclass
class Receiver:
    """A receiver of webhooks over plain sockets. `answer` gives the status; None hangs up."""

    answer: Callable[[Delivery], int | None] = lambda _delivery: 200
    deliveries: list[Delivery] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/webhooks/provider"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Receiver"]:
        """Listen on the same port each time."""
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.create_task(self._converse(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.strip().split("\r\n")
                assert request == "POST /webhooks/provider HTTP/1.1"
                headers = dict(line.lower().split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers["content-length"]))
                delivery = Delivery(headers, body)
                self.deliveries.append(delivery)
                status = self.answer(delivery)
                if status is None:
                    return
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def by_key(self) -> dict[str, list[dict[str, Any]]]:
        """Events by end-to-end id, in the order in which they came."""
        found: dict[str, list[dict[str, Any]]] = {}
        for delivery in self.deliveries:
            found.setdefault(delivery.event["data"]["end_to_end_id"], []).append(delivery.event)
        return found


async def until(holds: Callable[[], bool], *, timeout_s: float = 8.0) -> None:
    """Wait for a condition; fails when it does not come."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - the condition is in another process
            await asyncio.sleep(0.02)
