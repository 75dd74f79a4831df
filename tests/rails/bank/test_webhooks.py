"""The bank's signed events."""

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.money.model import MAX_MINOR
from bursar.rails.bank import webhooks
from bursar.rails.errors import ProviderEventInvalid, WebhookSignatureInvalid
from bursar.rails.port import EventKind, ProviderEvent, WebhookVerifier

SECRET = "sandbox-bank-webhook-secret"
NOW = 1_790_000_000
KEY = "pa-" + "0" * 31 + "1"
DATA = {
    "transfer_id": "bt_1",
    "end_to_end_id": KEY,
    "amount": 12_345,
    "currency": "EUR",
    "cost": 7,
}
EVENT = {
    "event_id": "evt_1",
    "type": "transfer.settled",
    "occurred_at": "2026-11-21T08:00:00.250Z",
    "data": DATA,
}
BODY = json.dumps(EVENT).encode()


def mac(message: bytes, secret: str = SECRET) -> str:
    """Hexadecimal HMAC-SHA256."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def signed(body: bytes = BODY, *, at: int = NOW, secret: str = SECRET) -> dict[str, str]:
    """The headers that the bank sends with `body`."""
    return {
        "X-Provider-Id": "bank",
        "X-Webhook-Timestamp": str(at),
        "X-Webhook-Signature": "v1=" + mac(f"bank.{at}.".encode() + body, secret),
    }


def passes(
    headers: dict[str, str],
    body: bytes = BODY,
    *,
    secret: str = SECRET,
    now: float = NOW,
    allow_bare: bool = False,
) -> bool:
    """Whether the signature holds."""
    try:
        webhooks.verify(headers, body, secret, now, allow_bare=allow_bare)
    except WebhookSignatureInvalid:
        return False
    return True


def test_the_module_is_a_verifier() -> None:
    """What the API is handed."""
    verifier: WebhookVerifier = webhooks

    verifier.verify(signed(), BODY, SECRET, NOW, allow_bare=False)
    assert verifier.parse(BODY).event_id == "evt_1"


def test_a_known_signature() -> None:
    """A vector made with another tool (openssl dgst -sha256 -hmac)."""
    headers = {
        "x-provider-id": "bank",
        "x-webhook-timestamp": "1700000000",
        "x-webhook-signature": "v1="
        "08e7888888513f141abb851f69e9f564275f4b2059b6a6bbc3c2dcb7e88889a7",
    }

    assert passes(headers, b'{"a":1}', secret="secret", now=1_700_000_000)


@pytest.mark.parametrize(("age", "fresh"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_freshness(age: int, *, fresh: bool) -> None:
    """F28: a replay after five minutes is refused, and so is a message from the future."""
    assert passes(signed(at=NOW - age)) is fresh


def test_what_a_refusal_says() -> None:
    """F28: 401 and one sentence for all causes."""
    with pytest.raises(WebhookSignatureInvalid) as refused:
        webhooks.verify({}, BODY, SECRET, NOW, allow_bare=True)

    assert (refused.value.status, refused.value.code) == (401, "webhook_signature_invalid")


def test_every_flipped_bit_of_the_signature_is_refused() -> None:
    """F28, F78: upper case included, which is one bit away."""
    whole = signed()["X-Webhook-Signature"].encode()
    for position in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        headers = signed() | {"X-Webhook-Signature": flipped.decode("latin-1")}
        assert not passes(headers)
        assert not passes(headers, allow_bare=True)


@pytest.mark.parametrize("name", ["X-Provider-Id", "X-Webhook-Timestamp"])
def test_every_flipped_bit_of_the_signed_headers_is_refused(name: str) -> None:
    """F28."""
    for position in range(8 * len(signed()[name])):
        headers = signed()
        raw = bytearray(headers[name].encode())
        raw[position // 8] ^= 1 << position % 8
        headers[name] = raw.decode("latin-1")
        assert not passes(headers)


def test_every_flipped_bit_of_the_body_is_refused() -> None:
    """F28, F78."""
    headers = signed() | {"x-other": "1"}
    bare = {"X-Webhook-Signature": "sha256=" + mac(BODY)}
    for position in range(8 * len(BODY)):
        body = bytearray(BODY)
        body[position // 8] ^= 1 << position % 8
        assert not passes(headers, bytes(body))
        assert not passes(bare, bytes(body), allow_bare=True)


def test_the_bytes_are_signed_not_their_meaning() -> None:
    """F78: the same JSON written otherwise is another message."""
    rewritten = json.dumps(EVENT, separators=(",", ":")).encode()

    assert json.loads(rewritten) == json.loads(BODY)
    assert not passes(signed(), rewritten)


@pytest.mark.parametrize(
    "changes",
    [
        {"X-Webhook-Signature": ""},
        {"X-Webhook-Signature": "v1="},
        {"X-Webhook-Signature": "v1=" + "0" * 64},
        {"X-Webhook-Signature": "v1=" + mac(BODY)},
        {"X-Webhook-Signature": "v2=" + mac(f"bank.{NOW}.".encode() + BODY)},
        {"X-Webhook-Signature": mac(f"bank.{NOW}.".encode() + BODY)},
        {"X-Webhook-Signature": "sha256=" + mac(BODY)},
        {"X-Webhook-Signature": signed()["X-Webhook-Signature"] + "\n"},
        {"X-Webhook-Signature": signed()["X-Webhook-Signature"] + "," + "0" * 64},
        {"X-Webhook-Timestamp": ""},
        {"X-Webhook-Timestamp": f" {NOW}"},
        {"X-Webhook-Timestamp": f"{NOW}.0"},
        {"X-Webhook-Timestamp": "9" * 400},
        {"X-Webhook-Timestamp": "١٧٩٠٠٠٠٠٠٠"},
        {"X-Provider-Id": "Bank"},
        {"X-Provider-Id": "other"},
    ],
)
def test_forgeries(changes: dict[str, str]) -> None:
    """F28."""
    assert not passes(signed() | changes)


@pytest.mark.parametrize("name", list(signed()))
def test_no_header_may_be_missing(name: str) -> None:
    """F28."""
    assert not passes({k: v for k, v in signed().items() if k != name})


def test_another_secret() -> None:
    """F28: another provider's, and the empty one even if the sender used it too."""
    assert not passes(signed(secret="other"))
    assert not passes(signed(secret=""), secret="")
    assert not passes(
        {"X-Webhook-Signature": "sha256=" + mac(BODY, "")}, secret="", allow_bare=True
    )


