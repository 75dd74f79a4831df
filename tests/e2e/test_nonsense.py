"""Whatever comes in on the API's socket, it answers below 500 or hangs up, and stays alive."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.e2e.judge import all_payouts, document
from tests.e2e.platform import Platform, payout_body

pytestmark = pytest.mark.timeout(400)

BODY_MAX: Final = 65_536
ANSWER_S: Final = 15.0
"""The API waits 10 s for a body."""
HUNG_UP: Final = 0


@dataclass(frozen=True)
class Case:
    """Bytes to send, in pieces with pauses between, and the statuses that may come back."""

    pieces: Sequence[bytes]
    statuses: frozenset[int]
    code: str = ""
    pause_s: float = 0.0
    half_close: bool = False


def case(
    raw: bytes, *statuses: int, code: str = "", pause_s: float = 0.0, half_close: bool = False
) -> Case:
    """A case of one piece."""
    return Case([raw], frozenset(statuses), code, pause_s, half_close)


def request(
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = "/payouts",
    length: bytes | None = None,
    content_type: bytes = b"application/json",
    headers: bytes = b"",
    key: bytes = b"nonsense",
) -> bytes:
    """A request as bytes; `KEY` stands for the API key. `length` None: the true one."""
    said = str(len(body)).encode() if length is None else length
    return b"".join(
        [
            f"{method} {path} HTTP/1.1\r\n".encode("utf-8", "surrogateescape"),
            b"Host: localhost\r\nConnection: close\r\nAuthorization: Bearer KEY\r\n",
            b"Idempotency-Key: " + key + b"\r\n" if key else b"",
            b"Content-Type: " + content_type + b"\r\n" if content_type else b"",
            b"Content-Length: " + said + b"\r\n" if said else b"",
            headers + b"\r\n" + body,
        ]
    )


def changed(**changes: Any) -> bytes:
    """A good payout with some fields changed, as a request."""
    return request(json.dumps(payout_body("nonsense") | changes).encode())


def raw_amount(text: bytes) -> bytes:
    """A good payout whose amount is written in these bytes."""
    good = json.dumps(payout_body("nonsense", amount=1)).encode()
    return request(good.replace(b'"amount": 1', b'"amount": ' + text))


def named(name: str) -> bytes:
    """A good payout for this name, escapes and all."""
    good = json.dumps(payout_body("nonsense")).encode()
    return request(good.replace(b"Ana Silva", name.encode()))


BROKEN_HTTP: dict[str, Case] = {
    "nothing": case(b"", HUNG_UP, half_close=True),
    "no HTTP": case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, HUNG_UP),
    "zeros": case(b"\0" * 4_096, 400, HUNG_UP),
    "half a request line": case(b"POST /pay", 400, HUNG_UP, half_close=True),
    "half the headers": case(request()[:60], 400, HUNG_UP, half_close=True),
    "HTTP/9.9": case(b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", 400, 505, HUNG_UP),
    "HTTP/0.9": case(b"GET /health\r\n\r\n", 200, 400, HUNG_UP),
    "the preface of HTTP/2": case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 405, HUNG_UP),
    "a header without a colon": case(b"GET /health HTTP/1.1\r\nHost\r\n\r\n", 400, HUNG_UP),
    "a header with a zero": case(b"GET /health HTTP/1.1\r\nA: \0\r\n\r\n", 400, HUNG_UP),
    "a huge header": case(
        request(headers=b"X-A: " + b"a" * 2_000_000 + b"\r\n"), 400, 431, HUNG_UP
    ),
    "ten thousand headers": case(request(headers=b"X-A: b\r\n" * 10_000), 400, 431, HUNG_UP),
    "a huge path": case(request(method="GET", path="/" + "a" * 200_000), 400, 404, 414, HUNG_UP),
    "a negative length": case(request(b"{}", length=b"-1"), 400, HUNG_UP),
    "a length in words": case(request(b"{}", length=b"many"), 400, HUNG_UP),
    "a length with a plus": case(request(b"{}", length=b"+2"), 400, HUNG_UP),
    "a length of 5,000 digits": case(request(b"{}", length=b"9" * 5_000), 400, 413, HUNG_UP),
    "two lengths": case(request(b"{}", headers=b"Content-Length: 3\r\n"), 400, HUNG_UP),
    "length and chunks": case(
        request(b"0\r\n\r\n", headers=b"Transfer-Encoding: chunked\r\n"), 400, HUNG_UP
    ),
    "broken chunks": case(
        request(b"zz\r\n", length=b"", headers=b"Transfer-Encoding: chunked\r\n"), 400, HUNG_UP
    ),
    "an unknown coding": case(
        request(b"{}", length=b"", headers=b"Transfer-Encoding: gzip\r\n"), 400, 501, HUNG_UP
    ),
    "an upgrade": case(
        request(
            method="GET",
            path="/health",
            headers=b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
        ).replace(b"Connection: close", b"Connection: upgrade"),
        200,
        400,
        426,
        HUNG_UP,
    ),
    "an expectation nobody can meet": case(request(b"{}", headers=b"Expect: 200-ok\r\n"), 417, 422),
}

# Who is refused while still sending may meet a reset before reading the answer.
CUT_AND_SLOW: dict[str, Case] = {
    "half a body and the end": case(request(b"{", length=b"100"), 400, HUNG_UP, half_close=True),
    "a body that does not come": case(request(length=b"100"), 408, code="request_timeout"),
    "a body that drips": Case(
        [request(length=b"100"), *[b"{"] * 30], frozenset({408}), "request_timeout", pause_s=0.5
    ),
    "a body in chunks that never end": Case(
        [
            request(length=b"", headers=b"Transfer-Encoding: chunked\r\n"),
            *[b"1\r\n{\r\n"] * 30,
        ],
        frozenset({408}),
        "request_timeout",
        pause_s=0.5,
    ),
    "a body that is too long": case(
        request(b" " * (BODY_MAX + 1)), 413, HUNG_UP, code="body_too_large"
    ),
    "a length that is too long": case(
        request(length=b"1000000000"), 413, HUNG_UP, code="body_too_large"
    ),
    "chunks that are too long": case(
        request(
            b"%x\r\n%b\r\n0\r\n\r\n" % (BODY_MAX * 2, b" " * (BODY_MAX * 2)),
            length=b"",
            headers=b"Transfer-Encoding: chunked\r\n",
        ),
        413,
        HUNG_UP,
        code="body_too_large",
    ),
}

BROKEN_JSON: dict[str, Case] = {
    "empty": case(request(), 400, code="malformed_json"),
    "not JSON": case(request(b"amount=1"), 400, code="malformed_json"),
    "not UTF-8": case(request(b'{"a":"\xff"}'), 400, code="malformed_json"),
    "a byte order mark": case(request(b"\xef\xbb\xbf{}"), 400, code="malformed_json"),
    "cut": case(request(b'{"amount":1'), 400, code="malformed_json"),
    "two values": case(request(b"{}{}"), 400, code="malformed_json"),
    "deep": case(request(b"[" * 60_000), 400, code="malformed_json"),
    "deep and whole": case(request(b"[" * 32_000 + b"]" * 32_000), 400, 422),
    "deep objects": case(request(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), 400, 422),
    "NaN": case(raw_amount(b"NaN"), 400, code="malformed_json"),
    "Infinity": case(raw_amount(b"-Infinity"), 400, code="malformed_json"),
    "5,000 digits": case(raw_amount(b"9" * 5_000), 400, code="malformed_json"),
    "a key twice": case(raw_amount(b'1, "amount": 2'), 400, code="malformed_json"),
    "NUL": case(named(r"A\u0000B"), 400, code="malformed_json"),
    "half a surrogate pair": case(named(r"A\ud800B"), 400, code="malformed_json"),
    "the halves in the wrong order": case(named(r"\udc00\ud800"), 400, code="malformed_json"),
    "surrogates as UTF-8": case(request(b'{"a":"\xed\xa0\x80"}'), 400, code="malformed_json"),
}

WRONG_FIELDS: dict[str, Case] = {
    "a list": case(request(b"[]"), 422, code="invalid_field"),
    "null": case(request(b"null"), 422, code="invalid_field"),
    "a number": case(request(b"1"), 422, code="invalid_field"),
    "no fields": case(request(b"{}"), 422, code="invalid_field"),
    "a field too many": case(changed(state="settled"), 422, code="invalid_field"),
    "zero": case(changed(amount=0), 422, code="invalid_field"),
    "negative": case(changed(amount=-1), 422, code="invalid_field"),
    "true": case(changed(amount=True), 422, code="invalid_field"),
    "a float": case(changed(amount=1.0), 422, code="invalid_field"),
    "an exponent": case(raw_amount(b"1e2"), 422, code="invalid_field"),
    "a huge exponent": case(raw_amount(b"1e999"), 400, 422),
    "text": case(changed(amount="1"), 422, code="invalid_field"),
    "2^63": case(changed(amount=2**63), 422, code="invalid_field"),
    "no such currency": case(changed(currency="XXX"), 422, code="invalid_field"),
    "a currency of objects": case(changed(currency={}), 422, code="invalid_field"),
    "an IBAN that is none": case(
        changed(beneficiary={"name": "A", "iban": "DE00 0000"}), 422, code="invalid_field"
    ),
    "an IBAN of Cyrillic letters": case(
        changed(beneficiary={"name": "A", "iban": "\u0405I56263300012039086"}),
        422,
        code="invalid_field",
    ),
    "a name that turns around": case(named("A\u202eB"), 422, code="invalid_field"),
    "a name of a megabyte": case(
        changed(beneficiary={"name": "A" * 60_000, "iban": "DE89370400440532013000"}),
        422,
        code="invalid_field",
    ),
    "a year 0": case(changed(due_at="0000-01-01T00:00:00Z"), 422, code="invalid_field"),
    "a year 9999": case(changed(due_at="9999-12-31T23:59:59-12:00"), 422, code="invalid_field"),
    "no offset": case(changed(due_at="2026-01-01T00:00:00"), 422, code="invalid_field"),
    "a thousand words": case(
        changed(metadata={f"k{n}": "v" for n in range(1_000)}), 422, code="invalid_field"
    ),
}

WRONG_REQUESTS: dict[str, Case] = {
    "no such path": case(request(method="GET", path="/nowhere"), 404, code="not_found"),
    "a path of dots": case(request(method="GET", path="/../../etc/passwd"), 404),
    "a path with NUL": case(request(method="GET", path="/payouts/%00"), 404),
    "a path that is no UTF-8": case(request(method="GET", path="/payouts/%ff%fe"), 404),
    "a reference with NUL": case(request(method="GET", path="/ledger/%00"), 404),
    "a raw path": case(request(method="GET", path="/payouts/\udcff"), 400, 404, HUNG_UP),
    "no such payout": case(request(method="GET", path="/payouts/po_1"), 404),
    "cancel of nothing": case(request(path="/payouts/%00/cancel"), 404),
    "no such method": case(request(method="BREW"), 400, 405, HUNG_UP),
    "PATCH": case(request(b"{}", method="PATCH"), 405, code="method_not_allowed"),
    "TRACE": case(request(method="TRACE"), 405, code="method_not_allowed"),
    "CONNECT": case(request(method="CONNECT", path="x:1"), 400, 404, 405, HUNG_UP),
    "no such query": case(
        request(method="GET", path="/payouts?x=1"), 422, code="invalid_parameter"
    ),
    "a limit of 5,000 digits": case(
        request(method="GET", path="/payouts?limit=" + "9" * 5_000), 422, code="invalid_parameter"
    ),
    "a cursor of nothing": case(
        request(method="GET", path="/payouts?cursor=%00"), 422, code="invalid_parameter"
    ),
    "a reference of NUL": case(
        request(method="GET", path="/payouts?reference=%00"), 422, code="invalid_parameter"
    ),
    "no such currency": case(request(b'{"amount":1}', path="/accounts/%00/fund"), 422),
    "too much money": case(
        request(b'{"amount":9223372036854775807}', path="/accounts/EUR/fund"), 422
    ),
    "another content type": case(
        request(b"{}", content_type=b"text/plain"), 415, code="unsupported_media_type"
    ),
    "no content type": case(request(b"{}", content_type=b""), 415, code="unsupported_media_type"),
    "two content types": case(
        request(b"{}", headers=b"Content-Type: text/html\r\n"), 415, code="unsupported_media_type"
    ),
    "UTF-16": case(
        request("{}".encode("utf-16"), content_type=b"application/json; charset=utf-16"), 415
    ),
    "compressed": case(
        request(b"{}", headers=b"Content-Encoding: gzip\r\n"), 415, code="unsupported_media_type"
    ),
    "no key": case(request(b"{}", key=b""), 400, code="idempotency_key_missing"),
    "a key of NUL": case(request(b"{}", key=b"\0"), 400, HUNG_UP),
    "a key of 256": case(request(b"{}", key=b"k" * 256), 400, code="idempotency_key_invalid"),
    "a key in Latin-1": case(request(b"{}", key=b"\xe9"), 400, code="idempotency_key_invalid"),
    "two keys": case(
        request(b"{}", headers=b"Idempotency-Key: b\r\n"), 400, code="idempotency_key_invalid"
    ),
    "two API keys": case(
        request(b"{}", headers=b"Authorization: Bearer x\r\n"), 401, code="unauthorized"
    ),
    "an API key in Latin-1": case(
        b"GET /payouts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer \xe9\xff\r\n\r\n",
        401,
        code="unauthorized",
    ),
    "a webhook of nobody": case(request(b"{}", path="/webhooks/provider"), 401),
    "a webhook of the year 9999": case(
        request(
            b"{}",
            path="/webhooks/provider",
            headers=b"X-Provider-Id: bank\r\nX-Webhook-Timestamp: "
            + b"9" * 5_000
            + b"\r\nX-Webhook-Signature: v1="
            + b"0" * 64
            + b"\r\n",
        ),
        401,
    ),
}

CASES: Final = {
    f"{kind}: {name}": one
    for kind, cases in (
        ("HTTP", BROKEN_HTTP),
        ("cut", CUT_AND_SLOW),
        ("JSON", BROKEN_JSON),
        ("field", WRONG_FIELDS),
        ("request", WRONG_REQUESTS),
    )
    for name, one in cases.items()
}


async def converse(platform: Platform, one: Case, key: bytes) -> tuple[int, bytes]:
    """Send the pieces and read to the end: the status, or `HUNG_UP`, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.api_port)
    try:
        async with asyncio.timeout(ANSWER_S):
            sending = asyncio.create_task(_send(writer, one, key))
            try:
                answer = await reader.read()
            except ConnectionError:
                return HUNG_UP, b""
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else HUNG_UP), body


