"""One row changed at a time, by a superuser with the triggers off: each is found and named."""

import re
from collections.abc import Iterable

import pytest

from tests.verify.books import Books

SHOP_LINK = r"journal_links \(merchant_id mer_shop, link_seq \d+\): expected "
REHASHED = SHOP_LINK + r"hash [0-9a-f]{64}, as it was written,; found [0-9a-f]{64} from the bytes"

ENTRY = "WHERE merchant_id = 'mer_shop' AND seq = 5"
TRANSFER = "WHERE merchant_id = 'mer_shop' AND journal_seq = 5 AND line = 0"
LINK = "WHERE merchant_id = 'mer_shop' AND link_seq = 4"
HEAD = "WHERE merchant_id = 'mer_shop'"
LAST_LINK = (
    "merchant_id = 'mer_shop' AND link_seq = "
    "(SELECT max(link_seq) FROM journal_links WHERE merchant_id = 'mer_shop')"
)
AVAILABLE = "WHERE address = 'mer_shop/available/EUR'"
DEBT = "WHERE kind = 'merchant_owes' AND closed_at IS NULL"
HOLD = "WHERE subject_id = 'po_settled'"
WAITING_HOLD = "WHERE subject_id = 'po_waiting'"
COPY = (
    "INSERT INTO transfers SELECT merchant_id, {seq}, {line}, id || 'x', kind, recipe, subject_id, "
    "debit, credit, amount, currency, hold_id, pending_id, at FROM transfers "
    "WHERE recipe = 'fund' AND merchant_id = 'mer_shop' AND currency = 'EUR'"
)

CHAINS = [
    (f"UPDATE journal SET merchant_id = 'mer_x' {ENTRY}", r"journal \(merchant_id mer_x, seq 5\)"),
    (f"UPDATE journal SET merchant_id = 'mer_other', seq = 99 {ENTRY}", r"journal \(.*seq 99\)"),
    (f"UPDATE journal SET seq = 999 {ENTRY}", r"journal \(merchant_id mer_shop, seq 5\): expected"),
    (f"UPDATE journal SET kind = 'payout.failed' {ENTRY}", REHASHED),
    (f"UPDATE journal SET subject_id = 'po_sent' {ENTRY}", REHASHED),
    (f"UPDATE journal SET actor = 'somebody' {ENTRY}", REHASHED),
    (f"UPDATE journal SET correlation_id = '' {ENTRY}", REHASHED),
    (f"UPDATE journal SET at = at + interval '1 microsecond' {ENTRY}", REHASHED),
    (f"UPDATE journal SET body = body || ' ' {ENTRY}", REHASHED),
    (f"DELETE FROM journal {ENTRY}", r"journal \(merchant_id mer_shop, seq 5\): .* found none"),
    (
        (
            "UPDATE journal SET seq = 999 WHERE merchant_id = 'mer_shop' AND seq = 4;"
            f"UPDATE journal SET seq = 4 {ENTRY};"
            "UPDATE journal SET seq = 5 WHERE seq = 999"
        ),
        REHASHED,
    ),
    (
        (
            "INSERT INTO journal SELECT merchant_id, seq + 1, kind, subject_id, actor, "
            "correlation_id, at, body FROM journal WHERE merchant_id = 'mer_shop' "
            "ORDER BY seq DESC LIMIT 1"
        ),
        r"journal \(merchant_id mer_shop, seq \d+\): expected no entry after",
    ),
    (f"UPDATE transfers SET merchant_id = 'mer_x' {TRANSFER}", r"transfers \(merchant_id mer_x"),
    (f"UPDATE transfers SET journal_seq = 0 {TRANSFER}", r"transfers \(.*journal_seq 0, line 0\)"),
    (f"UPDATE transfers SET journal_seq = 4, line = 7 {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET line = 5 {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET id = id || 'x' {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET kind = 'posted', hold_id = NULL {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET recipe = 'fund' {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET subject_id = 'po_sent' {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET debit = 'mer_shop/bank/EUR' {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET credit = 'mer_shop/bank/EUR' {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET amount = amount + 1 {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET currency = 'USD' {TRANSFER}", REHASHED),
    (f"UPDATE transfers SET hold_id = 'hd_x' {TRANSFER}", REHASHED),
    (
        (
            "UPDATE transfers SET pending_id = 'tr_x' WHERE merchant_id = 'mer_shop' "
            "AND recipe = 'payout_cancelled' AND line = 0"
        ),
        REHASHED,
    ),
    (f"UPDATE transfers SET at = at + interval '1 microsecond' {TRANSFER}", REHASHED),
    (f"DELETE FROM transfers {TRANSFER}", REHASHED),
    (COPY.format(seq=1, line=1), REHASHED),
    (
        COPY.format(seq=500, line=0),
        r"transfers \(merchant_id mer_shop, journal_seq 500, line 0\): .* found none",
    ),
    (f"UPDATE journal_links SET merchant_id = 'mer_x' {LINK}", r"journal_links \(.*mer_x"),
    (f"UPDATE journal_links SET link_seq = 400 {LINK}", SHOP_LINK + r"a link before link 5"),
    (f"UPDATE journal_links SET first_seq = first_seq - 1 {LINK}", SHOP_LINK + "first_seq"),
    (f"UPDATE journal_links SET last_seq = last_seq + 1 {LINK}", REHASHED),
    (f"UPDATE journal_links SET last_seq = 1000 {LINK}", r"journal \(merchant_id mer_shop, seq"),
    (f"UPDATE journal_links SET previous_hash = hash {LINK}", SHOP_LINK + "previous_hash"),
    (f"UPDATE journal_links SET hash = previous_hash {LINK}", REHASHED),
    (f"DELETE FROM journal_links {LINK}", SHOP_LINK + "a link before link 5; found none"),
    (f"DELETE FROM journal_links WHERE {LAST_LINK}", r"journal \(.*: expected no entry after"),
    (f"UPDATE journal_heads SET merchant_id = 'mer_x' {HEAD}", r"journal_links .*mer_shop"),
    (f"UPDATE journal_heads SET seq = seq - 1 {HEAD}", r"journal_heads .*mer_shop\): expected seq"),
    (f"UPDATE journal_heads SET link_seq = 1 {HEAD}", r"journal_heads .*expected link_seq"),
    (f"UPDATE journal_heads SET hash = sha256('') {HEAD}", r"journal_heads .*expected hash"),
    ("DELETE FROM journal_heads WHERE merchant_id = 'platform'", r"journal_heads .*platform"),
    ("UPDATE checkpoints SET hash = sha256('') WHERE id = 2", r"checkpoints \(id 2\): .*hash"),
    ("UPDATE checkpoints SET heads = replace(heads, '[', '[1') WHERE id = 2", "checkpoints .id 2"),
    ("UPDATE checkpoints SET heads = '[]' WHERE id = 3", r"checkpoints \(id 3\): .*as JSON"),
    ("UPDATE checkpoints SET previous_hash = hash WHERE id = 2", r"checkpoints .*previous_hash"),
    ("UPDATE checkpoints SET id = 4 WHERE id = 3", r"checkpoints \(id 3\): .*found none"),
    ("DELETE FROM checkpoints WHERE id = 2", r"checkpoints \(id 2\): .*found none"),
]

