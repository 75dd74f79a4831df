"""Whatever is sent to the bank, it answers in its own words, never 500, and moves nothing."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bursar_sim.strict_json import NotJson, parse
from tests.sim.bank_process import API_KEY, IBAN, Bank, bank_running, order

NAN = float("nan")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """One bank for all the nonsense."""
    knobs = {"accept_async": 0, "decline": 0}
    with bank_running(tmp_path_factory.mktemp("bank"), knobs=knobs) as running:
        yield running


@pytest.fixture(scope="module")
def http(bank: Bank) -> Iterator[httpx.Client]:
    """A client with the key."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx.Client(base_url=bank.url, headers=headers) as client:
        yield client


def send(http: httpx.Client, body: bytes, key: str = "pa-1") -> httpx.Response:
    """An order's raw bytes."""
    return http.post("/bank/transfers", content=body, headers={"Idempotency-Key": key})


def with_change(**changes: Any) -> bytes:
    """An order with some fields changed; `None` as a type removes one."""
    body = order("pa-1") | changes
    return json.dumps({k: v for k, v in body.items() if v is not type(None)}).encode()


BODIES: dict[str, tuple[bytes, str, str | None]] = {
    "empty": (b"", "not_json", None),
    "not UTF-8": (b'{"a":"\xff"}', "not_json", None),
    "Latin-1": ('{"a":"é"}'.encode("latin-1"), "not_json", None),
    "BOM": (b"\xef\xbb\xbf{}", "not_json", None),
    "cut": (b'{"amount":1', "not_json", None),
    "NaN": (with_change(amount=NAN), "not_json", None),
    "5,000 digits": (b'{"amount":' + b"9" * 5000 + b"}", "not_json", None),
    "deep": (b"[" * 60_000, "not_json", None),
    "deep object": (b'{"a":' * 12_000, "not_json", None),
    "duplicate": (b'{"amount":1,"amount":2}', "not_json", None),
    "half a surrogate pair": (rb'{"amount":"\ud800"}', "not_json", None),
    "list": (b"[]", "field_invalid", ""),
    "no fields": (b"{}", "field_missing", "/end_to_end_id"),
    "no amount": (with_change(amount=type(None)), "field_missing", "/amount"),
    "zero": (with_change(amount=0), "field_invalid", "/amount"),
    "negative": (with_change(amount=-1), "field_invalid", "/amount"),
    "true": (with_change(amount=True), "field_invalid", "/amount"),
    "float": (with_change(amount=1.0), "field_invalid", "/amount"),
    "infinite": (b'{"end_to_end_id":"pa-1","amount":1e999}', "field_invalid", "/amount"),
    "text": (with_change(amount="1"), "field_invalid", "/amount"),
    "too much": (with_change(amount=10**15 + 1), "field_invalid", "/amount"),
    "2^64": (with_change(amount=2**64), "field_invalid", "/amount"),
    "small letters": (with_change(currency="eur"), "field_invalid", "/currency"),
    "no creditor": (with_change(creditor=None), "field_invalid", "/creditor"),
    "no name": (with_change(creditor={"iban": IBAN}), "field_missing", "/creditor/name"),
    "blank name": (
        with_change(creditor={"name": " ", "iban": IBAN}),
        "field_invalid",
        "/creditor/name",
    ),
    "NUL in the name": (
        with_change(creditor={"name": "a\0", "iban": IBAN}),
        "field_invalid",
        "/creditor/name",
    ),
    "long IBAN": (
        with_change(creditor={"name": "a", "iban": "D" * 35}),
        "field_invalid",
        "/creditor/iban",
    ),
    "long remittance": (with_change(remittance="x" * 141), "field_invalid", "/remittance"),
    "unknown field": (with_change(**{"a/b~": 1}), "field_unknown", "/a~1b~0"),
    "another key": (with_change(end_to_end_id="pa-2"), "key_mismatch", None),
    "strange key": (with_change(end_to_end_id="pa_1"), "key_invalid", None),
}


@pytest.mark.parametrize("name", BODIES)
def test_malformed_bodies(http: httpx.Client, name: str) -> None:
    """F70 F73 F75 F76 F77: 400 with a stable code and the field."""
    body, code, field = BODIES[name]

    reply = send(http, body)

    assert (400, code, field) == (
        reply.status_code,
        reply.json()["code"],
        reply.json().get("field"),
    )


