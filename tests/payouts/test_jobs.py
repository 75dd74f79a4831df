"""What the worker asks of a rail."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.payouts.attempts import BeginAttempt, RecordReply
from bursar.payouts.jobs import LEASE_MARGIN_S, Jobs, send
from bursar.rails.contracts import CONTRACTS
from bursar.rails.outcomes import NotExecuted, Outcome
from tests.engine.wiring import SetClock

LATE = NotExecuted(code="not_sent", reason="start_too_late", retryable=True, sent=False, ours=True)


class SlowEngine:
    """Takes some seconds for a commit and keeps what it was told."""

    def __init__(self, clock: SetClock, commit_s: float) -> None:
        self.told: list[Any] = []
        self._clock = clock
        self._commit_s = commit_s

    async def submit(self, command: Any) -> Any:
        """The commit."""
        self.told.append(command)
        self._clock.advance(self._commit_s)
        attempt = SimpleNamespace(id="pa_1", number=1, provider="bank", lease_token="ls_1")
        return SimpleNamespace(
            instruction=None,
            correlation_id="co-1",
            attempt=attempt,
            first_send=True,
            conclusive=True,
        )


class Rail:
    """Remembers until when it might have begun."""

    name = "bank"
    contract = CONTRACTS["bank"]

    def __init__(self) -> None:
        self.limits: list[float | None] = []

    async def submit(
        self,
        _instruction: object,
        *,
        correlation_id: str,
        must_start_before: float | None = None,
    ) -> Outcome:
        """Always too late."""
        assert correlation_id == "co-1"
        self.limits.append(must_start_before)
        return LATE


async def test_a_request_must_begin_while_the_lease_outlasts_it() -> None:
    """F33: the limit counts from before the commit; how long that took changes nothing."""
    clock, rail = SetClock(), Rail()
    engine = SlowEngine(clock, commit_s=30)
    start = clock.monotonic()
    jobs = Jobs(
        engine=cast(Any, engine),
        reads=cast(Any, None),
        rails=cast(Any, {"bank": rail}),
        verifiers={},
        clock=clock,
        ids=SystemIds(),
        randomness=SystemRandomness(),
        worker_id="wrk_1",
    )
    await send(jobs, "po_1")

    begin, record = engine.told
    assert isinstance(begin, BeginAttempt)
    lease = timedelta(seconds=rail.contract.request_deadline_s + LEASE_MARGIN_S)
    assert [choice.lease for choice in begin.choices] == [lease]
    assert rail.limits == [start + LEASE_MARGIN_S]
    assert isinstance(record, RecordReply)
    assert record.outcome == LATE
