"""Characters that no text may have, in every place where a client can put text: never a 500."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from bursar.kit.ids import is_id
from tests.api.conftest import IBAN, Api, payout_body
from tests.api.test_bad_input import problem_of

# U+0000 and half a surrogate pair are refused as JSON, the others by the field.
IN_JSON = ["\\u0000", "\\ud800", "\\udfff"]
IN_FIELDS = ["\\u0001", "\\b", "\\n", "\\t", "\\u001b", "\\u001f", "\\u007f", "\\u0080", "\\u009f"]
IN_PATHS = ["%00", "%01", "%0a", "%1b", "%7f", "%c2%80", "%ed%a0%80", "%ff", "%c0%80", "%e2%80%ae"]

FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"reference": "a?b"}, "/reference", "/reference"),
    ({"currency": "EUR?"}, "/currency", "/currency"),
    ({"description": "a?b"}, "/description", "/description"),
    ({"priority": "batch?"}, "/priority", "/priority"),
    ({"due_at": "2026-01-31T09:00:00Z?"}, "/due_at", "/due_at"),
    ({"amount": "1?"}, "/amount", "/amount"),
    ({"max_retries": "1?"}, "/max_retries", "/max_retries"),
    ({"beneficiary": {"name": "a?b", "iban": IBAN}}, "/beneficiary/name", "/beneficiary/name"),
    ({"beneficiary": {"name": "A", "iban": f"{IBAN}?"}}, "/beneficiary/iban", "/beneficiary/iban"),
    ({"metadata": {"k": "a?b"}}, "/metadata/k", "/metadata/k"),
    # Of a name, JSON's own refusal gives the place of the object that has it.
    ({"metadata": {"k?": "x"}}, "/metadata/k?", "/metadata"),
    ({"unknown?": "x"}, "/unknown?", ""),
    ({"beneficiary": {"name": "A", "iban": IBAN, "x?": "y"}}, "/beneficiary/x?", "/beneficiary"),
]


def raw(changes: dict[str, Any], escape: str) -> bytes:
    """A body with an escape where `changes` has a question mark."""
    return json.dumps(payout_body() | changes).replace("?", escape).encode()


async def nothing_stored(api: Api, keys: int) -> None:
    """No payout, and no key but those of before."""
    assert await api.count("payouts") == 0
    assert await api.count("idempotency_keys") == keys


async def test_no_control_character_in_any_field_of_a_payout(api: Api) -> None:
    """F77: 422 at the field, whichever character it is; nothing is stored."""
    keys = await api.count("idempotency_keys")
    for changes, pointer, _ in FIELDS:
        for escape in IN_FIELDS:
            answer = await api.post("/payouts", raw=raw(changes, escape))

            problem = problem_of(answer)
            assert (answer.status_code, problem["code"]) == (422, "invalid_field"), answer.text
            char = json.loads(f'"{escape}"')
            assert problem["pointer"] == pointer.replace("?", char), (changes, escape)
    await nothing_stored(api, keys)


async def test_no_nul_and_no_half_a_pair_in_any_field_of_a_payout(api: Api) -> None:
    """F77: no database text holds them; 400 at the value, or at the object if it is a name."""
    keys = await api.count("idempotency_keys")
    for changes, _, pointer in FIELDS:
        for escape in IN_JSON:
            answer = await api.post("/payouts", raw=raw(changes, escape))

            problem = problem_of(answer)
            assert (answer.status_code, problem["code"]) == (400, "malformed_json"), answer.text
            assert problem["pointer"] == pointer, (changes, escape)
    await nothing_stored(api, keys)


async def test_bytes_that_are_no_text_are_no_json(api: Api) -> None:
    """F77: raw control characters and broken UTF-8, before there is any field to name."""
    keys = await api.count("idempotency_keys")
    for bad in (b"\0", b"\x01", b"\n", b"\x1f", b"\xff", b"\xc0\x80", b"\xed\xa0\x80"):
        body = json.dumps(payout_body(description="?")).encode().replace(b"?", bad)

        problem = problem_of(await api.post("/payouts", raw=body))

        assert (problem["status"], problem["code"]) == (400, "malformed_json"), bad
    await nothing_stored(api, keys)


@pytest.mark.parametrize("escape", [*IN_JSON, *IN_FIELDS])
async def test_no_such_character_in_the_reason_of_a_cancel(api: Api, escape: str) -> None:
    """F77: the payout stays."""
    made = await api.payout()

    answer = await api.post(
        f"/payouts/{made['id']}/cancel", raw=f'{{"reason": "a{escape}b"}}'.encode()
    )

    problem = problem_of(answer)
    assert (answer.status_code, problem["pointer"]) == (
        400 if escape in IN_JSON else 422,
        "/reason",
    )
    assert (await api.get(f"/payouts/{made['id']}")).json()["state"] == "funds_locked"


async def test_no_such_character_in_a_path(api: Api) -> None:
    """F77: what can't be an id or a reference names nothing; a currency is refused by name."""
    for bad in IN_PATHS:
        for method, path in (
            ("GET", f"/payouts/po_{bad}"),
            ("POST", f"/payouts/{bad}/cancel"),
            ("GET", f"/ledger/{bad}"),
            ("GET", f"/{bad}"),
        ):
            if method == "POST":
                answer = await api.post(path)
            else:
                answer = await api.get(path)
            assert answer.status_code == 404, path
            assert problem_of(answer)["code"] in {"not_found", "payout_not_found"}, path
        problem = problem_of(await api.post(f"/accounts/EUR{bad}/fund", {"amount": 1}))
        assert (problem["status"], problem["code"]) == (422, "invalid_parameter"), bad
        assert problem["parameter"] == "currency"


