"""What clients get wrong: the right status, a stable code, the field's place, nothing stored."""

import json
from typing import Any

import httpx
import pytest

from tests.api.conftest import IBAN, Api, payout_body

BIG = 10**15

INVALID_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"amount": 0}, "/amount"),
    ({"amount": -1}, "/amount"),
    ({"amount": BIG + 1}, "/amount"),
    ({"amount": 2**63 - 1}, "/amount"),
    ({"amount": True}, "/amount"),
    ({"amount": 10.0}, "/amount"),
    ({"amount": 1e2}, "/amount"),
    ({"amount": "10"}, "/amount"),
    ({"amount": None}, "/amount"),
    ({"amount": [1]}, "/amount"),
    ({"currency": "eur"}, "/currency"),
    ({"currency": "XXX"}, "/currency"),
    ({"currency": "\N{CYRILLIC CAPITAL LETTER IE}UR"}, "/currency"),
    ({"currency": ""}, "/currency"),
    ({"currency": 978}, "/currency"),
    ({"reference": ""}, "/reference"),
    ({"reference": "x" * 65}, "/reference"),
    ({"reference": "a\tb"}, "/reference"),
    ({"reference": "a\n"}, "/reference"),
    ({"reference": "é"}, "/reference"),
    ({"reference": 7}, "/reference"),
    ({"beneficiary": None}, "/beneficiary"),
    ({"beneficiary": []}, "/beneficiary"),
    ({"beneficiary": {"name": "A"}}, "/beneficiary/iban"),
    ({"beneficiary": {"iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A", "iban": IBAN, "bic": "X"}}, "/beneficiary/bic"),
    ({"beneficiary": {"name": "", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "  ", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "x" * 141, "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A\nB", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A\x7fB", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A\u202eB", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A\u2066B", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A\u200bB", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A\ue000B", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A\u2028B", "iban": IBAN}}, "/beneficiary/name"),
    ({"beneficiary": {"name": "A", "iban": "DE89370400440532013001"}}, "/beneficiary/iban"),
    ({"beneficiary": {"name": "A", "iban": "DE8937040044053201300"}}, "/beneficiary/iban"),
    ({"beneficiary": {"name": "A", "iban": "ZZ89370400440532013000"}}, "/beneficiary/iban"),
    (
        {
            "beneficiary": {
                "name": "A",
                "iban": "D\N{CYRILLIC CAPITAL LETTER IE}89370400440532013000",
            }
        },
        "/beneficiary/iban",
    ),
    (
        {"beneficiary": {"name": "A", "iban": "DE8\N{FULLWIDTH DIGIT NINE}370400440532013000"}},
        "/beneficiary/iban",
    ),
    ({"beneficiary": {"name": "A", "iban": ""}}, "/beneficiary/iban"),
    ({"beneficiary": {"name": "A", "iban": " "}}, "/beneficiary/iban"),
    ({"beneficiary": {"name": "A", "iban": "D" * 65}}, "/beneficiary/iban"),
    ({"description": "x" * 141}, "/description"),
    ({"description": None}, "/description"),
    ({"description": "a\x1bb"}, "/description"),
    ({"priority": "urgent"}, "/priority"),
    ({"priority": 1}, "/priority"),
    ({"due_at": "2026-01-01"}, "/due_at"),
    ({"due_at": "2026-01-01T00:00:00"}, "/due_at"),
    ({"due_at": "2026-02-30T00:00:00Z"}, "/due_at"),
    ({"due_at": "0001-01-01T00:00:00+14:00"}, "/due_at"),
    ({"due_at": "9999-12-31T23:59:59-14:00"}, "/due_at"),
    ({"due_at": 1_700_000_000}, "/due_at"),
    ({"due_at": True}, "/due_at"),
    ({"max_retries": -1}, "/max_retries"),
    ({"max_retries": 11}, "/max_retries"),
    ({"max_retries": False}, "/max_retries"),
    ({"max_retries": 3.0}, "/max_retries"),
    ({"metadata": []}, "/metadata"),
    ({"metadata": {"a": 1}}, "/metadata/a"),
    ({"metadata": {"a": None}}, "/metadata/a"),
    ({"metadata": {"a": {"b": "c"}}}, "/metadata/a"),
    ({"metadata": {"a": "x" * 501}}, "/metadata/a"),
    ({"metadata": {"a\u202e": "x"}}, "/metadata/a\u202e"),
    ({"metadata": {"": "x"}}, "/metadata/"),
    ({"metadata": {f"k{n}": "x" for n in range(21)}}, "/metadata"),
    ({"id": "po_1"}, "/id"),
    ({"fee": 0}, "/fee"),
    ({"state": "settled"}, "/state"),
]

