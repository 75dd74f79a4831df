"""Accounts and their books; and sandbox money."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Response

from bursar.api.admission import access
from bursar.api.fields import CurrencyCode
from bursar.api.replies import document_response, reply_response
from bursar.api.requests import FundBody
from bursar.api.responses import AccountList, Funding
from bursar.api.route import Admitted
from bursar.identity.model import Action
from bursar.ledger.commands import FundAccount
from bursar.ledger.errors import BalanceTooLarge, UnknownAccount
from bursar.ledger.model import Account
from bursar.ledger.store import list_accounts


@access(Action.ACCOUNTS_READ)
async def accounts(call: Admitted) -> Response:
    """The merchant's accounts by currency and role, and the equation of each book."""
    found = await list_accounts(call.deps.pool, call.merchant_id)
    return document_response({"data": [_account(one) for one in found], "books": books_of(found)})


@access(Action.ACCOUNTS_FUND, write=True, refuses=(UnknownAccount, BalanceTooLarge))
async def fund_account(call: Admitted, currency: CurrencyCode, body: FundBody) -> Response:
    """Book money as if it had come in. Only the sandbox has this."""
    deps = call.deps
    await deps.currencies.require(deps.pool, call.merchant_id, currency, parameter="currency")
    reply = await deps.engine.submit(
        FundAccount(
            origin=call.origin,
            request=call.request,
            merchant_id=call.merchant_id,
            currency=currency,
            amount=body.amount,
        )
    )
    return reply_response(reply)


def books_of(found: Sequence[Account]) -> list[dict[str, Any]]:
    """Posted debits and credits by currency, in minor units; whether all that moved agrees."""
    books = []
    for currency in sorted({account.currency for account in found}):
        own = [account for account in found if account.currency == currency]
        debits = sum(account.debits_posted for account in own)
        credits_ = sum(account.credits_posted for account in own)
        pending = sum(account.debits_pending - account.credits_pending for account in own)
        books.append(
            {
                "currency": currency,
                "debits": debits,
                "credits": credits_,
                "balanced": debits == credits_ and pending == 0,
            }
        )
    return books


def _account(account: Account) -> dict[str, Any]:
    return {
        "address": account.address,
        "role": account.role,
        "currency": account.currency,
        "debits_pending": account.debits_pending,
        "debits_posted": account.debits_posted,
        "credits_pending": account.credits_pending,
        "credits_posted": account.credits_posted,
        "balance": account.balance,
    }


def add_routes(app: FastAPI, *, sandbox: bool) -> None:
    """Add the routes of accounts; free money only in the sandbox."""
    tags: Any = ["accounts"]
    app.add_api_route("/accounts", accounts, methods=["GET"], response_model=AccountList, tags=tags)
    if sandbox:
        app.add_api_route(
            "/accounts/{currency}/fund",
            fund_account,
            methods=["POST"],
            status_code=201,
            response_model=Funding,
            tags=tags,
        )
