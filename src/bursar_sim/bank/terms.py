"""The bank's terms. docs/wire/bank.md says the same to its customers."""

from typing import Final

from bursar_sim.provider.terms import Terms

_CURRENCIES: Final = (
    "AED AUD BHD BRL CAD CHF CLP CNY COP CZK DKK EUR GBP GHS HKD HUF IDR ILS INR JOD JPY KES KRW "
    "KWD MAD MXN MYR NGN NOK NZD OMR PHP PLN QAR RON SAR SEK SGD THB TND TRY TWD TZS UGX USD USDC "
    "USDT VND XAF XOF ZAR"
)

TERMS: Final = Terms(
    prefix="bt_",
    return_prefix="rt_",
    window_s=3.0,
    key_life_s=60.0,
    cost=20,
    currencies=frozenset(_CURRENCIES.split()),  # ISO 4217, and two stablecoins
    mistakes=("EUR", "USD"),
    # ISO 20022 external status and return reasons that this bank uses, in our own words.
    reasons={
        "AC01": "Account identifier is not valid",
        "AC04": "Account is closed",
        "AC06": "Account is blocked",
        "AG01": "Transaction is not allowed on this type of account",
        "AM03": "Currency is not served",
        "AM04": "Insufficient funds on the debtor's account",
        "BE04": "Creditor's address is missing or wrong",
        "FOCR": "Returned after a request to cancel",
        "MD07": "Account holder is deceased",
        "MS03": "Reason not given by the creditor's bank",
        "RR04": "Regulatory reason",
    },
    declines=("AC01", "AC04", "AC06", "AG01", "BE04", "MD07", "RR04"),
    returns=("AC04", "AC06", "MD07", "FOCR", "MS03"),
    short_code="AM04",
    account_code="AC01",
    currency_code="AM03",
    synchronous=True,
    tells_processing=False,
    ordered=False,
    not_found_proves=True,
    without=frozenset({"undo"}),
)
