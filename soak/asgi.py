"""One HTTP request into an ASGI application, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

CUT = "bursar_sim.cut"


class Answer(msgspec.Struct, frozen=True):
    """A complete reply. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Cut(Exception):
    """The application cut the connection without a reply."""


async def call(
    app: Any, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> Answer:
    """Send a request and wait for the whole reply. Raises `Cut`."""
    gone = asyncio.Event()
    sent: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
    status = 0
    reply_headers: dict[str, str] = {}
    chunks: list[bytes] = []

    async def receive() -> dict[str, Any]:
        if sent:
            return sent.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, reply_headers
        if message["type"] == "http.response.start":
            status = message["status"]
            reply_headers = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in message.get("headers", ())
            }
        else:
            chunks.append(message.get("body", b""))

    await app(_scope(method, path, headers, gone), receive, send)
    if gone.is_set() or not status:
        raise Cut
    return Answer(status, reply_headers, b"".join(chunks))


def _scope(method: str, path: str, headers: Mapping[str, str], gone: asyncio.Event) -> Any:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in headers.items()
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
        "extensions": {CUT: {"abort": gone.set}},
    }
