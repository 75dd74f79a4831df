"""What engine, ledger and payout tests share: a clock that they set, the twin, and commands."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from bursar.bootstrap import RULES
from bursar.engine.group import Again, Done, Failed, Submission, execute_group, raise_or_value
from bursar.engine.model import Command, JournalEntry, Origin, Request, Row, Table
from bursar.engine.postgres import PostgresStore
from bursar.engine.store import Store
from bursar.identity.commands import CreateMerchant
from bursar.kit.ids import SeededIds
from bursar.ledger.commands import FundAccount
from bursar.ledger.model import ACCOUNTS, Account, AccountRole, address
from bursar.payouts.attempts import BeginAttempt, Choice, RecordReply
from bursar.payouts.commands import CancelPayout, CreatePayout
from bursar.payouts.memory import new_store
from bursar.rails.outcomes import Outcome

T0 = datetime(2026, 3, 27, 9, tzinfo=UTC)
ORIGIN = Origin("per_1", "cor_1")
SHOP = "mer_shop"
OTHER = "mer_other"
CURRENCIES = ("JPY", "EUR", "KWD", "USDC")
"""Of 0, 2, 3 and 6 decimals."""

Result = TypeVar("Result")
R = TypeVar("R", bound=Row)


class SetClock:
    """A clock that moves only when told, or when somebody sleeps on it."""

    def __init__(self, start: datetime = T0) -> None:
        self._start = start
        self._now = start

    def monotonic(self) -> float:
        """Seconds since the start."""
        return (self._now - self._start).total_seconds()

    def wall(self) -> datetime:
        """The time that was set."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Pass at once."""
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._now += timedelta(seconds=seconds)


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that has nothing to wait for, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    coroutine.close()
    raise AssertionError("it waited for something")


class Twin:
    """Commands run at once over the in-memory store: each in a group of its own, or together."""

    def __init__(
        self,
        *,
        seed: int = 1,
        merchants: Iterable[str] = (SHOP,),
        store: PostgresStore | None = None,
    ) -> None:
        """Another `store` starts without merchants, and takes its time from `clock` too."""
        self.clock = SetClock()
        self.ids = SeededIds(seed)
        self.memory = new_store(self.clock)
        self.store: Store = self.memory if store is None else store
        self.decided: list[Command[Any]] = []
        if store is None:
            for merchant in merchants:
                self.do(new_merchant(merchant))

    def do(self, command: Command[Result]) -> Result:
        """Run one command alone; its value, or its refusal raised."""
        (verdict,) = self.group(command)
        value: Result = raise_or_value(verdict)
        return value

    def group(self, *commands: Command[Any]) -> list[Done | Failed]:
        """Run commands as one group, the undecided ones in the groups after it."""
        return finish(self.run(commands))

    async def run(self, commands: Sequence[Command[Any]]) -> list[Done | Failed]:
        """`group`, for a store that one has to wait for."""
        verdicts: dict[int, Done | Failed] = {}
        waiting = list(enumerate(map(Submission, commands)))
        for _ in range(9):
            answers = await self._execute([submission for _, submission in waiting])
            still: list[tuple[int, Submission]] = []
            for (place, submission), verdict in zip(waiting, answers, strict=True):
                if isinstance(verdict, Again):
                    extra = (*submission.extra, verdict.extra)
                    still.append((place, Submission(submission.command, extra)))
                else:
                    verdicts[place] = verdict
                    self.decided.append(submission.command)
            waiting = still
            if not waiting:
                return [verdicts[place] for place in range(len(commands))]
        raise AssertionError("a command stays undecided")

    async def _execute(self, submissions: list[Submission]) -> list[Done | Failed | Again]:
        session: Any = await self.store.begin()
        session.now = self.clock.wall()
        try:
            verdicts, _ = await execute_group(
                submissions, session, group_id=self.ids.new("grp"), ids=self.ids, rules=RULES
            )
        except BaseException:
            await session.rollback()
            raise
        await session.commit()
        return verdicts

    def rows(self, table: Table[R]) -> list[R]:
        """All rows of a table."""
        return self.memory.rows(table)

    def account(self, role: AccountRole, currency: str = "EUR", merchant: str = SHOP) -> Account:
        """One account of a merchant."""
        found: Account = self.memory.tables[ACCOUNTS.name][address(merchant, role, currency)]
        return found


def new_merchant(merchant: str, *currencies: str) -> CreateMerchant:
    """A merchant with accounts in all `CURRENCIES`, or in these."""
    return CreateMerchant(
        origin=ORIGIN,
        merchant_id=merchant,
        name=merchant,
        currencies=currencies or CURRENCIES,
        payout_fee_bps=0,
    )


def asked(key: str, body: str = "", merchant: str = SHOP) -> Request:
    """A client's request under `key`; another `body` is another request."""
    return Request(merchant, key, body.encode())


def fund(
    amount: int, currency: str = "EUR", *, merchant: str = SHOP, request: Request | None = None
) -> FundAccount:
    """Money that arrives."""
    return FundAccount(
        origin=ORIGIN, request=request, merchant_id=merchant, currency=currency, amount=amount
    )


def create(
    name: str,
    amount: int = 100,
    currency: str = "EUR",
    *,
    fee: int = 0,
    merchant: str = SHOP,
    reference: str | None = None,
    request: Request | None = None,
    due_at: datetime | None = None,
    max_retries: int = 2,
) -> CreatePayout:
    """The payout `po_<name>`, whose reference is its name."""
    return CreatePayout(
        origin=ORIGIN,
        request=request,
        merchant_id=merchant,
        payout_id=f"po_{name}",
        reference=name if reference is None else reference,
        amount=amount,
        currency=currency,
        fee=fee,
        beneficiary_name="Zoë Bell",
        beneficiary_iban="DE89370400440532013000",
        description="",
        priority=1,
        due_at=due_at,
        max_retries=max_retries,
        metadata={},
    )


def cancel(name: str, *, merchant: str = SHOP, request: Request | None = None) -> CancelPayout:
    """Cancel `po_<name>`."""
    return CancelPayout(
        origin=ORIGIN, request=request, payout_id=f"po_{name}", merchant_id=merchant
    )


def begin(name: str, attempt: str, *, token: str = "ls_1", lease_s: float = 5) -> BeginAttempt:
    """Begin `pa_<attempt>`, under the provider's key `<attempt>`."""
    return BeginAttempt(
        origin=ORIGIN,
        payout_id=f"po_{name}",
        attempt_id=f"pa_{attempt}",
        choices=(Choice("bank", attempt, timedelta(seconds=lease_s), currencies=None),),
        lease_token=token,
    )


def reply(
    attempt: str, outcome: Outcome, *, token: str = "ls_1", retry_s: float = 0
) -> RecordReply:
    """What the send of `pa_<attempt>` under the lease `token` ended in."""
    return RecordReply(
        origin=ORIGIN,
        attempt_id=f"pa_{attempt}",
        lease_token=token,
        outcome=outcome,
        retry_delay=timedelta(seconds=retry_s),
    )


def journal_of(entries: Iterable[JournalEntry], kind: str) -> list[JournalEntry]:
    """The entries of one kind, in order."""
    return sorted((e for e in entries if e.kind == kind), key=lambda e: (e.merchant_id, e.seq))
