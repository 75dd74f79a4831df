"""The benchmarks run, their baselines store what the product stores, and the table is right.

No figure is judged here: a busy machine must not fail the tests.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.against import HERE, MEASUREMENTS, ContestantFailed, compare
from bench.flatness import flatness
from bench.http_api import over_http
from bench.in_process import in_process
from bench.laboratory import Laboratory, make_database
from bench.plan import SMOKE
from bench.report import Figure, Sample, Target, table, write_json
from bench.row_at_a_time import rate as row_rate
from bench.set_based import rate as set_rate
from bursar.db.connection import connect
from bursar.db.embedded import EmbeddedPostgres
from bursar.db.prepare import drop_database
from bursar.db.roles import ADMIN
from tests.conftest import run_blocking


@pytest.fixture
def lab(postgres: EmbeddedPostgres) -> Iterator[Laboratory]:
    """The tests' own server as a laboratory; what is made there is dropped."""
    yield Laboratory(postgres, postgres.data_dir)
    run_blocking(_drop(postgres, ("bursar", "in_process", "flat_empty", "flat_full", "rows")))


async def _drop(server: EmbeddedPostgres, names: tuple[str, ...]) -> None:
    admin = await connect(server.dsn(ADMIN, "postgres"), name="tests")
    try:
        for name in names:
            await drop_database(admin, name)
    finally:
        await admin.close()


async def test_in_process(lab: Laboratory) -> None:
    """Every figure in process comes out, with a baseline."""
    figures = await in_process(lab, SMOKE)

    assert len(figures) == 6
    assert all(figure.ours.value > 0 and figure.ratio is not None for figure in figures)


async def test_flatness(lab: Laboratory) -> None:
    """The bulk load fits the schema, and payouts can be made after it."""
    figures = await flatness(lab, SMOKE)

    assert [figure.ratio is not None for figure in figures] == [True, True]


async def test_over_http(lab: Laboratory) -> None:
    """All replies of both servers are 201, or the load generator raises."""
    figures = await over_http(lab, SMOKE)

    assert [figure.name.split(", ")[1] for figure in figures] == [
        "1 connection",
        "32 connections",
        "128 connections",
    ]


async def test_a_checkout_against_itself() -> None:
    """Both sides are measured as often, each in its own process over its own server."""
    figures = await compare(HERE, SMOKE)

    assert [figure.name for figure in figures] == [title for title, _ in MEASUREMENTS.values()]
    for figure in figures:
        assert figure.baseline is not None
        assert [len(side.values) for side in (figure.ours, figure.baseline)] == [SMOKE.turns] * 2
        assert min(*figure.ours.values, *figure.baseline.values) > 0


async def test_a_checkout_that_can_not_be_measured(tmp_path: Path) -> None:
    """It is an error of this command, not a table with holes."""
    (tmp_path / "src").mkdir()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()

    with pytest.raises(ContestantFailed, match="stopped, with 1"):
        await compare(tmp_path, SMOKE)


async def test_both_baselines_store_what_the_engine_stores(lab: Laboratory) -> None:
    """Row at a time and set-based leave the same numbers of rows and the same balances."""
    database = await make_database(lab, "rows", merchants=3)
    dsn, (one, other, _) = database.dsns.api, database.merchants
    await row_rate(dsn, (one,), connections=4, payouts=30)
    await set_rate(dsn, (other,), group=10, payouts=20)
    connection = await connect(database.dsns.auditor, name="tests")
    try:
        found = {merchant: await _stored(connection, merchant) for merchant in (one, other)}
    finally:
        await connection.close()

    # 30 to warm up and 30 measured; 10 groups to warm up and 2 measured.
    assert found[one] == _expected(60, links=60)
    assert found[other] == _expected(120, links=12)


def _expected(payouts: int, *, links: int) -> dict[str, int]:
    return {
        "payouts": payouts,
        "holds": payouts,
        "payout_references": payouts,
        "idempotency_keys": payouts,
        "journal": payouts,
        "journal_links": links,
        "transfers": 2 * payouts,
        "held": payouts * 10_020,
        "last_seq": payouts,
    }


async def _stored(connection: Any, merchant: str) -> dict[str, int]:
    tables = ("payouts", "holds", "payout_references", "idempotency_keys")
    counted = {
        name: await connection.fetchval(
            f"SELECT count(*) FROM {name} WHERE merchant_id = $1", merchant
        )
        for name in (*tables, "journal", "journal_links", "transfers")
    }
    held = await connection.fetchval(
        "SELECT debits_pending FROM accounts WHERE merchant_id = $1 AND role = 'available'",
        merchant,
    )
    last = await connection.fetchval(
        "SELECT seq FROM journal_heads WHERE merchant_id = $1", merchant
    )
    return {**counted, "held": held, "last_seq": last}


RATE = Figure(
    "in process",
    "/s",
    Sample((90.0, 110.0, 100.0)),
    Sample((20.0, 10.0, 30.0)),
    "rows",
    Target("at least", 5),
)


def test_a_figure_is_median_over_median() -> None:
    """The ratio and the verdict come from medians; the spread from the extremes."""
    assert RATE.ratio == 5.0
    assert RATE.met
    assert RATE.ours.spread == pytest.approx(0.1)


def test_a_latency_is_better_when_smaller() -> None:
    """`at most` is met from below."""
    bound = Target("at most", 1.5)

    assert bound.met(1.5)
    assert not bound.met(1.51)


def test_the_table_shows_both_sides() -> None:
    """Name, value, baseline, ratio, target and verdict stand on one line."""
    line = table([RATE]).splitlines()[1]

    for part in ("in process", "100 /s ±10%", "20.00 /s ±50%", "rows", "5.00", ">= 5", "met"):
        assert part in line


def test_json_keeps_every_repeat(tmp_path: Path) -> None:
    """A later reader can compute other statistics."""
    write_json(tmp_path / "out.json", [RATE], about="a test")

    (figure,) = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert figure["ours"]["values"] == [90.0, 110.0, 100.0]
    assert figure["ratio"] == 5.0
