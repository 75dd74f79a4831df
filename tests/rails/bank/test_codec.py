"""The bank's wire: what is read as what."""

import itertools
import json
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.money.errors import UnknownCurrency
from bursar.money.model import MAX_MINOR
from bursar.rails.bank.codec import decode_inquiry, decode_submit, encode_instruction
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import (
    Accepted,
    Executed,
    Inquiry,
    NotExecuted,
    Outcome,
    StatusExecuted,
    StatusNotFound,
    StatusPending,
    StatusRejected,
    StatusReturned,
    StatusUnknown,
    Unknown,
)
from bursar.rails.port import PayoutInstruction
from bursar.rails.proof import judge_submit

BANK = CONTRACTS["bank"]
KEY = "pa-" + "0" * 31 + "1"
INSTRUCTION = PayoutInstruction(
    key=KEY,
    amount_minor=12_345,
    currency="EUR",
    creditor_name="Zoë",
    creditor_iban="DE89370400440532013000",
    remittance="INV-1",
)
TRANSFER = {
    "transfer_id": "bt_1",
    "end_to_end_id": KEY,
    "status": "executed",
    "amount": 12_345,
    "currency": "EUR",
    "cost": 7,
}
REJECTION = {"status": "rejected", "code": "AC04", "reason": "Account is closed"}
NOT_FOUND = b'{"code":"not_found","reason":"no such transfer"}'


def wire(base: Mapping[str, object], **changes: object) -> bytes:
    """`base` with some members changed; None takes one away."""
    merged = {**base, **changes}
    return json.dumps({k: v for k, v in merged.items() if v is not None}).encode()


def submit(status: int, body: bytes) -> Outcome:
    """What the codec reads in a reply to the instruction."""
    return decode_submit(status, body, INSTRUCTION, BANK)


def inquire(status: int, body: bytes) -> Inquiry:
    """What the codec reads in a reply to an inquiry by the key."""
    return decode_inquiry(status, body, KEY, BANK)


EXECUTED = Executed(provider_ref="bt_1", amount_minor=12_345, currency="EUR", cost_minor=7)
FOUND = StatusExecuted(provider_ref="bt_1", amount_minor=12_345, currency="EUR", cost_minor=7)


def test_the_instruction_on_the_wire() -> None:
    """Equal instructions give equal bytes: the bank compares bodies under one key."""
    body = encode_instruction(INSTRUCTION, BANK)

    assert body is not None
    assert body == encode_instruction(INSTRUCTION, BANK)
    assert json.loads(body) == {
        "end_to_end_id": KEY,
        "amount": 12_345,
        "currency": "EUR",
        "creditor": {"name": "Zoë", "iban": "DE89370400440532013000"},
        "remittance": "INV-1",
    }


