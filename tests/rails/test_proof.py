"""What is proof, as tables."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from bursar.rails.proof import (
    as_instructed,
    judge_inquiry,
    judge_submit,
    retry_elsewhere,
    window_closes_at,
)
from tests.rails.test_contracts import contract

BANK = CONTRACTS["bank"]
T0 = datetime(2026, 3, 29, 12, tzinfo=UTC)


def s(seconds: float) -> datetime:
    """`seconds` after the start."""
    return T0 + timedelta(seconds=seconds)


EXECUTED = Executed(provider_ref="bt_1", amount_minor=100, currency="EUR", cost_minor=3)
NOT_SENT = NotExecuted(code="not_sent", reason="connect_failed", retryable=True, sent=False)
CLOSED = NotExecuted(code="AC04", reason="closed", retryable=False, sent=True)
SHORT = NotExecuted(code="AM04", reason="short", retryable=False, sent=True)
DOOR = NotExecuted(
    code="unauthorized",
    reason="The bank refused our credentials",
    retryable=True,
    ours=True,
    sent=True,
)
ODD = NotExecuted(code="ZZ99", reason="odd", retryable=True, sent=True)


@pytest.mark.parametrize(
    ("outcome", "send", "judged"),
    [
        (EXECUTED, "first", EXECUTED),
        (EXECUTED, "later", EXECUTED),
        (EXECUTED, "conclusive", EXECUTED),
        (Accepted("bt_1"), "first", Accepted("bt_1")),
        (Accepted("bt_1"), "later", Accepted("bt_1")),
        (Accepted("bt_1"), "conclusive", Accepted("bt_1")),
        (Unknown("reset"), "first", Unknown("reset")),
        (Unknown("reset"), "later", Unknown("reset")),
        (Unknown("reset"), "conclusive", Unknown("reset")),
        (CLOSED, "first", CLOSED),
        (CLOSED, "later", Unknown("no_proof_on_resend:AC04")),
        (CLOSED, "conclusive", CLOSED),
        (NOT_SENT, "first", NOT_SENT),
        (NOT_SENT, "later", Unknown("no_proof_on_resend:not_sent")),
        (NOT_SENT, "conclusive", Unknown("no_proof_on_resend:not_sent")),
        (DOOR, "first", DOOR),
        (DOOR, "later", Unknown("no_proof_on_resend:unauthorized")),
        (DOOR, "conclusive", Unknown("no_proof_on_resend:unauthorized")),
        (ODD, "first", Unknown("unlisted_code:ZZ99")),
        (ODD, "later", Unknown("no_proof_on_resend:ZZ99")),
        (ODD, "conclusive", Unknown("unlisted_code:ZZ99")),
    ],
)
def test_one_sends_outcome(outcome: Outcome, send: str, judged: Outcome) -> None:
    """F12, F14, F15: a "no" on a resend is proof only after the window of the sends before it.

    That no byte of it left, or that it was turned away unread (F90), says nothing of those, ever.
    """
    first, conclusive = send == "first", send == "conclusive"

    assert judge_submit(outcome, BANK, first_send=first, conclusive=conclusive) == judged


@pytest.mark.parametrize("outcome", [CLOSED, NOT_SENT, SHORT])
def test_a_later_send_is_not_conclusive_unless_said(outcome: Outcome) -> None:
    """F12: what is forgotten errs to the safe side."""
    assert isinstance(judge_submit(outcome, BANK, first_send=False), Unknown)


def test_flags_come_from_the_contract() -> None:
    """F90: whatever a codec believed about AM04."""
    judged = judge_submit(SHORT, BANK, first_send=True)

    assert isinstance(judged, NotExecuted)
    assert (judged.retryable, judged.ours) == (True, True)


@pytest.mark.parametrize(
    ("last_ambiguous", "lease_until", "closes"),
    [
        (0, 10, 15),  # the lease's holder may have begun at 10, writing until 12
        (11.9, 10, 15),
        (12, 10, 15),
        (20, 10, 23),  # from the last ambiguous send, not the first
        (None, 10, 15),  # nobody reported a send: the lease alone
    ],
)
def test_when_the_window_closes(
    last_ambiguous: float | None, lease_until: float, closes: float
) -> None:
    """F11: later of last ambiguous send and lease end + deadline (2 s), then the window (3 s)."""
    at = None if last_ambiguous is None else s(last_ambiguous)

    assert window_closes_at(at, s(lease_until), BANK) == s(closes)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_later_send_or_lease_never_closes_earlier(one: float, more: float, lease: float) -> None:
    """F11."""
    early = window_closes_at(s(one), s(lease), BANK)

    assert window_closes_at(s(one + more), s(lease), BANK) >= early
    assert window_closes_at(s(one), s(lease + more), BANK) >= early
    assert early >= s(one) + BANK.finality_window
    assert early >= s(lease) + BANK.finality_window + BANK.request_deadline


def test_times_without_a_zone_are_refused() -> None:
    """F39."""
    with pytest.raises(ValueError, match="zone"):
        window_closes_at(None, T0.replace(tzinfo=None), BANK)


FOUND = StatusExecuted(provider_ref="bt_1", amount_minor=100, currency="EUR", cost_minor=3)
RETURNED = StatusReturned(
    provider_ref="bt_1",
    amount_minor=100,
    currency="EUR",
    cost_minor=3,
    returned_minor=100,
    code="AC04",
    reason="closed",
)
REJECTED = StatusRejected("AC04", "closed")
ABSENT = NotExecuted(
    code="not_found",
    reason="the provider knows no such instruction after its finality window",
    retryable=True,
    sent=True,
)
BEFORE, AT, AFTER = 14.999, 15.0, 99.0


@pytest.mark.parametrize(
    ("inquiry", "now", "judged"),
    [
        # positive answers count at once, and always
        *((FOUND, now, EXECUTED) for now in (BEFORE, AT, AFTER)),
        *((RETURNED, now, EXECUTED) for now in (BEFORE, AT, AFTER)),
        *((StatusPending("bt_1"), now, Accepted("bt_1")) for now in (BEFORE, AT, AFTER)),
        # a failed inquiry says nothing, however late
        *((StatusUnknown("reset"), now, Unknown("reset")) for now in (BEFORE, AT, AFTER)),
        # a rejection: not while a send may still be under way
        (REJECTED, BEFORE, Unknown("rejected_in_window:AC04")),
        (REJECTED, AT, CLOSED),
        (REJECTED, AFTER, CLOSED),
        # a code that the contract does not list: never
        (StatusRejected("ZZ99", "odd"), BEFORE, Unknown("rejected_in_window:ZZ99")),
        (StatusRejected("ZZ99", "odd"), AFTER, Unknown("unlisted_code:ZZ99")),
        (StatusRejected("", ""), AFTER, Unknown("unlisted_code:")),
        # not found
        (StatusNotFound(), BEFORE, Unknown("not_found_in_window")),
        (StatusNotFound(), AT, ABSENT),
        (StatusNotFound(), AFTER, ABSENT),
    ],
)
def test_what_an_inquiry_proves(inquiry: Inquiry, now: float, judged: Outcome) -> None:
    """F12, F13: the window closes at 15 s."""
    assert judge_inquiry(inquiry, BANK, now=s(now), window_closes_at=s(15)) == judged


def test_a_promised_order_that_is_not_found_is_a_riddle() -> None:
    """F13: the promise and the answer contradict each other, however late."""
    judged = judge_inquiry(
        StatusNotFound(), BANK, now=s(AFTER), window_closes_at=s(15), promised=True
    )
    assert judged == Unknown("not_found_after_promise")


def test_absence_proves_nothing_where_inquiries_forget() -> None:
    """F13: even after the window."""
    forgetful = contract(absence_is_proof=False)

    judged = judge_inquiry(StatusNotFound(), forgetful, now=s(99), window_closes_at=s(15))

    assert judged == Unknown("not_found")


negative = st.one_of(
    st.just(StatusNotFound()),
    st.builds(StatusRejected, st.sampled_from(["AC04", "AM04", "ZZ99"]), st.just("")),
)


@given(negative, st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5))
def test_no_negative_evidence_before_the_window_closes(
    inquiry: Inquiry, ambiguous: float, lease: float, after: float
) -> None:
    """F11, F12, F13: whatever the provider says, inside the window the attempt is unknown."""
    closes = window_closes_at(s(ambiguous), s(lease), BANK)
    now = s(ambiguous + after)
    judged = judge_inquiry(inquiry, BANK, now=now, window_closes_at=closes)

    if now < closes:
        assert isinstance(judged, Unknown)


OFFRAMP = CONTRACTS["offramp"]
TAKEN = NotExecuted(code="account_closed", reason="closed", retryable=False, sent=True, sequence=3)


@pytest.mark.parametrize(
    ("inquiry", "now", "judged"),
    [
        # its inquiry forgets, or does not know yet: no absence is ever proof
        *((StatusNotFound(), now, Unknown("not_found_in_window")) for now in (0, 14.999)),
        *((StatusNotFound(), now, Unknown("not_found")) for now in (15, 1e6)),
        (StatusRejected("account_closed", "closed", 3), 14.999, None),
        (StatusRejected("account_closed", "closed", 3), 15, TAKEN),
        (StatusRejected("recipient_returned", "back", 3), 1e6, None),
        (StatusPending("op_1"), 0, Accepted("op_1")),
        (
            StatusExecuted(provider_ref="op_1", amount_minor=7, currency="USDC", sequence=2),
            0,
            Executed(provider_ref="op_1", amount_minor=7, currency="USDC", sequence=2),
        ),
        (
            StatusReturned(
                provider_ref="op_1",
                amount_minor=7,
                currency="USDC",
                returned_minor=7,
                code="recipient_returned",
                reason="",
                return_id="rf_1",
                sequence=3,
            ),
            0,
            Executed(provider_ref="op_1", amount_minor=7, currency="USDC", sequence=3),
        ),
    ],
)
def test_what_the_offramps_inquiry_proves(
    inquiry: Inquiry, now: float, judged: Outcome | None
) -> None:
    """F12, F13, F26: the window closes at 15 s; the provider's own order is kept. None: unknown."""
    found = judge_inquiry(inquiry, OFFRAMP, now=s(now), window_closes_at=s(15))

    assert isinstance(found, Unknown) if judged is None else found == judged


