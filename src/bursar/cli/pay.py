"""`bursar pay`: a file of payouts, from its first line to the ledger's equation."""

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from bursar.cli import pay_report as report
from bursar.cli.connection import Connection, resolve_connection
from bursar.cli.errors import CommandRefused
from bursar.cli.pay_run import Payer, Run
from bursar.cli.payout_client import ApiError, PayoutClient
from bursar.cli.payout_file import (
    PayoutFileRefused,
    PayoutRow,
    read_payout_file,
    require_accounts,
)
from bursar.cli.progress import display_for
from bursar.kit.clock import Clock, SystemClock
from bursar.kit.ids import SystemIds, SystemRandomness
from bursar.payouts.fields import DUE_AHEAD_MAX
from bursar.rails.spread import SpreadTransport

EXIT_INTERRUPTED: Final = 130
_REQUEST_TIMEOUT_S: Final = 30.0
_CONNECT_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class PayOptions:
    """What the command line said. Seconds and counts."""

    path: Path
    url: str | None
    api_key: str | None
    demo_file: Path
    concurrency: int
    wait: bool
    timeout_s: float
    retry_refused: bool


def pay(options: PayOptions, *, transport: httpx.AsyncBaseTransport | None = None) -> int:
    """Run the command and print; the exit code. Raises `CommandRefused` for a bad file or API.

    Nothing is sent unless every row of the file is good and the merchant has its currency.
    """
    try:
        latest_due = SystemClock().wall() + DUE_AHEAD_MAX
        rows = read_payout_file(options.path, latest_due=latest_due)
        connection = resolve_connection(options.url, options.api_key, options.demo_file)
        print(f"{options.path}: {len(rows):,} payout{'s' * (len(rows) > 1)}, {_totals(rows)}")
        return asyncio.run(_pay(rows, options, connection, transport))
    except PayoutFileRefused as refused:
        summary = (
            f"{options.path}: {refused.count:,} fault{'s' * (refused.count > 1)}, nothing moved"
        )
        raise CommandRefused(*refused.lines(), summary, code=report.EXIT_BAD_INPUT) from refused
    except ApiError as error:
        raise CommandRefused(str(error)) from error
    except KeyboardInterrupt:
        raise CommandRefused(
            "Stopped. Payouts that were accepted go on; run the same command again to follow them.",
            "Nothing is paid twice: rows that exist already are replayed.",
            code=EXIT_INTERRUPTED,
        ) from None


async def _pay(
    rows: Sequence[PayoutRow],
    options: PayOptions,
    connection: Connection,
    transport: httpx.AsyncBaseTransport | None,
) -> int:
    clock = SystemClock()
    async with httpx.AsyncClient(
        base_url=connection.api_url,
        headers={"Authorization": f"Bearer {connection.api_key}"},
        timeout=httpx.Timeout(_REQUEST_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, pool=None),
        limits=httpx.Limits(max_connections=options.concurrency + 1, keepalive_expiry=30),
        trust_env=not connection.loopback,
        transport=transport or _local_transport(connection, options),
    ) as http:
        deadline = clock.monotonic() + options.timeout_s
        client = PayoutClient(
            http,
            clock=clock,
            randomness=SystemRandomness(),
            deadline=deadline,
            on_silence=partial(_tell, "The API does not answer, waiting."),
            on_return=partial(_tell, "The API answers again."),
        )
        accounts = await client.accounts(once=True)
        free = _free(accounts)
        require_accounts(rows, free)
        for line in _short_of_funds(rows, free):
            print(line)
        run = await _run(rows, options, client, clock=clock, deadline=deadline)
        print()
        for line in report.result_lines(run):
            print(line)
        books: Mapping[str, Any] | None = None
        with suppress(ApiError):
            books = await client.accounts(once=True)
    return _closing(run, books, options, now=clock.wall())


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _local_transport(connection: Connection, options: PayOptions) -> SpreadTransport | None:
    """For an API on this machine, where our own processor time is what counts."""
    if not connection.loopback:
        return None
    return SpreadTransport(options.concurrency, secure=connection.api_url.startswith("https"))


