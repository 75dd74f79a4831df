"""A toy ledger: lists of (debit, credit, amount) and a dictionary of holds; nothing is cached.

It is written from the rules of accounting that the recipes must keep, and shares no code with
them. Every balance is summed again each time it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BOUND = 2**62

Entry = tuple[str, str, int]
"""Debit account, credit account, minor units."""


@dataclass
class ToyLedger:
    """One merchant's accounts in one currency. Every act returns why it was refused, or None."""

    posted: list[Entry] = field(default_factory=list)
    holds: dict[str, list[Entry]] = field(default_factory=dict)

    def counters(self, account: str) -> tuple[int, int, int, int]:
        """Debits pending, debits posted, credits pending, credits posted."""
        held = [entry for entries in self.holds.values() for entry in entries]
        return (
            sum(amount for debit, _, amount in held if debit == account),
            sum(amount for debit, _, amount in self.posted if debit == account),
            sum(amount for _, credit, amount in held if credit == account),
            sum(amount for _, credit, amount in self.posted if credit == account),
        )

    def usable(self) -> int:
        """What the merchant may still pay out."""
        held, spent, _, received = self.counters("available")
        return received - spent - held

    def owed(self) -> int:
        """What the merchant owes us."""
        _, lent, _, repaid = self.counters("receivable")
        return lent - repaid

    def fund(self, amount: int) -> str | None:
        """Money arrives at our bank: debts first."""
        return self._credit("bank", amount)

    def returned(self, amount: int) -> str | None:
        """The provider gives money back: debts first."""
        return self._credit("provider:clearing", amount)

    def payout(self, amount: int, fee: int) -> str | None:
        """Whether it may be held; the caller then gives the hold its name."""
        if amount + fee > self.usable():
            return "insufficient_funds"
        held = self._payout_entries(amount, fee)
        return self._try([], {"?": held})

    def hold(self, name: str, amount: int, fee: int) -> None:
        """Hold what `payout` allowed."""
        self.holds[name] = self._payout_entries(amount, fee)

    def settle(self, name: str, cost: int) -> str | None:
        """What was held is posted; the provider's charge is ours."""
        entries = self.holds.pop(name)
        refused = self._try([*entries, ("costs", "provider:clearing", cost)], {})
        if refused:
            self.holds[name] = entries
        return refused

    def release(self, name: str) -> None:
        """What was held is free again: debts first."""
        del self.holds[name]
        repaid = min(self.usable(), self.owed())
        if repaid > 0:
            self.posted = [*self.posted, ("available", "receivable", repaid)]

    def paid_late(self, amount: int, fee: int, cost: int) -> str | None:
        """It happened, so it is booked: from what is usable, the rest is owed to us."""
        usable = self.usable()
        entries: list[Entry] = [("costs", "provider:clearing", cost)]
        for credit, part in (("provider:clearing", amount), ("fees", fee)):
            taken = min(part, usable)
            usable -= taken
            entries += [("available", credit, taken), ("receivable", credit, part - taken)]
        return self._try(entries, {})

    def _credit(self, source: str, amount: int) -> str | None:
        repaid = min(amount, self.owed())
        entries = [(source, "receivable", repaid), (source, "available", amount - repaid)]
        return self._try(entries, {})

    @staticmethod
    def _payout_entries(amount: int, fee: int) -> list[Entry]:
        return [("available", "provider:clearing", amount), ("available", "fees", fee)]

    def _try(self, entries: list[Entry], held: dict[str, list[Entry]]) -> str | None:
        """Post unless a side of an account would leave the books; holds are only tried."""
        after = ToyLedger(self.posted + entries, {**self.holds, **held})
        for account in {side for entry in after.posted for side in entry[:2]} | {
            side for legs in after.holds.values() for entry in legs for side in entry[:2]
        }:
            debits_held, debits, credits_held, credits_ = after.counters(account)
            if max(debits_held + debits, credits_held + credits_) > BOUND:
                return "balance_too_large"
        self.posted = after.posted
        return None