@pytest.mark.parametrize(
    ("outcome", "judged"),
    [
        (EXECUTED, EXECUTED),
        (
            Executed(provider_ref="b", amount_minor=99, currency="EUR"),
            Unknown("amount_mismatch", 99, "EUR"),
        ),
        (
            Executed(provider_ref="b", amount_minor=100, currency="USD"),
            Unknown("amount_mismatch", 100, "USD"),
        ),
        (Accepted("bt_1"), Accepted("bt_1")),
        (CLOSED, CLOSED),
    ],
)
def test_another_amount_is_not_our_payout(outcome: Outcome, judged: Outcome) -> None:
    """F18: frozen, not settled."""
    assert as_instructed(outcome, amount_minor=100, currency="EUR") == judged


@pytest.mark.parametrize(
    ("retryable", "ours", "retry", "burns"),
    [
        (False, False, False, False),
        (True, False, True, True),
        (True, True, True, False),
        (False, True, True, False),
    ],
)
def test_what_follows_proof(*, retryable: bool, ours: bool, retry: bool, burns: bool) -> None:
    """F90: a cause on our side waits, and costs the payout none of its retries."""
    proof = NotExecuted(code="X", reason="x", retryable=retryable, ours=ours, sent=True)

    release = retry_elsewhere(proof)

    assert (release.code, release.retry, release.burns_retry) == ("X", retry, burns)
