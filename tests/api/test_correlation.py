"""One id through a request: taken or made, echoed, logged, journaled; and one line for each."""

from typing import Any

import structlog

from bursar.kit.ids import is_id
from tests.api.conftest import Api

HEADER = "x-correlation-id"


async def test_a_plain_id_is_taken_and_echoed(api: Api) -> None:
    """On success and on failure alike."""
    for given in ("abc", "A.b_c-9", "x" * 64):
        good = await api.client.get("/health", headers={HEADER: given})
        bad = await api.client.get("/nothing", headers={HEADER: given})

        assert good.headers[HEADER] == bad.headers[HEADER] == given


async def test_anything_else_is_replaced(api: Api) -> None:
    """F77: what could forge a log line never gets into one."""
    for given in ("", "a b", "x" * 65, "\xe9", "a\tb", "a;b", '"a"'):
        headers = {HEADER.encode(): given.encode("latin-1")}
        answer = await api.client.get("/health", headers=headers)

        assert is_id(answer.headers[HEADER], "cor")


async def test_every_request_is_one_line_without_secrets(api: Api) -> None:
    """The canonical line: who, what, how it ended; no key, no body."""
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as lines:
        await api.post("/payouts", api.body(), X_Correlation_Id="trace-1")
        await api.client.get("/accounts", headers={HEADER: "trace-2"})

    requests: list[Any] = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line["correlation_id"]) for line in requests] == [
        (201, "trace-1"),
        (401, "trace-2"),
    ]
    assert requests[0]["merchant_id"] == f"mer_{10:032x}"
    assert (requests[0]["method"], requests[0]["path"]) == ("POST", "/payouts")
    assert "sk_sandbox_" not in str(lines)
    assert "DE8937" not in str(lines)


async def test_the_id_does_not_stay_behind(api: Api) -> None:
    """The next request of the same task has its own."""
    await api.client.get("/health", headers={HEADER: "first"})

    assert "correlation_id" not in structlog.contextvars.get_contextvars()
