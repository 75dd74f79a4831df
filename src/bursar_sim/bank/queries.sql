-- The bank's books. Times are epoch milliseconds, amounts minor units.

-- name: settings
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 4000;

-- name: schema
CREATE TABLE IF NOT EXISTS transfer (
    end_to_end_id   TEXT PRIMARY KEY,
    transfer_id     TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    amount          INTEGER NOT NULL CHECK (amount > 0),
    currency        TEXT NOT NULL,
    cost            INTEGER NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('pending', 'executed', 'rejected', 'returned')),
    answer          TEXT NOT NULL CHECK (answer IN ('accepted', 'executed', 'rejected')),
    code            TEXT,
    returned_amount INTEGER NOT NULL CHECK (returned_amount BETWEEN 0 AND amount),
    hidden          INTEGER NOT NULL,
    received_at     INTEGER NOT NULL,
    executed_at     INTEGER,
    step            TEXT CHECK (step IN ('execute', 'reject', 'return')),
    due_at          INTEGER,
    correlation_id  TEXT,
    CHECK ((step IS NULL) = (due_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS transfer_due ON transfer (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS line (
    line          INTEGER PRIMARY KEY,
    kind          TEXT NOT NULL CHECK (kind IN ('debit', 'cost', 'return')),
    transfer_id   TEXT NOT NULL,
    end_to_end_id TEXT NOT NULL REFERENCES transfer,
    amount        INTEGER NOT NULL CHECK (amount > 0),
    currency      TEXT NOT NULL,
    booked_at     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS line_once ON line (end_to_end_id, kind);
CREATE TABLE IF NOT EXISTS webhook (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    body           BLOB NOT NULL,
    correlation_id TEXT,
    not_before     INTEGER NOT NULL
) STRICT;

-- name: begin
BEGIN IMMEDIATE

-- name: commit
COMMIT

-- name: rollback
ROLLBACK

-- name: find
SELECT end_to_end_id, transfer_id, fingerprint, amount, currency, cost, status, answer, code,
       returned_amount, hidden, received_at, executed_at, step, due_at, correlation_id
  FROM transfer WHERE end_to_end_id = ?

-- name: insert_transfer
INSERT INTO transfer (end_to_end_id, transfer_id, fingerprint, amount, currency, cost, status,
       answer, code, returned_amount, hidden, received_at, executed_at, step, due_at,
       correlation_id)
VALUES (:end_to_end_id, :transfer_id, :fingerprint, :amount, :currency, :cost, :status,
       :answer, :code, :returned_amount, :hidden, :received_at, :executed_at, :step, :due_at,
       :correlation_id)

-- name: update_transfer
UPDATE transfer
   SET status = :status, cost = :cost, code = :code, returned_amount = :returned_amount,
       executed_at = :executed_at, step = :step, due_at = :due_at
 WHERE end_to_end_id = :end_to_end_id

-- name: due
SELECT end_to_end_id, transfer_id, fingerprint, amount, currency, cost, status, answer, code,
       returned_amount, hidden, received_at, executed_at, step, due_at, correlation_id
  FROM transfer WHERE due_at <= ? ORDER BY due_at, end_to_end_id LIMIT ?

-- name: next_due
SELECT min(due_at) FROM transfer WHERE due_at IS NOT NULL

-- name: insert_line
INSERT INTO line (kind, transfer_id, end_to_end_id, amount, currency, booked_at)
VALUES (?, ?, ?, ?, ?, ?)

-- name: statement
SELECT line, kind, transfer_id, end_to_end_id, amount, currency, booked_at
  FROM line WHERE line > ? ORDER BY line LIMIT ?

-- name: insert_webhook
INSERT INTO webhook (body, correlation_id, not_before) VALUES (?, ?, ?)

-- name: webhooks_after
SELECT id, body, correlation_id, not_before FROM webhook WHERE id > ? ORDER BY id LIMIT ?

-- name: delete_webhook
DELETE FROM webhook WHERE id = ?
