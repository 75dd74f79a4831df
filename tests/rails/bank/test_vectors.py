"""The bank's published vectors: this end of the wire is held to them, as the other end is."""

import json
from pathlib import Path
from typing import Any

import pytest

from bursar.rails.bank import webhooks
from bursar.rails.bank.codec import decode_inquiry, decode_submit, encode_instruction
from bursar.rails.contracts import CONTRACTS
from bursar.rails.errors import WebhookSignatureInvalid
from bursar.rails.port import PayoutInstruction
from bursar.rails.proof import judge_submit

BANK = CONTRACTS["bank"]
VECTORS = json.loads(
    (Path(__file__).parents[3] / "docs/wire/bank-vectors.json").read_text(encoding="utf-8")
)


def steps(method: str) -> list[Any]:
    """The exchanges of one method that say what their answer means."""
    return [
        pytest.param(step, id=f"{exchange['name']} {number}")
        for exchange in VECTORS["exchanges"]
        for number, step in enumerate(exchange["steps"])
        if step.get("means") and step["response"] and step["request"]["method"] == method
    ]


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    """Parameters that carry their vector's name."""
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def instruction(key: str, body: dict[str, Any]) -> PayoutInstruction:
    """The instruction that this body tells."""
    return PayoutInstruction(
        key=key,
        amount_minor=body["amount"],
        currency=body["currency"],
        creditor_name=body["creditor"]["name"],
        creditor_iban=body["creditor"]["iban"],
        remittance=body["remittance"],
    )


ORDER = {
    "amount": 12_345,
    "currency": "EUR",
    "creditor": {"name": "Ana Silva", "iban": "DE89370400440532013000"},
    "remittance": "INV-1",
}


@pytest.mark.parametrize("step", steps("POST"))
def test_replies_to_a_transfer(step: dict[str, Any]) -> None:
    """F14: what a first and only send means."""
    body = step["request"]["body"]
    asked = instruction(step["request"]["headers"].get("Idempotency-Key", "pa-0"), body)
    answer = step["response"]

    outcome = decode_submit(answer["status"], json.dumps(answer["body"]).encode(), asked, BANK)

    assert type(judge_submit(outcome, BANK, first_send=True)).__name__ == step["means"]


@pytest.mark.parametrize(
    "step", [s for s in steps("POST") if s.values[0]["response"]["status"] == 201]
)
def test_what_we_write(step: dict[str, Any]) -> None:
    """Our bytes tell the same as the vector's body."""
    body = step["request"]["body"]
    written = encode_instruction(instruction(body["end_to_end_id"], body), BANK)

    assert written is not None
    assert json.loads(written) == body


@pytest.mark.parametrize("step", steps("GET"))
def test_replies_to_an_inquiry(step: dict[str, Any]) -> None:
    """F13."""
    answer = step["response"]
    key = step["request"]["path"].rpartition("/")[2]

    inquiry = decode_inquiry(answer["status"], json.dumps(answer["body"]).encode(), key, BANK)

    assert type(inquiry).__name__ == step["means"]


@pytest.mark.parametrize("reply", named(VECTORS["other_replies"]))
def test_other_replies(reply: dict[str, Any]) -> None:
    """F14: gateways, cuts and surprises."""
    asked = instruction(reply["key"], ORDER)
    body = reply["body"].encode()

    outcome = decode_submit(reply["status"], body, asked, BANK)
    inquiry = decode_inquiry(reply["status"], body, reply["key"], BANK)

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
    "vector", named([v for v in VECTORS["signatures"] if v["provider_id"] == "bank"])
)
def test_signatures(vector: dict[str, Any]) -> None:
    """F28: computed by the other end."""
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


@pytest.mark.parametrize(
    ("name", "kind"), [("settled", "paid"), ("rejected", "failed"), ("returned", "returned")]
)
def test_events(name: str, kind: str) -> None:
    """The bodies that the bank signs are events to us."""
    (body,) = [v["body"] for v in VECTORS["signatures"] if v["name"] == name]
    event = webhooks.parse(body.encode())

    assert (event.kind, event.provider_key, event.amount_minor) == (kind, "pa-1", 12_345)
    assert (event.return_id is not None) == (kind == "returned")
