"""The HTTP server under every simulator: uvicorn, able to cut a connection without an answer."""

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bursar_sim.cutting import CUT

_KEEP_ALIVE_S = 75
"Longer than clients keep idle connections, so that the server never closes under a request."


class _CuttableProtocol(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {"abort": self.transport.abort}}


class SimServer(uvicorn.Server):
    """Calls `on_start` once it serves, and `on_stop` before it waits for requests under way."""

    def __init__(
        self, app: ASGIApp, *, on_start: Callable[[], None], on_stop: Callable[[], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_CuttableProtocol,
                ws="none",
                lifespan="on",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
        )
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, within about a second."""
        self._on_stop()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `OSError`."""
    return socket.create_server((host, port), backlog=2048)


def serve(server: SimServer, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then return."""
    if threading.current_thread() is not threading.main_thread():
        server.run(sockets=[listener])
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        """Before uvicorn listens to signals; and after, when it raises them once more."""
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
