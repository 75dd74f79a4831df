-- The engine: idempotency, lost commits, the journal and its chains.

-- A database that an older server made lets everybody create here; a function in this place could
-- stand before one that is meant (I15).
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

CREATE TABLE group_commits (
    group_id text PRIMARY KEY,
    tombstone boolean NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX group_commits_at ON group_commits (at);

CREATE TABLE idempotency_keys (
    merchant_id text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('claimed', 'executed', 'refused')),
    status integer NOT NULL,
    body bytea NOT NULL,
    resource_id text NOT NULL,
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, key)
) WITH (fillfactor = 45);  -- every row is written twice; room for the second version beside it

-- Rows come in this order, so their age is found by a few pages for each million of them.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys USING brin (claimed_at)
    WITH (autosummarize = on);

CREATE TABLE journal_heads (
    merchant_id text PRIMARY KEY,
    seq bigint NOT NULL CHECK (seq >= 0),
    link_seq bigint NOT NULL CHECK (link_seq >= 0),
    hash bytea NOT NULL CHECK (length(hash) = 32)
) WITH (fillfactor = 20);

CREATE TABLE journal (
    merchant_id text NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    kind text NOT NULL,
    subject_id text NOT NULL,
    actor text NOT NULL,
    correlation_id text NOT NULL,
    at timestamptz NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (merchant_id, seq)
);
CREATE INDEX journal_subject ON journal (subject_id, seq);

CREATE TABLE journal_links (
    merchant_id text NOT NULL,
    link_seq bigint NOT NULL CHECK (link_seq > 0),
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL CHECK (last_seq >= first_seq),
    previous_hash bytea NOT NULL CHECK (length(previous_hash) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (merchant_id, link_seq)
);

CREATE TABLE deliveries (
    sink text NOT NULL,
    merchant_id text NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (sink, merchant_id, seq)
);

-- One sealer at a time numbers them without gaps. `heads` are those that moved.
CREATE TABLE checkpoints (
    id bigint PRIMARY KEY CHECK (id > 0),
    previous_hash bytea NOT NULL CHECK (length(previous_hash) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    heads text NOT NULL,
    at timestamptz NOT NULL
);

-- Append-only by grants and, for whoever has more than the grants, by trigger (F91).
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON journal
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON journal_links
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON journal_links
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON checkpoints
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

INSERT INTO journal_heads VALUES ('platform', 0, 0, decode(repeat('00', 32), 'hex'));

-- Every process checks at its start that the schema is the one it was written for.
GRANT SELECT ON schema_migrations TO bursar_api, bursar_worker, bursar_auditor;
GRANT SELECT, INSERT, DELETE ON group_commits TO bursar_worker;
GRANT SELECT, INSERT ON group_commits TO bursar_api;
-- Requests come to the API alone. UPDATE is granted on the columns that the statements set.
GRANT SELECT, INSERT, DELETE,
    UPDATE (fingerprint, outcome, status, body, resource_id, claimed_at)
    ON idempotency_keys TO bursar_api;
-- A worker blanks replies that are too old to be replayed.
GRANT SELECT (merchant_id, key, body, claimed_at), UPDATE (body)
    ON idempotency_keys TO bursar_worker;
GRANT SELECT, UPDATE (seq, link_seq, hash) ON journal_heads TO bursar_api, bursar_worker;
GRANT SELECT, INSERT ON journal, journal_links TO bursar_api, bursar_worker;
GRANT SELECT, INSERT ON deliveries TO bursar_api;
GRANT SELECT, INSERT, DELETE ON deliveries TO bursar_worker;
GRANT SELECT, INSERT ON checkpoints TO bursar_worker;
GRANT SELECT ON group_commits, idempotency_keys, journal_heads, journal, journal_links,
    deliveries, checkpoints TO bursar_auditor;
