"""A worker's jobs over the twin, and rails that answer as they were told to."""

from __future__ import annotations

from typing import Any, cast

from bursar.kit.ids import SeededIds
from bursar.payouts.jobs import Jobs
from bursar.payouts.memory import MemoryReads
from bursar.rails.contracts import Contract
from bursar.rails.outcomes import Outcome
from bursar.rails.port import PayoutInstruction
from tests.engine.wiring import Twin


class ScriptedRail:
    """Gives its answers in turn and keeps what it was told, and until when it might begin."""

    def __init__(self, contract: Contract, *answers: Outcome) -> None:
        self.contract = contract
        self.name = contract.provider
        self.told: list[tuple[PayoutInstruction, float | None]] = []
        self.answers = list(answers)

    async def submit(
        self,
        instruction: PayoutInstruction,
        *,
        correlation_id: str,
        must_start_before: float | None = None,
    ) -> Outcome:
        """The next answer."""
        assert correlation_id == "cor_1"
        self.told.append((instruction, must_start_before))
        return self.answers.pop(0)


class TwinEngine:
    """An engine over the twin."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin

    async def submit(self, command: Any) -> Any:
        """Run it alone."""
        return self._twin.do(command)


def jobs_over(twin: Twin, *rails: ScriptedRail) -> Jobs:
    """A worker over the twin with these ways out, in order of preference."""
    ids = SeededIds(2)
    return Jobs(
        engine=cast(Any, TwinEngine(twin)),
        reads=MemoryReads(twin.memory),
        rails=cast(Any, {rail.name: rail for rail in rails}),
        verifiers={},
        clock=twin.clock,
        ids=ids,
        randomness=ids,
        worker_id="wrk_1",
    )
