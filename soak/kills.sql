-- What the database says after its server was killed.

-- name: present
SELECT id FROM payouts WHERE id = ANY($1::text[])

-- name: payouts
SELECT count(*) FROM payouts

-- name: groups
SELECT group_id, tombstone FROM group_commits WHERE group_id = ANY($1::text[])
