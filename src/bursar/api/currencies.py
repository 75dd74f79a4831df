"""Which currencies a merchant holds, so that a request for another is told which it may name."""

import asyncio
from typing import Final

from bursar.db.pool import Pool
from bursar.ledger.errors import UnknownAccount
from bursar.ledger.model import AccountRole
from bursar.ledger.store import list_accounts

_DEADLINE_S: Final = 5.0
_REMEMBERED_MAX: Final = 10_000


class HeldCurrencies:
    """Remembers what merchants hold. Accounts are never taken away, so what was found stays true.

    A currency that is not remembered is looked for each time: one that is added later is found.
    """

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}

    async def require(self, pool: Pool, merchant_id: str, currency: str, **place: str) -> None:
        """Return if the merchant has accounts in `currency`; almost always without asking.

        Raises `UnknownAccount` with the currencies that it has, at `place` (`pointer` or
        `parameter`); the driver's errors, and TimeoutError after 5 seconds.
        """
        if currency in self._known.get(merchant_id, ()):
            return
        async with asyncio.timeout(_DEADLINE_S):
            accounts = await list_accounts(pool, merchant_id)
        held = frozenset(one.currency for one in accounts if one.role == AccountRole.AVAILABLE)
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
        self._known[merchant_id] = held
        if currency not in held:
            named = sorted(held)
            has = f"it has {', '.join(named)}" if named else "it has none at all"
            raise UnknownAccount(
                f"The merchant has no accounts in {currency}: {has}.", **place, currencies=named
            )
