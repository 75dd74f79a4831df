"""What a person at the command line does: the demo, merchants, keys, the audit."""

# ruff: noqa: PLC0415 - `bursar keys` loads no audit
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bursar.bootstrap.database import process_dsn
from bursar.bootstrap.engines import Wired, open_engine
from bursar.db.pool import Pool, open_pool
from bursar.db.roles import API, AUDITOR, OWNER, Dsns
from bursar.engine.errors import AlreadyExecuted
from bursar.engine.model import Origin, Request
from bursar.engine.verify import Audit
from bursar.identity import model as identity
from bursar.identity.commands import CreateApiKey, CreateMerchant, RevokeApiKey
from bursar.identity.errors import MerchantExists
from bursar.identity.model import Role, issue_key, read_name
from bursar.identity.store import (
    KeyLine,
    MerchantLine,
    find_principal,
    list_api_keys,
    list_merchants,
)
from bursar.kit.errors import BursarError
from bursar.kit.ids import SystemIds, new_secret
from bursar.ledger.commands import FundAccount
from bursar.money.currency import currency
from bursar.settings import Settings

DEMO_MERCHANT_ID = f"mer_{1:032x}"
DEMO_FEE_BPS = 20
DEMO_FUNDS_MINOR = {
    "EUR": 500_000_000,
    "USD": 100_000_000,
    "GBP": 100_000_000,
    "JPY": 1_000_000_000,
    "KWD": 100_000_000,
    "USDC": 1_000_000_000_000,
}
"What the demo merchant starts with, in minor units: enough for examples/payouts.csv ten times."


class UnknownRole(BursarError):
    """The name is no role that a key can have."""

    code = "unknown_role"
    status = 422
    title = "Unknown role"


@dataclass(frozen=True)
class Demo:
    """The demo merchant and a key that works for it now."""

    merchant_id: str
    api_key: str = field(repr=False)


async def ensure_demo(settings: Settings, dsns: Dsns, *, known_key: str | None) -> Demo:
    """The demo merchant with its accounts and `DEMO_FUNDS_MINOR`, and a key that works.

    Made once, by commands through the engine. The key is `known_key` if it still works, else a
    new one.
    """
    async with open_engine(settings, dsns.owner, name="bursar up") as wired:
        origin = _origin()
        with suppress(MerchantExists):
            await wired.engine.submit(
                CreateMerchant(
                    origin=origin,
                    merchant_id=DEMO_MERCHANT_ID,
                    name="Demo merchant",
                    currencies=tuple(DEMO_FUNDS_MINOR),
                    payout_fee_bps=DEMO_FEE_BPS,
                )
            )
        for currency, amount in DEMO_FUNDS_MINOR.items():
            request = Request(DEMO_MERCHANT_ID, f"demo-funds-{currency}", b"demo funds")
            with suppress(AlreadyExecuted):
                await wired.engine.submit(
                    FundAccount(
                        origin=origin,
                        request=request,
                        merchant_id=DEMO_MERCHANT_ID,
                        currency=currency,
                        amount=amount,
                    )
                )
        if known_key is not None and await _works(settings, wired.pool, known_key):
            return Demo(DEMO_MERCHANT_ID, known_key)
        key = await _make_key(
            settings, wired, merchant_id=DEMO_MERCHANT_ID, person="demo", role=Role.FINANCE_OPS
        )
        return Demo(DEMO_MERCHANT_ID, key)


async def _works(settings: Settings, pool: Pool, text: str) -> bool:
    key_hash = identity.hash_of(text, mode=settings.mode)
    principal = await find_principal(pool, key_hash) if key_hash is not None else None
    return principal is not None and principal.merchant_id == DEMO_MERCHANT_ID


async def _make_key(
    settings: Settings, wired: Wired, *, merchant_id: str | None, person: str, role: Role
) -> str:
    ids = SystemIds()
    issued = issue_key(settings.mode, new_secret())
    await wired.engine.submit(
        CreateApiKey(
            origin=_origin(),
            key_id=ids.new("key"),
            key_hash=issued.key_hash,
            prefix=issued.prefix,
            merchant_id=merchant_id,
            person_id=ids.new("per"),
            person_name=person,
            role=role,
        )
    )
    return issued.text


def _origin() -> Origin:
    """The person at the command line, who acts as the platform."""
    return Origin("cli", SystemIds().new("cor"))


async def verify_books(settings: Settings, *, anchor: Path | None) -> Audit:
    """Replay everything as the auditor: balances, states, chains; against `anchor` if given.

    Raises `AnchorDamaged` for a checkpoint file that can't be read.
    """
    from bursar.payouts.verify import audit

    return await audit(process_dsn(settings, AUDITOR), anchor=anchor)


async def create_merchant(
    settings: Settings, *, name: str, currencies: Sequence[str], fee_bps: int
) -> str:
    """A new merchant with accounts in these currencies; returns its id.

    `fee_bps` is what we charge for a payout, in basis points of its amount. Two merchants may
    have one name. Raises `NameInvalid` or `UnknownCurrency`.
    """
    read_name(name)
    codes = tuple(dict.fromkeys(currency(code).code for code in currencies))
    merchant_id = SystemIds().new("mer")
    dsn = process_dsn(settings, OWNER)
    async with open_engine(settings, dsn, name="bursar merchants") as wired:
        await wired.engine.submit(
            CreateMerchant(
                origin=_origin(),
                merchant_id=merchant_id,
                name=name,
                currencies=codes,
                payout_fee_bps=fee_bps,
            )
        )
    return merchant_id


async def all_merchants(settings: Settings) -> list[MerchantLine]:
    """The merchants, oldest first."""
    pool = await open_pool(process_dsn(settings, API), size=1, name="bursar merchants")
    try:
        return await list_merchants(pool)
    finally:
        await pool.close()


async def create_key(settings: Settings, *, merchant_id: str | None, person: str, role: str) -> str:
    """A new API key of the merchant, or of the platform if that is None, shown only now.

    Raises `UnknownMerchant`, `NameInvalid`, or `UnknownRole` for a role that no key can have.
    """
    read_name(person)
    roles = [known.value for known in Role if known is not Role.SYSTEM]
    if role not in roles:
        raise UnknownRole(f"{role!a} is no role: there are {', '.join(roles)}")
    async with open_engine(settings, process_dsn(settings, OWNER), name="bursar keys") as wired:
        return await _make_key(
            settings, wired, merchant_id=merchant_id, person=person, role=Role(role)
        )


async def revoke_key(settings: Settings, key_id: str) -> None:
    """Make the key useless within a second. Raises `UnknownApiKey`."""
    async with open_engine(settings, process_dsn(settings, OWNER), name="bursar keys") as wired:
        await wired.engine.submit(RevokeApiKey(origin=_origin(), key_id=key_id))


async def list_keys(settings: Settings, *, merchant_id: str | None) -> list[KeyLine]:
    """The keys, of one merchant or of all, oldest first."""
    pool = await open_pool(process_dsn(settings, API), size=1, name="bursar keys")
    try:
        return await list_api_keys(pool, merchant_id)
    finally:
        await pool.close()
