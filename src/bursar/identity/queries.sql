-- Merchants, persons, API keys. Sets travel as arrays; a row's arrays stand in column order.

-- name: lock_merchants
-- A merchant never changes, so reading it needs no lock; two makers meet at the primary key.
SELECT id, name, payout_fee_bps, created_at
FROM merchants
WHERE id = ANY($1::text[])
ORDER BY id

-- name: insert_merchants
INSERT INTO merchants (id, name, payout_fee_bps, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[])

-- name: lock_persons
-- As with merchants: never changed, so never locked.
SELECT name, id
FROM persons
WHERE name = ANY($1::text[])
ORDER BY name

-- name: insert_persons
INSERT INTO persons (name, id)
SELECT * FROM unnest($1::text[], $2::text[])

-- name: lock_api_keys
SELECT id, key_hash, prefix, merchant_id, person_id, role, created_at, expires_at, revoked_at
FROM api_keys
WHERE id = ANY($1::text[])
ORDER BY id
FOR NO KEY UPDATE

-- name: insert_api_keys
INSERT INTO api_keys
    (id, key_hash, prefix, merchant_id, person_id, role, created_at, expires_at, revoked_at)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::timestamptz[], $8::timestamptz[], $9::timestamptz[])

-- name: update_api_keys
-- A key's other columns never change, and the grants say so too.
UPDATE api_keys k
SET revoked_at = new.revoked_at
FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[])
    AS new (id, key_hash, prefix, merchant_id, person_id, role, created_at, expires_at, revoked_at)
WHERE k.id = new.id
RETURNING k.id

-- name: principal_of_key
SELECT k.person_id, k.id, k.role, k.merchant_id, coalesce(m.payout_fee_bps, 0)
FROM api_keys k
LEFT JOIN merchants m ON m.id = k.merchant_id
WHERE k.key_hash = $1
  AND k.revoked_at IS NULL
  AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())

-- name: works_for
-- Whether a person has a valid key of this merchant, or of the platform if $2 is null.
SELECT EXISTS (
    SELECT FROM api_keys
    WHERE person_id = $1 AND merchant_id IS NOT DISTINCT FROM $2::text AND revoked_at IS NULL
      AND (expires_at IS NULL OR expires_at > clock_timestamp())
)

-- name: list_api_keys
SELECT k.id, k.prefix, k.merchant_id, k.person_id, p.name, k.role,
       k.created_at, k.expires_at, k.revoked_at
FROM api_keys k
JOIN persons p ON p.id = k.person_id
WHERE $1::text IS NULL OR k.merchant_id = $1
ORDER BY k.created_at, k.id

-- name: list_merchants
SELECT m.id, m.name, m.payout_fee_bps,
       ARRAY(SELECT DISTINCT a.currency FROM accounts a WHERE a.merchant_id = m.id ORDER BY 1),
       m.created_at
FROM merchants m
ORDER BY m.created_at, m.id
