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

-- name: verify_transfers
SELECT merchant_id, journal_seq, line, id, kind, recipe, subject_id, debit, credit, amount,
       currency, hold_id, pending_id, at
FROM transfers ORDER BY merchant_id, journal_seq, line

-- name: verify_headless_transfers
SELECT merchant_id, journal_seq, line FROM transfers t
WHERE NOT EXISTS (SELECT FROM journal_heads h WHERE h.merchant_id = t.merchant_id)
ORDER BY merchant_id, journal_seq, line
LIMIT 1

-- name: verify_transfer_bounds
-- The first transfer that leaves its merchant or its currency.
SELECT t.merchant_id, t.journal_seq, t.line, t.currency, t.debit, d.merchant_id, d.currency,
       t.credit, c.merchant_id, c.currency
FROM transfers t
LEFT JOIN accounts d ON d.address = t.debit
LEFT JOIN accounts c ON c.address = t.credit
WHERE (d.merchant_id, d.currency) IS DISTINCT FROM (t.merchant_id, t.currency)
   OR (c.merchant_id, c.currency) IS DISTINCT FROM (t.merchant_id, t.currency)
ORDER BY 1, 2, 3
LIMIT 1

-- name: verify_balances
-- Every account's counters as they are stored and, beside them, as its transfers give them.
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
    SELECT address, sum(dp) AS dp, sum(dd) AS dd, sum(cp) AS cp, sum(cc) AS cc
    FROM moves GROUP BY address
)
SELECT coalesce(a.address, r.address), a.merchant_id, a.role, a.currency, a.limited,
       EXISTS (SELECT FROM journal_heads h WHERE h.merchant_id = a.merchant_id),
       a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted,
       coalesce(r.dp, 0), coalesce(r.dd, 0), coalesce(r.cp, 0), coalesce(r.cc, 0)
FROM accounts a FULL JOIN replayed r USING (address)
ORDER BY 1

-- name: verify_children
-- The first child that does not mirror one pending transfer of its hold.
SELECT e.merchant_id, e.journal_seq, e.line, e.kind, e.pending_id, p.id IS NOT NULL
FROM transfers e
LEFT JOIN transfers p ON p.id = e.pending_id AND p.kind = 'pending'
WHERE e.pending_id IS NOT NULL
  AND (p.merchant_id, p.hold_id, p.subject_id, p.debit, p.credit, p.amount, p.currency)
      IS DISTINCT FROM
      (e.merchant_id, e.hold_id, e.subject_id, e.debit, e.credit, e.amount, e.currency)
ORDER BY 1, 2, 3
LIMIT 1

-- name: verify_holds
-- Every hold as it is stored, beside what its pending transfers and their children say.
SELECT coalesce(h.id, t.hold_id), h.merchant_id, h.subject_id, h.state, h.created_at, h.ended_at,
       coalesce(t.legs, 0), coalesce(t.ended, 0), t.first_merchant, t.last_merchant,
       t.first_subject, t.last_subject, t.first_end, t.last_end, t.made_first, t.made_last,
       t.ended_first, t.ended_last
FROM holds h
FULL JOIN (
    SELECT hold_id,
           count(*) FILTER (WHERE kind = 'pending') AS legs,
           count(*) FILTER (WHERE kind <> 'pending') AS ended,
           min(merchant_id) AS first_merchant, max(merchant_id) AS last_merchant,
           min(subject_id) AS first_subject, max(subject_id) AS last_subject,
           min(kind) FILTER (WHERE kind <> 'pending') AS first_end,
           max(kind) FILTER (WHERE kind <> 'pending') AS last_end,
           min(at) FILTER (WHERE kind = 'pending') AS made_first,
           max(at) FILTER (WHERE kind = 'pending') AS made_last,
           min(at) FILTER (WHERE kind <> 'pending') AS ended_first,
           max(at) FILTER (WHERE kind <> 'pending') AS ended_last
    FROM transfers WHERE hold_id IS NOT NULL GROUP BY hold_id
) t ON t.hold_id = h.id
ORDER BY 1

-- name: verify_obligations
-- Every receivable that holds something or has open incidents: what merchants owe us, beside what
-- is put before a human.
SELECT coalesce(a.address, i.subject_id), a.merchant_id, a.currency,
       coalesce(a.debits_posted - a.credits_posted, 0), i.merchant_id, i.currency,
       coalesce(i.opened, 0), coalesce(i.amount, 0)
FROM (SELECT * FROM accounts WHERE role = 'receivable') a
FULL JOIN (
    SELECT subject_id, min(merchant_id) AS merchant_id, min(currency) AS currency,
           count(*) AS opened, sum(amount) AS amount
    FROM incidents WHERE kind = 'merchant_owes' AND closed_at IS NULL
    GROUP BY subject_id
) i ON i.subject_id = a.address
WHERE a.debits_posted <> a.credits_posted OR i.subject_id IS NOT NULL
ORDER BY 1