BOOKS = [
    *(
        (
            f"UPDATE accounts SET {counter} = {counter} + 1 WHERE address = 'mer_shop/fees/EUR'",
            rf"accounts \(address mer_shop/fees/EUR\): expected {counter} \d+, the sum",
        )
        for counter in ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
    ),
    (f"UPDATE accounts SET address = 'mer_shop/available/GBP' {AVAILABLE}", "no such account"),
    (f"UPDATE accounts SET merchant_id = 'mer_x' {AVAILABLE}", "mer_shop/available/EUR .mer_x's"),
    (f"UPDATE accounts SET role = 'pending2' {AVAILABLE}", r"accounts .*pending2"),
    (f"UPDATE accounts SET currency = 'GBP' {AVAILABLE}", "mer_shop's in GBP"),
    (f"UPDATE accounts SET limited = false {AVAILABLE}", r"accounts .*limited True; found False"),
    (f"DELETE FROM accounts {AVAILABLE}", "mer_shop/available/EUR .no such account"),
    (
        "UPDATE accounts SET role = 'suspense2' WHERE address = 'mer_other/suspense/JPY'",
        r"accounts \(address mer_other/suspense/JPY\)",
    ),
    (f"UPDATE holds SET id = 'hd_x' {HOLD}", r"holds \(id hd_"),
    (f"UPDATE holds SET merchant_id = 'mer_other' {HOLD}", r"holds .*merchant_id mer_shop"),
    (f"UPDATE holds SET subject_id = 'po_x' {HOLD}", r"holds .*subject_id po_settled"),
    (f"UPDATE holds SET state = 'voided' {HOLD}", r"holds .*post.*found void"),
    (f"UPDATE holds SET state = 'active', ended_at = NULL {HOLD}", r"holds .*0 of 2.*found 2"),
    (f"UPDATE holds SET state = 'posted', ended_at = now() {WAITING_HOLD}", "2 of 2.*found 0"),
    (f"UPDATE holds SET created_at = now() {HOLD}", r"holds .*created_at"),
    (f"UPDATE holds SET ended_at = now() {HOLD}", r"holds .*ended_at"),
    (f"DELETE FROM holds {HOLD}", r"holds .*expected a hold, as transfers name it"),
    (
        "INSERT INTO holds VALUES ('hd_z', 'mer_shop', 'po_settled', 'active', now(), NULL)",
        r"holds \(id hd_z\): expected pending transfers",
    ),
    (f"DELETE FROM incidents {DEBT}", r"accounts .*mer_other/receivable/EUR.*found 0, of 0"),
    (f"UPDATE incidents SET amount = amount - 1 {DEBT}", r"one open merchant_owes incident of \d+"),
    (f"UPDATE incidents SET amount = amount + 1 {DEBT}", r"one open merchant_owes incident of \d+"),
    (
        f"UPDATE incidents SET closed_at = now(), closed_by = 'per_x' {DEBT}",
        r"mer_other/receivable/EUR.*one open merchant_owes incident of \d+.*found 0, of 0",
    ),
    (f"UPDATE incidents SET merchant_id = 'mer_shop' {DEBT}", "incidents .*found one of mer_shop"),
    (f"UPDATE incidents SET currency = 'JPY' {DEBT}", "incidents .*of mer_other in EUR"),
    (f"UPDATE incidents SET kind = 'settled' {DEBT}", r"mer_other/receivable/EUR.*found 0, of 0"),
    (
        f"UPDATE incidents SET subject_id = 'mer_shop/receivable/EUR' {DEBT}",
        "receivable/EUR.*incident",
    ),
    (
        f"UPDATE incidents SET subject_id = 'mer_nobody/receivable/EUR' {DEBT}",
        r"incidents .*mer_nobody/receivable/EUR.*expected a receivable|mer_other/receivable",
    ),
    (
        (
            "INSERT INTO incidents SELECT (jsonb_populate_record(i, "
            """'{"id": "inc_x", "subject_id": "mer_shop/receivable/EUR", "amount": 1}')).* """
            f"FROM incidents i {DEBT}"
        ),
        "mer_shop/receivable/EUR.*no open merchant_owes incident: nothing is owed",
    ),
]