NESTED = json.dumps(payout_body()).replace('"INV-1"', "[" * 400 + "]" * 400).encode()
MALFORMED: list[tuple[bytes, int, str]] = [
    (b"", 400, "malformed_json"),
    (b"not json", 400, "malformed_json"),
    (b'{"amount": NaN}', 400, "malformed_json"),
    (b'{"amount": 1, "amount": 2}', 400, "malformed_json"),
    (b'{"amount": ' + b"9" * 5_000 + b"}", 400, "malformed_json"),
    (b"[" * 60_000, 400, "malformed_json"),
    (b'{"reference": "\\u0000"}', 400, "malformed_json"),
    (b'{"reference": "\\ud800"}', 400, "malformed_json"),
    (b'{"reference": "\xff"}', 400, "malformed_json"),
    (b"x" * 65_537, 413, "body_too_large"),
    (b"null", 422, "invalid_field"),
    (b"[]", 422, "invalid_field"),
    (b'"text"', 422, "invalid_field"),
    (b"12", 422, "invalid_field"),
    (b"1e999", 422, "invalid_field"),
    (b"{}", 422, "invalid_field"),
    (NESTED, 422, "invalid_field"),
]


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """The problem document of an answer, whose form is checked."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:bursar:error:{problem['code']}"
    assert problem["title"]
    assert problem["detail"]
    return problem


async def test_every_bad_field_is_named_and_nothing_is_stored(api: Api) -> None:
    """F70, F73, F75, F77: 422 with the field's pointer; no key, no payout, no hold."""
    before = await api.count("idempotency_keys")
    for changes, pointer in INVALID_FIELDS:
        answer = await api.post("/payouts", api.body(**changes))

        assert answer.status_code == 422, (changes, answer.text)
        problem = problem_of(answer)
        assert (problem["code"], problem["pointer"]) == ("invalid_field", pointer), changes
        assert all(set(fault) == {"pointer", "detail"} for fault in problem["errors"])
    assert await api.count("payouts") == 0
    assert await api.count("idempotency_keys") == before


async def test_a_day_too_far_ahead_is_refused_by_decision(api: Api) -> None:
    """F39: the database's clock decides it, so the refusal is kept under its key."""
    before = await api.count("idempotency_keys")

    problem = problem_of(await api.post("/payouts", api.body(due_at="9999-12-31T23:59:59Z")))

    assert (problem["code"], problem["pointer"]) == ("invalid_field", "/due_at")
    assert await api.count("payouts") == 0
    assert await api.count("idempotency_keys") == before + 1


async def test_a_missing_field_is_named(api: Api) -> None:
    """The pointer is where the field should be."""
    for missing in ("reference", "amount", "currency", "beneficiary"):
        body = api.body()
        del body[missing]

        problem = problem_of(await api.post("/payouts", body))

        assert (problem["status"], problem["pointer"]) == (422, f"/{missing}")


async def test_every_malformed_body_is_refused_and_nothing_is_stored(api: Api) -> None:
    """F76, F77: 400, 413 or 422, never a 500."""
    for raw, status, code in MALFORMED:
        answer = await api.post("/payouts", raw=raw)

        assert answer.status_code == status, (raw[:40], answer.text)
        assert problem_of(answer)["code"] == code, raw[:40]
    assert await api.count("payouts") == 0


async def test_the_input_is_never_repeated_in_the_answer(api: Api) -> None:
    """F65: what was sent may be secret; only its place is told."""
    answer = await api.post("/payouts", api.body(amount="4111111111111111", reference=7))

    assert "4111111111111111" not in answer.text


CONTENT_TYPES = [
    ("application/json", 201),
    ("application/json; charset=utf-8", 201),
    ('Application/JSON;charset="UTF-8"', 201),
    ("application/json; charset=latin-1", 415),
    ("text/plain", 415),
    ("application/x-www-form-urlencoded", 415),
    ("application/jsonp", 415),
    ("", 415),
]


