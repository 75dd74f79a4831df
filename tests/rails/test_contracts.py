"""Contracts: the numbers, the keys, the exponents."""

import string
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kit.ids import SystemIds
from bursar.money.currency import CURRENCIES, Currency, currency
from bursar.rails.contracts import CONTRACTS, Contract

BANK = CONTRACTS["bank"]

attempt_ids = st.integers(0, 2**128 - 1).map(lambda bits: f"pa_{bits:032x}")


def contract(**changes: object) -> Contract:
    """The bank's contract with some promises changed."""
    return msgspec.structs.replace(BANK, **changes)


def test_the_banks_promises() -> None:
    """F19: the numbers that proofs rest on, as the wire document states them."""
    assert (BANK.finality_window_s, BANK.key_lifetime_s, BANK.request_deadline_s) == (3, 60, 2)
    assert BANK.key_length_max == 35
    assert BANK.absence_is_proof
    assert BANK.definitive_codes == {
        *("AC01", "AC04", "AC06", "AG01", "AM03", "AM04", "BE04", "MD07", "RR04"),
        "unauthorized",
    }


def test_the_offramps_promises() -> None:
    """F19, F13: as the wire document states them; its inquiry proves no absence."""
    row = CONTRACTS["offramp"]
    assert (row.finality_window_s, row.key_lifetime_s, row.request_deadline_s) == (4, 120, 2)
    assert (row.key_length_max, len(row.key_charset)) == (26, 32)
    assert set(string.digits + string.ascii_uppercase) - set(row.key_charset) == set("ILOU")
    assert not row.absence_is_proof
    assert row.ordered
    assert row.currencies == frozenset({"USDC"})
    assert row.definitive_codes == {
        *("account_invalid", "account_closed", "recipient_blocked", "compliance_rejected"),
        *("float_insufficient", "unauthorized"),
    }
    ours = {code for code, reason in row.reasons.items() if reason.ours}
    assert row.retryable_codes == ours == {"float_insufficient", "unauthorized"}


def test_pauses_between_sends_double() -> None:
    """F19: from the contract's own, without end; the key's life ends them."""
    pauses = [CONTRACTS["offramp"].resend_pause(sends) for sends in (1, 2, 3, 7, 10**6)]
    assert pauses[:4] == [timedelta(seconds=count) for count in (1, 2, 4, 64)]
    assert pauses[4] is not None
    assert pauses[4] > CONTRACTS["offramp"].key_lifetime
    assert BANK.resend_pause(1) is None


@pytest.mark.parametrize(
    ("seconds", "lease_s", "may"),
    [(0, 5, True), (112.999, 5, True), (113, 5, False), (114, 3.9, True), (114, 4, False)],
)
def test_no_send_past_the_keys_life(seconds: float, lease_s: float, *, may: bool) -> None:
    """F19: its last byte may leave at the end of lease and deadline."""
    begun_at = datetime(2026, 3, 29, 12, tzinfo=UTC)
    now = begun_at + timedelta(seconds=seconds)

    assert CONTRACTS["offramp"].may_resend(begun_at, now, timedelta(seconds=lease_s)) == may
    assert not BANK.may_resend(begun_at, begun_at, timedelta(seconds=lease_s))


def test_our_own_empty_account_burns_no_retry() -> None:
    """F90: AM04 is about our balance at the bank; nor do our credentials: the payout waits."""
    ours = {code for code, reason in BANK.reasons.items() if reason.ours}
    assert BANK.retryable_codes == ours == {"AM04", "unauthorized"}


def test_every_contract_is_consistent() -> None:
    """A row is filed under its own name, and its numbers make sense together."""
    for name, row in CONTRACTS.items():
        assert row.provider == name
        assert 0 < row.request_deadline_s <= row.finality_window_s <= row.key_lifetime_s
        assert row.retryable_codes <= row.definitive_codes
        assert all(code == reason.code for code, reason in row.reasons.items())


def test_a_readable_key_where_it_fits() -> None:
    """F20: 35 characters of the bank's charset, and the id can be read in it."""
    attempt = SystemIds().new("pa")

    assert BANK.map_key(attempt) == attempt.replace("_", "-")
    assert BANK.key_fits(BANK.map_key(attempt))


@pytest.mark.parametrize(
    ("charset", "length"),
    [
        (BANK.key_charset, 35),
        (string.ascii_letters + string.digits, 22),
        (string.ascii_uppercase + string.digits, 25),
        (string.digits, 39),
        ("ab", 128),
    ],
)
@given(one=attempt_ids, other=attempt_ids)
def test_keys_are_one_to_one(charset: str, length: int, one: str, other: str) -> None:
    """F20: no two attempts share a key after the provider's length and charset."""
    row = contract(key_charset=charset, key_length_max=length)

    assert row.key_fits(row.map_key(one))
    assert (row.map_key(one) == row.map_key(other)) == (one == other)


@pytest.mark.parametrize(
    ("charset", "length"),
    [(string.digits, 38), (string.ascii_letters + string.digits, 21), ("a" * 62, 35), ("", 35)],
)
def test_a_key_space_that_would_cut_ids_is_refused(charset: str, length: int) -> None:
    """F20: at the making of the contract, not at the first collision."""
    with pytest.raises(ValueError, match="key space"):
        contract(key_charset=charset, key_length_max=length)


@pytest.mark.parametrize("text", ["", "pa_1", "po_" + "0" * 32, "pa_" + "A" * 32, "pa_" + "0" * 33])
def test_only_attempts_have_keys(text: str) -> None:
    """A payout's id as a key would make its second attempt repeat the first."""
    with pytest.raises(ValueError, match="attempt id"):
        BANK.map_key(text)


@pytest.mark.parametrize("key", ["", "a" * 36, "a_b", "a b", "a\r\nX: y", "é"])
def test_keys_that_do_not_fit(key: str) -> None:
    """F20."""
    assert not BANK.key_fits(key)


@given(
    st.sampled_from(sorted(CURRENCIES.values(), key=lambda c: c.code)),
    st.integers(0, 9),
    st.integers(1, 10**15),
)
def test_amounts_round_trip_or_are_refused(own: Currency, exponent: int, minor: int) -> None:
    """F74: for every currency, whatever the provider counts in; nothing is rounded."""
    row = contract(exponents={own.code: exponent})
    theirs = row.to_provider_minor(minor, own)

    if theirs is None:
        assert exponent < own.exponent
    else:
        assert row.from_provider_minor(theirs, own) == minor


@pytest.mark.parametrize(
    ("code", "exponent", "minor", "theirs"),
    [
        ("CLP", 2, 5, 500),
        ("HUF", 0, 500, 5),
        ("HUF", 0, 501, None),
        ("EUR", 2, 7, 7),
        ("KWD", 2, 10, 1),
    ],
)
def test_provider_exponents(code: str, exponent: int, minor: int, theirs: int | None) -> None:
    """F74: providers that count pesos in cents, or forints whole."""
    row = contract(exponents={code: exponent})

    assert row.to_provider_minor(minor, currency(code)) == theirs
