-- Incidents. A row's arrays stand in column order.

-- name: lock_incidents
SELECT id, merchant_id, kind, subject_id, amount, currency, detail, opened_at, assigned_to,
       closed_at, closed_by, note
FROM incidents
WHERE id = ANY($1::text[])
ORDER BY id
FOR NO KEY UPDATE

-- name: insert_incidents
INSERT INTO incidents
    (id, merchant_id, kind, subject_id, amount, currency, detail, opened_at, assigned_to,
     closed_at, closed_by, note)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
    $8::timestamptz[], $9::text[], $10::timestamptz[], $11::text[], $12::text[])

-- name: update_incidents
UPDATE incidents t
SET amount = new.amount, assigned_to = new.assigned_to, closed_at = new.closed_at,
    closed_by = new.closed_by, note = new.note
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
    $8::timestamptz[], $9::text[], $10::timestamptz[], $11::text[], $12::text[])
    AS new (id, merchant_id, kind, subject_id, amount, currency, detail, opened_at, assigned_to,
            closed_at, closed_by, note)
WHERE t.id = new.id
RETURNING t.id

-- name: children_open_incidents
-- Locked: people close and take incidents without a lock on what they are about.
SELECT id, merchant_id, kind, subject_id, amount, currency, detail, opened_at, assigned_to,
       closed_at, closed_by, note
FROM incidents
WHERE subject_id = ANY($1::text[]) AND closed_at IS NULL
ORDER BY id
FOR NO KEY UPDATE

-- name: list_open_incidents
-- Newest first; ($2, $3) is the last row of the page before, or lies after all rows.
SELECT id, merchant_id, kind, subject_id, amount, currency, detail, opened_at, assigned_to,
       closed_at, closed_by, note
FROM incidents
WHERE merchant_id = $1 AND (opened_at, id) < ($2::timestamptz, $3::text) AND closed_at IS NULL
  AND ($4::text IS NULL OR kind = $4)
ORDER BY opened_at DESC, id DESC
LIMIT $5

-- name: list_closed_incidents
SELECT id, merchant_id, kind, subject_id, amount, currency, detail, opened_at, assigned_to,
       closed_at, closed_by, note
FROM incidents
WHERE merchant_id = $1 AND (opened_at, id) < ($2::timestamptz, $3::text) AND closed_at IS NOT NULL
  AND ($4::text IS NULL OR kind = $4)
ORDER BY opened_at DESC, id DESC
LIMIT $5

-- name: list_incidents
SELECT id, merchant_id, kind, subject_id, amount, currency, detail, opened_at, assigned_to,
       closed_at, closed_by, note
FROM incidents
WHERE merchant_id = $1 AND (opened_at, id) < ($2::timestamptz, $3::text)
  AND ($4::text IS NULL OR kind = $4)
ORDER BY opened_at DESC, id DESC
LIMIT $5
