"""The description of the API is complete, and the API does what it says."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn

from bursar.api.app import create_app
from bursar.api.deps import Submits
from bursar.api.errors import IdempotencyKeyInvalid
from bursar.api.idempotency import read_key
from bursar.engine.model import Reply
from bursar.identity.model import Role
from tests.api.conftest import Api, open_api
from tests.conftest import Database

# `positive_data_acceptance` is left out: no JSON Schema can say that check digits are right, that
# money suffices or that a reference is new. Our own tests send good requests.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection,"
    "missing_required_header,unsupported_method,allow_header_conformance,ignored_auth"
)


@contextmanager
def served(database: Database, engine: Submits | None = None) -> Iterator[tuple[str, str]]:
    """URL and key of the API behind a real socket, on a loop of its own; with another engine."""
    ready = threading.Event()
    found: list[str] = []
    servers: list[uvicorn.Server] = []
    listening = socket.create_server(("127.0.0.1", 0))

    async def serve() -> None:
        async with open_api(database.dsns, "sandbox") as api:
            deps = msgspec.structs.replace(api.deps, engine=engine or api.deps.engine)
            config = uvicorn.Config(
                create_app(deps), log_config=None, http="httptools", lifespan="off"
            )
            servers.append(uvicorn.Server(config))
            found.append(api.keys[Role.ADMIN])
            ready.set()
            await servers[0].serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", found[0]
    finally:
        servers[0].should_exit = True
        thread.join(20)
        listening.close()


def schemathesis(url: str, key: str, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """One run of its command line against a served API. It goes on after a failure."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--continue-on-failure", "--no-shrink", "--seed", "1", "--checks", CHECKS),
        *("-H", f"Authorization: Bearer {key}", "--warnings", "off", "--no-color"),
        *("--suppress-health-check", "all", *options),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"}
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | hooks | paths,
    )


@pytest.mark.timeout(300)
def test_the_api_keeps_to_its_own_description(database: Database, tmp_path: Path) -> None:
    """F75, F76, F77: schemathesis finds no 500 and nothing that is not described."""
    with served(database) as (url, key):
        run = schemathesis(url, key, tmp_path, "--max-examples", "12")

    assert run.returncode == 0, run.stdout[-8_000:] + run.stderr[-2_000:]


class Careless:
    """An engine with a planted fault: the answer to funding has a field that nobody described."""

    async def submit(self, _command: Any) -> Any:
        """Answer wrongly."""
        return Reply(201, b'{"id": "fd_1", "object": "funding", "amount": "a lot"}')


@pytest.mark.timeout(120)
def test_a_planted_fault_is_found(database: Database, tmp_path: Path) -> None:
    """A checker that finds nothing must be able to find something."""
    only = ("--include-path", "/accounts/{currency}/fund", "--phases", "examples,coverage")
    with served(database, Careless()) as (url, key):
        run = schemathesis(url, key, tmp_path, *only)

    assert run.returncode == 1, run.stdout[-4_000:]
    assert "a lot" in run.stdout


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of all that is described."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def test_every_route_is_described(api: Api) -> None:
    """No route is hidden, and every refusal is a problem document."""
    document = (await api.client.get("/openapi.json")).json()
    described = {(method, path) for method, path, _ in operations(document)}
    served_ = {(m, route.path_format) for route in api.app.routes for m in route.methods}

    assert described == served_
    for method, path, operation in operations(document):
        assert operation["description"], (method, path)
        for status, response in operation["responses"].items():
            assert "X-Correlation-Id" in response["headers"]
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
                assert re.search(r"`[a-z_]+`", response["description"])


async def test_the_key_that_is_described_is_the_key_that_is_taken(api: Api) -> None:
    """Spaces inside count, those around it do not."""
    document = (await api.client.get("/openapi.json")).json()
    (key,) = [
        one
        for one in document["paths"]["/payouts"]["post"]["parameters"]
        if one["name"] == "Idempotency-Key"
    ]
    described = re.compile(key["schema"]["pattern"])
    for text in ("a", "a b", "!~", "x" * 255):
        assert described.search(text)
        assert read_key([text.encode()]) == text
    for text in (" ", "caf\u00e9", "a\tb", "x" * 256):
        assert not described.search(text)
        with pytest.raises(IdempotencyKeyInvalid):
            read_key([text.encode()])


async def test_nothing_of_the_framework_shows(api: Api) -> None:
    """Its own form of errors is not ours."""
    text = (await api.client.get("/openapi.json")).text

    assert "HTTPValidationError" not in text


@pytest.mark.parametrize("mode", ["production"])
async def test_production_does_not_describe_what_it_has_not(api: Api, mode: str) -> None:
    """The description is of this process."""
    document = (await api.client.get("/openapi.json")).json()

    assert "/accounts/{currency}/fund" not in document["paths"]
