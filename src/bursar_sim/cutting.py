"""Answers that a well-behaved server never gives: none at all, or half of one.

They need a server that lets them cut the connection: each request's scope must carry
`extensions["bursar_sim.cut"]["abort"]`, a function that does it.
"""

import asyncio
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

CUT: Final = "bursar_sim.cut"
_FLUSH_S: Final = 0.02
"For what was sent to leave before the cut: a cut drops what the server still holds."


class NoAnswer(Response):
    """A response that never answers: it holds the connection, then cuts it.

    It ends early when the client gives up first, or when `released` is set.
    """

    def __init__(self, hold_s: float, released: asyncio.Event) -> None:
        super().__init__()
        self._hold_s = hold_s
        self._released = released

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Hold, cut, and return when the server knows that the connection is gone."""
        waits = [
            asyncio.ensure_future(_gone(receive)),
            asyncio.ensure_future(self._released.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=self._hold_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            scope["extensions"][CUT]["abort"]()
        await _gone(receive)


class HalfAnswer(Response):
    """A response whose connection is cut in the middle of the body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and half of the body, and cut."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await asyncio.sleep(_FLUSH_S)
        scope["extensions"][CUT]["abort"]()
        await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
