"""A lane: one kind of due work, taken in order, done a bounded number at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from bursar.engine.store import Store

log = structlog.get_logger(__name__)

Handler = Callable[[str], Awaitable[None]]


class Lane:
    """Takes keys from a queue whenever it is woken or the poll interval has passed."""

    def __init__(
        self,
        store: Store,
        queue: str,
        handler: Handler,
        *,
        concurrency: int,
        poll_s: float,
        wake: asyncio.Event | None = None,
        excludes: bool = True,
        rest_s: float | None = None,
    ) -> None:
        """`excludes`: the queue's statement takes the keys in flight, to leave them out.

        A key whose job failed is left alone for `rest_s`, or for `poll_s` if that is None.
        """
        self._store = store
        self._queue = queue
        self._handler = handler
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._wake = wake or asyncio.Event()
        self._excludes = excludes
        self._rest_s = poll_s if rest_s is None else rest_s
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._draining = False

    async def run(self) -> None:
        """Work until drained."""
        while not self._draining:
            self._wake.clear()
            full = await self._take()
            if full:
                await asyncio.wait(self._in_flight.values(), return_when=asyncio.FIRST_COMPLETED)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()

    def stop_taking(self) -> None:
        """Start nothing more; what is in flight goes on."""
        self._draining = True
        self._wake.set()

    async def drain(self, timeout_s: float) -> None:
        """Take nothing more; give what is in flight `timeout_s` to end, then cancel it.

        When this returns nothing of the lane is running. What was cancelled is recovered like
        the work of a worker that died (F92).
        """
        self.stop_taking()
        if not self._in_flight:
            return
        _, late = await asyncio.wait(list(self._in_flight.values()), timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            log.info("jobs_cancelled", queue=self._queue, count=len(late))
            await asyncio.wait(late)

    async def _take(self) -> bool:
        """Start what is due; True if every place is taken."""
        free = self._concurrency - len(self._in_flight)
        if free <= 0:
            return True
        arguments = {"in_flight": list(self._in_flight)} if self._excludes else {}
        try:
            keys = await self._store.take_due(self._queue, free, arguments)
        except Exception as error:  # noqa: BLE001 - the database may be away; poll again
            log.info("take_failed", queue=self._queue, error=str(error))
            return False
        if self._draining:  # since we asked
            return False
        for key in keys:
            if key not in self._in_flight:
                self._in_flight[key] = asyncio.create_task(self._work(key))
        return len(self._in_flight) >= self._concurrency

    async def _work(self, key: str) -> None:
        try:
            await self._handler(key)
        except Exception:
            log.exception("job_failed", queue=self._queue, key=key)
            # Not at once again: the key stays out of the queue for a while.
            await asyncio.sleep(self._rest_s)
        finally:
            del self._in_flight[key]
