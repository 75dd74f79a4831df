"""Books that nobody touched are found in order, and the report counts what was compared."""

import asyncio
from pathlib import Path

from bursar.db.pool import open_pool
from tests.conftest import Database
from tests.engine.wiring import SHOP, create, fund, new_merchant
from tests.verify.books import ENTRIES, Books, new_engine


async def test_every_life_agrees_with_itself(lived: Books) -> None:
    """I2, I4, I6, I11, I14, I26 hold over every life a payout can have, and odd facts."""
    audit = await lived.audit(lived.anchor)

    assert audit.disagreement is None
    assert len(audit.lines) == 9
    assert f" {ENTRIES} entries" in audit.lines[0]
    assert audit.lines[2].startswith("anchor: 3 checkpoints")
    assert audit.lines[6] == "obligations: 1 merchants' debts have one open incident each"


async def test_an_empty_database_is_in_order(database: Database, anchor: Path) -> None:
    """Nothing happened yet: the platform's chain is empty and that is right."""
    empty = Books(database, anchor)

    audit = await empty.audit()

    assert audit.disagreement is None


async def test_links_and_fetches_that_do_not_end_together(database: Database, anchor: Path) -> None:
    """A chain longer than what is fetched at a time is read to its end (I14)."""
    long = Books(database, anchor)
    pool = await open_pool(database.dsns.owner, size=3, name="test")
    engine = new_engine(pool)
    await engine.submit(new_merchant(SHOP))
    await engine.submit(fund(10**9))
    await asyncio.gather(*(engine.submit(create(f"{n}", fee=1)) for n in range(1100)))
    await engine.close()
    await pool.close()

    audit = await long.audit()
    async with long.hand() as hand:
        await hand.change("UPDATE journal SET actor = 'me' WHERE seq = 1101")
        found = await hand.disagreement()

    assert audit.disagreement is None
    assert "1102 entries, 2201 transfers" in audit.lines[0]
    assert "one of these rows, or the link, was changed" in found