def test_another_providers_message_is_not_ours() -> None:
    """F28: even under one secret, the provider's name is signed."""
    headers = signed()
    headers["X-Webhook-Signature"] = "v1=" + mac(f"other.{NOW}.".encode() + BODY)

    assert not passes(headers)


def test_the_bare_form_only_where_allowed() -> None:
    """F28: it covers no time, so it can be replayed for ever."""
    bare = {"X-Webhook-Signature": "sha256=" + mac(BODY)}

    assert passes(bare, allow_bare=True)
    assert passes(signed(), allow_bare=True)
    assert not passes(bare)
    assert not passes({"X-Webhook-Signature": "sha256=" + mac(BODY, "x")}, allow_bare=True)
    assert not passes({"X-Webhook-Signature": "sha256=" + mac(BODY).upper()}, allow_bare=True)


def test_header_names_in_any_case() -> None:
    """HTTP gives no promise about their case."""
    assert passes({name.lower(): value for name, value in signed().items()})
    assert passes({name.upper(): value for name, value in signed().items()})


def event(base: dict[str, object] | None = None, /, **data: object) -> bytes:
    """An event's body with members of its data changed; None takes one away."""
    inner = {k: v for k, v in (DATA | data).items() if v is not None}
    return json.dumps(EVENT | (base or {}) | {"data": inner}).encode()


