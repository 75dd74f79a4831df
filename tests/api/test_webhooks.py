"""Provider events at the door: signed, fresh, stored once, as they came."""

import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest

from tests.api.conftest import SECRET, Api

PATH = "/webhooks/provider"


def event(**changes: Any) -> dict[str, Any]:
    """An event of the bank."""
    data = {
        "transfer_id": "bt_1",
        "end_to_end_id": "pa0199f0c2a1b40123456789abcdef0123",
        "amount": 100,
        "currency": "EUR",
        "cost": 1,
    }
    return {
        "event_id": "evt_1",
        "type": "transfer.settled",
        "occurred_at": "2026-01-01T00:00:00Z",
        "data": data,
    } | changes


def signed(
    body: bytes, *, secret: str = SECRET, provider: str = "bank", at: float | None = None
) -> dict[str, str]:
    """The headers that the bank sends with a body."""
    timestamp = str(int(time.time() if at is None else at))
    message = f"{provider}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return {
        "X-Provider-Id": provider,
        "X-Webhook-Timestamp": timestamp,
        "X-Webhook-Signature": f"v1={digest}",
    }


async def send(api: Api, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """Deliver a body."""
    return await api.client.post(PATH, content=body, headers=headers)


async def test_an_event_is_stored_once_as_it_came(api: Api) -> None:
    """F21, F78: byte for byte; the second delivery is taken without effect."""
    body = json.dumps(event(), indent=3).encode()

    first = await send(api, body, signed(body))
    second = await send(api, body, signed(body))

    assert (first.status_code, first.json()) == (200, {"status": "stored"})
    assert (second.status_code, second.json()) == (200, {"status": "known"})
    rows = await api.pool.fetch("SELECT provider, event_id, body FROM inbox")
    assert [tuple(row) for row in rows] == [("bank", "evt_1", body.decode())]


async def test_a_known_event_with_another_body_changes_nothing(api: Api) -> None:
    """F21: the id decides; what is stored is never overwritten."""
    first = json.dumps(event()).encode()
    other = json.dumps(event(type="transfer.rejected")).encode()
    await send(api, first, signed(first))

    answer = await send(api, other, signed(other))

    assert answer.json() == {"status": "known"}
    assert await api.pool.fetchval("SELECT body FROM inbox") == first.decode()


async def test_forged_stale_and_foreign_events_are_401_and_not_stored(api: Api) -> None:
    """F28: one answer for all, so that it teaches nothing."""
    body = json.dumps(event()).encode()
    good = signed(body)
    now = time.time()
    forged = [
        {},
        {name: value for name, value in good.items() if name != "X-Webhook-Signature"},
        {name: value for name, value in good.items() if name != "X-Webhook-Timestamp"},
        {name: value for name, value in good.items() if name != "X-Provider-Id"},
        signed(body, secret="another"),
        signed(body, secret=""),
        signed(body, at=now - 310),
        signed(body, at=now + 310),
        signed(body, provider="nobody"),
        signed(body, provider=""),
        signed(body + b" "),
        good | {"X-Webhook-Timestamp": str(int(now) - 1)},
        good | {"X-Webhook-Signature": good["X-Webhook-Signature"].upper()},
        good | {"X-Webhook-Signature": good["X-Webhook-Signature"][3:]},
        good | {"X-Provider-Id": "BANK"},
    ]
    details = set()
    for headers in forged:
        answer = await send(api, body, headers)
        assert answer.status_code == 401, headers
        assert answer.json()["code"] == "webhook_signature_invalid"
        details.add(answer.json()["detail"])

    assert len(details) == 1
    assert await api.count("inbox") == 0


async def test_every_flipped_bit_of_signature_or_body_is_401(api: Api) -> None:
    """F28: one bit anywhere, and it is not from the bank."""
    body = json.dumps(event(), separators=(",", ":")).encode()
    headers = signed(body)
    signature = headers["X-Webhook-Signature"].encode()
    for index in range(0, len(signature) * 8, 3):
        flipped = bytearray(signature)
        flipped[index // 8] ^= 1 << index % 8
        answer = await api.client.post(
            PATH,
            content=body,
            headers=[
                *(
                    (name.encode(), value.encode())
                    for name, value in headers.items()
                    if name != "X-Webhook-Signature"
                ),
                (b"x-webhook-signature", bytes(flipped)),
            ],
        )
        assert answer.status_code == 401
    for index in range(0, len(body) * 8, 17):
        changed = bytearray(body)
        changed[index // 8] ^= 1 << index % 8
        assert (await send(api, bytes(changed), headers)).status_code == 401
    assert await api.count("inbox") == 0


NONSENSE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff",
    b"a\0b",
    b"{}",
    json.dumps(event(event_id="")).encode(),
    json.dumps(event(event_id="x" * 129)).encode(),
    json.dumps(event(event_id="a\0b")).encode(),
    json.dumps(event()).replace('"amount": 100', '"amount": 1, "amount": 100').encode(),
    b"[" * 30_000,
]


UNREAD = [
    event(type="transfer.lost"),
    event(data={}),
    event(data={"amount": "a\0b"}),
    {"event_id": "evt_1"},
]


async def test_an_event_that_nobody_can_read_is_stored_as_it_came(api: Api) -> None:
    """F45, F76: it is from the provider and may speak of money; the worker and people see to it."""
    for number, said in enumerate(UNREAD):
        body = json.dumps(said | {"event_id": f"evt_{number}"}).encode()

        answer = await send(api, body, signed(body))

        assert (answer.status_code, answer.json()) == (200, {"status": "stored"})
        stored = await api.pool.fetchval("SELECT body FROM inbox ORDER BY event_id DESC LIMIT 1")
        assert stored == body.decode()


async def test_what_has_no_id_is_stored_once_under_one_of_its_bytes(api: Api) -> None:
    """F45, F76: it is from the provider, which would send it for ever; people see to it."""
    for number, body in enumerate(NONSENSE):
        for status in ("stored", "known"):
            answer = await send(api, body, signed(body))
            assert (answer.status_code, answer.json()) == (200, {"status": status}), body[:60]
        assert await api.count("inbox") == number + 1
    stored = {row[0] for row in await api.pool.fetch("SELECT body FROM inbox")}
    assert {"", "{", "\\xff", "a\\x00b"} <= stored


async def test_an_event_for_nobody_is_stored_for_later(api: Api) -> None:
    """F24, F27: whose it is, is for the worker; the provider is not asked to send it again."""
    body = json.dumps(event(event_id="evt_orphan")).encode()

    answer = await send(api, body, signed(body))

    assert answer.status_code == 200
    assert await api.count("inbox") == 1


async def test_a_huge_event_is_413(api: Api) -> None:
    """F58: the cap comes before the signature."""
    body = b" " * 70_000

    assert (await send(api, body, signed(body))).status_code == 413


async def test_the_bare_signature_is_of_the_sandbox(api: Api) -> None:
    """The seed's form signs the body alone."""
    body = json.dumps(event()).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()

    answer = await send(
        api, body, {"X-Provider-Id": "bank", "X-Webhook-Signature": f"sha256={digest}"}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("mode", ["production"])
async def test_production_refuses_the_bare_signature(api: Api, mode: str) -> None:
    """F28: it could be replayed for ever."""
    body = json.dumps(event()).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Provider-Id": "bank", "X-Webhook-Signature": f"sha256={digest}"}

    assert (await send(api, body, headers)).status_code == 401
    assert (await send(api, body, signed(body))).status_code == 200