async def test_only_json_is_read(api: Api) -> None:
    """Another media type is 415, whatever the bytes are."""
    for content_type, status in CONTENT_TYPES:
        answer = await api.post("/payouts", api.body(), Content_Type=content_type)

        assert answer.status_code == status, content_type


async def test_a_compressed_body_is_not_unpacked(api: Api) -> None:
    """F58: what is not unpacked can't be a bomb."""
    answer = await api.post("/payouts", api.body(), Content_Encoding="gzip")

    assert problem_of(answer)["code"] == "unsupported_media_type"


async def test_a_body_without_a_length_is_bounded_too(api: Api) -> None:
    """F58: chunks are counted as they come."""
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(1_000):
            sent += 1
            yield b" " * 1024

    headers = api.headers(Idempotency_Key="chunks", Content_Type="application/json")
    answer = await api.client.post("/payouts", content=chunks(), headers=headers)

    assert problem_of(answer)["code"] == "body_too_large"


ABSENT = [
    ("GET", "/", 404, "not_found"),
    ("GET", "/payouts/", 404, "not_found"),
    ("GET", "/nothing", 404, "not_found"),
    ("GET", "/docs", 404, "not_found"),
    ("GET", "/payouts/po_1", 404, "payout_not_found"),
    ("GET", "/payouts/po_" + "0" * 32, 404, "payout_not_found"),
    ("GET", "/payouts/%00", 404, "payout_not_found"),
    ("GET", "/payouts/%ff", 404, "payout_not_found"),
    ("GET", "/ledger/%00", 404, "not_found"),
    ("GET", "/ledger/none", 404, "not_found"),
    ("PUT", "/payouts", 405, "method_not_allowed"),
    ("DELETE", "/payouts/po_1", 405, "method_not_allowed"),
    ("GET", "/webhooks/provider", 405, "method_not_allowed"),
]


async def test_paths_and_methods_that_are_not_there(api: Api) -> None:
    """F77: even a NUL in a path is only not found."""
    for method, path, status, code in ABSENT:
        answer = await api.client.request(method, path, headers=api.headers())

        problem = problem_of(answer)
        assert (problem["status"], problem["code"]) == (status, code), path


async def test_a_refused_method_names_all_that_are_allowed(api: Api) -> None:
    """RFC 9110: Allow lists every method of the path, not of one route."""
    answer = await api.client.patch("/payouts", headers=api.headers())

    assert answer.headers["allow"] == "GET, POST"


BAD_FUNDING: list[tuple[str, dict[str, Any], int, str]] = [
    ("EUR", {"amount": 0}, 422, "invalid_field"),
    ("EUR", {"amount": BIG + 1}, 422, "invalid_field"),
    ("EUR", {}, 422, "invalid_field"),
    ("EUR", {"amount": 1, "free": True}, 422, "invalid_field"),
    ("eur", {"amount": 1}, 422, "invalid_parameter"),
    ("%00", {"amount": 1}, 422, "invalid_parameter"),
    ("CHF", {"amount": 1}, 422, "unknown_account"),
]


async def test_funding_that_is_refused(api: Api) -> None:
    """F73: bounds hold on every amount."""
    for currency, body, status, code in BAD_FUNDING:
        problem = problem_of(await api.post(f"/accounts/{currency}/fund", body))

        assert (problem["status"], problem["code"]) == (status, code), (currency, body)


BAD_REASONS: list[tuple[Any, str]] = [
    ({"reason": 1}, "/reason"),
    ({"reason": "x" * 141}, "/reason"),
    ({"why": "x"}, "/why"),
    ([], ""),
]


async def test_a_bad_reason_does_not_cancel(api: Api) -> None:
    """The payout stays as it was."""
    made = await api.payout()
    for body, pointer in BAD_REASONS:
        problem = problem_of(await api.post(f"/payouts/{made['id']}/cancel", body))

        assert (problem["status"], problem["pointer"]) == (422, pointer)
    assert (await api.get(f"/payouts/{made['id']}")).json()["state"] == "funds_locked"


@pytest.mark.parametrize("mode", ["production"])
async def test_production_gives_no_money_away(api: Api, mode: str) -> None:
    """The route is not there, whoever asks; nor does a sandbox key work."""
    answer = await api.client.post("/accounts/EUR/fund", headers=api.headers())

    assert answer.status_code == 404
    assert (await api.get("/accounts")).status_code == 401
