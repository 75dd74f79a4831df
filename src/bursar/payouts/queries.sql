-- Payouts, attempts, facts and the inbox. A row's arrays stand in column order.

-- name: claim_payout_references
INSERT INTO payout_references
    (merchant_id, reference, payout_id)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[])
    AS new (merchant_id, reference, payout_id)
ORDER BY merchant_id, reference
ON CONFLICT DO NOTHING
RETURNING merchant_id, reference

-- name: lock_payout_references
SELECT t.merchant_id, t.reference, t.payout_id
FROM payout_references t
JOIN unnest($1::text[], $2::text[]) AS wanted (merchant_id, reference)
    USING (merchant_id, reference)
ORDER BY t.merchant_id, t.reference
FOR NO KEY UPDATE OF t

-- name: update_payout_references
UPDATE payout_references t
SET payout_id = new.payout_id
FROM unnest(
    $1::text[], $2::text[], $3::text[])
    AS new (merchant_id, reference, payout_id)
WHERE t.merchant_id = new.merchant_id AND t.reference = new.reference
RETURNING t.merchant_id

-- name: release_payout_references
DELETE FROM payout_references t
USING unnest($1::text[], $2::text[]) AS gone (merchant_id, reference)
WHERE t.merchant_id = gone.merchant_id AND t.reference = gone.reference

-- name: claim_inbox
INSERT INTO inbox
    (provider, event_id, body, received_at, result, tries, next_try_at)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::int[],
    $7::timestamptz[])
    AS new (provider, event_id, body, received_at, result, tries, next_try_at)
ORDER BY provider, event_id
ON CONFLICT DO NOTHING
RETURNING provider, event_id

-- name: lock_inbox
SELECT t.provider, t.event_id, t.body, t.received_at, t.result, t.tries, t.next_try_at
FROM inbox t
JOIN unnest($1::text[], $2::text[]) AS wanted (provider, event_id)
    USING (provider, event_id)
ORDER BY t.provider, t.event_id
FOR NO KEY UPDATE OF t

-- name: update_inbox
UPDATE inbox t
SET result = new.result, tries = new.tries, next_try_at = new.next_try_at
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::int[],
    $7::timestamptz[])
    AS new (provider, event_id, body, received_at, result, tries, next_try_at)
WHERE t.provider = new.provider AND t.event_id = new.event_id
RETURNING t.provider

-- name: release_inbox
DELETE FROM inbox t
USING unnest($1::text[], $2::text[]) AS gone (provider, event_id)
WHERE t.provider = gone.provider AND t.event_id = gone.event_id

-- name: peek_payouts
SELECT id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
       beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
       attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref,
       provider_cost, failure_code, failure_reason, amount_returned, created_at, updated_at,
       settled_at, correlation_id
FROM payouts
WHERE id = ANY($1::text[])
ORDER BY id

-- name: lock_payouts
SELECT id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
       beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
       attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref,
       provider_cost, failure_code, failure_reason, amount_returned, created_at, updated_at,
       settled_at, correlation_id
FROM payouts
WHERE id = ANY($1::text[])
ORDER BY id
FOR NO KEY UPDATE

-- name: insert_payouts
INSERT INTO payouts
    (id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
     beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
     attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref, provider_cost,
     failure_code, failure_reason, amount_returned, created_at, updated_at, settled_at,
     correlation_id)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[],
    $8::int[], $9::text[], $10::text[], $11::text[], $12::smallint[], $13::jsonb[],
    $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::int[], $18::int[],
    $19::int[], $20::text[], $21::text[], $22::text[], $23::bigint[], $24::text[], $25::text[],
    $26::bigint[], $27::timestamptz[], $28::timestamptz[], $29::timestamptz[], $30::text[])

