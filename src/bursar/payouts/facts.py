"""How an attempt stands by all its facts together, whatever their order and number. Pure.

Where a provider numbers what it says, the number decides between paid and failed; else paid does,
because only money that is known to have come back may be treated as not gone (F23, F25, F26).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from bursar.payouts.machine import AttemptState

FOREIGN = "foreign"
"""The kind of a fact that tells another amount or currency than was asked for (F18)."""

_TOLD = "told"
_IN_ALL = "in_all:"


class Known(Protocol):
    """What standing needs of a fact."""

    @property
    def kind(self) -> str:
        """accepted, paid, failed, returned or foreign."""
        ...

    @property
    def item(self) -> str:
        """What tells it apart from other facts of its kind."""
        ...

    @property
    def provider_ref(self) -> str | None:
        """The provider's name of the transfer."""
        ...

    @property
    def amount(self) -> int:
        """Minor units."""
        ...

    @property
    def sequence(self) -> int | None:
        """The provider's own order."""
        ...


class Standing(msgspec.Struct, frozen=True):
    """What is known of an attempt. Amounts are minor units of its currency.

    `failed` is proven; a failure that was only told counts for nothing but `denied`, and where
    order puts it after the payment. `undone_by` is the number of the failure that took a payment
    back. `returned` is what came back, at most the attempt's amount; `excess` is what was told
    beyond that. `contradicted`: that it was paid and that it failed were both told, in no order.
    `unexplained`: a return was told, but no payment of the amount that was asked for.
    """

    accepted: bool = False
    paid: bool = False
    failed: bool = False
    denied: bool = False
    contradicted: bool = False
    unexplained: bool = False
    undone_by: int | None = None
    returned: int = 0
    excess: int = 0
    references: frozenset[str | None] = frozenset()

    def state(self, otherwise: AttemptState) -> AttemptState:
        """Returned, else paid, else failed, else accepted; `otherwise` if nothing is known."""
        ranks = (
            (AttemptState.RETURNED, self.returned > 0),
            (AttemptState.PAID, self.paid),
            (AttemptState.FAILED, self.failed),
            (AttemptState.ACCEPTED, self.accepted),
        )
        return next((state for state, holds in ranks if holds), otherwise)


def standing(facts: Iterable[Known], amount: int) -> Standing:
    """How an attempt of `amount` minor units stands: a function of the set of its facts.

    A return means that money had left, but not how much: it counts beside a payment, told before
    or after it. Another amount than asked for counts for nothing.
    """
    known = list(facts)
    paid, failed, back = (
        [fact for fact in known if fact.kind == kind]
        for kind in (AttemptState.PAID, AttemptState.FAILED, AttemptState.RETURNED)
    )
    undone_by, ordered = _order(paid, failed)
    told_back = _sum_of_returns(back) if paid else 0
    return Standing(
        accepted=any(fact.kind == AttemptState.ACCEPTED for fact in known),
        paid=bool(paid),
        failed=any(not _is_told(fact) for fact in failed),
        denied=bool(failed),
        contradicted=bool(paid) and bool(failed) and not ordered,
        unexplained=bool(back) and not paid,
        undone_by=undone_by,
        returned=amount if undone_by is not None else min(told_back, amount),
        excess=max(0, told_back - amount),
        references=frozenset(fact.provider_ref for fact in (*paid, *back)),
    )


def _order(paid: list[Known], failed: list[Known]) -> tuple[int | None, bool]:
    """Which failure came after the last payment, if one did; whether all failures have a place."""
    payments = [fact.sequence for fact in paid if fact.sequence is not None]
    failures = [fact.sequence for fact in failed if fact.sequence is not None]
    if not payments or not failures:
        return None, False
    last = max(failures)
    return (last if last > max(payments) else None), len(failures) == len(failed)


def _sum_of_returns(back: list[Known]) -> int:
    """The parts, each once; or the whole as an inquiry told it, if that is more."""
    parts = sum(max(0, fact.amount) for fact in back if not fact.item.startswith(_IN_ALL))
    wholes = [fact.amount for fact in back if fact.item.startswith(_IN_ALL)]
    return max(parts, *wholes, 0)


def amount_returned(amount: int, attempts: Iterable[Standing]) -> int:
    """What a payout of `amount` got back beyond every execution but one (F79, F80, I8).

    One execution is what the merchant ordered: what comes back of the others was never its own.
    """
    paid = [attempt for attempt in attempts if attempt.paid]
    surplus = amount * (len(paid) - 1)
    return max(0, sum(attempt.returned for attempt in paid) - surplus) if paid else 0


def failure_item(sequence: int | None, *, proven: bool) -> str:
    """The `item` of a failure: one that was only told is another fact than its proof."""
    number = "" if sequence is None else str(sequence)
    return number if proven else f"{_TOLD}:{number}"


def foreign_item(amount: int, currency: str) -> str:
    """The `item` of another amount than asked for: whoever tells it, it is one fact."""
    return f"{currency}:{amount}"


def foreign_currency(item: str) -> str:
    """The currency that a foreign fact tells; empty if we don't carry it."""
    return item.partition(":")[0]


def return_item(return_id: str | None, amount: int) -> str:
    """The `item` of a return: the provider's id, or else `amount`, all that came back so far."""
    return f"{_IN_ALL}{amount}" if return_id is None else return_id


def _is_told(failure: Known) -> bool:
    return failure.item.startswith(_TOLD)
