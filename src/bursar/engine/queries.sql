-- The engine's own tables. Sets travel as arrays; a row's arrays stand in column order.

-- name: transaction_time
-- The group's time. And until its end: every statement of a group finds few rows by key, so a plan
-- that reads whole tables or indexes, made while they were small and kept, must never be chosen;
-- and a plan that can't differ is made once, not for each group.
SELECT transaction_timestamp(),
       set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true)

-- name: wait_for_locks
SELECT set_config('lock_timeout', $1, true)

-- name: claim_idempotency_keys
INSERT INTO idempotency_keys
    (merchant_id, key, fingerprint, outcome, status, body, resource_id, claimed_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::int[], $6::bytea[],
                     $7::text[], $8::timestamptz[])
    AS new (merchant_id, key, fingerprint, outcome, status, body, resource_id, claimed_at)
ORDER BY merchant_id, key
ON CONFLICT DO NOTHING
RETURNING merchant_id, key

-- name: lock_idempotency_keys
SELECT k.merchant_id, k.key, k.fingerprint, k.outcome, k.status, k.body, k.resource_id,
       k.claimed_at
FROM idempotency_keys k
JOIN unnest($1::text[], $2::text[]) AS wanted (merchant_id, key) USING (merchant_id, key)
ORDER BY k.merchant_id, k.key
FOR NO KEY UPDATE OF k

-- name: update_idempotency_keys
UPDATE idempotency_keys k
SET fingerprint = new.fingerprint, outcome = new.outcome, status = new.status, body = new.body,
    resource_id = new.resource_id, claimed_at = new.claimed_at
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::int[], $6::bytea[],
            $7::text[], $8::timestamptz[])
    AS new (merchant_id, key, fingerprint, outcome, status, body, resource_id, claimed_at)
WHERE k.merchant_id = new.merchant_id AND k.key = new.key
RETURNING k.key

-- name: release_idempotency_keys
DELETE FROM idempotency_keys k
USING unnest($1::text[], $2::text[]) AS gone (merchant_id, key)
WHERE k.merchant_id = gone.merchant_id AND k.key = gone.key

-- name: lock_journal_heads
SELECT merchant_id, seq, link_seq, hash
FROM journal_heads
WHERE merchant_id = ANY($1::text[])
ORDER BY merchant_id
FOR NO KEY UPDATE

-- name: insert_journal_heads
INSERT INTO journal_heads (merchant_id, seq, link_seq, hash)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[])

-- name: update_journal_heads
UPDATE journal_heads h
SET seq = new.seq, link_seq = new.link_seq, hash = new.hash
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[])
    AS new (merchant_id, seq, link_seq, hash)
WHERE h.merchant_id = new.merchant_id
RETURNING h.merchant_id

-- name: insert_journal
INSERT INTO journal (merchant_id, seq, kind, subject_id, actor, correlation_id, at, body)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::timestamptz[], $8::text[])

-- name: insert_journal_links
INSERT INTO journal_links (merchant_id, link_seq, first_seq, last_seq, previous_hash, hash)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[],
                     $6::bytea[])

-- name: insert_deliveries
INSERT INTO deliveries (sink, merchant_id, seq)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])

-- name: insert_group_commits
INSERT INTO group_commits (group_id, tombstone, at) VALUES ($1, false, $2)
ON CONFLICT DO NOTHING
RETURNING group_id

-- name: entomb_group
INSERT INTO group_commits (group_id, tombstone, at) VALUES ($1, true, clock_timestamp())
ON CONFLICT DO NOTHING
RETURNING group_id

-- name: group_committed
SELECT NOT tombstone FROM group_commits WHERE group_id = $1

-- name: prune_group_commits
-- A transaction can't outlive the role's idle and statement timeouts, so an hour is ample.
DELETE FROM group_commits
WHERE group_id IN (SELECT group_id FROM group_commits
                   WHERE at < clock_timestamp() - interval '1 hour' ORDER BY at LIMIT $1)

-- name: replies_replayable_since
-- A reply is replayed for 24 hours (idempotency.py); an hour more is for groups under way.
SELECT now() - interval '25 hours'