def test_a_settled_transfer() -> None:
    """Every field finds its place."""
    assert webhooks.parse(BODY) == ProviderEvent(
        event_id="evt_1",
        kind=EventKind.PAID,
        provider_key=KEY,
        provider_ref="bt_1",
        amount_minor=12_345,
        currency="EUR",
        cost_minor=7,
        code=None,
        reason=None,
        return_id=None,
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("transfer.accepted", EventKind.ACCEPTED),
        ("transfer.settled", EventKind.PAID),
        ("transfer.rejected", EventKind.FAILED),
        ("transfer.returned", EventKind.RETURNED),
    ],
)
def test_kinds(name: str, kind: EventKind) -> None:
    """The bank's words and ours."""
    body = event({"type": name}, code="AC04", reason="Closed\x00", return_id="btr_1")
    read = webhooks.parse(body)

    assert (read.kind, read.code, read.reason, read.return_id) == (kind, "AC04", "Closed", "btr_1")


@pytest.mark.parametrize("when", ["2026-11-21T10:00:00+02:00", "yesterday", None])
def test_the_time_that_it_tells_is_not_needed(when: str | None) -> None:
    """F39: nothing is ordered by other people's clocks, so none of them can stop a payment."""
    assert webhooks.parse(event({"occurred_at": when})) == webhooks.parse(BODY)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        *((body, None) for body in (b"", b"{", b"[]", b"\xff", b'{"a":NaN}', b"[" * 99_999)),
        (BODY[:-1] + b',"event_id":"evt_2"}', None),
        (event({"event_id": ""}), "/event_id"),
        (event({"event_id": "evt\x00"}), "/event_id"),
        (event({"event_id": "e" * 129}), "/event_id"),
        (event({"type": "transfer.lost"}), "/type"),
        (event({"type": 1}), "/type"),
        (event(amount=0), "/data/amount"),
        (event(amount=-1), "/data/amount"),
        (event(amount=True), "/data/amount"),
        (event(amount=1.0), "/data/amount"),
        (event(amount="1"), "/data/amount"),
        (event(amount=MAX_MINOR + 1), "/data/amount"),
        (event(amount=None), "/data"),
        (event(cost=-1), "/data/cost"),
        (event(currency=1), "/data/currency"),
        (event(end_to_end_id="pa_1"), "/data/end_to_end_id"),
        (event(end_to_end_id="p" * 36), "/data/end_to_end_id"),
        (event(transfer_id=""), "/data/transfer_id"),
        (event({"type": "transfer.returned"}), "/data/return_id"),
        (event(return_id="r\n"), "/data/return_id"),
    ],
)
def test_bodies_that_are_no_event(body: bytes, pointer: str | None) -> None:
    """F73, F75, F76, F77: a 400 with the field's place, never another error."""
    with pytest.raises(ProviderEventInvalid) as refused:
        webhooks.parse(body)

    assert (refused.value.status, refused.value.code) == (400, "provider_event_invalid")
    assert refused.value.pointer == pointer


def test_an_event_in_a_currency_that_we_do_not_carry() -> None:
    """F18, F72: it is no amount that we can tell; whether it was asked for is judged later."""
    read = webhooks.parse(event(currency="XXX"))

    assert (read.amount_minor, read.cost_minor, read.currency) == (0, 0, "")


@pytest.mark.parametrize(
    ("body", "event_id"),
    [
        (event(), "evt_1"),
        (event({"type": "transfer.lost", "data": 7}), "evt_1"),
        (event({"event_id": "e" * 129}), None),
        (event({"event_id": None}), None),
        (b"[]", None),
    ],
)
def test_an_event_has_an_id_whatever_else_it_says(body: bytes, event_id: str | None) -> None:
    """F76: what has an id can be stored, and be read once somebody knows how."""
    if event_id is None:
        with pytest.raises(ProviderEventInvalid):
            webhooks.identify(body)
    else:
        assert webhooks.identify(body) == event_id


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """F76."""
    with pytest.raises(ProviderEventInvalid):
        webhooks.parse(body)


@given(st.dictionaries(st.text(max_size=24), st.text(max_size=80)), st.binary(max_size=20))
def test_no_headers_raise_anything_else(headers: dict[str, str], body: bytes) -> None:
    """F28."""
    named = {"X-Webhook-Signature": headers.get("", "v1=" + "é" * 64)}

    assert not passes(headers | named, body, allow_bare=True)