def test_what_the_bank_cannot_be_told() -> None:
    """F74: no rounding on the way out, no unknown currency."""
    whole = msgspec.structs.replace(BANK, exponents={"EUR": 0})

    assert encode_instruction(INSTRUCTION, whole) is None
    with pytest.raises(UnknownCurrency):
        encode_instruction(msgspec.structs.replace(INSTRUCTION, currency="XXX"), BANK)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (201, wire(TRANSFER), EXECUTED),
        (200, wire(TRANSFER), EXECUTED),
        (201, wire(TRANSFER, new_field=1), EXECUTED),
        (201, wire(TRANSFER, status="accepted"), Accepted("bt_1")),
        (200, wire(TRANSFER, status="accepted"), Accepted("bt_1")),
        (
            422,
            wire(REJECTION),
            NotExecuted(code="AC04", reason="Account is closed", retryable=False, sent=True),
        ),
        (
            422,
            wire(REJECTION, code="AM04", reason=None),
            NotExecuted(
                code="AM04",
                reason="Our account at the bank has too little money",
                retryable=True,
                ours=True,
                sent=True,
            ),
        ),
        (422, wire(REJECTION, code="MS03"), Unknown("unlisted_code:MS03")),
        (422, wire(REJECTION, code="ac04"), Unknown("http_422_unreadable")),
        (422, wire(REJECTION, code=None), Unknown("http_422_unreadable")),
        (422, wire(REJECTION, status="error"), Unknown("unlisted_status")),
        (422, wire(REJECTION, end_to_end_id="pa-other"), Unknown("key_mismatch")),
        (409, b'{"code":"key_reused"}', Unknown("key_reused")),
        (409, b"{}", Unknown("http_409_unreadable")),
        # F18: an answer about another transfer than ours
        (201, wire(TRANSFER, amount=12_346), Unknown("amount_mismatch", 12_346, "EUR")),
        (201, wire(TRANSFER, currency="USD"), Unknown("amount_mismatch", 12_345, "USD")),
        (201, wire(TRANSFER, currency="ZZZ"), Unknown("amount_mismatch", 0)),
        (201, wire(TRANSFER, status="accepted", amount=1), Unknown("amount_mismatch", 1, "EUR")),
        (201, wire(TRANSFER, end_to_end_id="pa-other"), Unknown("key_mismatch")),
        # F14: words and shapes that the contract does not have
        (201, wire(TRANSFER, status="rejected"), Unknown("unlisted_status")),
        (201, wire(TRANSFER, status="EXECUTED"), Unknown("unlisted_status")),
        (201, wire(TRANSFER, transfer_id=None), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, transfer_id=""), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, transfer_id="bt 1"), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, transfer_id="bt\x00"), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, amount=None), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, amount=12_345.0), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, amount="12345"), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, amount=True), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, amount=MAX_MINOR + 1), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER, cost=-1), Unknown("http_201_unreadable")),
        (201, wire(TRANSFER)[:-1], Unknown("http_201_unreadable")),
        (201, b"", Unknown("http_201_unreadable")),
        (201, b"<html>", Unknown("http_201_unreadable")),
        (200, wire(TRANSFER)[:-1] + b',"amount":12345}', Unknown("http_200_unreadable")),
        (202, wire(TRANSFER), Unknown("http_202")),
        (301, b"", Unknown("http_301")),
        (400, wire(REJECTION), Unknown("http_400")),
        # F90: the bank's own word that it took no order; nobody else's
        (
            401,
            b'{"code":"unauthorized"}',
            NotExecuted(
                code="unauthorized",
                reason="The bank refused our credentials",
                retryable=True,
                ours=True,
                sent=True,
            ),
        ),
        (401, b'{"code":"forbidden"}', Unknown("http_401")),
        (401, b"<html>", Unknown("http_401_unreadable")),
        (403, b'{"code":"unauthorized"}', Unknown("http_403")),
        (404, NOT_FOUND, Unknown("http_404")),
        (429, b"", Unknown("http_429")),
        (500, wire(TRANSFER), Unknown("http_500")),
        (503, wire(REJECTION), Unknown("http_503")),
    ],
)
def test_a_reply_to_a_transfer(status: int, body: bytes, outcome: Outcome) -> None:
    """F14, F18."""
    assert submit(status, body) == outcome


