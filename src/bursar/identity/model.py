"""Merchants, persons, API keys, roles, and the policy: which role may do what. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Final

import msgspec

from bursar.engine.model import Row, Table
from bursar.identity.errors import NameInvalid

NAME_CHARS_MAX: Final = 140
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


class Role(StrEnum):
    """What a key's holder works as. `SYSTEM` is for processes, which have no keys of their own."""

    OPERATOR = "operator"
    ADMIN = "admin"
    MERCHANT_ADMIN = "merchant_admin"
    FINANCE_OPS = "finance_ops"
    TREASURY_OPS = "treasury_ops"
    BILLING_OPS = "billing_ops"
    SYSTEM = "system"


class Action(StrEnum):
    """What can be asked of the API. Every route names one."""

    PAYOUTS_CREATE = "payouts.create"
    PAYOUTS_READ = "payouts.read"
    PAYOUTS_CANCEL = "payouts.cancel"
    PAYOUTS_RETRY = "payouts.retry"
    PAYOUTS_RESOLVE = "payouts.resolve"
    ALERTS_READ = "alerts.read"
    ALERTS_RESOLVE = "alerts.resolve"
    ACCOUNTS_READ = "accounts.read"
    ACCOUNTS_FUND = "accounts.fund"
    LEDGER_READ = "ledger.read"


_READ = frozenset(
    {Action.PAYOUTS_READ, Action.ACCOUNTS_READ, Action.LEDGER_READ, Action.ALERTS_READ}
)
_CREATE = _READ | {Action.PAYOUTS_CREATE, Action.ACCOUNTS_FUND}
_OPERATE = _CREATE | {
    *(Action.PAYOUTS_CANCEL, Action.PAYOUTS_RETRY, Action.PAYOUTS_RESOLVE),
    Action.ALERTS_RESOLVE,
}

POLICY: Final[Mapping[Role, frozenset[Action]]] = MappingProxyType(
    {
        Role.OPERATOR: _OPERATE,
        Role.ADMIN: _OPERATE,
        # Who asks for payouts does not take them back, send them again or say what became of them:
        # that is for those who watch the money.
        Role.MERCHANT_ADMIN: _CREATE,
        Role.FINANCE_OPS: _OPERATE,
        Role.TREASURY_OPS: _OPERATE,
        Role.BILLING_OPS: _READ,
        Role.SYSTEM: frozenset(),
    }
)
"""Role x action. What is not listed is forbidden."""


def allowed(role: Role, action: Action) -> bool:
    """Whether the policy lets `role` do `action`."""
    return action in POLICY[role]


class Merchant(Row, frozen=True):
    """A business that pays out through us. `payout_fee_bps` is our fee in basis points."""

    id: str
    name: str
    payout_fee_bps: int
    created_at: datetime


class Person(Row, frozen=True):
    """A human being: two keys of one person are one person (maker and checker differ by this)."""

    name: str
    id: str


class ApiKey(Row, frozen=True):
    """A key as it is kept: the SHA-256 of its secret, never the secret.

    `merchant_id` is its scope, None for the platform. Only `revoked_at` ever changes.
    """

    id: str
    key_hash: bytes
    prefix: str
    merchant_id: str | None
    person_id: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class Principal(msgspec.Struct, frozen=True):
    """Who asks: the person and role behind a valid key, and the merchant it is scoped to."""

    person_id: str
    key_id: str
    role: Role
    merchant_id: str | None
    payout_fee_bps: int


def read_name(text: str) -> str:
    """A name of a merchant or a person: 1 to 140 characters that people can read.

    A person is known by the name alone, so a space at an end, which nobody sees, would make a
    second person of one. Raises `NameInvalid`.
    """
    if not text.strip():
        raise NameInvalid("The name is blank.")
    if text != text.strip():
        raise NameInvalid(f"The name {text[:NAME_CHARS_MAX]!a} begins or ends with a space.")
    if len(text) > NAME_CHARS_MAX:
        raise NameInvalid(f"The name has {len(text)} characters, at most {NAME_CHARS_MAX} count.")
    for char in text:
        if unicodedata.category(char) in _FORBIDDEN_CATEGORIES:
            raise NameInvalid(
                f"The name has the character U+{ord(char):04X}, which nobody can read."
            )
    return text


MERCHANTS = Table("merchants", Merchant, key=("id",), rank=3)
PERSONS = Table("persons", Person, key=("name",), rank=4)
API_KEYS = Table("api_keys", ApiKey, key=("id",), rank=6)

TABLES = (MERCHANTS, PERSONS, API_KEYS)

_KEY: Final = re.compile(r"sk_(sandbox|production)_([A-Za-z0-9_-]{43})\Z")
_PREFIX_SECRET_CHARS: Final = 4


class IssuedKey(msgspec.Struct, frozen=True):
    """A fresh key: `text` is shown to its owner once, the rest is kept."""

    text: str
    key_hash: bytes
    prefix: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"IssuedKey({self.prefix}…)"


def issue_key(mode: str, secret: str) -> IssuedKey:
    """The key `sk_<mode>_<secret>`; `secret` is 256 random bits as `kit.ids.new_secret` draws."""
    text = f"sk_{mode}_{secret}"
    key_hash = hash_of(text, mode=mode)
    if key_hash is None:
        msg = "the secret or the mode has not the form of a key"
        raise ValueError(msg)
    return IssuedKey(text, key_hash, text[: len(text) - len(secret) + _PREFIX_SECRET_CHARS])


def hash_of(text: str, *, mode: str) -> bytes | None:
    """SHA-256 of a key's secret, or None if `text` is no key of this mode.

    A plain hash is enough: the secret has 256 bits of its own, so there is nothing to guess.
    """
    match = _KEY.match(text)
    if match is None or match[1] != mode:
        return None
    return sha256(match[2].encode()).digest()
