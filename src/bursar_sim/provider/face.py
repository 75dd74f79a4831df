"""A provider's routes. Its page in docs/wire/ is their contract."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bursar_sim.cutting import HalfAnswer, NoAnswer
from bursar_sim.provider.fields import (
    BODY_MAX,
    BadRequest,
    parse_correlation,
    parse_count,
    parse_object,
    problem,
)
from bursar_sim.provider.knobs import KnobInvalid, turned
from bursar_sim.provider.model import Failing, Fault, KeyReused, Lost, Reply
from bursar_sim.provider.processor import BooksClosed, Processor
from bursar_sim.provider.wire import Wire
from bursar_sim.strict_json import dump

_STATEMENT_LINES_MAX: Final = 1000
_LINE_MAX: Final = 10**18 - 1

Endpoint = Callable[[Request], Awaitable[Response]]


class _TooLarge(Exception):
    """The body is longer than `BODY_MAX`."""


class Face:
    """A provider's HTTP face: `app` serves it, `release` lets held requests go."""

    def __init__(self, wire: Wire, processor: Processor, *, api_key: str) -> None:
        self._wire = wire
        self._processor = processor
        self._credential = f"Bearer {api_key}".encode()
        self._released = asyncio.Event()
        base = f"/{wire.name}"
        self.app = Starlette(
            routes=[
                self._route(f"{base}/{wire.orders}", self._create, "POST"),
                self._route(f"{base}/{wire.orders}/{{key}}", self._inquire, "GET"),
                self._route(f"{base}/statement", self._statement, "GET"),
                self._route(f"{base}/knobs", self._knobs, "GET"),
                self._route(f"{base}/knobs", self._turn_knobs, "PUT"),
                self._route(f"{base}/fired", self._fired, "GET"),
                Route("/health", _health, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _routing_problem, Exception: self._internal_error},
        )

    def release(self) -> None:
        """End every hold and delay now."""
        self._released.set()

    def _route(self, path: str, endpoint: Endpoint, method: str) -> Route:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._credential):
                return _unauthorized()
            try:
                return await endpoint(request)
            except BadRequest as error:
                return _json(400, problem(error.code, error.reason, error.field))
            except _TooLarge:
                detail = f"A body has at most {BODY_MAX} bytes"
                return _json(413, problem("too_large", detail), close=True)
            except BooksClosed:
                return _json(503, self._unavailable())
            except ClientDisconnect:
                return Response(status_code=400)

        return Route(path, guarded, methods=[method])

    async def _create(self, request: Request) -> Response:
        correlation_id = parse_correlation(request.headers.get("x-correlation-id"))
        keys = request.headers.getlist("idempotency-key")
        order = self._wire.parse_order(await _body(request), keys, correlation_id)
        if self._processor.forgets_us(order.key):
            return _unauthorized()
        decision = await self._processor.submit(order)
        knobs = self._processor.knobs
        if isinstance(decision, Lost) or (
            isinstance(decision, Reply) and decision.fault is Fault.SILENCE
        ):
            return NoAnswer(knobs.hold_s, self._released)
        wait_s = knobs.delay_s + (decision.wait_s if isinstance(decision, Reply) else 0.0)
        if wait_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), wait_s)
        if isinstance(decision, KeyReused):
            return _json(409, problem(*self._wire.reused), correlation_id)
        if isinstance(decision, Failing):
            return self._failing(decision.status)
        return self._answer(decision, correlation_id)

    def _answer(self, reply: Reply, correlation_id: str | None) -> Response:
        transfer = reply.transfer
        if reply.declined is not None:
            return _json(422, self._wire.refusal_body(transfer, reply.declined), correlation_id)
        status = 422 if transfer.answer == "rejected" else self._wire.created if reply.new else 200
        body = self._wire.answer_body(transfer, reply.new)
        if reply.fault is Fault.ERROR:
            return self._failing(reply.error_status)
        return _json(status, body, correlation_id, fault=reply.fault)

    async def _inquire(self, request: Request) -> Response:
        key = self._wire.parse_key(request.path_params["key"])
        if self._processor.forgets_us(key):
            return _unauthorized()
        inquired = self._processor.inquire(key)
        if inquired.fault is Fault.ERROR:
            return self._failing(503)
        if inquired.body is None:
            reason = f"The {self._wire.title} knows no such {self._wire.thing}"
            return _json(404, problem("not_found", reason), fault=inquired.fault)
        return _json(200, inquired.body, fault=inquired.fault)

    async def _statement(self, request: Request) -> Response:
        query = request.query_params
        after = parse_count(query, "after", default=0, low=0, high=_LINE_MAX)
        top = _STATEMENT_LINES_MAX
        limit = parse_count(query, "limit", default=top, low=1, high=top)
        lines, more = self._processor.statement(after, limit)
        page = [self._wire.line_body(number, line) for number, line in lines]
        return _json(200, dump({"lines": page, "next": lines[-1][0] if more else None}))

    async def _knobs(self, _request: Request) -> Response:
        without = self._wire.terms.without
        values = self._processor.knobs.as_dict()
        return _json(200, dump({name: values[name] for name in values if name not in without}))

    async def _turn_knobs(self, request: Request) -> Response:
        changes = parse_object(await _body(request))
        try:
            self._processor.knobs = turned(self._processor.knobs, changes, self._wire.terms)
        except KnobInvalid as error:
            raise BadRequest("knob_invalid", str(error)) from None
        return await self._knobs(request)

    async def _fired(self, _request: Request) -> Response:
        return _json(200, dump(dict(sorted(self._processor.fired.items()))))

    def _failing(self, status: int) -> Response:
        if status == 503:  # noqa: PLR2004 - the status itself
            return _json(503, self._unavailable())
        return _json(status, problem("internal_error", f"The {self._wire.title} failed"))

    def _unavailable(self) -> bytes:
        return problem("unavailable", f"The {self._wire.title} cannot keep its books now")

    async def _internal_error(self, _request: Request, _error: Exception) -> Response:
        return self._failing(500)


def _unauthorized() -> Response:
    return _json(401, problem("unauthorized", "The API key is missing or wrong"))


async def _health(_request: Request) -> Response:
    return _json(200, dump({"status": "ok"}))


async def _routing_problem(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:  # noqa: PLR2004 - the status itself
        return _json(405, problem("method_not_allowed", "This path has no such method"))
    return _json(status, problem("no_such_route", "There is no such path"))


async def _body(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_MAX:
            raise _TooLarge
    return bytes(raw)


def _json(
    status: int,
    body: bytes,
    correlation_id: str | None = None,
    *,
    close: bool = False,
    fault: Fault | None = None,
) -> Response:
    headers = {}
    if correlation_id is not None:
        headers["x-correlation-id"] = correlation_id
    if close:
        headers["connection"] = "close"
    if fault is Fault.RESET:
        return HalfAnswer(body, status, headers, "application/json")
    if fault is Fault.TRUNCATED:
        body = body[: len(body) // 2]
    return Response(body, status, headers, "application/json")