@pytest.mark.parametrize("key", ["", "pa_1", "x" * 36, "pä-1", "a b"])
def test_malformed_keys(http: httpx.Client, key: str) -> None:
    """F20: a key is 1 to 35 of the charset, never cut."""
    headers = [(b"Idempotency-Key", key.encode())]
    reply = http.post("/bank/transfers", content=with_change(), headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (400, "key_invalid")


def test_two_keys(http: httpx.Client) -> None:
    """Which of two keys is meant cannot be known."""
    headers = [("Idempotency-Key", "pa-1"), ("Idempotency-Key", "pa-1")]
    reply = http.post("/bank/transfers", content=with_change(), headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (400, "key_invalid")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda name, value: with_change(**{name: value}), st.sampled_from(list(order(""))), JSON
    )
)
def test_no_body_makes_a_500(http: httpx.Client, body: bytes) -> None:
    """F76: nonsense is 400, a good order 2xx or 422, another one under its key 409."""
    for reply in (send(http, body), http.put("/bank/knobs", content=body)):
        assert reply.status_code in {200, 201, 400, 409, 422}
        assert isinstance(reply.json(), dict)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "no_such_route"),
        ("GET", "/bank/transfers/pa-404", 404, "not_found"),
        ("GET", "/bank/transfers/pa_1", 400, "key_invalid"),
        ("GET", "/bank/transfers/%00", 400, "key_invalid"),
        ("GET", "/bank/transfers/%ff", 400, "key_invalid"),
        ("GET", "/bank/transfers/a/b", 404, "no_such_route"),
        ("GET", "/bank/transfers", 405, "method_not_allowed"),
        ("DELETE", "/bank/transfers/pa-1", 405, "method_not_allowed"),
        ("GET", "/bank/statement?limit=0", 400, "field_invalid"),
        ("GET", "/bank/statement?limit=1001", 400, "field_invalid"),
        ("GET", "/bank/statement?after=-1", 400, "field_invalid"),
        ("GET", "/bank/statement?after=x", 400, "field_invalid"),
        ("GET", "/bank/statement?after=99999999999999999999", 400, "field_invalid"),
        ("GET", "/bank/statement?after=%D9%A3", 400, "field_invalid"),
        ("PUT", "/bank/knobs", 400, "not_json"),
    ],
)
def test_paths_and_queries(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    """Only the bank's own `not_found` may ever count as evidence (F13)."""
    reply = http.request(method, path)

    assert (status, code) == (reply.status_code, reply.json()["code"])


@pytest.mark.parametrize(
    "credential", [None, "", "Bearer", "Bearer wrong", "bearer sandbox-bank-key", "Bearer \xff"]
)
@pytest.mark.parametrize("path", ["/bank/transfers/pa-1", "/bank/statement", "/bank/knobs"])
def test_no_entry(bank: Bank, credential: str | None, path: str) -> None:
    """401 without the key, on every route but health."""
    headers = [] if credential is None else [(b"Authorization", credential.encode("latin-1"))]

    reply = httpx.get(bank.url + path, headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert httpx.get(bank.url + "/health").json() == {"status": "ok"}


def test_a_huge_body(http: httpx.Client) -> None:
    """F58: 413 before it is read to the end, also when it comes in chunks of unknown number."""
    assert send(http, b" " * (64 * 1024 + 1)).status_code == 413
    chunks = (b" " * 1024 for _ in range(65))
    reply = http.post("/bank/transfers", content=chunks, headers={"Idempotency-Key": "pa-1"})
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_bytes_that_are_no_http(bank: Bank, http: httpx.Client) -> None:
    """A torn request, and one that is none, leave the bank as it was."""
    port = int(bank.url.rsplit(":", 1)[1])
    for raw in (
        b"\x16\x03\x01\x02",
        b"POST /bank/transfers HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    ):
        with socket.create_connection(("127.0.0.1", port)) as wire:
            wire.sendall(raw)
    assert http.get("/health").status_code == 200


def test_nothing_moved(http: httpx.Client) -> None:
    """I5: only well-formed orders under `pa-1` could be executed, and so at most one was."""
    lines = http.get("/bank/statement").json()["lines"]

    assert [line["kind"] for line in lines] in ([], ["debit", "cost"])


@given(st.text() | JSON.map(json.dumps))
def test_strict_json_takes_json_or_refuses(text: str) -> None:
    """What is taken is what the standard library reads, too; nothing else is raised."""
    try:
        value = parse(text.encode("utf-8", "surrogatepass"))
    except NotJson:
        return
    assert value == json.loads(text)


def test_the_data_directory_may_be_deep(tmp_path: Path) -> None:
    """It is made with its parents."""
    with bank_running(tmp_path / "a" / "b") as bank:
        assert httpx.get(bank.url + "/health").status_code == 200
