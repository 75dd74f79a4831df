"""The way into a route: who asks, may they, under which key, with which body.

In this order, so that nobody learns or costs anything before they are known.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from bursar.api import idempotency
from bursar.api.deps import Deps
from bursar.api.errors import (
    OBJECT_EXPECTED,
    BodyTimeout,
    BodyTooLarge,
    InvalidField,
    MalformedJson,
    MalformedRequest,
    UnsupportedMediaType,
)
from bursar.api.query import check_query, parameters_of
from bursar.api.strict_json import read_json
from bursar.engine.model import PLATFORM, Origin
from bursar.engine.model import Request as IdempotentRequest
from bursar.identity.errors import Forbidden, MerchantScopeRequired, Unauthorized
from bursar.identity.model import Action, Principal, allowed, hash_of
from bursar.kit.errors import BursarError

BODY_DEADLINE_S: Final = 10.0
"""How long a body may take to arrive; a client that drips bytes holds nothing for longer."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Access(msgspec.Struct, frozen=True):
    """What a route asks of the one who calls it. `action` None: everybody may."""

    action: Action | None
    write: bool = False
    """Needs an idempotency key, and reads a JSON body."""
    body_optional: bool = False
    refuses: tuple[type[BursarError], ...] = ()
    """How this route in particular can refuse, for its description."""
    query: Mapping[str, bool] = {}
    """The parameters that its query may have: may each be repeated?"""
    platform: bool = False
    """Also for keys of the platform: they ask about what belongs to no merchant."""
    personal: bool = False
    """The same words from another person are another request."""


class Call(msgspec.Struct, frozen=True):
    """An admitted request. `request` is the idempotent request of a write, else None.

    `merchant_id` is `PLATFORM` for a key of the platform, where the route is for such keys too.
    """

    deps: Deps
    principal: Principal
    merchant_id: str
    origin: Origin
    request: IdempotentRequest | None = None


def access(
    action: Action | None,
    *,
    write: bool = False,
    body_optional: bool = False,
    refuses: tuple[type[BursarError], ...] = (),
    platform: bool = False,
    personal: bool = False,
) -> Callable[[Endpoint], Endpoint]:
    """Declare on an endpoint what its route asks. A route without it can't be made."""

    def mark(endpoint: Endpoint) -> Endpoint:
        query = parameters_of(endpoint)
        endpoint.__dict__["access"] = Access(
            action, write, body_optional, refuses, query, platform, personal
        )
        return endpoint

    return mark


class ReadRequest(Request):
    """A request whose body has been read and parsed, once."""

    def __init__(self, scope: Scope, receive: Receive, raw: bytes, value: Any) -> None:
        super().__init__(scope, receive)
        # Where the framework keeps what it has read: it will not read again.
        self._body = raw
        self._json = value
        self.value = value


async def admit(request: Request, asked: Access, action: Action) -> tuple[Request, Call]:
    """The call behind a request, and the request with its body read if the route writes.

    Raises `Unauthorized`, `Forbidden`, `MerchantScopeRequired` and `InvalidParameter`; for a write
    also what `idempotency.read_key`, `read_body` and `read_json` raise, and `InvalidField` for a
    body that is no object.
    """
    scope = request.scope
    deps: Deps = scope["app"].state.deps
    principal = await _authenticate(scope, deps)
    scope["log"].update(key_id=principal.key_id, merchant_id=principal.merchant_id)
    if not allowed(principal.role, action):
        raise Forbidden(f"The role {principal.role} may not do {action}.")
    merchant_id = principal.merchant_id or (PLATFORM if asked.platform else None)
    if merchant_id is None:
        raise MerchantScopeRequired("Use an API key of the merchant.")
    check_query(request, asked.query)
    origin = Origin(principal.person_id, scope["correlation_id"])
    if not asked.write:
        return request, Call(deps, principal, merchant_id, origin)
    key = idempotency.read_key(_headers(scope, b"idempotency-key"))
    raw = await read_body(request, deps.body_bytes_max)
    value = _parse(scope, raw, optional=asked.body_optional)
    whose = principal.person_id if asked.personal else ""
    print_ = idempotency.fingerprint(scope["method"], scope["path"], raw, person_id=whose)
    own = IdempotentRequest(merchant_id, key, print_)
    call = Call(deps, principal, merchant_id, origin, own)
    return ReadRequest(scope, request.receive, raw, value), call


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body. Raises `BodyTooLarge` and `BodyTimeout`.

    A compressed one is `UnsupportedMediaType`: what is not unpacked can't be a bomb.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length" and _declared(value) > bytes_max:
            raise BodyTooLarge(f"A body has at most {bytes_max} bytes.")
        if name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaType("A compressed body is not read.")
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            message = await request.receive()
            body: bytes = message.get("body", b"")
            while message["type"] == "http.request" and message.get("more_body"):
                if len(body) > bytes_max:
                    break
                message = await request.receive()
                body += message.get("body", b"")
    except TimeoutError:
        raise BodyTimeout("The body did not arrive in time.") from None
    if message["type"] != "http.request":
        raise ClientDisconnect
    if len(body) > bytes_max:
        raise BodyTooLarge(f"A body has at most {bytes_max} bytes.")
    return body


def _declared(length: bytes) -> int:
    if not length.isdigit():
        raise MalformedRequest("Content-Length is not a number.")
    return int(length[:20])


async def _authenticate(scope: Scope, deps: Deps) -> Principal:
    given = _headers(scope, b"authorization")
    if not given:
        raise Unauthorized("Send an API key: `Authorization: Bearer sk_…`.")
    scheme, _, text = given[0].decode("latin-1").partition(" ")
    key_hash = hash_of(text.strip(), mode=deps.mode) if scheme.lower() == "bearer" else None
    principal = None
    if len(given) == 1 and key_hash is not None:
        principal = await deps.keys.find(key_hash)
    if principal is None:
        raise Unauthorized("The API key is not valid.")
    return principal


def _parse(scope: Scope, raw: bytes, *, optional: bool) -> dict[str, Any] | None:
    if not raw:
        if optional:
            return None
        raise MalformedJson("The body is empty: an object is expected.", pointer="")
    types = _headers(scope, b"content-type")
    if len(types) != 1 or not _is_json(types[0].decode("latin-1")):
        raise UnsupportedMediaType("Send the body as application/json.")
    value = read_json(raw)
    if not isinstance(value, dict):
        raise InvalidField(OBJECT_EXPECTED, pointer="")
    return value


def _is_json(content_type: str) -> bool:
    if content_type == "application/json":
        return True
    media_type, _, parameters = content_type.lower().partition(";")
    charset = parameters.strip().replace('"', "")
    return media_type.strip() == "application/json" and charset in {"", "charset=utf-8"}


def _headers(scope: Scope, wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]
