-- Data for the benchmarks, made by the server itself. Identifiers hold a number in 32 hex digits.

-- name: server_version
SELECT current_setting('server_version')

-- name: fsync
SELECT current_setting('fsync')

-- name: seed_merchants
INSERT INTO merchants (id, name, payout_fee_bps, created_at)
SELECT 'mer_' || lpad(to_hex(n), 32, '0'), 'Merchant ' || n, 20, transaction_timestamp()
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n

-- name: seed_heads
INSERT INTO journal_heads (merchant_id, seq, link_seq, hash)
SELECT 'mer_' || lpad(to_hex(n), 32, '0'), 0, 0, decode(repeat('00', 32), 'hex')
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n

-- name: seed_accounts
-- An account per role ($4) and merchant; the funds ($6) stand on bank and available.
INSERT INTO accounts
    (address, merchant_id, role, currency, limited, debits_pending, debits_posted,
     credits_pending, credits_posted)
SELECT 'mer_' || lpad(to_hex(n), 32, '0') || '/' || role || '/' || $3::text,
       'mer_' || lpad(to_hex(n), 32, '0'), role, $3::text, role = ANY($5::text[]),
       0, CASE role WHEN 'bank' THEN $6::bigint ELSE 0 END,
       0, CASE role WHEN 'available' THEN $6::bigint ELSE 0 END
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n
CROSS JOIN unnest($4::text[]) AS role

-- name: settle_statistics
VACUUM (ANALYZE)

-- name: flush
CHECKPOINT

-- name: count_payouts
SELECT state, count(*) FROM payouts GROUP BY state

-- name: bulk_idempotency_keys
INSERT INTO idempotency_keys
    (merchant_id, key, fingerprint, outcome, status, body, resource_id, claimed_at)
SELECT 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'), 'bulk-' || n,
       sha256(n::text::bytea), 'executed', 201, convert_to(repeat('x', 640), 'UTF8'),
       'po_' || lpad(to_hex(n), 32, '0'), transaction_timestamp() - interval '2 days'
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n

-- name: bulk_references
INSERT INTO payout_references (merchant_id, reference, payout_id)
SELECT 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'), 'BULK-' || n,
       'po_' || lpad(to_hex(n), 32, '0')
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n

-- name: bulk_payouts
INSERT INTO payouts
    (id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
     beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
     attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref, provider_cost,
     failure_code, failure_reason, amount_returned, created_at, updated_at, settled_at,
     correlation_id)
SELECT 'po_' || lpad(to_hex(n), 32, '0'), 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'),
       'BULK-' || n, 10000, 'EUR', 20, 'settled', 4, 'Ada Lovelace', 'DE89370400440532013000', '',
       1, '{}', t.at, NULL, t.at + interval '7 days', 1, 0, 3, 'hd_' || lpad(to_hex(n), 32, '0'),
       'bank', 'bt_' || lpad(to_hex(n), 32, '0'), 25, NULL, NULL, 0, t.at, t.at, t.at,
       'cor_' || lpad(to_hex(n), 32, '0')
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n,
     LATERAL (SELECT transaction_timestamp() - interval '2 days' AS at) AS t

-- name: bulk_holds
INSERT INTO holds (id, merchant_id, subject_id, state, created_at, ended_at)
SELECT 'hd_' || lpad(to_hex(n), 32, '0'), 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'),
       'po_' || lpad(to_hex(n), 32, '0'), 'posted', t.at, t.at
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n,
     LATERAL (SELECT transaction_timestamp() - interval '2 days' AS at) AS t

-- name: bulk_transfers
-- Two pending legs and their two posts; entries 2k+1 and 2k+2 of the merchant's journal.
INSERT INTO transfers
    (merchant_id, journal_seq, line, id, kind, recipe, subject_id, debit, credit, amount,
     currency, hold_id, pending_id, at)