SETTLED = "WHERE id = 'po_settled'"
PAYOUTS = [
    *(
        (f"UPDATE payouts SET {change} {SETTLED}", rf"payouts \(id po_settled\): expected {name} ")
        for name, change in (
            ("merchant_id", "merchant_id = 'mer_other'"),
            ("reference", "reference = 'x'"),
            ("amount", "amount = 101"),
            ("currency", "currency = 'USD'"),
            ("fee", "fee = 0"),
            ("state", "state = 'sent'"),
            ("version", "version = version + 1"),
            ("beneficiary_name", "beneficiary_name = 'Eve'"),
            ("beneficiary_iban", "beneficiary_iban = 'GB82WEST12345698765432'"),
            ("attempt_count", "attempt_count = 2"),
            ("hold_id", "hold_id = (SELECT hold_id FROM payouts WHERE id = 'po_part')"),
            ("provider_cost", "provider_cost = 0"),
            ("amount_returned", "amount_returned = 1"),
            ("created_at", "created_at = now()"),
            ("settled_at", "settled_at = NULL"),
        )
    ),
    ("UPDATE payouts SET state = 'settled' WHERE id = 'po_waiting'", "expected state funds_locked"),
    ("UPDATE payouts SET id = 'po_x' WHERE id = 'po_waiting'", r"journal .*payout po_waiting"),
    ("DELETE FROM payouts WHERE id = 'po_waiting'", r"journal .*payout po_waiting; found none"),
    (
        (
            'INSERT INTO payouts SELECT (jsonb_populate_record(p, \'{"id": "po_x"}\')).* '
            "FROM payouts p WHERE id = 'po_cancelled'"
        ),
        r"payouts \(id po_x\): expected state created",
    ),
    (
        "UPDATE payouts SET hold_id = 'hd_x' WHERE id = 'po_waiting'",
        r"holds \(id hd_.*payout po_waiting to name this active hold",
    ),
    (
        "UPDATE payout_references SET payout_id = 'po_x'",
        r"payout_references .*expected payout po_x",
    ),
    (
        "UPDATE payout_references SET payout_id = 'po_sent' WHERE reference = 'settled'",
        "payout_references .*expected payout po_settled; found po_sent",
    ),
    ("DELETE FROM payout_references WHERE reference = 'settled'", "payout_references .*found none"),
]