-- name: update_payouts
UPDATE payouts t
SET state = new.state, version = new.version, next_attempt_at = new.next_attempt_at,
    expires_at = new.expires_at, attempt_count = new.attempt_count,
    retries_burned = new.retries_burned, hold_id = new.hold_id, provider = new.provider,
    provider_ref = new.provider_ref, provider_cost = new.provider_cost,
    failure_code = new.failure_code, failure_reason = new.failure_reason,
    amount_returned = new.amount_returned, updated_at = new.updated_at,
    settled_at = new.settled_at
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[],
    $8::int[], $9::text[], $10::text[], $11::text[], $12::smallint[], $13::jsonb[],
    $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::int[], $18::int[],
    $19::int[], $20::text[], $21::text[], $22::text[], $23::bigint[], $24::text[], $25::text[],
    $26::bigint[], $27::timestamptz[], $28::timestamptz[], $29::timestamptz[], $30::text[])
    AS new (id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
            beneficiary_iban, description, priority, metadata, due_at, next_attempt_at,
            expires_at, attempt_count, retries_burned, max_retries, hold_id, provider,
            provider_ref, provider_cost, failure_code, failure_reason, amount_returned,
            created_at, updated_at, settled_at, correlation_id)
WHERE t.id = new.id
RETURNING t.id

-- name: peek_attempts
SELECT id, merchant_id, payout_id, number, provider, provider_key, hold_id, amount, currency,
       begun_at, state, lease_token, lease_until, ambiguous_at, provider_ref, code, reason,
       inquire_at, inquiries, proof_at, sends, resend_at, frozen_at
FROM attempts
WHERE id = ANY($1::text[])
ORDER BY id

-- name: lock_attempts
SELECT id, merchant_id, payout_id, number, provider, provider_key, hold_id, amount, currency,
       begun_at, state, lease_token, lease_until, ambiguous_at, provider_ref, code, reason,
       inquire_at, inquiries, proof_at, sends, resend_at, frozen_at
FROM attempts
WHERE id = ANY($1::text[])
ORDER BY id
FOR NO KEY UPDATE

-- name: insert_attempts
INSERT INTO attempts
    (id, merchant_id, payout_id, number, provider, provider_key, hold_id, amount, currency,
     begun_at, state, lease_token, lease_until, ambiguous_at, provider_ref, code, reason,
     inquire_at, inquiries, proof_at, sends, resend_at, frozen_at)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[],
    $8::bigint[], $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::timestamptz[],
    $14::timestamptz[], $15::text[], $16::text[], $17::text[], $18::timestamptz[], $19::int[],
    $20::timestamptz[], $21::int[], $22::timestamptz[], $23::timestamptz[])

-- name: update_attempts
UPDATE attempts t
SET state = new.state, lease_token = new.lease_token, lease_until = new.lease_until,
    ambiguous_at = new.ambiguous_at, provider_ref = new.provider_ref, code = new.code,
    reason = new.reason, inquire_at = new.inquire_at, inquiries = new.inquiries,
    proof_at = new.proof_at, sends = new.sends, resend_at = new.resend_at,
    frozen_at = new.frozen_at
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[],
    $8::bigint[], $9::text[], $10::timestamptz[], $11::text[], $12::text[], $13::timestamptz[],
    $14::timestamptz[], $15::text[], $16::text[], $17::text[], $18::timestamptz[], $19::int[],
    $20::timestamptz[], $21::int[], $22::timestamptz[], $23::timestamptz[])
    AS new (id, merchant_id, payout_id, number, provider, provider_key, hold_id, amount,
            currency, begun_at, state, lease_token, lease_until, ambiguous_at, provider_ref,
            code, reason, inquire_at, inquiries, proof_at, sends, resend_at, frozen_at)
WHERE t.id = new.id
RETURNING t.id

-- name: children_attempts_of_payout
SELECT id, merchant_id, payout_id, number, provider, provider_key, hold_id, amount, currency,
       begun_at, state, lease_token, lease_until, ambiguous_at, provider_ref, code, reason,
       inquire_at, inquiries, proof_at, sends, resend_at, frozen_at
FROM attempts
WHERE payout_id = ANY($1::text[])
ORDER BY id

-- name: insert_facts
INSERT INTO facts
    (merchant_id, attempt_id, kind, item, provider_ref, amount, cost, code, reason, source, at,
     sequence)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::bigint[])

