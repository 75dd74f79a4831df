"""Which provider an attempt goes to: by the payout's currency, in order of preference."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bursar.payouts.attempts import BeginAttempt, Choice
from bursar.payouts.errors import NotDue
from bursar.payouts.jobs import LEASE_MARGIN_S, Jobs, send
from bursar.payouts.model import ATTEMPTS, PROVIDER_KEYS
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import Accepted, NotExecuted, Outcome
from tests.engine.wiring import CURRENCIES, ORIGIN, T0, Twin, create, fund
from tests.payouts.jobdesk import ScriptedRail, jobs_over
from tests.payouts.wiring import attempt, check_payouts, payout

NOT_SENT = NotExecuted(code="not_sent", reason="refused", retryable=True, sent=False)


def choice(provider: str, *currencies: str, lease_s: float = 5) -> Choice:
    """A provider for these currencies, or for all the rest."""
    taken = frozenset(currencies) if currencies else None
    return Choice(provider, f"{provider}-key", timedelta(seconds=lease_s), taken)


def begin_at(*choices: Choice) -> BeginAttempt:
    """Begin pa_a of po_p at one of these."""
    return BeginAttempt(
        origin=ORIGIN,
        payout_id="po_p",
        attempt_id="pa_a",
        choices=choices,
        lease_token="ls_1",
    )


@pytest.fixture
def twin() -> Twin:
    """Money in every currency."""
    made = Twin()
    for currency in CURRENCIES:
        made.do(fund(10_000_000, currency))
    return made


ALL = choice("bank")
ALL_TOO = choice("bank2")
COIN = choice("offramp", "USDC", lease_s=9)
COIN_TOO = choice("offramp2", "USDC", "EUR")


@pytest.mark.parametrize(
    ("choices", "currency", "taken"),
    [
        ((ALL,), "EUR", "bank"),
        ((ALL,), "USDC", "bank"),  # nobody else is there for it
        ((ALL, COIN), "EUR", "bank"),
        ((ALL, COIN), "USDC", "offramp"),
        ((COIN, ALL), "EUR", "bank"),
        ((COIN, ALL), "USDC", "offramp"),
        ((ALL, ALL_TOO), "JPY", "bank"),
        ((ALL_TOO, ALL), "JPY", "bank2"),
        ((COIN, COIN_TOO), "USDC", "offramp"),
        ((COIN_TOO, COIN), "USDC", "offramp2"),
        ((ALL, COIN, COIN_TOO), "EUR", "offramp2"),
        ((COIN,), "EUR", None),
        ((), "EUR", None),
    ],
)
def test_the_currency_decides(
    twin: Twin, choices: tuple[Choice, ...], currency: str, taken: str | None
) -> None:
    """F20: attempt, payout and key's owner name the same provider, and the lease is its own."""
    twin.do(create("p", 1000, currency))
    if taken is None:
        with pytest.raises(NotDue):
            twin.do(begin_at(*choices))
        assert payout(twin).state == "funds_locked"
        return
    begun = twin.do(begin_at(*choices))
    (key,) = twin.rows(PROVIDER_KEYS)
    assert begun.attempt.provider == payout(twin).provider == key.provider == taken
    assert begun.attempt.provider_key == begun.instruction.key == key.key == f"{taken}-key"
    (used,) = [one for one in choices if one.provider == taken]
    assert attempt(twin).lease_until == T0 + used.lease
    assert begun.first_send
    assert begun.conclusive
    check_payouts(twin)


def worker(twin: Twin, *answers: Outcome) -> tuple[Jobs, ScriptedRail, ScriptedRail]:
    """A worker with both providers, each with these answers."""
    bank = ScriptedRail(CONTRACTS["bank"], *answers)
    offramp = ScriptedRail(CONTRACTS["offramp"], *answers)
    return jobs_over(twin, bank, offramp), bank, offramp


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_a_worker_asks_the_provider_that_was_chosen(twin: Twin, currency: str) -> None:
    """F20, F33: in the provider's own key form, within the lease of its own deadline."""
    jobs, bank, offramp = worker(twin, Accepted("ref_1"))
    twin.do(create("p", 1000, currency))
    await send(jobs, "po_p")
    chosen, other = (offramp, bank) if currency == "USDC" else (bank, offramp)
    assert other.told == []
    ((instruction, limit),) = chosen.told
    (row,) = twin.rows(ATTEMPTS)
    assert (row.provider, row.state) == (chosen.name, "accepted")
    assert instruction.key == row.provider_key == chosen.contract.map_key(row.id)
    assert limit == LEASE_MARGIN_S


async def test_a_retry_is_a_new_attempt_with_a_key_of_its_own(twin: Twin) -> None:
    """F20: only proof leads to another attempt, and no two share a key."""
    jobs, _, offramp = worker(twin, NOT_SENT, NOT_SENT)
    twin.do(create("p", 1000, "USDC"))
    await send(jobs, "po_p")
    due = payout(twin).next_attempt_at
    assert due is not None
    twin.clock.advance((due - twin.clock.wall()).total_seconds())
    await send(jobs, "po_p")
    first, second = (told[0].key for told in offramp.told)
    assert first != second
    assert {row.key for row in twin.rows(PROVIDER_KEYS)} == {first, second}
