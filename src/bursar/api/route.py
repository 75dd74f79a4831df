"""The route class: admission first, then validation and the endpoint."""

import asyncio
from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bursar.api.admission import Access, Call, ReadRequest, admit
from bursar.api.errors import first_fault
from bursar.api.openapi import described
from bursar.api.query import check_query
from bursar.identity.model import Action
from bursar.kit.crashpoints import Side, Step

READ_DEADLINE_S: Final = 10.0
"""How long a read may wait for the database before it is answered 503."""


async def _admitted(request: Request) -> Call:
    # Not async for its work: the framework would send a plain function to a thread.
    call: Call = request.scope["call"]
    return call


Admitted = Annotated[Call, Depends(_admitted)]
"""The type of an endpoint's `call` argument."""


class Route(APIRoute):
    """A route that admits before it validates. Its endpoint must say what it asks: `access`.

    An endpoint that takes an admitted `call` and a `body`, and nothing else, is called directly:
    resolving dependencies that are not there cost as much as all the rest of the request.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        asked = endpoint.__dict__.get("access")
        if not isinstance(asked, Access):
            msg = f"the endpoint of {path} does not say who may call it"
            raise TypeError(msg)
        self.access = asked
        super().__init__(path, endpoint, **described(asked, settings))
        body = _only_body(endpoint)
        if asked.action is not None and asked.write and body is not None:
            self.app = _direct(endpoint, asked, asked.action, body)
        if asked.write:
            self.app = _answered(self.app)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler behind the admission."""
        handle = super().get_route_handler()
        asked, action = self.access, self.access.action
        if action is None:

            async def check_and_handle(request: Request) -> Response:
                check_query(request, asked.query)
                return await handle(request)

            return check_and_handle

        async def admit_and_handle(request: Request) -> Response:
            admitted, call = await admit(request, asked, action)
            request.scope["call"] = call
            if asked.write:
                return await handle(admitted)
            async with asyncio.timeout(READ_DEADLINE_S):
                return await handle(admitted)

        return admit_and_handle


def _only_body(endpoint: Callable[..., Any]) -> type[BaseModel] | None:
    """The model of `body` if the endpoint takes `call` and `body` and nothing else."""
    parameters = signature(endpoint, eval_str=True).parameters
    if list(parameters) != ["call", "body"]:
        return None
    model = parameters["body"].annotation
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _answered(app: ASGIApp) -> ASGIApp:
    """`app`, whose reply is a step that the process may die at."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        crash = scope["app"].state.deps.crash

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                crash.reach(Step.API_REPLY, Side.BEFORE)
            await send(message)
            if message["type"] == "http.response.body":
                crash.reach(Step.API_REPLY, Side.AFTER)

        await app(scope, receive, tell)

    return told


def _direct(
    endpoint: Callable[..., Any], asked: Access, action: Action, model: type[BaseModel]
) -> Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]:
    """An ASGI application that does for one endpoint what the framework would."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request, call = await admit(Request(scope, receive), asked, action)
        assert isinstance(request, ReadRequest)  # noqa: S101 - what a write is admitted with
        try:
            body = model.model_validate(request.value)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise first_fault(
                [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
            ) from None
        response: Response = await endpoint(call=call, body=body)
        await response(scope, receive, send)

    return app
