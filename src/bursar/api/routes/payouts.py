"""Payouts: make, list, look at, take back."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Query, Response

from bursar.api.admission import access
from bursar.api.pagination import decode_cursor, encode_cursor
from bursar.api.replies import document_response, reply_response
from bursar.api.requests import CancelBody, PayoutBody, PayoutQuery
from bursar.api.responses import Payout as PayoutAnswer
from bursar.api.responses import PayoutDetail, PayoutList
from bursar.api.route import Admitted
from bursar.identity.model import Action
from bursar.kit.ids import is_id
from bursar.ledger.errors import BalanceTooLarge, InsufficientFunds, UnknownAccount
from bursar.money.allocation import basis_points
from bursar.payouts.commands import CancelPayout, CreatePayout
from bursar.payouts.errors import (
    AlreadyDispatched,
    DuplicateReference,
    PayoutNotFound,
)
from bursar.payouts.machine import AttemptState
from bursar.payouts.model import Attempt, Priority
from bursar.payouts.operations import resolution_shown
from bursar.payouts.store import HistoryLine, PayoutFilter, get_payout_detail, list_payouts
from bursar.payouts.view import payout_view

_OUTCOMES: Final = {
    AttemptState.SENDING: "pending",
    AttemptState.UNKNOWN: "unknown",
    AttemptState.ACCEPTED: "accepted",
    AttemptState.PAID: "executed",
    AttemptState.RETURNED: "executed",
    AttemptState.FAILED: "not_executed",
}


@access(
    Action.PAYOUTS_CREATE,
    write=True,
    refuses=(DuplicateReference, InsufficientFunds, UnknownAccount, BalanceTooLarge),
)
async def create_payout(call: Admitted, body: PayoutBody) -> Response:
    """Make a payout and lock its funds, both or neither. It is sent from `due_at` on."""
    deps = call.deps
    await deps.currencies.require(deps.pool, call.merchant_id, body.currency, pointer="/currency")
    reply = await deps.engine.submit(
        CreatePayout(
            origin=call.origin,
            request=call.request,
            merchant_id=call.merchant_id,
            payout_id=deps.ids.new("po"),
            reference=body.reference,
            amount=body.amount,
            currency=body.currency,
            fee=basis_points(body.amount, call.principal.payout_fee_bps),
            beneficiary_name=body.beneficiary.name,
            beneficiary_iban=body.beneficiary.iban,
            description=body.description,
            priority=Priority[body.priority.upper()].value,
            due_at=body.due_at,
            max_retries=body.max_retries,
            metadata=body.metadata,
        )
    )
    return reply_response(reply)


@access(Action.PAYOUTS_READ)
async def list_of_payouts(call: Admitted, query: Annotated[PayoutQuery, Query()]) -> Response:
    """The merchant's payouts, newest first, a page at a time."""
    after = None if query.cursor is None else decode_cursor(query.cursor, prefix="po")
    wanted = PayoutFilter(
        state=query.state,
        reference=query.reference,
        ids=list(query.id) or None,
        after=after,
    )
    # One row more than the page tells whether there is another page.
    found = await list_payouts(call.deps.pool, call.merchant_id, wanted, limit=query.limit + 1)
    page = found[: query.limit]
    last = page[-1] if len(found) > query.limit else None
    return document_response(
        {
            "data": [payout_view(payout) for payout in page],
            "next_cursor": None if last is None else encode_cursor(last.created_at, last.id),
        }
    )


@access(Action.PAYOUTS_READ, refuses=(PayoutNotFound,))
async def one_payout(call: Admitted, payout_id: str) -> Response:
    """A payout with its attempts and its history, oldest first.

    `resolution` is what one person proposed, for the second one to see, or what two agreed on.
    """
    found = None
    if is_id(payout_id, "po"):
        found = await get_payout_detail(call.deps.pool, call.merchant_id, payout_id)
    if found is None:
        raise PayoutNotFound("There is no such payout.")
    return document_response(
        {
            **payout_view(found.payout),
            "attempts": [_attempt(attempt) for attempt in found.attempts],
            "history": [_history(line) for line in found.history],
            "resolution": resolution_shown(found.payout, found.attempts, found.history),
        }
    )


@access(
    Action.PAYOUTS_CANCEL,
    write=True,
    body_optional=True,
    refuses=(PayoutNotFound, AlreadyDispatched),
)
async def cancel_payout(call: Admitted, payout_id: str, body: CancelBody | None = None) -> Response:
    """Take back a payout that is `funds_locked` or `in_review`, and free its funds."""
    if not is_id(payout_id, "po"):
        raise PayoutNotFound("There is no such payout.")
    reply = await call.deps.engine.submit(
        CancelPayout(
            origin=call.origin,
            request=call.request,
            merchant_id=call.merchant_id,
            payout_id=payout_id,
            reason="" if body is None else body.reason,
        )
    )
    return reply_response(reply)


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "number": attempt.number,
        "state": attempt.state,
        "provider": attempt.provider,
        "provider_key": attempt.provider_key,
        "provider_reference": attempt.provider_ref,
        "outcome": _OUTCOMES[AttemptState(attempt.state)],
        "code": attempt.code,
        "reason": attempt.reason,
        "begun_at": attempt.begun_at,
    }


def _history(line: HistoryLine) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(line.body)
    return {
        "seq": line.seq,
        "kind": line.kind,
        "from": body.get("from"),
        "to": body.get("to"),
        "at": line.at,
        "actor": line.actor,
        "correlation_id": line.correlation_id,
        "reason": body.get("reason"),
    }


def add_routes(app: FastAPI) -> None:
    """Add the routes of payouts."""
    tags: Any = ["payouts"]
    app.add_api_route(
        "/payouts",
        create_payout,
        methods=["POST"],
        status_code=201,
        response_model=PayoutAnswer,
        tags=tags,
    )
    app.add_api_route(
        "/payouts",
        list_of_payouts,
        methods=["GET"],
        response_model=PayoutList,
        tags=tags,
    )
    app.add_api_route(
        "/payouts/{payout_id}",
        one_payout,
        methods=["GET"],
        response_model=PayoutDetail,
        tags=tags,
    )
    app.add_api_route(
        "/payouts/{payout_id}/cancel",
        cancel_payout,
        methods=["POST"],
        response_model=PayoutAnswer,
        tags=tags,
    )
