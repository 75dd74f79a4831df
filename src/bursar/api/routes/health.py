"""Whether this process can work."""

import asyncio
from typing import Final

from fastapi import FastAPI, Request, Response

from bursar.api.admission import access
from bursar.api.deps import Deps
from bursar.api.replies import document_response
from bursar.api.responses import Health
from bursar.db.queries import load_queries

_QUERIES = load_queries(__file__)
_DEADLINE_S: Final = 2.0


@access(None)
async def health(request: Request) -> Response:
    """200 if the database answers within two seconds, else 503."""
    deps: Deps = request.app.state.deps
    async with asyncio.timeout(_DEADLINE_S):
        await deps.pool.fetchval(_QUERIES["ping"])
    return document_response({"status": "ok", "database": "ok"})


def add_routes(app: FastAPI) -> None:
    """Add the route that supervisors and load balancers ask."""
    app.add_api_route("/health", health, methods=["GET"], response_model=Health, tags=["health"])
