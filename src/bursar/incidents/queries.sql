-- name: insert_incidents
INSERT INTO incidents (id, merchant_id, kind, subject_id, amount, currency, detail, opened_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                     $7::text[], $8::timestamptz[])
