"""A small payouts API in memory: keys, references, funds, and payouts that move at each look.

It shares no code with the engine. What it does wrong is switched on by the test.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KEY = "sk_test"
PATH = ("funds_locked", "sending", "sent", "settled")


def in_days(days: int) -> str:
    """A whole second so many days from now, as a file writes it."""
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    return at.isoformat().replace("+00:00", "Z")


def problem(status: int, code: str, detail: str = "", **headers: str) -> Response:
    """An RFC 9457 answer."""
    body = json.dumps({"title": code, "status": status, "code": code, "detail": detail})
    return Response(body, status, headers, media_type="application/problem+json")


def answer(status: int, document: object, **headers: str) -> Response:
    """A JSON answer."""
    return Response(json.dumps(document), status, headers, media_type="application/json")


@dataclass
class FakeApi:
    """`before` and `after` may answer in its stead, or raise, for any request.

    `ends` maps a reference to the failure code of its payout; `stuck` ones stay in `sending`.
    """

    funds: dict[str, int] = field(default_factory=lambda: {"EUR": 10**9})
    fee: int = 25
    before: Callable[[Request], Response | None] | None = None
    after: Callable[[Request], Response | None] | None = None
    ends: dict[str, str] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    balanced: bool = True
    payouts: dict[str, dict[str, Any]] = field(default_factory=dict)
    replies: dict[str, tuple[bytes, int, bytes]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/payouts", self._guard(self._create), methods=["POST"]),
                Route("/payouts", self._guard(self._list)),
                Route("/accounts", self._guard(self._accounts)),
            ]
        )

    def _guard(self, serve: Any) -> Any:
        async def guarded(request: Request) -> Response:
            self.calls[f"{request.method} {request.url.path}"] += 1
            if request.headers.get("authorization") != f"Bearer {KEY}":
                return problem(401, "unauthorized")
            if self.before is not None and (instead := self.before(request)) is not None:
                return instead
            made: Response = await serve(request)
            if self.after is not None and (instead := self.after(request)) is not None:
                return instead
            return made

        return guarded

    async def _create(self, request: Request) -> Response:
        body = await request.body()
        key = request.headers["idempotency-key"]
        if key in self.replies:
            first, status, stored = self.replies[key]
            if first != body:
                return problem(422, "idempotency_key_reused")
            return Response(stored, status, {"Idempotency-Replayed": "true"})
        made = self._decide(json.loads(body))
        self.replies[key] = (body, made.status_code, bytes(made.body))
        return made

    def _decide(self, body: dict[str, Any]) -> Response:
        reference, amount, currency = body["reference"], body["amount"], body["currency"]
        if any(payout["reference"] == reference for payout in self.payouts.values()):
            return problem(409, "duplicate_reference", f"{reference} exists")
        if self.funds.get(currency, 0) < amount + self.fee:
            return problem(422, "insufficient_funds", "not enough is free")
        self.funds[currency] -= amount + self.fee
        payout_id = f"po_{len(self.payouts):032x}"
        self.payouts[payout_id] = {
            "id": payout_id,
            "object": "payout",
            "state": PATH[0],
            "fee": self.fee,
            "provider_cost": None,
            "failure": None,
            "amount_returned": 0,
            **body,
        }
        return answer(201, self.payouts[payout_id])

    async def _list(self, request: Request) -> Response:
        if (reference := request.query_params.get("reference")) is not None:
            named = [one for one in self.payouts.values() if one["reference"] == reference]
            return answer(200, {"data": named, "next_cursor": None})
        ids = request.query_params.getlist("id")
        assert 0 < len(ids) <= 100
        found = [self.payouts[one] for one in ids if one in self.payouts]
        for payout in found:
            self._move(payout)
        return answer(200, {"data": found, "next_cursor": None})

    def _move(self, payout: dict[str, Any]) -> None:
        state = payout["state"]
        if state in {"settled", "failed"} or (
            state == "sending" and payout["reference"] in self.stuck
        ):
            return
        payout["state"] = PATH[PATH.index(state) + 1]
        code = self.ends.get(payout["reference"])
        if payout["state"] == "settled" and code is not None:
            payout |= {"state": "failed", "failure": {"code": code, "reason": "said the bank"}}
        elif payout["state"] == "settled":
            payout["provider_cost"] = 3

    async def _accounts(self, request: Request) -> Response:
        data = [
            {
                "address": f"available:{currency}",
                "role": "available",
                "currency": currency,
                "debits_pending": 0,
                "debits_posted": 0,
                "credits_posted": free,
            }
            for currency, free in self.funds.items()
        ]
        books = [
            {"currency": currency, "debits": 500_000, "credits": 500_000, "balanced": self.balanced}
            for currency in self.funds
        ]
        return answer(200, {"data": data, "books": books})
