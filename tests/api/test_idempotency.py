"""`Idempotency-Key`: one effect, and the same answer for ever after."""

import asyncio

import pytest

from bursar.api.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from bursar.api.idempotency import fingerprint, read_key
from tests.api.conftest import Api

REPLAYED = "idempotency-replayed"


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"abc", "abc"),
        (b"  abc\t", "abc"),
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b'"8e03978e-40d5"', "8e03978e-40d5"),
        (b'"a b"', "a b"),
        (b'"a\\"b\\\\c"', 'a"b\\c'),
        (b"a b", "a b"),
        (b'a"b', 'a"b'),
        (b"x" * 255, "x" * 255),
    ],
)
def test_a_key_is_read_quoted_or_bare(header: bytes, key: str) -> None:
    """The quoted form of RFC 8941 and the bare form are one key."""
    assert read_key([header]) == key


@pytest.mark.parametrize(
    "headers",
    [
        [b""],
        [b" "],
        [b'""'],
        [b"x" * 256],
        [b'"' + b"x" * 256 + b'"'],
        [b'"abc'],
        [b'"a"b"'],
        [b'"a\\x"'],
        [b'"abc";v=1'],
        [b"a\tb"],
        [b"a\x00b"],
        [b"caf\xc3\xa9"],
        [b"caf\xe9"],
        [b"a", b"a"],
    ],
)
def test_a_key_that_is_not_one_is_refused(headers: list[bytes]) -> None:
    """F77: printable ASCII, 1 to 255, once."""
    with pytest.raises(IdempotencyKeyInvalid):
        read_key(headers)


def test_no_key_is_told_apart_from_a_bad_one() -> None:
    """400 `idempotency_key_missing`."""
    with pytest.raises(IdempotencyKeyMissing):
        read_key([])


def test_no_two_requests_share_a_fingerprint_by_moving_bytes() -> None:
    """F40: lengths are hashed, so a byte can't wander from the path to the body."""
    assert fingerprint("POST", "/a", b"b") == fingerprint("POST", "/a", b"b")
    others = [
        fingerprint("POST", "/ab", b""),
        fingerprint("POST", "/", b"ab"),
        fingerprint("POS", "T/a", b"b"),
        fingerprint("POST", "/a", b"b "),
    ]
    assert len({fingerprint("POST", "/a", b"b"), *others}) == 5


async def test_a_repeated_request_gets_the_same_bytes_and_moves_nothing(api: Api) -> None:
    """F2, F40: one payout, one hold; status, type and body are equal, the header says replayed."""
    body = api.body()

    first = await api.post("/payouts", body, key="k-1")
    second = await api.post("/payouts", body, key='"k-1"')

    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"]
    assert (REPLAYED in first.headers, second.headers[REPLAYED]) == (False, "true")
    assert (await api.count("payouts"), await api.count("holds")) == (1, 1)


async def test_a_refusal_is_replayed_too(api: Api) -> None:
    """F2: money that comes later does not change an answer that was given."""
    body = api.body(amount=5_000_000)
    first = await api.post("/payouts", body, key="poor")
    await api.fund(amount=100_000_000)

    second = await api.post("/payouts", body, key="poor")

    assert first.status_code == second.status_code == 422
    assert first.content == second.content
    assert second.headers[REPLAYED] == "true"
    assert second.headers["content-type"] == "application/problem+json"


async def test_another_request_under_the_same_key_is_refused(api: Api) -> None:
    """F40: another body, even by a space; another path; nothing is done."""
    made = await api.post("/payouts", api.body(reference="A"), key="k")

    answers = [
        await api.post("/payouts", api.body(reference="B"), key="k"),
        await api.post("/payouts", raw=made.request.content + b" ", key="k"),
        await api.post("/accounts/EUR/fund", {"amount": 1}, key="k"),
        await api.post(f"/payouts/{made.json()['id']}/cancel", key="k"),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert REPLAYED not in answer.headers
    assert await api.count("payouts") == 1
    assert (await api.get(f"/payouts/{made.json()['id']}")).json()["state"] == "funds_locked"


async def test_keys_of_two_merchants_are_two_keys(api: Api) -> None:
    """F42: the scope of a key is its merchant."""
    body = api.body(currency="JPY", amount=1)
    await api.post("/payouts", body, key="k")

    answer = await api.post("/payouts", body, key="k", Authorization=f"Bearer {api.other_key}")

    assert REPLAYED not in answer.headers
    assert answer.json()["code"] == "insufficient_funds"


async def test_one_of_many_at_once_executes(api: Api) -> None:
    """F41: twenty at once are one payout, and every answer is its answer."""
    body = api.body()

    answers = await asyncio.gather(*(api.post("/payouts", body, key="k") for _ in range(20)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 19
    assert await api.count("payouts") == 1


async def test_what_was_not_decided_is_not_stored(api: Api) -> None:
    """400, 401, 403, 404 of a path, 413, 415 and 422 of a shape leave the key free."""
    body = api.body()
    await api.post("/payouts", raw=b"{", key="k")
    await api.post("/payouts", {}, key="k")
    await api.post("/payouts", body, key="k", Content_Type="text/plain")
    await api.post("/payouts", raw=b" " * 70_000, key="k")
    await api.post("/payouts", body, key="k", Authorization="Bearer nobody")

    answer = await api.post("/payouts", body, key="k")

    assert answer.status_code == 201
    assert REPLAYED not in answer.headers


async def test_a_write_without_a_key_is_refused(api: Api) -> None:
    """The header is required on every write, and its absence has a code of its own."""
    for path in ("/payouts", f"/payouts/po_{'0' * 32}/cancel", "/accounts/EUR/fund"):
        answer = await api.client.post(path, json=api.body(), headers=api.headers())

        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")


async def test_an_old_key_answers_for_ever_without_its_reply(api: Api) -> None:
    """F43: after 24 hours a key still blocks, and names what it made."""
    body = api.body()
    made = await api.post("/payouts", body, key="old")
    refused = api.body(amount=900_000_000)
    await api.post("/payouts", refused, key="old-no")
    await api.pool.execute("UPDATE idempotency_keys SET claimed_at = now() - interval '25 hours'")

    executed = await api.post("/payouts", body, key="old")
    still_refused = await api.post("/payouts", refused, key="old-no")

    assert (executed.status_code, executed.json()["code"]) == (409, "already_executed")
    assert executed.json()["resource_id"] == made.json()["id"]
    assert (still_refused.status_code, still_refused.json()["code"]) == (409, "already_refused")
    assert await api.count("payouts") == 1
