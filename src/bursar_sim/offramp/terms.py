"""The off-ramp's terms. docs/wire/offramp.md says the same to its customers."""

from typing import Final

from bursar_sim.provider.terms import Terms

ASSET: Final = "USDC"
DECIMALS: Final = 6

TERMS: Final = Terms(
    prefix="op_",
    return_prefix="rf_",
    window_s=4.0,
    key_life_s=120.0,
    cost=10_000,
    currencies=frozenset({ASSET}),
    mistakes=("USDT", ASSET),
    reasons={
        "account_invalid": "Account identifier is not valid",
        "account_closed": "Account is closed",
        "recipient_blocked": "Recipient is blocked",
        "compliance_rejected": "Rejected by compliance",
        "float_insufficient": "Insufficient float",
        "recipient_returned": "Sent back by the recipient's bank",
    },
    declines=("account_invalid", "account_closed", "recipient_blocked", "compliance_rejected"),
    returns=("recipient_returned",),
    short_code="float_insufficient",
    account_code="account_invalid",
    currency_code="compliance_rejected",  # never met: the codec takes no other asset
    synchronous=False,
    tells_processing=True,
    ordered=True,
    not_found_proves=False,
    without=frozenset({"accept_async"}),
)
