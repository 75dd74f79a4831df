"""Errors of the ledger.

BursarError
└── Refusal
    ├── InsufficientFunds 422  the account has less free than the transfer takes
    ├── UnknownAccount    422  the merchant has no account in this currency
    └── BalanceTooLarge   422  the counter would leave the range of the books
"""

from bursar.kit.errors import Refusal


class InsufficientFunds(Refusal):
    """The account has less free than the transfer takes."""

    code = "insufficient_funds"
    status = 422
    title = "Insufficient funds"


class UnknownAccount(Refusal):
    """The merchant has no account in this currency."""

    code = "unknown_account"
    status = 422
    title = "Unknown account"


class BalanceTooLarge(Refusal):
    """The counter would leave the range of the books."""

    code = "balance_too_large"
    status = 422
    title = "Balance too large"
