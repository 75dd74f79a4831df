-- Accounts, holds and transfers. A row's arrays stand in column order.

-- name: lock_accounts
SELECT address, merchant_id, role, currency, limited, debits_pending, debits_posted,
       credits_pending, credits_posted
FROM accounts
WHERE address = ANY($1::text[])
ORDER BY address
FOR NO KEY UPDATE

-- name: insert_accounts
INSERT INTO accounts
    (address, merchant_id, role, currency, limited, debits_pending, debits_posted,
     credits_pending, credits_posted)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[])

-- name: update_accounts
UPDATE accounts t
SET debits_pending = new.debits_pending, debits_posted = new.debits_posted,
    credits_pending = new.credits_pending, credits_posted = new.credits_posted
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[])
    AS new (address, merchant_id, role, currency, limited, debits_pending, debits_posted,
            credits_pending, credits_posted)
WHERE t.address = new.address
RETURNING t.address

-- name: lock_holds
SELECT id, merchant_id, subject_id, state, created_at, ended_at
FROM holds
WHERE id = ANY($1::text[])
ORDER BY id
FOR NO KEY UPDATE

-- name: insert_holds
INSERT INTO holds
    (id, merchant_id, subject_id, state, created_at, ended_at)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])

-- name: update_holds
UPDATE holds t
SET state = new.state, ended_at = new.ended_at
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
    AS new (id, merchant_id, subject_id, state, created_at, ended_at)
WHERE t.id = new.id
RETURNING t.id

-- name: insert_transfers
INSERT INTO transfers
    (merchant_id, journal_seq, line, id, kind, recipe, subject_id, debit, credit, amount,
     currency, hold_id, pending_id, at)
SELECT * FROM unnest(
    $1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[],
    $14::timestamptz[])

-- name: children_pending_legs
SELECT merchant_id, journal_seq, line, id, kind, recipe, subject_id, debit, credit, amount,
       currency, hold_id, pending_id, at
FROM transfers
WHERE hold_id = ANY($1::text[]) AND kind = 'pending'
ORDER BY merchant_id, journal_seq, line

-- name: accounts_of_merchant
SELECT address, merchant_id, role, currency, limited, debits_pending, debits_posted,
       credits_pending, credits_posted
FROM accounts WHERE merchant_id = $1 ORDER BY currency, role

-- name: transfers_of_subject
SELECT merchant_id, journal_seq, line, id, kind, recipe, subject_id, debit, credit, amount,
       currency, hold_id, pending_id, at
FROM transfers
WHERE merchant_id = $1
  AND subject_id = ANY(ARRAY[$2::text, (SELECT payout_id FROM payout_references
                                  WHERE merchant_id = $1 AND reference = $2)])
ORDER BY journal_seq, line

-- name: verify_balances
-- Every account's counters as its transfers give them, beside those that are stored.
WITH moves AS (
    SELECT debit AS address,
           sum(CASE kind WHEN 'pending' THEN amount WHEN 'posted' THEN 0 ELSE -amount END) AS dp,
           sum(CASE WHEN kind IN ('posted', 'post') THEN amount ELSE 0 END) AS dd,
           0::numeric AS cp, 0::numeric AS cc
    FROM transfers GROUP BY debit
    UNION ALL
    SELECT credit, 0, 0,
           sum(CASE kind WHEN 'pending' THEN amount WHEN 'posted' THEN 0 ELSE -amount END),
           sum(CASE WHEN kind IN ('posted', 'post') THEN amount ELSE 0 END)
    FROM transfers GROUP BY credit
), replayed AS (
    SELECT address, sum(dp) AS debits_pending, sum(dd) AS debits_posted,
           sum(cp) AS credits_pending, sum(cc) AS credits_posted
    FROM moves GROUP BY address
)
SELECT coalesce(a.address, r.address) AS address,
       a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted,
       coalesce(r.debits_pending, 0)::bigint, coalesce(r.debits_posted, 0)::bigint,
       coalesce(r.credits_pending, 0)::bigint, coalesce(r.credits_posted, 0)::bigint
FROM accounts a FULL JOIN replayed r USING (address)
ORDER BY 1

-- name: verify_transfers
SELECT merchant_id, journal_seq, line, id, kind, recipe, subject_id, debit, credit, amount,
       currency, hold_id, pending_id, at
FROM transfers WHERE merchant_id = $1 ORDER BY journal_seq, line

-- name: verify_currencies
-- A transfer stays inside one merchant and one currency.
SELECT t.merchant_id, t.journal_seq, t.line
FROM transfers t
LEFT JOIN accounts d ON d.address = t.debit
LEFT JOIN accounts c ON c.address = t.credit
WHERE d.currency IS DISTINCT FROM t.currency OR c.currency IS DISTINCT FROM t.currency
   OR d.merchant_id IS DISTINCT FROM t.merchant_id OR c.merchant_id IS DISTINCT FROM t.merchant_id
ORDER BY 1, 2, 3
LIMIT 1

-- name: verify_holds
-- A hold's state against the children of its pending transfers.
SELECT h.id, h.state,
       count(p.id) AS legs,
       count(e.id) AS ended,
       min(e.kind) AS first_end, max(e.kind) AS last_end
FROM holds h
LEFT JOIN transfers p ON p.hold_id = h.id AND p.kind = 'pending'
LEFT JOIN transfers e ON e.pending_id = p.id
GROUP BY h.id, h.state
HAVING (h.state = 'active' AND count(e.id) > 0)
    OR (h.state <> 'active' AND count(e.id) <> count(p.id))
    OR min(e.kind) <> max(e.kind)
    OR (h.state = 'posted' AND min(e.kind) <> 'post')
    OR (h.state = 'voided' AND min(e.kind) <> 'void')
    OR (h.state = 'expired' AND min(e.kind) <> 'expire')
ORDER BY h.id
LIMIT 1
