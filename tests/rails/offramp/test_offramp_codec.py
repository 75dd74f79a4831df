"""The off-ramp's words: amounts to the last digit, and nothing that it says raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.money.model import MAX_MINOR
from bursar.rails.contracts import CONTRACTS
from bursar.rails.offramp.codec import (
    amount_minor,
    amount_text,
    decode_inquiry,
    decode_submit,
    encode_instruction,
)
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    NotExecuted,
    StatusExecuted,
    StatusPending,
    StatusReturned,
    StatusUnknown,
    Unknown,
)
from bursar.rails.port import PayoutInstruction

OFFRAMP = CONTRACTS["offramp"]
KEY = OFFRAMP.map_key("pa_" + "0" * 31 + "1")
INSTRUCTION = PayoutInstruction(
    key=KEY,
    amount_minor=1_000_001,
    currency="USDC",
    creditor_name="Ada",
    creditor_iban="DE89370400440532013000",
    remittance="",
)
PAYOUT = {
    "payout_id": "op_1",
    "client_reference": KEY,
    "status": "completed",
    "asset": "USDC",
    "amount": "1.000001",
    "cost": "0.010000",
    "sequence": 7,
}


@given(st.integers(min_value=0, max_value=MAX_MINOR))
def test_amounts_there_and_back(minor: int) -> None:
    """No float on the way: every minor unit survives."""
    text = amount_text(minor)

    assert amount_minor(text) == minor
    assert len(text.partition(".")[2]) == 6


@given(st.text(alphabet="0123456789.eE+-_ \u0661\n", max_size=24))
def test_one_spelling_per_amount(text: str) -> None:
    """What is read at all is spelled as we spell it."""
    minor = amount_minor(text)

    assert minor is None or amount_text(minor) == text


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"status": "processing"}, Accepted("op_1")),
        (
            {},
            Executed(
                provider_ref="op_1",
                amount_minor=1_000_001,
                currency="USDC",
                cost_minor=10_000,
                sequence=7,
            ),
        ),
        (
            {"status": "failed", "code": "account_closed", "cost": "0.000000"},
            NotExecuted(
                code="account_closed",
                reason="The account is closed",
                retryable=False,
                sent=True,
                sequence=7,
            ),
        ),
        (
            {"status": "failed", "code": "float_insufficient", "reason": "dry"},
            NotExecuted(
                code="float_insufficient",
                reason="dry",
                retryable=True,
                ours=True,
                sent=True,
                sequence=7,
            ),
        ),
        ({"status": "failed"}, Unknown("unlisted_code:")),
        ({"status": "failed", "code": "recipient_returned"}, Unknown("unlisted_code:")),
        ({"status": "refunded"}, Unknown("refunded")),
        ({"amount": "1.000002"}, Unknown("amount_mismatch", 1_000_002, "USDC")),
        ({"asset": "USDT"}, Unknown("amount_mismatch", 1_000_001, "USDT")),
        ({"asset": "EUR"}, Unknown("amount_mismatch", 0, "EUR")),
        ({"asset": "EUR", "amount": "1.250000"}, Unknown("amount_mismatch", 125, "EUR")),
        ({"asset": "DOGE"}, Unknown("amount_mismatch", 0)),
        ({"amount": "1.0"}, Unknown("amount_mismatch", 0, "USDC")),
        ({"cost": "1.0"}, Unknown("amount_unreadable")),
        ({"amount": "1.0", "status": "processing"}, Unknown("amount_unreadable")),
        ({"amount": "1.0", "asset": "EURC"}, Unknown("amount_mismatch", 0)),
        ({"client_reference": KEY[::-1]}, Unknown("key_mismatch")),
        ({"sequence": True}, Unknown("http_200_unreadable")),
    ],
)
def test_what_an_answer_says(changes: dict[str, object], outcome: object) -> None:
    """F14 F18: in the contract's terms, with the off-ramp's own order."""
    body = json.dumps(PAYOUT | changes).encode()
    said = decode_submit(200, body, INSTRUCTION, OFFRAMP)

    if outcome == Unknown("unlisted_code:"):
        outcome = Unknown(f"unlisted_code:{changes.get('code', '')}")
    assert said == outcome


@pytest.mark.parametrize(
    ("body", "proof"),
    [
        (b'{"code":"unauthorized"}', True),
        (b'{"code":"forbidden"}', False),
        (b'{"code":"unauthorized"', False),
    ],
)
def test_refused_credentials(body: bytes, *, proof: bool) -> None:
    """F90: the off-ramp's own 401 took no order, and the cause is ours."""
    said = decode_submit(401, body, INSTRUCTION, OFFRAMP)

    assert isinstance(said, NotExecuted) == proof
    if isinstance(said, NotExecuted):
        assert (said.code, said.ours, said.retryable) == ("unauthorized", True, True)


@pytest.mark.parametrize(
    ("status", "asset", "said"),
    [
        ("processing", "USDT", StatusPending("op_1", 1_000_001, "USDT")),
        ("failed", "USDT", StatusUnknown("amount_unreadable")),
        *(
            (status, asset, StatusExecuted(provider_ref="op_1", amount_minor=own, currency=code))
            for status in ("completed", "refunded")
            # A euro has two decimals, so the off-ramp's six can't be told in its minor units.
            for asset, own, code in (
                ("USDT", 1_000_001, "USDT"),
                ("EUR", 0, "EUR"),
                ("DOGE", 0, ""),
            )
        ),
    ],
)
def test_an_inquiry_that_tells_another_asset(status: str, asset: str, said: Inquiry) -> None:
    """F18: if money left it is not what was asked for, so people must look."""
    body = json.dumps(PAYOUT | {"status": status, "asset": asset}).encode()
    assert decode_inquiry(200, body, KEY, OFFRAMP) == said


def test_a_refund_that_an_inquiry_tells() -> None:
    """F21: it carries the id that the webhook carries, so that it is booked once."""
    more = {
        "status": "refunded",
        "refund_id": "rf_1",
        "refunded_amount": "0.400000",
        "code": "recipient_returned",
        "reason": "closed",
    }
    assert decode_inquiry(200, json.dumps(PAYOUT | more).encode(), KEY, OFFRAMP) == StatusReturned(
        provider_ref="op_1",
        amount_minor=1_000_001,
        currency="USDC",
        cost_minor=10_000,
        returned_minor=400_000,
        return_id="rf_1",
        code="recipient_returned",
        reason="closed",
        sequence=7,
    )


def test_another_asset_is_not_written() -> None:
    """The off-ramp is asked for its own asset only."""
    euro = PayoutInstruction(
        key=KEY,
        amount_minor=100,
        currency="EUR",
        creditor_name="Ada",
        creditor_iban="DE89370400440532013000",
        remittance="",
    )
    assert encode_instruction(euro, OFFRAMP) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.sampled_from([200, 202, 400, 404, 409, 422, 500]),
    st.dictionaries(st.sampled_from([*PAYOUT, "code", "refunded_amount"]), _JSON),
)
def test_no_answer_raises(status: int, changes: dict[str, object]) -> None:
    """F14: whatever the fields hold."""
    body = json.dumps(PAYOUT | changes).encode()

    decode_submit(status, body, INSTRUCTION, OFFRAMP)
    decode_inquiry(status, body, KEY, OFFRAMP)