-- name: blank_replies
-- The key and what it ended in stay for ever; nobody is answered with the reply any more.
UPDATE idempotency_keys k SET body = ''
FROM (SELECT merchant_id, key FROM idempotency_keys
      WHERE claimed_at >= $1 AND claimed_at < $2 AND body <> ''
      LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) AS old
WHERE k.merchant_id = old.merchant_id AND k.key = old.key

-- name: notify
SELECT pg_notify('bursar_wake', $1)

-- name: journal_heads_all
SELECT merchant_id, seq, link_seq, hash FROM journal_heads ORDER BY merchant_id

-- name: take_seal
-- One session seals at a time, and ends to be the one with its connection. The key is arbitrary.
SELECT pg_try_advisory_lock(4027026002)

-- name: notice_loss_of_sealer
-- Where the sealer's machine is gone, its session would else keep the lock for hours.
SELECT set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false)

-- name: last_checkpoint
SELECT id, hash FROM checkpoints ORDER BY id DESC LIMIT 1

-- name: insert_checkpoint
INSERT INTO checkpoints (id, previous_hash, hash, heads, at)
VALUES ($1, $2, $3, $4, clock_timestamp())
RETURNING at

-- name: journal_of_subject
SELECT seq, kind, actor, correlation_id, at, body
FROM journal WHERE merchant_id = $1 AND subject_id = $2 ORDER BY seq

-- name: deliveries_waiting
SELECT d.merchant_id, d.seq, j.kind, j.subject_id, j.actor, j.correlation_id, j.at, j.body
FROM deliveries d JOIN journal j USING (merchant_id, seq)
WHERE d.sink = $1
ORDER BY d.merchant_id, d.seq
LIMIT $2

-- name: delete_deliveries
DELETE FROM deliveries d
USING unnest($2::text[], $3::bigint[]) AS done (merchant_id, seq)
WHERE d.sink = $1 AND d.merchant_id = done.merchant_id AND d.seq = done.seq

-- name: verify_plans
-- Every join is of whole tables. Where statistics are old, or a first disagreement looks likely,
-- the planner would loop over millions of rows for each of millions.
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_hashjoin', 'on', true),
       set_config('enable_mergejoin', 'on', true), set_config('enable_seqscan', 'on', true),
       set_config('work_mem', '64MB', true)

-- name: verify_lookups
-- For joins of a few rows with a whole table by its key: else each would read all of the table.
SELECT set_config('enable_nestloop', 'on', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true)

-- name: verify_links
SELECT merchant_id, link_seq, first_seq, last_seq, previous_hash, hash
FROM journal_links ORDER BY merchant_id, link_seq

-- name: verify_entries
SELECT merchant_id, seq, kind, subject_id, actor, correlation_id, at, body
FROM journal ORDER BY merchant_id, seq

-- name: verify_platform_head
SELECT EXISTS (SELECT FROM journal_heads WHERE merchant_id = $1)

-- name: verify_headless_links
SELECT merchant_id, link_seq FROM journal_links l
WHERE NOT EXISTS (SELECT FROM journal_heads h WHERE h.merchant_id = l.merchant_id)
ORDER BY merchant_id, link_seq
LIMIT 1

-- name: verify_headless_entries
SELECT merchant_id, seq FROM journal j
WHERE NOT EXISTS (SELECT FROM journal_heads h WHERE h.merchant_id = j.merchant_id)
ORDER BY merchant_id, seq
LIMIT 1

-- name: verify_checkpoints
-- The next ones, with about $2 bytes of heads together, at least one. A sealer's first checkpoint
-- lists every merchant: many such at once would fill the memory.
SELECT id, previous_hash, hash, heads
FROM (SELECT *, sum(octet_length(heads)) OVER (ORDER BY id) - octet_length(heads) AS before
      FROM (SELECT * FROM checkpoints WHERE id >= $1 ORDER BY id LIMIT 1000) AS coming) AS sized
WHERE before < $2
ORDER BY id

-- name: verify_checkpoint_hashes
SELECT id, hash FROM checkpoints WHERE id = ANY($1::bigint[])

-- name: verify_sealed_links
-- Answers in the order of the question; nulls where there is no such link.
SELECT l.last_seq, l.hash
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS sealed (merchant_id, link_seq, place)
LEFT JOIN journal_links l USING (merchant_id, link_seq)
ORDER BY sealed.place
