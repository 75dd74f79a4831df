"""The messenger: signed webhooks out of the durable queue, until somebody takes them."""

import asyncio
from typing import Final

from bursar_sim.callback import NoReply, Poster, Unreachable
from bursar_sim.clock import Clock
from bursar_sim.draws import fractions
from bursar_sim.provider.processor import Processor
from bursar_sim.provider.store import Store, Webhook
from bursar_sim.signing import signature

WORKERS: Final = 32
"Posts under way at most."
_BUFFER_MAX: Final = 1024
"Webhooks taken from the queue and not yet delivered; the rest waits on disk."
_PAGE: Final = 256
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MAX_S: Final = 5.0
_GATE_FIRST_S: Final = 0.1
_GATE_MAX_S: Final = 1.0


def backoff_s(webhook_id: int, tries: int) -> float:
    """Seconds before the next try, after `tries` refusals: doubling, spread by half, capped."""
    spread = 0.5 + fractions(webhook_id, str(tries))[0]
    return float(min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** min(tries - 1, 10)) * spread)


class Messenger:
    """Delivers at least once. A webhook leaves the queue only after a 2xx.

    A receiver that cannot be reached holds all of them back together; one that answers
    anything but 2xx, or nothing, holds back that webhook alone.
    """

    def __init__(
        self,
        store: Store,
        processor: Processor,
        *,
        provider_id: str,
        poster: Poster,
        secret: str,
        clock: Clock,
        workers: int = WORKERS,
    ) -> None:
        self._store = store
        self._processor = processor
        self._provider_id = provider_id
        self._poster = poster
        self._workers = workers
        self._secret = secret
        self._clock = clock
        self._ready: asyncio.Queue[tuple[Webhook, int]] = asyncio.Queue()
        self._buffered = 0
        self._last_id = 0
        self._feed_due = False
        self._gate_s = 0.0
        self._closed_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin with what an earlier run left undelivered."""
        self._processor.announce = self.announce
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        self.announce()

    async def close(self) -> None:
        """Drop what is under way; it stays in the queue."""
        self._processor.announce = lambda: None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def announce(self) -> None:
        """There may be new webhooks in the queue."""
        if not self._feed_due:
            self._feed_due = True
            asyncio.get_running_loop().call_soon(self._feed)

    def _feed(self) -> None:
        self._feed_due = False
        while self._buffered < _BUFFER_MAX:
            page = self._store.webhooks_after(self._last_id, _PAGE)
            now_ms = self._clock.now_ms()
            for webhook in page:
                self._last_id = webhook.id
                self._buffered += 1
                self._put(webhook, 0, (webhook.not_before - now_ms) / 1000)
            if len(page) < _PAGE:
                break

    def _put(self, webhook: Webhook, tries: int, wait_s: float) -> None:
        if wait_s <= 0:
            self._ready.put_nowait((webhook, tries))
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(wait_s, self._ready.put_nowait, (webhook, tries))

    async def _work(self) -> None:
        while True:
            webhook, tries = await self._ready.get()
            if await self._delivered(webhook):
                self._processor.delivered(webhook.id)
                self._buffered -= 1
                if self._buffered == _BUFFER_MAX - _PAGE:
                    self.announce()
            else:
                self._put(webhook, tries + 1, backoff_s(webhook.id, tries + 1))

    async def _delivered(self, webhook: Webhook) -> bool:
        loop = asyncio.get_running_loop()
        while True:
            wait_s = self._closed_until - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            try:
                status = await self._poster.post(self._headers(webhook), webhook.body)
            except Unreachable:
                if self._closed_until <= loop.time():
                    self._gate_s = min(max(2 * self._gate_s, _GATE_FIRST_S), _GATE_MAX_S)
                    self._closed_until = loop.time() + self._gate_s
                continue
            except NoReply:
                return False
            self._gate_s = 0.0
            return 200 <= status < 300  # noqa: PLR2004 - the class of success

    def _headers(self, webhook: Webhook) -> dict[str, str]:
        timestamp_s = self._clock.now_ms() // 1000
        headers = {
            "content-type": "application/json",
            "x-provider-id": self._provider_id,
            "x-webhook-timestamp": str(timestamp_s),
            "x-webhook-signature": signature(
                self._secret, self._provider_id, timestamp_s, webhook.body
            ),
        }
        if webhook.correlation_id is not None:
            headers["x-correlation-id"] = webhook.correlation_id
        return headers