-- name: children_facts_of_attempt
SELECT merchant_id, attempt_id, kind, item, provider_ref, amount, cost, code, reason, source, at,
       sequence
FROM facts
WHERE attempt_id = ANY($1::text[])
ORDER BY attempt_id, kind, item

-- name: peek_provider_keys
SELECT t.provider, t.key, t.merchant_id, t.payout_id, t.attempt_id, t.hold_id, t.currency
FROM provider_keys t
JOIN unnest($1::text[], $2::text[]) AS wanted (provider, key)
    USING (provider, key)
ORDER BY t.provider, t.key

-- name: lock_provider_keys
SELECT t.provider, t.key, t.merchant_id, t.payout_id, t.attempt_id, t.hold_id, t.currency
FROM provider_keys t
JOIN unnest($1::text[], $2::text[]) AS wanted (provider, key)
    USING (provider, key)
ORDER BY t.provider, t.key
FOR NO KEY UPDATE OF t

-- name: insert_provider_keys
INSERT INTO provider_keys
    (provider, key, merchant_id, payout_id, attempt_id, hold_id, currency)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])

-- name: lock_resolutions
SELECT attempt_id, merchant_id, payout_id, verdict, provider_ref, amount, currency, evidence,
       proposed_by, proposed_at, confirmed_by, confirmed_at
FROM resolutions
WHERE attempt_id = ANY($1::text[])
ORDER BY attempt_id
FOR NO KEY UPDATE

-- name: insert_resolutions
INSERT INTO resolutions
    (attempt_id, merchant_id, payout_id, verdict, provider_ref, amount, currency, evidence,
     proposed_by, proposed_at, confirmed_by, confirmed_at)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
    $8::text[], $9::text[], $10::timestamptz[], $11::text[], $12::timestamptz[])

-- name: update_resolutions
UPDATE resolutions t
SET verdict = new.verdict, provider_ref = new.provider_ref, evidence = new.evidence,
    proposed_by = new.proposed_by, proposed_at = new.proposed_at,
    confirmed_by = new.confirmed_by, confirmed_at = new.confirmed_at
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
    $8::text[], $9::text[], $10::timestamptz[], $11::text[], $12::timestamptz[])
    AS new (attempt_id, merchant_id, payout_id, verdict, provider_ref, amount, currency, evidence,
            proposed_by, proposed_at, confirmed_by, confirmed_at)
WHERE t.attempt_id = new.attempt_id
RETURNING t.attempt_id

-- name: payout_of_merchant
SELECT id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
       beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
       attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref,
       provider_cost, failure_code, failure_reason, amount_returned, created_at, updated_at,
       settled_at, correlation_id
FROM payouts WHERE merchant_id = $1 AND id = $2

-- name: attempts_of_payout
SELECT id, merchant_id, payout_id, number, provider, provider_key, hold_id, amount, currency,
       begun_at, state, lease_token, lease_until, ambiguous_at, provider_ref, code, reason,
       inquire_at, inquiries, proof_at, sends, resend_at, frozen_at
FROM attempts WHERE payout_id = $1 ORDER BY number

-- name: list_payouts
-- Newest first, along the index of the merchant; ($2, $3) is the last row of the page before, or
-- lies after all rows.
SELECT id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
       beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
       attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref,
       provider_cost, failure_code, failure_reason, amount_returned, created_at, updated_at,
       settled_at, correlation_id
FROM payouts
WHERE merchant_id = $1 AND (created_at, id) < ($2::timestamptz, $3::text)
ORDER BY created_at DESC, id DESC
LIMIT $4

-- name: list_payouts_in_state
SELECT id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
       beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
       attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref,
       provider_cost, failure_code, failure_reason, amount_returned, created_at, updated_at,
       settled_at, correlation_id
FROM payouts
WHERE merchant_id = $1 AND state = $4 AND (created_at, id) < ($2::timestamptz, $3::text)
ORDER BY created_at DESC, id DESC
LIMIT $5

