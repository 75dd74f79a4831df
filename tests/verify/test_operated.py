"""What operators did to payouts stands in journal, books and facts; a forged word is found."""

from __future__ import annotations

import re

import pytest

from bursar.db.pool import open_pool
from bursar.engine.engine import Engine
from bursar.engine.model import Origin
from bursar.payouts.operations import ResolvePayout, RetryPayout, Verdict
from bursar.rails.outcomes import Unknown
from bursar.rails.port import EventKind
from tests.conftest import new_database, run_blocking
from tests.engine.wiring import OTHER, SHOP, begin, create, fund, new_merchant, reply
from tests.verify.books import DECLINED, Actor, Books, new_engine

ANN, BEN = Origin("per_ann", "cor_ann"), Origin("per_ben", "cor_ben")
LONG_AGO = """UPDATE attempts SET begun_at = begun_at - interval '1 hour',
              lease_until = lease_until - interval '1 hour',
              ambiguous_at = ambiguous_at - interval '1 hour'"""


FREE = "SELECT credits_posted - debits_posted - debits_pending FROM accounts WHERE address = $1"


def _resolve(who: Origin, name: str, verdict: Verdict) -> ResolvePayout:
    return ResolvePayout(
        origin=who,
        merchant_id=SHOP,
        payout_id=f"po_{name}",
        verdict=verdict,
        provider_ref=f"bt_{name}" if verdict == "executed" else None,
        evidence="a letter",
    )


async def _both(engine: Engine, name: str, verdict: Verdict) -> None:
    for who in (ANN, BEN):
        await engine.submit(_resolve(who, name, verdict))


async def _operate(books: Books) -> None:
    """Retried payouts, resolved attempts, and debts that changed and ended."""
    pool = await open_pool(books.database.dsns.owner, size=3, name="test")
    engine = new_engine(pool)
    submit, actor = engine.submit, Actor(engine)
    try:
        for merchant in (SHOP, OTHER):
            await submit(new_merchant(merchant))
            await submit(fund(1_000, merchant=merchant))
        for name in ("executed", "not", "twice", "proposed"):
            await submit(create(name, fee=1))
            await submit(begin(name, f"{name}-1"))
            await submit(reply(f"{name}-1", Unknown("timeout")))
        await submit(create("retried", fee=1))
        await submit(begin("retried", "retried-1"))
        await submit(reply("retried-1", DECLINED))
        await pool.execute(LONG_AGO)
        await _both(engine, "executed", "executed")
        await _both(engine, "not", "not_executed")
        await _both(engine, "twice", "not_executed")
        await submit(_resolve(ANN, "proposed", "executed"))
        await submit(create("again", fee=1))
        await submit(begin("again", "again-1"))
        await submit(reply("again-1", Unknown("timeout")))
        await pool.execute(LONG_AGO)
        await _both(engine, "again", "not_executed")
        await actor.told("again-1", EventKind.PAID, 99)
        await _both(engine, "again", "executed")
        await submit(create("frozen", fee=1))
        await submit(begin("frozen", "frozen-1"))
        await submit(reply("frozen-1", DECLINED))
        await actor.told("frozen-1", EventKind.PAID, 99)
        await pool.execute(LONG_AGO)
        await _both(engine, "frozen", "not_executed")
        for name in ("retried", "twice"):
            await submit(RetryPayout(origin=ANN, merchant_id=SHOP, payout_id=f"po_{name}"))
        await submit(begin("twice", "twice-2"))
        await submit(reply("twice-2", Unknown("timeout")))
        await pool.execute(LONG_AGO)
        await _both(engine, "twice", "executed")
        for merchant, repaid in ((OTHER, 40), (SHOP, 900)):
            name = f"owes_{merchant}"
            await submit(create(name, merchant=merchant))
            await submit(begin(name, f"{name}-1"))
            await submit(reply(f"{name}-1", DECLINED))
            free = await pool.fetchval(FREE, f"{merchant}/available/EUR")
            await submit(create(f"rest_{merchant}", free, merchant=merchant))
            await actor.told(f"{name}-1", EventKind.PAID)
            await submit(fund(repaid, merchant=merchant))
    finally:
        await engine.close()
        await pool.close()