SELECT m.id, 2 * (n / $4) + CASE leg.kind WHEN 'pending' THEN 1 ELSE 2 END, leg.line,
       'tr_' || leg.tag || lpad(to_hex(n), 31, '0'), leg.kind, leg.recipe,
       'po_' || lpad(to_hex(n), 32, '0'), m.id || '/available/EUR',
       m.id || '/' || leg.role || '/EUR',
       leg.amount, 'EUR', 'hd_' || lpad(to_hex(n), 32, '0'),
       CASE leg.kind WHEN 'post' THEN 'tr_' || leg.paired || lpad(to_hex(n), 31, '0') END,
       transaction_timestamp() - interval '2 days'
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n,
     LATERAL (SELECT 'mer_' || lpad(to_hex($3 + n % $4), 32, '0') AS id) AS m,
     (VALUES ('pending', 0, 'a', NULL, 'payout_created', 'provider:clearing', 10000),
             ('pending', 1, 'b', NULL, 'payout_created', 'fees', 20),
             ('post', 0, 'c', 'a', 'payout_settled', 'provider:clearing', 10000),
             ('post', 1, 'd', 'b', 'payout_settled', 'fees', 20))
         AS leg (kind, line, tag, paired, recipe, role, amount)

-- name: bulk_journal
INSERT INTO journal (merchant_id, seq, kind, subject_id, actor, correlation_id, at, body)
SELECT 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'), 2 * (n / $4) + step,
       CASE step WHEN 1 THEN 'payout.funds_locked' ELSE 'payout.settled' END,
       'po_' || lpad(to_hex(n), 32, '0'), 'bench', 'cor_' || lpad(to_hex(n), 32, '0'),
       transaction_timestamp() - interval '2 days', '{"x":"' || repeat('x', 200) || '"}'
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n, generate_series(1, 2) AS step

-- name: bulk_attempts
INSERT INTO attempts
    (id, merchant_id, payout_id, number, provider, provider_key, hold_id, amount, currency,
     begun_at, state, lease_token, lease_until, ambiguous_at, provider_ref, code, reason,
     inquire_at, inquiries, proof_at, sends)
SELECT 'pa_' || lpad(to_hex(n), 32, '0'), 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'),
       'po_' || lpad(to_hex(n), 32, '0'), 1, 'bank', lpad(to_hex(n), 32, '0'),
       'hd_' || lpad(to_hex(n), 32, '0'), 10000, 'EUR', t.at, 'paid',
       'ls_' || lpad(to_hex(n), 32, '0'), t.at, NULL, 'bt_' || lpad(to_hex(n), 32, '0'), NULL,
       NULL, NULL, 0, NULL, 1
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n,
     LATERAL (SELECT transaction_timestamp() - interval '2 days' AS at) AS t

-- name: bulk_provider_keys
INSERT INTO provider_keys
    (provider, key, merchant_id, payout_id, attempt_id, hold_id, currency)
SELECT 'bank', lpad(to_hex(n), 32, '0'), 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'),
       'po_' || lpad(to_hex(n), 32, '0'), 'pa_' || lpad(to_hex(n), 32, '0'),
       'hd_' || lpad(to_hex(n), 32, '0'), 'EUR'
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n

-- name: bulk_facts
INSERT INTO facts
    (merchant_id, attempt_id, kind, item, provider_ref, amount, cost, code, reason, source, at)
SELECT 'mer_' || lpad(to_hex($3 + n % $4), 32, '0'), 'pa_' || lpad(to_hex(n), 32, '0'), 'paid',
       '', 'bt_' || lpad(to_hex(n), 32, '0'), 10000, 25, NULL, NULL, 'webhook',
       transaction_timestamp() - interval '2 days'
FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS n

-- name: bulk_heads
-- The journals go on where the loaded entries end: $1 entries per merchant.
UPDATE journal_heads SET seq = seq + $1 WHERE merchant_id <> 'platform'
