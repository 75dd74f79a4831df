-- A provider's books. Times are epoch milliseconds, amounts minor units.

-- name: settings
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 4000;

-- name: version
PRAGMA user_version

-- name: tables
SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'transfer'

-- name: schema
CREATE TABLE IF NOT EXISTS transfer (
    key            TEXT PRIMARY KEY,
    reference      TEXT NOT NULL,
    told_reference TEXT NOT NULL,
    fingerprint    TEXT NOT NULL,
    amount         INTEGER NOT NULL CHECK (amount > 0),
    currency       TEXT NOT NULL,
    cost           INTEGER NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('pending', 'executed', 'rejected', 'returned')),
    answer         TEXT NOT NULL CHECK (answer IN ('accepted', 'executed', 'rejected')),
    code           TEXT,
    returned       INTEGER NOT NULL CHECK (returned BETWEEN 0 AND amount),
    last_return    INTEGER NOT NULL,
    returns        INTEGER NOT NULL,
    sequence       INTEGER NOT NULL,
    arrivals       INTEGER NOT NULL,
    mute           INTEGER NOT NULL,
    received_at    INTEGER NOT NULL,
    executed_at    INTEGER,
    hidden_until   INTEGER,
    hidden_by      TEXT,
    plan           TEXT NOT NULL,
    due_at         INTEGER,
    correlation_id TEXT,
    stale          BLOB,
    stale_until    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS transfer_due ON transfer (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS line (
    line      INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL CHECK (kind IN ('debit', 'cost', 'return')),
    reference TEXT NOT NULL,
    key       TEXT NOT NULL REFERENCES transfer,
    amount    INTEGER NOT NULL CHECK (amount > 0),
    currency  TEXT NOT NULL,
    booked_at INTEGER NOT NULL,
    part      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS line_once ON line (key, kind, reference, part);
CREATE TABLE IF NOT EXISTS webhook (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    body           BLOB NOT NULL,
    correlation_id TEXT,
    not_before     INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS lost (
    key   TEXT PRIMARY KEY,
    times INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;

-- name: begin
BEGIN IMMEDIATE

-- name: commit
COMMIT

-- name: rollback
ROLLBACK

-- name: find
SELECT key, reference, told_reference, fingerprint, amount, currency, cost, status, answer, code,
       returned, last_return, returns, sequence, arrivals, mute, received_at, executed_at,
       hidden_until, hidden_by, plan, correlation_id, stale, stale_until
  FROM transfer WHERE key = ?

-- name: insert_transfer
INSERT INTO transfer (key, reference, told_reference, fingerprint, amount, currency, cost, status,
       answer, code, returned, last_return, returns, sequence, arrivals, mute, received_at,
       executed_at, hidden_until, hidden_by, plan, due_at, correlation_id, stale, stale_until)
VALUES (:key, :reference, :told_reference, :fingerprint, :amount, :currency, :cost, :status,
       :answer, :code, :returned, :last_return, :returns, :sequence, :arrivals, :mute,
       :received_at, :executed_at, :hidden_until, :hidden_by, :plan, :due_at, :correlation_id,
       :stale, :stale_until)

-- name: update_transfer
UPDATE transfer
   SET told_reference = :told_reference, status = :status, cost = :cost, code = :code,
       returned = :returned, last_return = :last_return, returns = :returns,
       received_at = :received_at, sequence = :sequence, executed_at = :executed_at,
       plan = :plan, due_at = :due_at, stale = :stale, stale_until = :stale_until
 WHERE key = :key

-- name: arrived
UPDATE transfer SET arrivals = arrivals + 1 WHERE key = ?

-- name: lose
INSERT INTO lost (key, times) VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET times = times + 1

-- name: lost
SELECT times FROM lost WHERE key = ?

-- name: due
SELECT key, reference, told_reference, fingerprint, amount, currency, cost, status, answer, code,
       returned, last_return, returns, sequence, arrivals, mute, received_at, executed_at,
       hidden_until, hidden_by, plan, correlation_id, stale, stale_until
  FROM transfer WHERE due_at <= ? ORDER BY due_at, key LIMIT ?

-- name: next_due
SELECT min(due_at) FROM transfer WHERE due_at IS NOT NULL

-- name: insert_line
INSERT INTO line (kind, reference, key, amount, currency, booked_at, part)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: statement
SELECT line, kind, reference, key, amount, currency, booked_at, part
  FROM line WHERE line > ? ORDER BY line LIMIT ?

-- name: lines_of
SELECT kind, reference, key, amount, currency, booked_at, part
  FROM line WHERE key = ? ORDER BY line

-- name: insert_webhook
INSERT INTO webhook (body, correlation_id, not_before) VALUES (?, ?, ?)

-- name: webhooks_after
SELECT id, body, correlation_id, not_before FROM webhook WHERE id > ? ORDER BY id LIMIT ?

-- name: delete_webhook
DELETE FROM webhook WHERE id = ?
