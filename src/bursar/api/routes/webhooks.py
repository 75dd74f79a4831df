"""What providers tell us: signed, stored as it came, applied by a worker."""

from hashlib import sha256
from typing import Final

from fastapi import FastAPI, Request, Response

from bursar.api.admission import access, read_body
from bursar.api.deps import Deps
from bursar.api.errors import BodyTimeout, BodyTooLarge, MalformedRequest, UnsupportedMediaType
from bursar.api.replies import document_response
from bursar.api.responses import EventReceipt
from bursar.engine.errors import OutcomeUnknown, Overloaded
from bursar.engine.model import Origin
from bursar.kit.crashpoints import Step, passing
from bursar.payouts.inbox import ReceiveEvent
from bursar.rails.errors import ProviderEventInvalid, WebhookSignatureInvalid
from bursar.rails.port import WebhookVerifier

_REFUSED: Final = "the webhook's signature is absent, wrong or too old"

_PARAMETERS: Final = [
    {"name": name, "in": "header", "required": True, "description": text, "schema": schema}
    for name, text, schema in (
        ("X-Provider-Id", "Whose event this is.", {"type": "string"}),
        ("X-Webhook-Signature", "`v1=` and HMAC-SHA256 in hex.", {"type": "string"}),
        ("X-Webhook-Timestamp", "Unix seconds, within 300 of ours.", {"type": "string"}),
    )
]


@access(
    None,
    refuses=(
        WebhookSignatureInvalid,
        MalformedRequest,
        BodyTimeout,
        BodyTooLarge,
        UnsupportedMediaType,
        Overloaded,
        OutcomeUnknown,
    ),
)
async def provider_event(request: Request) -> Response:
    """Take an event of a provider. A known one is taken again without effect.

    The signature covers `provider_id.timestamp.body`, byte for byte, and is checked first. What it
    says is read later: what nobody can read is stored all the same, and people are told.
    """
    deps: Deps = request.app.state.deps
    provider = request.headers.get("x-provider-id", "")
    body = await read_body(request, deps.body_bytes_max)
    source = deps.webhooks.get(provider)
    if source is None:
        raise WebhookSignatureInvalid(_REFUSED)
    source.verifier.verify(
        request.headers,
        body,
        source.secret,
        deps.clock.wall().timestamp(),
        allow_bare=deps.sandbox,
    )
    event_id = _event_id(source.verifier, body)
    request.scope["log"].update(provider=provider, event_id=event_id)
    receive = ReceiveEvent(
        origin=Origin(f"provider:{provider}", request.scope["correlation_id"]),
        provider=provider,
        event_id=event_id,
        body=_text(body),
    )
    with passing(deps.crash, Step.INBOX_STORE):
        is_new = await deps.engine.submit(receive)
    return document_response({"status": "stored" if is_new else "known"})


def _event_id(verifier: WebhookVerifier, body: bytes) -> str:
    """The event's own id; for what has none, one of its bytes, so that it is stored once."""
    try:
        return verifier.identify(body)
    except ProviderEventInvalid:
        return f"sha256:{sha256(body).hexdigest()}"


def _text(body: bytes) -> str:
    """As the database holds it: bytes that are no text, and NUL, are written out."""
    return body.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def add_routes(app: FastAPI) -> None:
    """Add the route that providers call."""
    app.add_api_route(
        "/webhooks/provider",
        provider_event,
        methods=["POST"],
        response_model=EventReceipt,
        openapi_extra={
            "parameters": _PARAMETERS,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
        },
        tags=["webhooks"],
    )
