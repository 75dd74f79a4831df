"""Commands of the ledger."""

from __future__ import annotations

from bursar.engine.model import CommandBase, Needs, Peeked, Reply
from bursar.engine.working_set import WorkingSet
from bursar.kit.canonical import canonical_json
from bursar.ledger import recipes
from bursar.ledger.model import ACCOUNTS, AccountRole, address


class FundAccount(CommandBase, frozen=True, kw_only=True):
    """Book money that arrived for a merchant: sandbox funding. `amount` in minor units."""

    merchant_id: str
    currency: str
    amount: int

    def needs(self, _peeked: Peeked) -> Needs:
        """The accounts that funding touches."""
        return Needs(
            locks=tuple(
                (ACCOUNTS, address(self.merchant_id, role, self.currency))
                for role in recipes.FUND_ROLES
            ),
            children=(recipes.debt(self.merchant_id, self.currency),),
            journals=(self.merchant_id,),
        )

    def decide(self, ws: WorkingSet) -> Reply:
        """Post it. Raises `UnknownAccount` for a currency the merchant does not hold."""
        funding_id = ws.ids.new("fd")
        entry = ws.journal(
            self.merchant_id,
            "account.funded",
            funding_id,
            {"amount": self.amount, "currency": self.currency},
        )
        recipes.fund(ws, entry, amount=self.amount, currency=self.currency)
        account = ws.get(ACCOUNTS, address(self.merchant_id, AccountRole.AVAILABLE, self.currency))
        body = {
            "id": funding_id,
            "object": "funding",
            "amount": self.amount,
            "currency": self.currency,
            "available": account.free,
        }
        return Reply(201, canonical_json(body), funding_id)
