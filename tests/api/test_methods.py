"""Methods and paths that are not there: a problem document, wherever the application is reached."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import Api
from tests.api.test_access import routes
from tests.api.test_bad_input import problem_of
from tests.api.test_openapi import served
from tests.conftest import Database

METHODS = ["DELETE", "FOO", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PROPFIND", "PUT", "TRACE"]
NOWHERE = ["/", "//", "/nothing", "/payouts/", "/payouts//cancel", "/accounts/EUR", "/docs", "*"]


async def asked(api: Api, method: str, path: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and problem of a request, given to the application as a server would."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [],
    }
    await api.app(scope, receive, send)
    start, *rest = sent
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    body = b"".join(message.get("body", b"") for message in rest)
    answer = httpx.Response(start["status"], headers=headers, content=body)
    return answer.status_code, dict(answer.headers), problem_of(answer)


async def test_another_method_of_a_known_path_names_those_it_has(api: Api) -> None:
    """RFC 9110: 405 with Allow, for methods that nobody knows as well, before asking for a key."""
    allowed: dict[str, set[str]] = {}
    for method, path, _ in routes(api):
        allowed.setdefault(path, set()).add(method)
    for path, methods in allowed.items():
        where = path.format(payout_id="po_1", alert_id="inc_1", currency="EUR", ref="x")
        for method in set(METHODS) - methods:
            status, headers, problem = await asked(api, method, where)

            assert (status, problem["code"]) == (405, "method_not_allowed"), (method, path)
            assert headers["allow"] == ", ".join(sorted(methods))
            assert problem["detail"] == f"Allowed: {headers['allow']}."


async def test_an_unknown_path_is_not_found_by_any_method(api: Api) -> None:
    """404, `OPTIONS *` among them."""
    for path in NOWHERE:
        for method in METHODS:
            status, headers, problem = await asked(api, method, path)

            assert (status, problem["code"]) == (404, "not_found"), (method, path)
            assert headers["x-correlation-id"]


@pytest.mark.timeout(60)
def test_the_same_over_a_socket(database: Database) -> None:
    """Where the server's own parser lets a request through, the answer is ours."""
    with served(database) as (url, _), httpx.Client(base_url=url) as http:
        for method in ("PUT", "PROPFIND", "OPTIONS", "TRACE", "PURGE"):
            here = http.request(method, "/payouts")
            nowhere = http.request(method, "/nothing")
            assert (here.status_code, here.headers["allow"]) == (405, "GET, POST"), method
            assert problem_of(here)["code"] == "method_not_allowed"
            assert (nowhere.status_code, problem_of(nowhere)["code"]) == (404, "not_found")
        head = http.head("/payouts")
        assert (head.status_code, head.headers["content-type"], head.content) == (
            405,
            "application/problem+json",
            b"",
        )
        # An unknown word is refused by the server's parser, before there is an application.
        refused = http.request("FOO", "/payouts")
        assert (refused.status_code, refused.text) == (400, "Invalid HTTP request received.")