async def test_no_such_character_in_a_query(api: Api) -> None:
    """F77: each parameter is refused by its name, a cursor with one character too many as well."""
    for _ in range(2):
        await api.payout()
    cursor = (await api.get("/payouts", params={"limit": 1})).json()["next_cursor"]
    good = {
        "limit": "1",
        "cursor": cursor,
        "state": "settled",
        "reference": "INV-1",
        "id": f"po_{1:032x}",
    }
    for name, value in good.items():
        for bad in IN_PATHS:
            for text in (f"{quote(value)}{bad}", f"{bad}{quote(value)}"):
                answer = await api.get(f"/payouts?{name}={text}")

                problem = problem_of(answer)
                assert (problem["status"], problem["code"]) == (422, "invalid_parameter"), text
                assert problem["parameter"] in {name, f"{name}/0"}
    assert (await api.get(f"/payouts?cursor={quote(cursor)}")).status_code == 200


@pytest.mark.parametrize(
    "more",
    ["=", "==", "%00%00", "%00%00%00%00", "!!!!", "!", "%20", "+", "%2B", ".", "~", "%C3%A9"],
)
async def test_a_cursor_has_one_spelling(api: Api, more: str) -> None:
    """What the decoder would drop is refused: two texts are never one place."""
    for _ in range(2):
        await api.payout()
    cursor = (await api.get("/payouts", params={"limit": 1})).json()["next_cursor"]

    answer = await api.get(f"/payouts?cursor={cursor}{more}")

    assert (answer.status_code, problem_of(answer)["parameter"]) == (422, "cursor")


BAD_BYTES = [b"\0", b"\x01", b"\t", b"\x1b", b"\x7f", b"\x80", b"\xff", b"\xed\xa0\x80"]


async def test_no_such_character_in_an_idempotency_key(api: Api) -> None:
    """F77: 400, and the header is named like a parameter."""
    for bad in BAD_BYTES:
        for value in (b"a" + bad + b"b", b'"a' + bad + b'b"'):
            answer = await _post(api, (b"Idempotency-Key", value))

            problem = problem_of(answer)
            assert (problem["status"], problem["code"]) == (400, "idempotency_key_invalid"), value
            assert problem["parameter"] == "Idempotency-Key"
    problem = problem_of(await _post(api))
    assert (problem["code"], problem["parameter"]) == ("idempotency_key_missing", "Idempotency-Key")
    assert await api.count("payouts") == 0


async def test_such_a_correlation_id_is_replaced(api: Api) -> None:
    """F77: it only names a trace, so the payout is made; the bad bytes get nowhere."""
    for bad in BAD_BYTES:
        key = (b"Idempotency-Key", f"k{api.next_number()}".encode())
        answer = await _post(api, key, (b"X-Correlation-Id", b"a" + bad + b"b"))

        assert answer.status_code == 201, bad
        assert is_id(answer.headers["x-correlation-id"], "cor")
    rows = await api.pool.fetch("SELECT correlation_id FROM payouts")
    assert len(rows) == len(BAD_BYTES)
    assert all(is_id(row["correlation_id"], "cor") for row in rows)


async def test_no_such_character_in_an_api_key_or_a_provider(api: Api) -> None:
    """F77: 401, as for any other wrong one."""
    for bad in BAD_BYTES:
        key = await api.client.get("/accounts", headers=[(b"Authorization", b"Bearer sk" + bad)])
        event = await api.client.post(
            "/webhooks/provider",
            content=b"{}",
            headers=[(b"X-Provider-Id", b"bank" + bad), (b"X-Webhook-Signature", b"v1=" + bad)],
        )
        assert (problem_of(key)["status"], problem_of(event)["status"]) == (401, 401), bad


async def _post(api: Api, *headers: tuple[bytes, bytes]) -> httpx.Response:
    """A good payout with these headers as they are."""
    own = [(name.encode(), value.encode()) for name, value in api.headers().items()]
    return await api.client.post(
        "/payouts",
        content=json.dumps(api.body()).encode(),
        headers=[*own, (b"Content-Type", b"application/json"), *headers],
    )
