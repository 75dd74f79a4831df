"""The cost of a payout on an empty database and on one that holds many."""

from bench.in_process import engine_rate
from bench.laboratory import SQL, Database, Laboratory, make_database, open_engine, settle
from bench.plan import Plan
from bench.report import Figure, Sample
from bursar.db.connection import connect

_LOADS = (
    "bulk_references",
    "bulk_idempotency_keys",
    "bulk_payouts",
    "bulk_holds",
    "bulk_transfers",
    "bulk_journal",
    "bulk_attempts",
    "bulk_provider_keys",
    "bulk_facts",
)
_CHUNK = 100_000
_FIRST_MERCHANT = 16


async def flatness(lab: Laboratory, plan: Plan) -> list[Figure]:
    """Figure 6 of docs/benchmarks.md."""
    merchants = min(plan.merchants, 1_000)
    empty = await make_database(lab, "flat_empty", merchants=merchants)
    full = await make_database(lab, "flat_full", merchants=merchants)
    await load(full, plan.bulk)
    figures = []
    async with open_engine(empty.dsns) as on_empty, open_engine(full.dsns) as on_full:
        for where, chosen in (
            ("one merchant", slice(0, 1)),
            (f"{merchants:,} merchants", slice(None)),
        ):
            ours, theirs = [], []
            for repeat in range(-1, plan.repeats):
                full_rate = await engine_rate(on_full, full.merchants[chosen], payouts=plan.payouts)
                empty_rate = await engine_rate(
                    on_empty, empty.merchants[chosen], payouts=plan.payouts
                )
                if repeat >= 0:
                    ours.append(full_rate)
                    theirs.append(empty_rate)
            figures.append(
                Figure(
                    f"after {plan.bulk:,} settled payouts, {where}",
                    "/s",
                    Sample(tuple(ours)),
                    Sample(tuple(theirs)),
                    "empty database",
                )
            )
    return figures


async def load(database: Database, payouts: int) -> None:
    """Settled payouts with all their rows, made inside the server, spread over the merchants."""
    merchants = len(database.merchants)
    owner = await connect(database.dsns.owner, name="bench load")
    try:
        for start in range(0, payouts, _CHUNK):
            size = min(_CHUNK, payouts - start)
            for name in _LOADS:
                await owner.execute(SQL[name], start, size, _FIRST_MERCHANT, merchants)
        await owner.execute(SQL["bulk_heads"], 2 * (-(-payouts // merchants)))
    finally:
        await owner.close()
    await settle(database.dsns)