async def _send(writer: asyncio.StreamWriter, one: Case, key: bytes) -> None:
    for piece in one.pieces:
        writer.write(piece.replace(b"KEY", key))
        await writer.drain()
        await asyncio.sleep(one.pause_s)
    if one.half_close:
        writer.write_eof()


def complaint(name: str, one: Case, status: int, body: bytes) -> str | None:
    """What is wrong with an answer, or None."""
    if status not in one.statuses:
        return f"{name}: {status} {body[:200]!r}"
    if not one.code or status == HUNG_UP:
        return None
    problem = json.loads(body)
    if (problem["code"], problem["status"]) != (one.code, status):
        return f"{name}: {body[:200]!r}"
    return None


async def test_nonsense_is_refused_and_changes_nothing(calm: Platform) -> None:
    """F70, F73, F75 to F77: all cases at once, so slow ones meet the others; none is a 5xx."""
    key = calm.demo["api_key"].encode()
    pid = calm.pid_of("api")
    async with calm.client() as http:
        before = await everything(http)
        answers = await asyncio.gather(*(converse(calm, one, key) for one in CASES.values()))
        complaints = [
            found
            for (name, one), (status, body) in zip(CASES.items(), answers, strict=True)
            if (found := complaint(name, one, status, body)) is not None
        ]
        assert not complaints, "\n".join(complaints)
        assert calm.pid_of("api") == pid
        assert "request_failed" not in calm.log("api")
        assert await everything(http) == before
        good = payout_body(f"after-nonsense-{uuid4()}")
        made = await http.post("/payouts", json=good, headers={"Idempotency-Key": str(uuid4())})
        assert made.status_code == 201


async def everything(http: httpx.AsyncClient) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All that nonsense could have changed: the payouts and the accounts."""
    ids = [{"id": payout["id"]} for payout in await all_payouts(http)]
    return ids, await document(http, "/accounts")


async def test_clients_that_hang_do_not_starve_the_others(calm: Platform) -> None:
    """F53, F58: two hundred connections that say half a request, and health answers still."""
    half = request(length=b"100").replace(b"KEY", calm.demo["api_key"].encode())
    hanging = []
    try:
        for _ in range(200):
            _reader, writer = await asyncio.open_connection("127.0.0.1", calm.api_port)
            writer.write(half)
            hanging.append(writer)
        async with calm.client() as http, asyncio.timeout(5):
            for _ in range(20):
                await document(http, "/health")
                await document(http, "/payouts", limit=1)
    finally:
        for writer in hanging:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in hanging), return_exceptions=True)
