"""When we can't: 503 with Retry-After, 500 without a word of why, and nothing half done."""

from typing import Any

import httpx
import msgspec

from bursar.api.app import create_app
from bursar.db.pool import open_pool
from bursar.engine.errors import CommandFailed, OutcomeUnknown, Overloaded
from tests.api.conftest import Api
from tests.conftest import Database


class Failing:
    """An engine that fails in one way."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def submit(self, _command: Any) -> Any:
        """Fail."""
        raise self.error


async def post_with(api: Api, error: BaseException) -> httpx.Response:
    """A good POST /payouts on an engine that fails."""
    app = create_app(msgspec.structs.replace(api.deps, engine=Failing(error)))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        return await client.post(
            "/payouts", json=api.body(), headers=api.headers(Idempotency_Key="k")
        )


FAILURES: list[tuple[Exception, int, str, str | None]] = [
    (Overloaded("busy", retry_after_s=3), 503, "overloaded", "3"),
    (OutcomeUnknown("who knows"), 503, "outcome_unknown", "1"),
    (CommandFailed("broken"), 500, "internal_error", None),
    (ConnectionResetError("gone"), 503, "database_unavailable", "1"),
    (RuntimeError("the password is hunter2"), 500, "internal_error", None),
    (ZeroDivisionError(), 500, "internal_error", None),
]


async def test_failures_of_ours(api: Api) -> None:
    """F31, F49: told apart from refusals, with the correlation id, without our inside."""
    for error, status, code, retry_after in FAILURES:
        answer = await post_with(api, error)

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers.get("retry-after") == retry_after
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-correlation-id"].startswith("cor_")
        assert "hunter2" not in answer.text
        assert "Error" not in answer.json()["detail"]


async def test_a_client_that_goes_away_is_no_failure(api: Api) -> None:
    """The body never comes: nothing is done, nothing is raised."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {"idempotency-key": "k", "content-type": "application/json"} | {
        name.lower(): value for name, value in api.headers().items()
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/payouts",
        "raw_path": b"/payouts",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await api.app(scope, receive, send)

    assert sent == []
    assert await api.count("payouts") == 0


async def test_health_tells_whether_the_database_answers(api: Api, database: Database) -> None:
    """200 with it, 503 without it."""
    good = await api.client.get("/health")

    assert (good.status_code, good.json()) == (200, {"status": "ok", "database": "ok"})
    gone = await open_pool(database.dsns.api, size=1, name="gone")
    await gone.close()
    app = create_app(msgspec.structs.replace(api.deps, pool=gone))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        bad = await client.get("/health")
    assert (bad.status_code, bad.json()["code"]) == (503, "database_unavailable")