async def _run(
    rows: Sequence[PayoutRow],
    options: PayOptions,
    client: PayoutClient,
    *,
    clock: Clock,
    deadline: float,
) -> Run:
    again = SystemIds().new("run") if options.retry_refused else None
    with display_for(clock, len(rows)) as display:
        payer = Payer(
            client=client,
            clock=clock,
            display=display,
            concurrency=min(options.concurrency, len(rows)),
            deadline=deadline,
            again_suffix=again,
        )
        return await payer.run(rows, wait=options.wait)


def _closing(
    run: Run, books: Mapping[str, Any] | None, options: PayOptions, *, now: datetime
) -> int:
    """Print the books and what is left to do; the exit code."""
    balanced = True
    if books is None:
        print("\nThe ledger could not be read: the API does not answer.")
    else:
        balanced = report.books_balance(books)
        currencies = sorted({str(result.row.body["currency"]) for result in run.results})
        for line in report.books_lines(books, currencies):
            print(line)
    for line in [*(_left_lines(run, now) if options.wait else []), *_unasked_lines(run)]:
        print(line)
    return report.exit_code(run, wait=options.wait, books_balance=balanced)


def _left_lines(run: Run, now: datetime) -> list[str]:
    """What is left to do: payouts that wait for their date, and the other open ones."""
    dates = [
        result.payout.due
        for result in run.results
        if result.open and result.payout is not None and result.payout.due is not None
    ]
    later = sorted(due for due in dates if due > now)
    lines: list[str] = []
    if later:
        wait, their, them = ("payout waits", "its", "it")
        if len(later) > 1:
            wait, their, them = ("payouts wait", "their", "them")
        first = f"{later[0].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        when = f"due {first}" if len(later) == 1 else f"the earliest is due {first}"
        lines += ["", f"{len(later):,} {wait} for {their} date, {when}."]
        lines.append(f"Run the same command again after that to follow {them}.")
    if left := sum(result.open and result.payout is not None for result in run.results) - len(
        later
    ):
        are, them = ("payout is", "it") if left == 1 else ("payouts are", "them")
        lines += ["", f"{left:,} {are} still open. Run the same command again to follow {them}."]
        lines.append("What only people can settle is told at GET /payouts/ops/alerts?state=open.")
    return lines


def _unasked_lines(run: Run) -> list[str]:
    """Rows without a payout that we know of: those that got no answer may have one."""
    states, lines = run.tally(), []
    if count := states["unanswered"]:
        rows = "row has" if count == 1 else "rows have"
        lines += ["", f"{count:,} {rows} no answer yet: the API may have made the payout or not."]
    if count := states["waiting"]:
        rows = "row was" if count == 1 else "rows were"
        lines += ["", f"{count:,} {rows} not asked for: the time was over."]
    if lines:
        lines.append("Run the same command again to go on; nothing is paid twice.")
    return lines


def _totals(rows: Sequence[PayoutRow]) -> str:
    return ", ".join(
        f"{report.amount_text(minor, code)} {code}" for code, minor in sorted(_sums(rows).items())
    )


def _sums(rows: Sequence[PayoutRow]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums[str(row.body["currency"])] += int(row.body["amount"])
    return sums


def _free(accounts: Mapping[str, Any]) -> dict[str, int]:
    """What may be paid out, in minor units, of each currency in which there are accounts."""
    return {
        account["currency"]: account["credits_posted"]
        - account["debits_posted"]
        - account["debits_pending"]
        for account in accounts["data"]
        if account["role"] == "available"
    }


def _short_of_funds(rows: Sequence[PayoutRow], free: Mapping[str, int]) -> list[str]:
    """A warning for each currency in which the file asks for more than is free.

    Only a warning: rows may exist already, and the server decides row by row.
    """
    return [
        f"Note: {report.amount_text(free[code], code)} {code} is free and the file asks for"
        f" {report.amount_text(wanted, code)} in all: of the rows not yet made, those without"
        " funds will be refused."
        for code, wanted in _sums(rows).items()
        if wanted > free[code]
    ]
