"""Errors of identity.

BursarError
├── Unauthorized           401  no API key, or not a valid one
├── Forbidden              403  the key's role may not do this
├── MerchantScopeRequired  403  the key is the platform's, and this needs a merchant's
├── UnknownPerson          422  nobody of this id works here
├── NameInvalid            422  a merchant or a person can't be called this
└── Refusal
    ├── MerchantExists     409  there is a merchant with this id
    ├── UnknownMerchant    404  there is no such merchant
    └── UnknownApiKey      404  there is no such key
"""

from bursar.kit.errors import BursarError, Refusal


class Unauthorized(BursarError):
    """No API key was given, or it is unknown, expired or revoked: which, is not told."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(BursarError):
    """The key's role may not do this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class MerchantScopeRequired(BursarError):
    """The key belongs to the platform; this can be asked only for one merchant."""

    code = "merchant_scope_required"
    status = 403
    title = "Merchant scope required"


class UnknownPerson(BursarError):
    """Nobody of this id has a key in this scope."""

    code = "unknown_person"
    status = 422
    title = "Unknown person"


class NameInvalid(BursarError):
    """A merchant or a person can't be called this: nobody could read it or know it."""

    code = "name_invalid"
    status = 422
    title = "Name invalid"


class MerchantExists(Refusal):
    """There is a merchant with this id."""

    code = "merchant_exists"
    status = 409
    title = "Merchant exists"


class UnknownMerchant(Refusal):
    """There is no such merchant."""

    code = "unknown_merchant"
    status = 404
    title = "Unknown merchant"


class UnknownApiKey(Refusal):
    """There is no such key."""

    code = "unknown_api_key"
    status = 404
    title = "Unknown API key"
