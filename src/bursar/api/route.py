"""The route class: admission first, then the framework's own validation and the endpoint."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from bursar.api.admission import Access, Call, admit
from bursar.api.openapi import described


def _admitted(request: Request) -> Call:
    call: Call = request.scope["call"]
    return call


Admitted = Annotated[Call, Depends(_admitted)]
"""The type of an endpoint's `call` argument."""


class Route(APIRoute):
    """A route that admits before it validates. Its endpoint must say what it asks: `access`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        asked = endpoint.__dict__.get("access")
        if not isinstance(asked, Access):
            msg = f"the endpoint of {path} does not say who may call it"
            raise TypeError(msg)
        self.access = asked
        super().__init__(path, endpoint, **described(asked, settings))

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler behind the admission."""
        handle = super().get_route_handler()
        asked, action = self.access, self.access.action
        if action is None:
            return handle

        async def admit_and_handle(request: Request) -> Response:
            admitted, call = await admit(request, asked, action)
            request.scope["call"] = call
            return await handle(admitted)

        return admit_and_handle
