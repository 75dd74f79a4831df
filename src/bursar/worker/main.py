"""The worker: all lanes of one process, started and drained together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from bursar.db.pool import Pool
from bursar.engine.store import Store
from bursar.engine.wake import Listener
from bursar.kit.clock import Clock
from bursar.payouts import commands, inbox
from bursar.payouts.jobs import Jobs, apply_event, ask, expire, resend, send, take_over
from bursar.worker.housekeeping import run_blanker, run_pruner, run_sealer
from bursar.worker.lanes import Lane
from bursar.worker.relay import run_relay

log = structlog.get_logger(__name__)

TOPICS = (commands.WAKE, inbox.WAKE)
DRAIN_S = 5.0
SWEEP_S = 0.5


class Worker:
    """Runs the lanes until told to stop."""

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        pool: Pool,
        listener: Listener,
        *,
        clock: Clock,
        concurrency: int,
        poll_s: float,
        anchor: Path | None,
        journal_export: Path | None,
    ) -> None:
        """`concurrency` bounds the provider calls in flight; `anchor` is the checkpoint file."""
        self._listener = listener
        wake = listener.events
        self._lanes = [
            Lane(
                store,
                "payouts",
                partial(send, jobs),
                concurrency=concurrency,
                poll_s=min(poll_s, SWEEP_S),
                wake=wake[commands.WAKE],
            ),
            Lane(
                store,
                "inbox",
                partial(apply_event, jobs),
                concurrency=concurrency * 2,
                poll_s=poll_s,
                wake=wake[inbox.WAKE],
            ),
            Lane(store, "inquiries", partial(ask, jobs), concurrency=concurrency, poll_s=SWEEP_S),
            Lane(store, "resends", partial(resend, jobs), concurrency=concurrency, poll_s=SWEEP_S),
            Lane(
                store,
                "leases",
                partial(take_over, jobs),
                concurrency=concurrency,
                poll_s=SWEEP_S,
                excludes=False,
            ),
            Lane(
                store,
                "expiries",
                partial(expire, jobs),
                concurrency=8,
                poll_s=10.0,
                excludes=False,
            ),
        ]
        self._housekeeping: list[Callable[[], Coroutine[Any, Any, None]]] = [
            partial(run_sealer, pool, anchor, clock),
            partial(run_pruner, pool, clock),
            partial(run_blanker, pool, clock),
        ]
        if journal_export is not None:
            self._housekeeping.append(partial(run_relay, pool, journal_export, clock))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain: at most `DRAIN_S` for all lanes together.

        When this returns no job runs any more, so engine and connections may be closed.
        """
        background: list[Coroutine[Any, Any, None]] = [
            self._listener.run(),
            *(lane.run() for lane in self._lanes),
            *(start() for start in self._housekeeping),
        ]
        tasks = [asyncio.create_task(job) for job in background]
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        # No lane may take on work that another's last jobs have made due: all stop first.
        for lane in self._lanes:
            lane.stop_taking()
        await asyncio.gather(*(lane.drain(DRAIN_S) for lane in self._lanes))
        for task in [*tasks, stopping]:
            task.cancel()
        await asyncio.wait([*tasks, stopping])
        for task in done - {stopping}:
            task.result()
