"""The ASGI application."""

from typing import Any

from fastapi import FastAPI, Request, Response

from bursar.api.admission import access
from bursar.api.correlation import CorrelationMiddleware
from bursar.api.deps import Deps
from bursar.api.errors import install_error_handlers
from bursar.api.openapi import openapi_of
from bursar.api.replies import document_response
from bursar.api.route import Route
from bursar.api.routes import accounts, health, ledger, operations, payouts, webhooks

VERSION = "0.1.0"


def create_app(deps: Deps) -> FastAPI:
    """The API over `deps`. It starts nothing and closes nothing: that is its maker's work."""
    app = FastAPI(
        title="Bursar",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.deps = deps
    app.router.route_class = Route
    payouts.add_routes(app)
    operations.add_routes(app)
    accounts.add_routes(app, sandbox=deps.sandbox)
    ledger.add_routes(app)
    webhooks.add_routes(app)
    health.add_routes(app)
    app.add_api_route(
        "/openapi.json", _openapi, methods=["GET"], response_model=dict[str, Any], tags=["health"]
    )
    install_error_handlers(app)
    app.add_middleware(CorrelationMiddleware, clock=deps.clock, ids=deps.ids)
    return app


@access(None)
async def _openapi(request: Request) -> Response:
    """This document."""
    return document_response(openapi_of(request.app))
