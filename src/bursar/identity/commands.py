"""Making merchants and API keys, and revoking keys. Pure. All are journaled by the platform."""

from __future__ import annotations

from datetime import datetime

import msgspec

from bursar.engine.journal import GENESIS
from bursar.engine.model import (
    JOURNAL_HEADS,
    PLATFORM,
    CommandBase,
    JournalHead,
    Needs,
    Peeked,
)
from bursar.engine.working_set import WorkingSet
from bursar.identity.errors import MerchantExists, UnknownApiKey, UnknownMerchant
from bursar.identity.model import API_KEYS, MERCHANTS, PERSONS, ApiKey, Merchant, Person, Role
from bursar.ledger.model import ACCOUNTS, accounts_of


class CreateMerchant(CommandBase, frozen=True, kw_only=True):
    """A merchant with an account per role and currency, and an empty journal of its own.

    `payout_fee_bps` is what we charge for a payout, in basis points of its amount.
    """

    merchant_id: str
    name: str
    currencies: tuple[str, ...]
    payout_fee_bps: int

    def needs(self, _peeked: Peeked) -> Needs:
        """Whether the merchant exists; and the platform's journal."""
        return Needs(locks=((MERCHANTS, self.merchant_id),), journals=(PLATFORM,))

    def decide(self, ws: WorkingSet) -> Merchant:
        """Raises `MerchantExists`."""
        if ws.find(MERCHANTS, self.merchant_id) is not None:
            raise MerchantExists("There is a merchant with this id.")
        merchant = Merchant(self.merchant_id, self.name, self.payout_fee_bps, ws.now)
        ws.insert(MERCHANTS, merchant)
        ws.insert(JOURNAL_HEADS, JournalHead(merchant.id, 0, 0, GENESIS))
        for currency in self.currencies:
            for account in accounts_of(merchant.id, currency):
                ws.insert(ACCOUNTS, account)
        ws.journal(
            PLATFORM,
            "merchant.created",
            merchant.id,
            {
                "name": merchant.name,
                "currencies": self.currencies,
                "payout_fee_bps": merchant.payout_fee_bps,
            },
        )
        return merchant


class CreateApiKey(CommandBase, frozen=True, kw_only=True):
    """A key for a person; the person is recorded with it if the name is new.

    `key_hash` and `prefix` come from `model.issue_key`. `merchant_id` None is the platform.
    `expires_at` is absolute, aware; None never.
    """

    key_id: str
    key_hash: bytes
    prefix: str
    merchant_id: str | None
    person_id: str
    person_name: str
    role: Role
    expires_at: datetime | None = None

    def needs(self, _peeked: Peeked) -> Needs:
        """The merchant and the person, if they exist; and the platform's journal."""
        merchant = () if self.merchant_id is None else ((MERCHANTS, self.merchant_id),)
        return Needs(locks=(*merchant, (PERSONS, self.person_name)), journals=(PLATFORM,))

    def decide(self, ws: WorkingSet) -> ApiKey:
        """`person_id` is taken only for a new name. Raises `UnknownMerchant`."""
        if self.merchant_id is not None and ws.find(MERCHANTS, self.merchant_id) is None:
            raise UnknownMerchant("There is no such merchant.")
        person = ws.find(PERSONS, self.person_name)
        if person is None:
            person = Person(name=self.person_name, id=self.person_id)
            ws.insert(PERSONS, person)
        key = ApiKey(
            id=self.key_id,
            key_hash=self.key_hash,
            prefix=self.prefix,
            merchant_id=self.merchant_id,
            person_id=person.id,
            role=self.role.value,
            created_at=ws.now,
            expires_at=self.expires_at,
            revoked_at=None,
        )
        ws.insert(API_KEYS, key)
        ws.journal(
            PLATFORM,
            "api_key.created",
            key.id,
            {
                "merchant": key.merchant_id,
                "person": person.id,
                "role": key.role,
                "expires_at": key.expires_at,
            },
        )
        return key


class RevokeApiKey(CommandBase, frozen=True, kw_only=True):
    """Make a key useless. Revoking it again changes nothing."""

    key_id: str

    def needs(self, _peeked: Peeked) -> Needs:
        """The key, and the platform's journal."""
        return Needs(locks=((API_KEYS, self.key_id),), journals=(PLATFORM,))

    def decide(self, ws: WorkingSet) -> ApiKey:
        """Raises `UnknownApiKey`."""
        key = ws.find(API_KEYS, self.key_id)
        if key is None:
            raise UnknownApiKey("There is no such key.")
        if key.revoked_at is not None:
            return key
        revoked = msgspec.structs.replace(key, revoked_at=ws.now)
        ws.update(API_KEYS, revoked)
        ws.journal(PLATFORM, "api_key.revoked", key.id, {"merchant": key.merchant_id})
        return revoked