@pytest.fixture(scope="module")
def operated(_servers: object, tmp_path_factory: pytest.TempPathFactory) -> Books:
    """Books on which operators have worked."""
    server = _servers.of("wheel")  # type: ignore[attr-defined]
    anchor = tmp_path_factory.mktemp("operated") / "checkpoints.jsonl"
    made = Books(new_database(server), anchor)
    run_blocking(_operate(made))
    return made


async def test_what_operators_did_is_in_order(operated: Books) -> None:
    """I4, I7, I11, I26: second holds, resolved attempts, and a debt that changed."""
    audit = await operated.audit()

    assert audit.disagreement is None
    assert "obligations: 1 merchants' debts have one open incident each" in audit.lines
    assert audit.lines[-1] == "resolutions: 7 by two persons each"


PROPOSED = "WHERE attempt_id = 'pa_proposed-1'"
OLD_HOLD = "(SELECT hold_id FROM attempts WHERE id = 'pa_retried-1')"
CONFIRMED = "WHERE attempt_id = 'pa_executed-1'"
FORGED = [
    (f"DELETE FROM resolutions {CONFIRMED}", "facts .*pa_executed-1.*two persons behind"),
    (f"UPDATE resolutions SET proposed_by = 'per_x' {CONFIRMED}", "resolutions .*as the journal"),
    (f"UPDATE resolutions SET confirmed_by = 'per_x' {CONFIRMED}", "resolutions .*as the journal"),
    (f"UPDATE resolutions SET confirmed_at = now() {CONFIRMED}", "resolutions .*as the journal"),
    (f"UPDATE resolutions SET provider_ref = 'bt_x' {CONFIRMED}", "resolutions .*as the journal"),
    (f"UPDATE resolutions SET amount = amount + 1 {CONFIRMED}", "resolutions .*amount and merch"),
    (f"UPDATE resolutions SET merchant_id = 'mer_other' {CONFIRMED}", "resolutions .*amount and"),
    (
        "UPDATE resolutions SET confirmed_by = NULL, confirmed_at = NULL " + CONFIRMED,
        "resolutions .*a proposal from before",
    ),
    (
        f"UPDATE resolutions SET confirmed_by = 'per_eve', confirmed_at = now() {PROPOSED}",
        "resolutions .*pa_proposed-1.*expected nothing, as the journal says",
    ),
    (
        "UPDATE facts SET source = 'operator' WHERE attempt_id = 'pa_retried-1'",
        "facts .*pa_retried-1.*two persons behind",
    ),
    (f"UPDATE facts SET provider_ref = 'bt_x' {CONFIRMED}", "facts .*expected paid bt_executed"),
    (f"UPDATE facts SET source = 'webhook' {CONFIRMED}", "facts .*found none"),
    (
        "UPDATE facts SET source = 'operator' WHERE attempt_id = 'pa_again-1' AND kind = 'foreign'",
        "facts .*found foreign .*by an operator",
    ),
    (f"UPDATE holds SET state = 'posted' WHERE id = {OLD_HOLD}", "holds .*found "),
    (f"UPDATE payouts SET hold_id = {OLD_HOLD} WHERE id = 'po_retried'", "holds "),
    ("UPDATE incidents SET amount = 100 WHERE kind = 'merchant_owes'", "merchant_owes incident"),
]


@pytest.mark.parametrize(("statement", "named"), FORGED)
async def test_a_forged_word_is_named(operated: Books, statement: str, named: str) -> None:
    """F68, I26: rows of the two persons, of the facts, of holds and of debts."""
    async with operated.hand() as hand:
        await hand.change(statement)
        found = await hand.disagreement()

    assert re.search(named, found), found
