"""Shows a run's progress: a bar on a terminal, now and then a line elsewhere."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from bursar.cli.pay_report import tally_text
from bursar.cli.pay_run import Run
from bursar.kit.clock import Clock

if TYPE_CHECKING:
    from rich.progress import TaskID

_BAR_INTERVAL_S: Final = 0.1
_BAR_ROWS_QUICK: Final = 10_000
_LINE_INTERVAL_S: Final = 2.0


class LineDisplay(AbstractContextManager["LineDisplay"]):
    """One line at most every two seconds, and the last state when it closes."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._started = clock.monotonic()
        self._next = self._started + _LINE_INTERVAL_S
        self._last: str = ""
        self._run: Run | None = None

    def update(self, run: Run) -> None:
        """Print the tally if the last line is old enough."""
        self._run = run
        if self._clock.monotonic() >= self._next:
            self._print(run)

    def _print(self, run: Run) -> None:
        now = self._clock.monotonic()
        self._next = now + _LINE_INTERVAL_S
        text = tally_text(run.tally())
        if text != self._last:
            self._last = text
            print(f"{now - self._started:7.1f} s  {text}", file=self._stream, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show where the run stands at its end."""
        if self._run is not None:
            self._print(self._run)


class BarDisplay(AbstractContextManager["BarDisplay"]):
    """A bar that fills as payouts end, with the count in each state beside it."""

    def __init__(self, clock: Clock, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._clock = clock
        self._interval_s = _BAR_INTERVAL_S * (1 + total / _BAR_ROWS_QUICK)
        self._next = 0.0
        self._run: Run | None = None
        self._progress = Progress(
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            Elapsed(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=10,
        )
        self._task: TaskID = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def update(self, run: Run) -> None:
        """Redraw at most ten times a second; less often where counting takes long."""
        self._run = run
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + self._interval_s
            self._draw(run)

    def _draw(self, run: Run) -> None:
        states = run.tally()
        ended = len(run.results) - run.open_count()
        self._progress.update(self._task, completed=ended, description=tally_text(states))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw the last state and give the terminal back."""
        if self._run is not None:
            self._draw(self._run)
        self._progress.stop()


def display_for(clock: Clock, total: int) -> LineDisplay | BarDisplay:
    """A bar if standard error is a terminal, else lines."""
    if sys.stderr.isatty():
        return BarDisplay(clock, total)
    return LineDisplay(sys.stderr, clock)
