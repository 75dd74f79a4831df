"""One identifier through everything that a request causes, and one log line for each request."""

import re
from typing import Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bursar.api.errors import InternalError, problem
from bursar.kit.clock import Clock
from bursar.kit.ids import Ids

log = structlog.get_logger("bursar.api")

HEADER: Final = b"x-correlation-id"
_TAKEN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")


class CorrelationMiddleware:
    """Takes `X-Correlation-Id` or makes one; echoes it; logs the request; catches the last error.

    The id is in `scope["correlation_id"]` and in every log line of the request. Routes may add
    words to the line in `scope["log"]`. What is not a plain token is replaced, not refused.
    """

    def __init__(self, app: ASGIApp, *, clock: Clock, ids: Ids) -> None:
        """`clock` measures how long a request took."""
        self._app = app
        self._clock = clock
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        correlation_id = _given(scope) or self._ids.new("cor")
        words: dict[str, object] = {}
        scope["correlation_id"] = correlation_id
        scope["log"] = words
        answer = _Answer(send, (HEADER, correlation_id.encode()))
        began = self._clock.monotonic()
        tokens = structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            words["disconnected"] = True
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if not answer.status:
                failed = problem(InternalError("Something went wrong here."))
                await failed(scope, receive, answer)
        finally:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=answer.status,
                ms=round((self._clock.monotonic() - began) * 1000, 1),
                **words,
            )
            structlog.contextvars.reset_contextvars(**tokens)


class _Answer:
    """`send` with one more header, which remembers the status: 0 until an answer has begun."""

    def __init__(self, send: Send, header: tuple[bytes, bytes]) -> None:
        self._send = send
        self._header = header
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), self._header]
        await self._send(message)


def _given(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == HEADER:
            return value.decode("ascii") if _TAKEN.match(value) else None
    return None
