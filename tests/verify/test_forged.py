"""Chains rewritten from end to end agree with themselves: what else disagrees with them."""

import re

import pytest

from tests.engine.wiring import SHOP
from tests.verify.books import Books
from tests.verify.forger import forge, rechain

FUNDING = "WHERE recipe = 'fund' AND merchant_id = 'mer_shop' AND currency = 'EUR'"
CHILD = "WHERE recipe = 'payout_settled' AND subject_id = 'po_settled' AND line = 0"
STEP = "WHERE subject_id = 'po_settled' AND kind = 'payout.settled'"
LAST = "(SELECT max(link_seq) FROM journal_links WHERE merchant_id = 'mer_shop')"
CUT = (
    (
        "DELETE FROM transfers WHERE merchant_id = 'mer_shop' AND journal_seq >= (SELECT first_seq "
        f"FROM journal_links WHERE merchant_id = 'mer_shop' AND link_seq = {LAST})"
    ),
    (
        "DELETE FROM journal WHERE merchant_id = 'mer_shop' AND seq >= (SELECT first_seq "
        f"FROM journal_links WHERE merchant_id = 'mer_shop' AND link_seq = {LAST})"
    ),
    f"DELETE FROM journal_links WHERE merchant_id = 'mer_shop' AND link_seq = {LAST}",
    (
        "UPDATE journal_heads h SET seq = l.last_seq, link_seq = l.link_seq, hash = l.hash "
        "FROM journal_links l WHERE h.merchant_id = l.merchant_id AND h.merchant_id = 'mer_shop' "
        f"AND l.link_seq = {LAST}"
    ),
)


async def test_the_form_of_the_chain_is_the_one_written_down(lived: Books) -> None:
    """The hashes as stated in `forger` are those of the engine: rechaining changes nothing."""
    async with lived.hand() as hand:
        before = await hand.connection.fetch("SELECT * FROM journal_links ORDER BY 1, 2")
        await rechain(hand.connection, SHOP)
        after = await hand.connection.fetch("SELECT * FROM journal_links ORDER BY 1, 2")

    assert before == after


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (f"UPDATE transfers SET amount = amount - 1 {FUNDING}", "accounts .*the sum of its"),
        (
            f"UPDATE transfers SET credit = 'mer_other/available/EUR' {FUNDING}",
            r"transfers \(.*expected both accounts to be mer_shop's in EUR",
        ),
        (f"UPDATE transfers SET debit = 'mer_shop/bank/JPY' {FUNDING}", "mer_shop's in JPY"),
        (f"UPDATE transfers SET currency = 'USD' {FUNDING}", "both accounts .* in USD"),
        (f"UPDATE transfers SET pending_id = 'tr_x' {CHILD}", "no such pending transfer"),
        (f"UPDATE transfers SET subject_id = 'po_x' {CHILD}", "transfers .*that mirrors"),
        (f"UPDATE transfers SET kind = 'void' {CHILD}", "accounts .*posted"),
        (f"UPDATE transfers SET at = now() {CHILD}", "holds .*ended_at"),
        (f"UPDATE journal SET subject_id = 'po_part' {STEP}", "journal .*po_part to move from"),
        (f"UPDATE journal SET subject_id = 'po_x' {STEP}", "journal .*expected payout po_x"),
        (f"UPDATE journal SET kind = 'payout.sent' {STEP}", "a legal step of po_settled"),
        (f"UPDATE journal SET kind = 'payment.settled' {STEP}", "payouts .*expected state sending"),
        (
            f"UPDATE journal SET body = replace(body, '\"sending\"', '\"created\"') {STEP}",
            "journal .*expected po_settled to move from sending as version 3",
        ),
        (
            f"UPDATE journal SET body = replace(body, ':3', ':4') {STEP}",
            "from sending as version 4",
        ),
        (
            ("UPDATE journal SET body = replace(body, 'settled', 'returned'), "
            f"kind = 'payout.returned' {STEP}"),
            "journal .*a legal step of po_settled from sending",
        ),
        (f"UPDATE journal SET body = '{{' {STEP}", "journal .*a body as JSON"),
        (
            ("UPDATE journal SET body = replace(body, 'DE89', 'GB89') "
            "WHERE subject_id = 'po_settled'"),
            "payouts .*expected beneficiary_iban GB89",
        ),
        (
            (
                "UPDATE journal SET body = replace(body, '\"returned\":100', '\"returned\":99') "
                "WHERE subject_id = 'po_part'"
            ),
            "payouts .id po_part.: expected amount_returned 99",
        ),
        (
            "UPDATE journal SET body = replace(body, ':40', ':41') WHERE subject_id = 'po_part'",
            "facts .*expected returns of 101 and 20 too much",
        ),
        (
            "UPDATE journal SET body = replace(body, ':20', ':21') WHERE subject_id = 'po_part'",
            "facts .*expected returns of 100 and 21 too much",
        ),
    ],
)  # fmt: skip
async def test_a_forged_chain_does_not_fit_the_books(
    lived: Books, statement: str, named: str
) -> None:
    """A bug, or a thorough hand, leaves chains in order and books that contradict them (I1, I2)."""
    async with lived.hand() as hand:
        await forge(hand, statement)
        found = await hand.disagreement()

    assert re.search(named, found), found


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (
            (
                "UPDATE payouts SET amount_returned = 31 WHERE id = 'po_both'",
                """UPDATE journal SET body = replace(body, '"returned":30', '"returned":31')
                   WHERE subject_id = 'po_both'""",
            ),
            "payouts .id po_both.: expected amount_returned 30, as the facts of its attempts say",
        ),
        (
            (
                "UPDATE payouts SET state = 'settled', version = 3 WHERE id = 'po_returned'",
                """UPDATE journal SET kind = 'payout.part_returned',
                   body = ((body::jsonb) - 'to' - 'from' - 'version')::text
                   WHERE subject_id = 'po_returned' AND kind = 'payout.returned'""",
            ),
            "payouts .id po_returned.: expected state returned, as the facts of its attempts say",
        ),
    ],
)
async def test_payouts_and_journal_forged_alike_do_not_fit_the_facts(
    lived: Books, statements: tuple[str, ...], named: str
) -> None:
    """I8, I24: what came back is told a third time, by the facts of the attempts."""
    async with lived.hand() as hand:
        await forge(hand, *statements)
        found = await hand.disagreement()

    assert re.search(named, found), found