-- name: list_payouts_by_id
-- A statement of its own: it must never walk a merchant's whole list.
SELECT id, merchant_id, reference, amount, currency, fee, state, version, beneficiary_name,
       beneficiary_iban, description, priority, metadata, due_at, next_attempt_at, expires_at,
       attempt_count, retries_burned, max_retries, hold_id, provider, provider_ref,
       provider_cost, failure_code, failure_reason, amount_returned, created_at, updated_at,
       settled_at, correlation_id
FROM payouts
WHERE merchant_id = $1 AND id = ANY($2::text[])
  AND ($3::text IS NULL OR state = $3)
ORDER BY created_at DESC, id DESC

-- name: payout_id_of_reference
SELECT payout_id FROM payout_references WHERE merchant_id = $1 AND reference = $2

-- name: due_payouts
-- Candidates only: nothing stays locked, `begin_attempt` decides who was first. One branch per
-- priority, each a bounded walk of its index; a stable clock, so that the index knows the bound.
SELECT due.id
FROM (VALUES (2::smallint), (1), (0)) AS class (priority)
CROSS JOIN LATERAL (
    SELECT id, next_attempt_at FROM payouts
    WHERE state = 'funds_locked' AND priority = class.priority
      AND next_attempt_at <= statement_timestamp() AND expires_at > statement_timestamp()
      AND NOT (id = ANY($2::text[]))
    ORDER BY next_attempt_at
    LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
) AS due
ORDER BY class.priority DESC, due.next_attempt_at
LIMIT $1

-- name: due_expiries
-- Not while people look for money that another amount was told of: its hold stays.
SELECT id FROM payouts p
WHERE state = 'funds_locked' AND expires_at <= statement_timestamp()
  AND NOT EXISTS (SELECT FROM attempts WHERE payout_id = p.id AND frozen_at IS NOT NULL)
ORDER BY expires_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: due_leases
SELECT id FROM attempts
WHERE state = 'sending' AND lease_until <= statement_timestamp()
ORDER BY lease_until
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: due_inquiries
-- One that has ended is asked about once, if its facts contradict each other.
SELECT id FROM attempts
WHERE inquire_at <= statement_timestamp() AND state <> 'sending'
  AND NOT (id = ANY($2::text[]))
ORDER BY inquire_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: due_resends
SELECT id FROM attempts
WHERE state = 'unknown' AND resend_at <= statement_timestamp() AND NOT (id = ANY($2::text[]))
ORDER BY resend_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: attempt_now
-- The database's time is read before the provider is asked: proof never counts time after it.
SELECT a.id, a.merchant_id, a.payout_id, a.number, a.provider, a.provider_key, a.hold_id, a.amount,
       a.currency, a.begun_at, a.state, a.lease_token, a.lease_until, a.ambiguous_at,
       a.provider_ref, a.code, a.reason, a.inquire_at, a.inquiries, a.proof_at,
       a.sends, a.resend_at, a.frozen_at, p.correlation_id, clock_timestamp()
FROM attempts a JOIN payouts p ON p.id = a.payout_id
WHERE a.id = $1

-- name: due_inbox
SELECT provider || '/' || event_id FROM inbox
WHERE next_try_at <= statement_timestamp() AND NOT (provider || '/' || event_id = ANY($2::text[]))
ORDER BY next_try_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED

-- name: inbox_body
SELECT body FROM inbox WHERE provider = $1 AND event_id = $2

-- name: verify_payouts
-- Every payout, its hold, and the payout that its reference names.
SELECT p.id, p.merchant_id, p.reference, p.amount, p.currency, p.fee, p.state, p.version,
       p.beneficiary_name, p.beneficiary_iban, p.attempt_count, p.hold_id, p.provider_cost,
       p.amount_returned, p.created_at, p.settled_at,
       h.state, h.merchant_id, h.subject_id, r.payout_id
FROM payouts p
LEFT JOIN holds h ON h.id = p.hold_id
LEFT JOIN payout_references r
       ON r.merchant_id = p.merchant_id AND r.reference = p.reference
ORDER BY p.id

-- name: verify_history
SELECT subject_id, merchant_id, seq, kind, at, body
FROM journal WHERE kind LIKE 'payout.%' ORDER BY subject_id, seq

