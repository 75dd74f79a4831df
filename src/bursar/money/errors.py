"""What money refuses.

BursarError
├── UnknownCurrency      not in the table: `unknown_currency`
├── AmountInvalid        not an amount of this currency: `amount_invalid`
└── CurrencyMismatch     two currencies in one sum: `currency_mismatch`
"""

from bursar.kit.errors import BursarError


class UnknownCurrency(BursarError):
    """The code names no currency that Bursar carries."""

    code = "unknown_currency"
    status = 422
    title = "Unknown currency"


class AmountInvalid(BursarError):
    """The value is not an amount: not an integer, out of bounds, or badly written."""

    code = "amount_invalid"
    status = 422
    title = "Invalid amount"


class CurrencyMismatch(BursarError):
    """Amounts of different currencies are never added or compared."""

    code = "currency_mismatch"
    status = 422
    title = "Currency mismatch"