async def test_only_the_anchor_knows_a_chain_that_was_rewritten(lived: Books) -> None:
    """F91, I14: an entry nobody else speaks of is changed, and the chain with it."""
    async with lived.hand() as hand:
        await forge(hand, "UPDATE journal SET actor = 'somebody else' WHERE seq = 2")
        alone = await hand.disagreement()
        anchored = await hand.disagreement(lived.anchor)

    assert alone == ""
    assert re.search(r"journal_links .*line 1 of checkpoints.jsonl sealed it.*rewritten", anchored)


async def test_checkpoints_know_a_chain_that_was_rewritten(lived: Books) -> None:
    """I14: as long as they are not made anew as well."""
    async with lived.hand() as hand:
        await hand.change("CREATE TABLE kept AS SELECT * FROM checkpoints")
        await forge(hand, "UPDATE journal SET actor = 'somebody else' WHERE seq = 2")
        await hand.change("INSERT INTO checkpoints OVERRIDING SYSTEM VALUE SELECT * FROM kept")
        found = await hand.disagreement()

    assert re.search("journal_links .*as checkpoint 1 sealed it", found), found


async def test_the_anchor_knows_a_tail_that_was_cut(lived: Books) -> None:
    """F91, I14: the last group is deleted, and the head put back before it."""
    async with lived.hand() as hand:
        await hand.change(*CUT)
        by_checkpoint = await hand.disagreement()
        await hand.change("DELETE FROM checkpoints WHERE id = 3")
        by_anchor = await hand.disagreement(lived.anchor)

    assert re.search("as checkpoint 3 sealed it,; found no such link", by_checkpoint)
    assert re.search(r"journal_links .*line 3 .*no such link: the chain was cut", by_anchor)


async def test_the_anchor_knows_that_the_last_checkpoint_is_gone(lived: Books) -> None:
    """I14: what was exported had been stored. Of those before, the next one tells."""
    async with lived.hand() as hand:
        await hand.change("DELETE FROM checkpoints WHERE id = 3")
        alone = await hand.disagreement()
        anchored = await hand.disagreement(lived.anchor)

    assert alone == ""
    assert re.search(r"checkpoints \(id 3\): .*line 3 .*found no such checkpoint", anchored)