ATTEMPT = "WHERE id = 'pa_settled-1'"
ATTEMPTS = [
    *(
        (
            f"UPDATE attempts SET {change} {ATTEMPT}",
            rf"attempts \(id pa_settled-1\): expected {name} ",
        )
        for name, change in (
            ("merchant_id", "merchant_id = 'mer_other'"),
            ("number", "number = 2"),
            ("amount", "amount = 99"),
            ("currency", "currency = 'USD'"),
            ("state", "state = 'failed'"),
            ("state", "state = 'sending'"),
            ("provider_key of attempt", "provider_key = 'sent-1'"),
        )
    ),
    ("UPDATE attempts SET hold_id = 'hd_x' WHERE id = 'pa_sent-1'", "attempts .*expected hold_id"),
    ("UPDATE attempts SET payout_id = 'po_waiting' " + ATTEMPT, r"attempts \("),
    ("UPDATE attempts SET payout_id = 'po_x' " + ATTEMPT, r"attempts .*expected payout po_x"),
    (
        "UPDATE attempts SET state = 'failed' WHERE id = 'pa_unknown-1'",
        r"attempts \(id pa_unknown-1\): expected state unknown; found failed",
    ),
    (
        (
            "UPDATE attempts SET state = 'unknown' WHERE id = 'pa_settled-1';"
            "DELETE FROM facts WHERE attempt_id = 'pa_settled-1'"
        ),
        r"attempts \(payout_id po_settled\): expected 0 open, as the payout is settled",
    ),
    (
        (
            "INSERT INTO attempts SELECT (jsonb_populate_record(a, "
            '\'{"id": "pa_x", "number": 3, "state": "sending", "provider_key": "x"}\')).* '
            "FROM attempts a WHERE id = 'pa_retried-2'"
        ),
        r"attempts \(id pa_x\): expected provider_key",
    ),
    ("DELETE FROM attempts WHERE id = 'pa_unknown-1'", r"provider_keys .*attempt pa_unknown-1"),
    (
        (
            "DELETE FROM attempts WHERE id = 'pa_unknown-1';"
            "DELETE FROM provider_keys WHERE attempt_id = 'pa_unknown-1'"
        ),
        r"attempts \(payout_id po_unknown\): expected 1, as many as were begun,; found 0",
    ),
    ("DELETE FROM facts WHERE attempt_id = 'pa_settled-1'", r"attempts .*expected state unknown"),
    ("UPDATE facts SET kind = 'failed' WHERE attempt_id = 'pa_settled-1'", "expected state failed"),
    ("UPDATE facts SET amount = 39 WHERE kind = 'returned' AND amount = 40", "facts .*returns of"),
    (
        "UPDATE facts SET sequence = 1 WHERE attempt_id = 'pa_undone-1' AND kind = 'failed'",
        r"attempts \(id pa_undone-1\): expected state paid; found returned",
    ),
    (
        "UPDATE facts SET sequence = 1 WHERE attempt_id = 'pa_redone-1' AND sequence = 4",
        r"attempts \(id pa_redone-1\): expected state returned; found paid",
    ),
    (
        "DELETE FROM facts WHERE attempt_id = 'pa_both-1' AND kind = 'returned'",
        r"attempts \(id pa_both-1\): expected state paid; found returned",
    ),
    (
        "UPDATE facts SET amount = 61 WHERE attempt_id = 'pa_both-1' AND kind = 'returned'",
        "facts .attempt_id pa_both-1.: expected returns of 60 and 0 too much",
    ),
    (
        "UPDATE facts SET item = '' WHERE attempt_id = 'pa_sending-1' AND item = 'told:'",
        r"attempts \(id pa_sending-1\): expected state failed; found sending",
    ),
    ("UPDATE facts SET attempt_id = 'pa_x' WHERE attempt_id = 'pa_sent-1'", "facts .*attempt pa_x"),
    (
        "UPDATE provider_keys SET payout_id = 'po_sent' WHERE attempt_id = 'pa_settled-1'",
        r"attempts \(id pa_settled-1\): expected provider_key of payout po_settled; found po_sent",
    ),
]


def _cases(*tables: Iterable[tuple[str, str]]) -> list[object]:
    return [
        pytest.param(statements, named, id=f"{number}-{statements[:40]}")
        for table in tables
        for number, (statements, named) in enumerate(table)
    ]


@pytest.mark.parametrize(("statements", "named"), _cases(CHAINS, BOOKS, PAYOUTS, ATTEMPTS))
async def test_a_changed_row_is_named(lived: Books, statements: str, named: str) -> None:
    """F91: whoever edits rows by hand is found, and the first wrong row is named (I2, I14)."""
    async with lived.hand() as hand:
        await hand.change(*statements.split(";"))
        found = await hand.disagreement()

    assert re.search(named, found), found
