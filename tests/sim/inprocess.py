"""Providers inside one process, on a loop whose time jumps to the next thing that is due."""

import asyncio
import json
import selectors
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from starlette.types import Message

from bursar_sim.callback import NoReply, Unreachable
from bursar_sim.provider.knobs import Knobs, turned
from bursar_sim.providers import Provider, build

EPOCH_MS = 1_774_000_000_000
IBAN = "DE89370400440532013000"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Never waits: it moves the loop's time on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; a wait for ever is a deadlock."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits for somebody")
            self.now += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without waiting. It is a `Clock` of the simulators, too."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jump.now

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return EPOCH_MS + round(self._jump.now * 1000)


@dataclass
class Answered:
    """A reply as far as it came. `status` 0: none; `cut`: the connection broke."""

    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    took_s: float = 0.0

    @property
    def json(self) -> Any:
        """The body, whole and readable; else an error."""
        assert self.status
        assert not self.cut
        return json.loads(self.body)


@dataclass
class Delivered:
    """A webhook, and when it came."""

    at_ms: int
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The parsed body."""
        event: dict[str, Any] = json.loads(self.body)
        return event


@dataclass
class Desk:
    """One provider and its customer. `status` answers webhooks; 0 is silence, -1 no connection."""

    name: str
    knobs: Mapping[str, float] = field(default_factory=dict)
    seed: int = 1
    status: int = 200
    workers: int = 4
    delivered: list[Delivered] = field(default_factory=list)
    provider: Provider = field(init=False)

    def __post_init__(self) -> None:
        """Build it on the running loop."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        calm = turned(Knobs(accept_async=0, decline=0, settle_delay_s=0.05), self.knobs)
        self.provider = build(
            self.name,
            data=None,
            seed=self.seed,
            knobs=calm,
            clock=loop,
            poster=self,
            workers=self.workers,
        )

    async def __aenter__(self) -> Self:
        self.provider.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.close()

    async def post(self, headers: dict[str, str], body: bytes) -> int:
        """A webhook arrives."""
        if self.status == -1:
            raise Unreachable
        self.delivered.append(Delivered(self.loop.now_ms(), headers, body))
        await asyncio.sleep(0.001)
        if self.status == 0:
            raise NoReply
        return self.status

    @property
    def window_ms(self) -> int:
        """Of its contract."""
        return {"bank": 3000, "offramp": 4000}[self.name]

    def key(self, number: int) -> str:
        """A key as this provider takes it."""
        if self.name == "bank":
            return f"pa-{number}"
        letters = ALPHABET[number // 32 % 32] + ALPHABET[number % 32]
        return f"01K70FZVG000000000000000{letters}"

    async def pay(self, key: str, amount: int = 12345, **headers: str) -> Answered:
        """An order."""
        body: dict[str, Any]
        if self.name == "bank":
            body = {"end_to_end_id": key, "amount": amount, "currency": "EUR"}
            body |= {"creditor": {"name": "Ana Silva", "iban": IBAN}, "remittance": "INV-1"}
            return await self.call(
                "POST", "/bank/transfers", {"Idempotency-Key": key} | headers, body
            )
        text = f"{amount // 10**6}.{amount % 10**6:06d}"
        body = {"client_reference": key, "asset": "USDC", "amount": text}
        body |= {"recipient": {"name": "Ana Silva", "account": IBAN}, "memo": "INV-1"}
        return await self.call("POST", "/offramp/payouts", headers, body)

    async def inquire(self, key: str) -> Answered:
        """Its status by key."""
        path = "/bank/transfers/" if self.name == "bank" else "/offramp/payouts/"
        return await self.call("GET", path + key)

    async def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        authorized: bool = True,
    ) -> Answered:
        """One request over no wire at all. A body of bytes is sent as it stands."""
        given = {"Authorization": f"Bearer sandbox-{self.name}-key"} if authorized else {}
        path, _, query = path.partition("?")
        answered = Answered()
        gone = asyncio.Event()

        def abort() -> None:
            answered.cut = True
            gone.set()

        sent = False

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                raw = body if isinstance(body, bytes) else _json(body)
                return {"type": "http.request", "body": raw, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.status = message["status"]
                answered.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                answered.body += message.get("body", b"")

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [
                (k.lower().encode(), v.encode()) for k, v in (given | dict(headers or {})).items()
            ],
            "extensions": {"bursar_sim.cut": {"abort": abort}},
        }
        began = self.loop.time()
        await self.provider.app(scope, receive, send)
        answered.took_s = self.loop.time() - began
        return answered

    def events(self, key: str) -> list[dict[str, Any]]:
        """The webhooks about a key, in the order in which they came."""
        names = {"bank": "end_to_end_id", "offramp": "client_reference"}
        found = [delivered.event for delivered in self.delivered]
        return [event for event in found if event["data"][names[self.name]] == key]


def _json(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop of its own, in no time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