@pytest.mark.parametrize(
    ("status", "body", "inquiry"),
    [
        (200, wire(TRANSFER), FOUND),
        (
            200,
            wire(TRANSFER, amount=9, cost=None),
            msgspec.structs.replace(FOUND, amount_minor=9, cost_minor=0),
        ),
        (200, wire(TRANSFER, status="pending"), StatusPending("bt_1", 12345, "EUR")),
        (200, wire(TRANSFER, status="accepted"), StatusPending("bt_1", 12345, "EUR")),
        (
            200,
            wire(TRANSFER, status="rejected", code="AC04", reason="Closed\x00"),
            StatusRejected("AC04", "Closed"),
        ),
        (200, wire(TRANSFER, status="rejected"), StatusRejected("", "")),
        (
            200,
            wire(TRANSFER, status="returned", returned_amount=345, code="FOCR", reason="asked"),
            StatusReturned(
                provider_ref="bt_1",
                amount_minor=12_345,
                currency="EUR",
                cost_minor=7,
                returned_minor=345,
                code="FOCR",
                reason="asked",
            ),
        ),
        (200, wire(TRANSFER, status="returned"), StatusUnknown("unlisted_status")),
        (200, wire(TRANSFER, status="lost"), StatusUnknown("unlisted_status")),
        # F18: money left, but not what was asked for
        (
            200,
            wire(TRANSFER, currency="XXX"),
            StatusExecuted(provider_ref="bt_1", amount_minor=0, currency=""),
        ),
        (200, wire(TRANSFER, end_to_end_id="pa-other"), StatusUnknown("key_mismatch")),
        (200, wire(TRANSFER)[:-1], StatusUnknown("http_200_unreadable")),
        (201, wire(TRANSFER), StatusUnknown("http_201")),
        (404, NOT_FOUND, StatusNotFound()),
        # F13: a 404 that the bank did not write is not the bank's "not found"
        (404, b"<html>404 Not Found</html>", StatusUnknown("http_404_unreadable")),
        (404, b"", StatusUnknown("http_404_unreadable")),
        (404, b'{"code":"no_such_route"}', StatusUnknown("http_404")),
        (200, NOT_FOUND, StatusUnknown("http_200_unreadable")),
        (401, NOT_FOUND, StatusUnknown("http_401")),
        (500, NOT_FOUND, StatusUnknown("http_500")),
    ],
)
def test_a_reply_to_an_inquiry(status: int, body: bytes, inquiry: Inquiry) -> None:
    """F13, F14."""
    assert inquire(status, body) == inquiry


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["rejected", "executed", "accepted", "declined"]) | json_values,
        "code": st.sampled_from([*BANK.reasons, "MS03", "ZZ99", "key_reused"]) | json_values,
        "reason": st.text(max_size=8) | json_values,
        "end_to_end_id": st.just(KEY) | json_values,
        "transfer_id": st.just("bt_1") | json_values,
        "amount": st.just(12_345) | json_values,
        "currency": st.just("EUR") | json_values,
        "cost": json_values,
    },
)
bodies = st.binary(max_size=60) | (json_values | near_misses).map(lambda v: json.dumps(v).encode())


@given(st.integers(100, 999), bodies)
def test_only_a_listed_code_in_a_rejection_is_proof(status: int, body: bytes) -> None:
    """F14: over all status codes and bodies; nothing raises, nothing else is `NotExecuted`."""
    outcome = judge_submit(submit(status, body), BANK, first_send=True)

    if isinstance(outcome, NotExecuted):
        said = json.loads(body)
        door = (status, said["code"]) == (401, "unauthorized")
        assert door or (status, said["status"]) == (422, "rejected")
        assert outcome.code == said["code"]
        assert outcome.code in BANK.definitive_codes
        assert outcome.sent


@given(st.integers(100, 999), bodies)
def test_only_the_banks_own_404_is_not_found(status: int, body: bytes) -> None:
    """F13: nothing raises either."""
    if isinstance(inquire(status, body), StatusNotFound):
        assert status == 404
        assert json.loads(body)["code"] == "not_found"


@given(near_misses)
def test_money_left_only_in_our_amount(said: dict[str, object]) -> None:
    """F18: an `Executed` always carries what was asked for."""
    outcome = submit(201, json.dumps(said).encode())

    if isinstance(outcome, Executed):
        assert (outcome.amount_minor, outcome.currency) == (12_345, "EUR")
        assert said["end_to_end_id"] == KEY


def test_every_status_with_every_plain_body() -> None:
    """F14: exhaustively, on bodies that mean something under one status."""
    known = (b"", b"{}", b"null", wire(TRANSFER), wire(REJECTION), NOT_FOUND)

    proofs = [
        (status, body)
        for status, body in itertools.product(range(100, 600), known)
        if isinstance(submit(status, body), NotExecuted)
    ]

    assert proofs == [(422, wire(REJECTION))]


@given(st.integers(0, 200))
def test_a_truncated_reply_is_unknown(length: int) -> None:
    """F14: cut anywhere."""
    for status, whole in ((201, wire(TRANSFER)), (422, wire(REJECTION))):
        if length < len(whole):
            assert isinstance(submit(status, whole[:length]), Unknown)
