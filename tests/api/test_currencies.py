"""A currency that the merchant has no accounts in: told at its place, with those it may use."""

import pytest

from bursar.api.currencies import HeldCurrencies
from bursar.db.connection import CONNECTION_ERRORS
from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.identity.commands import CreateMerchant
from bursar.ledger.errors import UnknownAccount
from tests.api.conftest import CURRENCIES, MERCHANTS, ORIGIN, Api
from tests.api.test_bad_input import problem_of
from tests.conftest import Database

HAS = "it has EUR, JPY, KWD, USDC."
LATER = f"mer_{12:032x}"


@pytest.mark.parametrize("currency", ["CHF", "BTC", "USDT"])
async def test_a_payout_in_a_currency_without_accounts(api: Api, currency: str) -> None:
    """F72: the field is named and what would do instead; the key stays free for it."""
    before = await api.count("idempotency_keys")
    answer = await api.post("/payouts", api.body(currency=currency), key="k")

    problem = problem_of(answer)
    assert (answer.status_code, problem["code"]) == (422, "unknown_account")
    assert problem["pointer"] == "/currency"
    assert problem["detail"] == f"The merchant has no accounts in {currency}: {HAS}"
    assert problem["currencies"] == sorted(CURRENCIES)
    assert await api.count("idempotency_keys") == before
    assert (await api.post("/payouts", api.body(), key="k")).status_code == 201


@pytest.mark.parametrize("currency", ["CHF", "BTC", "USDT"])
async def test_funding_a_currency_without_accounts(api: Api, currency: str) -> None:
    """F72: here the currency is a parameter of the path, not a field of the body."""
    answer = await api.post(f"/accounts/{currency}/fund", {"amount": 1})

    problem = problem_of(answer)
    assert (answer.status_code, problem["code"]) == (422, "unknown_account")
    assert problem["parameter"] == "currency"
    assert "pointer" not in problem
    assert problem["detail"] == f"The merchant has no accounts in {currency}: {HAS}"


async def test_what_is_no_currency_is_another_fault(api: Api) -> None:
    """XXX means that there is none (ISO 4217): nobody can have accounts in it."""
    payout = problem_of(await api.post("/payouts", api.body(currency="XXX")))
    funding = problem_of(await api.post("/accounts/XXX/fund", {"amount": 1}))

    assert (payout["code"], payout["pointer"]) == ("invalid_field", "/currency")
    assert (funding["code"], funding["parameter"]) == ("invalid_parameter", "currency")


async def test_each_merchant_is_told_of_its_own(api: Api) -> None:
    """F67: nothing is said of another merchant's accounts."""
    held = HeldCurrencies()
    await _make(api.owner, "CHF")

    await held.require(api.pool, LATER, "CHF")
    with pytest.raises(UnknownAccount) as refused:
        await held.require(api.pool, LATER, "EUR", pointer="/currency")
    await held.require(api.pool, MERCHANTS[0], "EUR")

    assert refused.value.extra == {"currencies": ["CHF"]}


async def test_accounts_that_come_later_are_found(api: Api) -> None:
    """What is not there is not remembered."""
    held = HeldCurrencies()
    with pytest.raises(UnknownAccount, match="it has none at all"):
        await held.require(api.pool, LATER, "CHF")

    await _make(api.owner, "CHF")

    await held.require(api.pool, LATER, "CHF")


async def test_a_currency_that_is_remembered_costs_no_read(api: Api, database: Database) -> None:
    """The database is asked once for a merchant, not once for each payout."""
    held = HeldCurrencies()
    await held.require(api.pool, MERCHANTS[0], "EUR")
    gone = await open_pool(database.dsns.api, size=1, name="gone")
    await gone.close()

    await held.require(gone, MERCHANTS[0], "JPY")
    with pytest.raises(CONNECTION_ERRORS):
        await held.require(gone, MERCHANTS[0], "CHF")


async def _make(owner: Engine, *currencies: str) -> None:
    command = CreateMerchant(
        origin=ORIGIN, merchant_id=LATER, name="Later", currencies=currencies, payout_fee_bps=0
    )
    await owner.submit(command)
