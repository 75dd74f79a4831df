"""What operators do: look at alerts and close them, send a payout again, say what became of it."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Response

from bursar.api.admission import access
from bursar.api.errors import InvalidField
from bursar.api.pagination import decode_cursor, encode_cursor
from bursar.api.replies import document_response, reply_response
from bursar.api.requests import (
    AlertAssignBody,
    AlertQuery,
    AlertResolveBody,
    ResolveBody,
    RetryBody,
)
from bursar.api.responses import Alert, AlertList, Payout, Resolution
from bursar.api.route import Admitted
from bursar.identity.errors import UnknownPerson
from bursar.identity.model import Action
from bursar.identity.store import works_for
from bursar.incidents.commands import AssignIncident
from bursar.incidents.errors import AlertAlreadyClosed, AlertNotFound, StillOwed
from bursar.incidents.model import incident_view
from bursar.incidents.store import IncidentFilter, list_incidents
from bursar.kit.ids import is_id
from bursar.ledger.errors import BalanceTooLarge, InsufficientFunds
from bursar.payouts.alerts import CloseAlert
from bursar.payouts.errors import (
    FinalityWindowOpen,
    NothingToResolve,
    NotRetryable,
    PayoutNotFound,
    SecondPersonRequired,
    StillOpen,
)
from bursar.payouts.operations import ResolvePayout, RetryPayout

_READ_DEADLINE_S: Final = 5.0


@access(
    Action.PAYOUTS_RETRY,
    write=True,
    body_optional=True,
    refuses=(PayoutNotFound, NotRetryable, FinalityWindowOpen, InsufficientFunds, BalanceTooLarge),
)
async def retry_payout(call: Admitted, payout_id: str, body: RetryBody | None = None) -> Response:
    """Send a failed payout once more: its funds are locked anew, and its retries begin anew.

    Refused with `closes_at` while a provider may still carry out what was sent before.
    """
    _require_payout_id(payout_id)
    reply = await call.deps.engine.submit(
        RetryPayout(
            origin=call.origin,
            request=call.request,
            merchant_id=call.merchant_id,
            payout_id=payout_id,
            reason="" if body is None else body.reason,
        )
    )
    return reply_response(reply)


@access(
    Action.PAYOUTS_RESOLVE,
    write=True,
    personal=True,
    refuses=(PayoutNotFound, NothingToResolve, SecondPersonRequired, FinalityWindowOpen),
)
async def resolve_payout(call: Admitted, payout_id: str, body: ResolveBody) -> Response:
    """Say what became of an attempt, where no provider can prove it. Two persons must.

    The first call proposes: 202. The same verdict and reference from another person confirms:
    200, and it counts as proof. Anything else is a new proposal in place of the old one.
    Refused with `closes_at` while the provider may still answer itself.
    """
    _require_payout_id(payout_id)
    if (body.verdict == "executed") != (body.provider_reference is not None):
        raise InvalidField(
            "Required with `executed`, and only there.", pointer="/provider_reference"
        )
    reply = await call.deps.engine.submit(
        ResolvePayout(
            origin=call.origin,
            request=call.request,
            merchant_id=call.merchant_id,
            payout_id=payout_id,
            verdict=body.verdict,
            provider_ref=body.provider_reference,
            evidence=body.evidence,
        )
    )
    return reply_response(reply)


@access(Action.ALERTS_READ, platform=True)
async def list_of_alerts(call: Admitted, query: Annotated[AlertQuery, Query()]) -> Response:
    """What a human must look at, newest first, a page at a time.

    A key of the platform sees the alerts that belong to no merchant.
    """
    wanted = IncidentFilter(
        is_open=None if query.state is None else query.state == "open",
        kind=query.kind,
        after=None if query.cursor is None else decode_cursor(query.cursor, prefix="inc"),
    )
    found = await list_incidents(call.deps.pool, call.merchant_id, wanted, limit=query.limit + 1)
    page = found[: query.limit]
    last = page[-1] if len(found) > query.limit else None
    return document_response(
        {
            "data": [incident_view(incident) for incident in page],
            "next_cursor": None if last is None else encode_cursor(last.opened_at, last.id),
        }
    )


@access(
    Action.ALERTS_RESOLVE,
    write=True,
    platform=True,
    refuses=(AlertNotFound, AlertAlreadyClosed, StillOwed, StillOpen),
)
async def resolve_alert(call: Admitted, alert_id: str, body: AlertResolveBody) -> Response:
    """Close an alert and say what was done. A debt can't be closed: it ends when it is paid.

    Nor can an alert that asks what became of an attempt, before that is known.
    """
    _require_alert_id(alert_id)
    reply = await call.deps.engine.submit(
        CloseAlert(
            origin=call.origin,
            request=call.request,
            merchant_id=call.merchant_id,
            incident_id=alert_id,
            note=body.note,
        )
    )
    return reply_response(reply)


@access(
    Action.ALERTS_RESOLVE,
    write=True,
    body_optional=True,
    platform=True,
    personal=True,
    refuses=(AlertNotFound, AlertAlreadyClosed, UnknownPerson),
)
async def assign_alert(
    call: Admitted, alert_id: str, body: AlertAssignBody | None = None
) -> Response:
    """Say who looks at an alert: a person of your own scope, or yourself."""
    _require_alert_id(alert_id)
    person_id = call.principal.person_id
    if body is not None and body.person_id not in {None, person_id}:
        assert body.person_id is not None  # noqa: S101 - narrows the type
        person_id = body.person_id
        async with asyncio.timeout(_READ_DEADLINE_S):
            known = await works_for(call.deps.pool, person_id, call.principal.merchant_id)
        if not known:
            raise UnknownPerson("Nobody of this id works here.", pointer="/person_id")
    reply = await call.deps.engine.submit(
        AssignIncident(
            origin=call.origin,
            request=call.request,
            merchant_id=call.merchant_id,
            incident_id=alert_id,
            person_id=person_id,
        )
    )
    return reply_response(reply)


def _require_payout_id(payout_id: str) -> None:
    if not is_id(payout_id, "po"):
        raise PayoutNotFound("There is no such payout.")


def _require_alert_id(alert_id: str) -> None:
    if not is_id(alert_id, "inc"):
        raise AlertNotFound("There is no such alert.")


def add_routes(app: FastAPI) -> None:
    """Add the routes of operators."""
    tags: Any = ["operations"]
    alerts = "/payouts/ops/alerts"
    app.add_api_route(alerts, list_of_alerts, methods=["GET"], response_model=AlertList, tags=tags)
    proposed: Any = {202: {"model": Resolution, "description": "Proposed; another must confirm."}}
    for path, endpoint, model, responses in (
        ("/payouts/{payout_id}/retry", retry_payout, Payout, {}),
        ("/payouts/{payout_id}/resolve", resolve_payout, Resolution, proposed),
        (f"{alerts}/{{alert_id}}/resolve", resolve_alert, Alert, {}),
        (f"{alerts}/{{alert_id}}/assign", assign_alert, Alert, {}),
    ):
        app.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            response_model=model,
            responses=responses,
            tags=tags,
        )
