"""The off-ramp's published vectors: this end of the wire is held to them, as the other end is."""

import json
from pathlib import Path
from typing import Any

import pytest

from bursar.rails.contracts import CONTRACTS
from bursar.rails.errors import ProviderEventInvalid, WebhookSignatureInvalid
from bursar.rails.offramp import webhooks
from bursar.rails.offramp.codec import (
    amount_minor,
    amount_text,
    decode_inquiry,
    decode_submit,
    encode_instruction,
)
from bursar.rails.port import PayoutInstruction
from bursar.rails.proof import judge_submit

OFFRAMP = CONTRACTS["offramp"]
VECTORS = json.loads(
    (Path(__file__).parents[3] / "docs/wire/offramp-vectors.json").read_text(encoding="utf-8")
)


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    """Parameters that carry their vector's name."""
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def steps(method: str) -> list[Any]:
    """The exchanges of one method that say what their answer means, of orders that we can write."""
    return [
        pytest.param(step, id=f"{exchange['name']} {number}")
        for exchange in VECTORS["exchanges"]
        for number, step in enumerate(exchange["steps"])
        if step.get("means") and step["response"] and step["request"]["method"] == method
    ]


def instruction(body: dict[str, Any]) -> PayoutInstruction:
    """The instruction that this body tells; of a body that we would never write, another amount."""
    told = body["amount"]
    return PayoutInstruction(
        key=body.get("client_reference", ""),
        amount_minor=(amount_minor(told) if isinstance(told, str) else None) or 1,
        currency=body["asset"],
        creditor_name=body["recipient"]["name"],
        creditor_iban=body["recipient"]["account"],
        remittance=body.get("memo", ""),
    )


ORDER = {
    "client_reference": VECTORS["other_replies"][0]["key"],
    "asset": "USDC",
    "amount": "100.250000",
    "recipient": {"name": "Ana Silva", "account": "DE89370400440532013000"},
    "memo": "INV-1",
}


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["attempt_id"])
def test_keys(vector: dict[str, str]) -> None:
    """F38: an attempt's 128 bits in the off-ramp's alphabet, all of them."""
    assert OFFRAMP.map_key(vector["attempt_id"]) == vector["client_reference"]


@pytest.mark.parametrize("vector", VECTORS["amounts"], ids=lambda vector: vector["text"])
def test_amounts(vector: dict[str, Any]) -> None:
    """Text and minor units are the same, both ways."""
    assert amount_minor(vector["text"]) == vector["minor"]
    assert amount_text(vector["minor"]) == vector["text"]


@pytest.mark.parametrize("step", steps("POST"))
def test_replies_to_an_order(step: dict[str, Any]) -> None:
    """F14: what a first and only send means."""
    asked = instruction(step["request"]["body"])
    answer = step["response"]

    outcome = decode_submit(answer["status"], json.dumps(answer["body"]).encode(), asked, OFFRAMP)

    assert type(judge_submit(outcome, OFFRAMP, first_send=True)).__name__ == step["means"]


@pytest.mark.parametrize(
    "step", [s for s in steps("POST") if s.values[0]["response"]["status"] == 202]
)
def test_what_we_write(step: dict[str, Any]) -> None:
    """Our bytes tell the same as the vector's body."""
    body = step["request"]["body"]
    written = encode_instruction(instruction(body), OFFRAMP)

    assert written is not None
    assert json.loads(written) == {"memo": ""} | body


@pytest.mark.parametrize("step", steps("GET"))
def test_replies_to_an_inquiry(step: dict[str, Any]) -> None:
    """F13."""
    answer = step["response"]
    key = step["request"]["path"].rpartition("/")[2]

    inquiry = decode_inquiry(answer["status"], json.dumps(answer["body"]).encode(), key, OFFRAMP)

    assert type(inquiry).__name__ == step["means"]


@pytest.mark.parametrize("reply", named(VECTORS["other_replies"]))
def test_other_replies(reply: dict[str, Any]) -> None:
    """F14: gateways, cuts and surprises."""
    asked = instruction(ORDER)
    body = reply["body"].encode()

    outcome = decode_submit(reply["status"], body, asked, OFFRAMP)
    inquiry = decode_inquiry(reply["status"], body, reply["key"], OFFRAMP)

    assert type(outcome).__name__ == reply["means_to_submit"]
    assert type(inquiry).__name__ == reply["means_to_inquire"]


def headers(vector: dict[str, Any]) -> dict[str, str]:
    """The headers of a signed message."""
    return {
        "X-Provider-Id": vector["provider_id"],
        "X-Webhook-Timestamp": str(vector["timestamp"]),
        "X-Webhook-Signature": vector["signature"],
    }


@pytest.mark.parametrize(
    "vector", named([v for v in VECTORS["signatures"] if v["provider_id"] == "offramp"])
)
def test_signatures(vector: dict[str, Any]) -> None:
    """F28: made by OpenSSL, not by this code."""
    webhooks.verify(
        headers(vector),
        vector["body"].encode(),
        vector["secret"],
        vector["timestamp"],
        allow_bare=False,
    )


@pytest.mark.parametrize("vector", named(VECTORS["refused_signatures"]))
def test_refused_signatures(vector: dict[str, Any]) -> None:
    """F28."""
    with pytest.raises(WebhookSignatureInvalid):
        webhooks.verify(
            headers(vector),
            vector["body"].encode(),
            vector["secret"],
            vector["now"],
            allow_bare=False,
        )


@pytest.mark.parametrize("vector", named([v for v in VECTORS["signatures"] if "means" in v]))
def test_events(vector: dict[str, Any]) -> None:
    """F24: the bodies that the off-ramp signs are events to us, with the off-ramp's own order."""
    event = webhooks.parse(vector["body"].encode())
    told = {name: getattr(event, name) for name in vector["means"]}

    assert told == vector["means"]
    assert (event.currency, event.provider_ref) == ("USDC", "op_0f")
    assert event.provider_key == ORDER["client_reference"]
    assert (event.return_id is not None) == (event.kind == "returned")


@pytest.mark.parametrize("vector", named(VECTORS["refused_events"]))
def test_refused_events(vector: dict[str, Any]) -> None:
    """F76: signed, but not an event of the contract: the field is named."""
    with pytest.raises(ProviderEventInvalid) as refused:
        webhooks.parse(vector["body"].encode())

    assert refused.value.pointer == vector["field"]


@pytest.mark.parametrize(
    ("asset", "amount", "currency"),
    [("USDT", 100_250_000, "USDT"), ("EUR", 10_025, "EUR"), ("DOGE", 0, "")],
)
def test_an_event_in_another_asset(asset: str, amount: int, currency: str) -> None:
    """F18: it is told as far as we carry the asset; whether it was asked for is judged later."""
    vector = next(one for one in VECTORS["signatures"] if one["name"] == "completed")
    event = webhooks.parse(vector["body"].replace("USDC", asset).encode())

    assert (event.amount_minor, event.currency) == (amount, currency)