-- name: verify_attempts
-- Every attempt, whose its provider key is, and its facts.
SELECT a.payout_id, a.id, a.merchant_id, a.number, a.hold_id, a.amount, a.currency, a.state,
       k.attempt_id, k.payout_id, coalesce(f.kinds, '{}'), coalesce(f.items, '{}'),
       coalesce(f.provider_refs, '{}'), coalesce(f.amounts, '{}'), coalesce(f.sequences, '{}')
FROM attempts a
LEFT JOIN provider_keys k ON k.provider = a.provider AND k.key = a.provider_key
LEFT JOIN (
    SELECT attempt_id, array_agg(kind) AS kinds, array_agg(item) AS items,
           array_agg(provider_ref) AS provider_refs, array_agg(amount) AS amounts,
           array_agg(sequence) AS sequences
    FROM facts GROUP BY attempt_id
) f ON f.attempt_id = a.id
ORDER BY a.payout_id, a.number

-- name: verify_resolutions
-- What two persons said of an attempt, beside the attempt and all that operators' facts say of it.
-- That it was not executed may have been proven before, of one that another amount put in question.
SELECT coalesce(r.attempt_id, f.attempt_id), r.payout_id, r.verdict, r.provider_ref, r.proposed_by,
       r.proposed_at, r.confirmed_by, r.confirmed_at, (r.merchant_id, r.payout_id, r.amount,
       r.currency) = (a.merchant_id, a.payout_id, a.amount, a.currency), coalesce(f.said, '{}'),
       k.kind IS NOT NULL
FROM resolutions r
FULL JOIN (SELECT attempt_id, array_agg(kind || ' ' || coalesce(provider_ref, '')) AS said
           FROM facts WHERE source = 'operator' GROUP BY attempt_id) f
    ON f.attempt_id = r.attempt_id
LEFT JOIN attempts a ON a.id = r.attempt_id
LEFT JOIN facts k ON k.attempt_id = r.attempt_id AND k.kind = 'failed' AND k.item = ''
ORDER BY 1

-- name: verify_resolved
SELECT subject_id, actor, at, body FROM journal WHERE kind = 'attempt.resolved'
ORDER BY at, merchant_id, seq

-- name: verify_stray_rows
-- The first row about a payout or an attempt that does not exist.
(SELECT 'journal', merchant_id || ' ' || seq, 'payout ' || subject_id FROM journal j
 WHERE kind LIKE 'payout.%' AND NOT EXISTS (SELECT FROM payouts p WHERE p.id = j.subject_id)
 ORDER BY merchant_id, seq LIMIT 1)
UNION ALL
(SELECT 'payout_references', merchant_id || ' ' || reference, 'payout ' || payout_id
 FROM payout_references r
 WHERE NOT EXISTS (SELECT FROM payouts p WHERE p.id = r.payout_id)
 ORDER BY merchant_id, reference LIMIT 1)
UNION ALL
(SELECT 'attempts', id, 'payout ' || payout_id FROM attempts a
 WHERE NOT EXISTS (SELECT FROM payouts p WHERE p.id = a.payout_id) ORDER BY id LIMIT 1)
UNION ALL
(SELECT 'facts', attempt_id || ' ' || kind || ' ' || item, 'attempt ' || attempt_id FROM facts f
 WHERE NOT EXISTS (SELECT FROM attempts a WHERE a.id = f.attempt_id)
 ORDER BY attempt_id, kind, item LIMIT 1)
UNION ALL
(SELECT 'provider_keys', provider || ' ' || key, 'attempt ' || attempt_id FROM provider_keys k
 WHERE NOT EXISTS (SELECT FROM attempts a WHERE a.id = k.attempt_id)
 ORDER BY provider, key LIMIT 1)

-- name: verify_stray_holds
-- An active hold for a payout that does not name it.
SELECT h.id, h.subject_id FROM holds h
LEFT JOIN payouts p ON p.hold_id = h.id
WHERE h.state = 'active' AND h.subject_id LIKE 'po\_%' AND p.id IS DISTINCT FROM h.subject_id
ORDER BY h.id
LIMIT 1
