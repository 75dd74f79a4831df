"""The bank's routes. docs/wire/bank.md is their contract."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bursar_sim.bank import codec
from bursar_sim.bank.codec import BadRequest, problem
from bursar_sim.bank.model import Booking, KeyReused, Lost, Transfer
from bursar_sim.bank.processor import BooksClosed, Processor
from bursar_sim.bank.store import Store
from bursar_sim.bank.webhooks import Messenger
from bursar_sim.provider.knobs import KnobInvalid, turned
from bursar_sim.server import NoAnswer
from bursar_sim.strict_json import dump

_STATEMENT_LINES_MAX: Final = 1000
_LINE_MAX: Final = 10**18 - 1
_NOT_FOUND: Final = problem("not_found", "The bank knows no such transfer")

Endpoint = Callable[[Request], Awaitable[Response]]


class _TooLarge(Exception):
    """The body is longer than `codec.BODY_MAX`."""


class Bank:
    """The bank behind its HTTP face: `app` serves it, `release` lets held requests go."""

    def __init__(
        self, store: Store, processor: Processor, messenger: Messenger, *, api_key: str
    ) -> None:
        self._store = store
        self._processor = processor
        self._messenger = messenger
        self._credential = f"Bearer {api_key}".encode()
        self._released = asyncio.Event()
        self.app = Starlette(
            routes=[
                self._route("/bank/transfers", self._create, "POST"),
                self._route("/bank/transfers/{key}", self._inquire, "GET"),
                self._route("/bank/statement", self._statement, "GET"),
                self._route("/bank/knobs", self._knobs, "GET"),
                self._route("/bank/knobs", self._turn_knobs, "PUT"),
                Route("/health", _health, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _routing_problem, Exception: _internal_error},
            lifespan=self._lifespan,
        )

    def release(self) -> None:
        """End every hold and delay now."""
        self._released.set()

    def start(self) -> None:
        """Finish what fell due meanwhile and begin to send webhooks. Needs a running loop."""
        self._processor.start()
        self._messenger.start()

    async def close(self) -> None:
        """Stop and let the books go."""
        self.release()
        await self._messenger.close()
        self._processor.close()
        self._store.close()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.start()
        try:
            yield
        finally:
            await self.close()

    def _route(self, path: str, endpoint: Endpoint, method: str) -> Route:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._credential):
                return _json(401, problem("unauthorized", "The API key is missing or wrong"))
            try:
                return await endpoint(request)
            except BadRequest as error:
                return _json(400, problem(error.code, error.reason, error.field))
            except _TooLarge:
                detail = f"A body has at most {codec.BODY_MAX} bytes"
                return _json(413, problem("too_large", detail), close=True)
            except BooksClosed:
                return _json(503, problem("unavailable", "The bank cannot keep its books now"))
            except ClientDisconnect:
                return Response(status_code=400)

        return Route(path, guarded, methods=[method])

    async def _create(self, request: Request) -> Response:
        key = codec.parse_key(_one(request, "idempotency-key"))
        correlation_id = codec.parse_correlation(request.headers.get("x-correlation-id"))
        order = codec.parse_order(await _body(request), key, correlation_id)
        decision = await self._processor.submit(order)
        knobs = self._processor.knobs
        if isinstance(decision, Lost) or (isinstance(decision, Booking) and decision.silent):
            return NoAnswer(knobs.hold_s, self._released)
        if knobs.delay_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), knobs.delay_s)
        if isinstance(decision, KeyReused):
            reason = "This key was used for another order"
            return _json(409, problem("key_reused", reason), correlation_id)
        new = isinstance(decision, Booking)
        transfer = decision.transfer if isinstance(decision, Booking) else decision
        status = 422 if transfer.answer == "rejected" else 201 if new else 200
        return _json(status, codec.answer_body(transfer), correlation_id)

    async def _inquire(self, request: Request) -> Response:
        key = codec.parse_key(request.path_params["key"])
        transfer: Transfer | None = self._processor.inquire(key)
        if transfer is None:
            return _json(404, _NOT_FOUND)
        return _json(200, codec.status_body(transfer))

    async def _statement(self, request: Request) -> Response:
        query = request.query_params
        after = codec.parse_count(query, "after", default=0, low=0, high=_LINE_MAX)
        top = _STATEMENT_LINES_MAX
        limit = codec.parse_count(query, "limit", default=top, low=1, high=top)
        lines, more = self._processor.statement(after, limit)
        return _json(200, codec.statement_body(lines, more=more))

    async def _knobs(self, _request: Request) -> Response:
        return _json(200, dump(self._processor.knobs.as_dict()))

    async def _turn_knobs(self, request: Request) -> Response:
        changes = codec.parse_object(await _body(request))
        try:
            self._processor.knobs = turned(self._processor.knobs, changes)
        except KnobInvalid as error:
            raise BadRequest("knob_invalid", str(error)) from None
        return _json(200, dump(self._processor.knobs.as_dict()))


async def _health(_request: Request) -> Response:
    return _json(200, dump({"status": "ok"}))


async def _routing_problem(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:  # noqa: PLR2004 - the status itself
        return _json(405, problem("method_not_allowed", "This path has no such method"))
    return _json(status, problem("no_such_route", "There is no such path"))


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return _json(500, problem("internal_error", "The bank failed"))


async def _body(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > codec.BODY_MAX:
            raise _TooLarge
    return bytes(raw)


def _one(request: Request, name: str) -> str | None:
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise BadRequest("key_invalid", f"{name} is given more than once")
    return values[0] if values else None


def _json(
    status: int, body: bytes, correlation_id: str | None = None, *, close: bool = False
) -> Response:
    headers = {}
    if correlation_id is not None:
        headers["x-correlation-id"] = correlation_id
    if close:
        headers["connection"] = "close"
    return Response(body, status, headers, "application/json")
