-- Merchants, persons and API keys. The worker needs none of them. The API reads them; they are made
-- and revoked from the command line, as the owner.

CREATE TABLE merchants (
    id             text PRIMARY KEY CHECK (id ~ '^mer_[0-9a-z]{1,64}$'),
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 140),
    payout_fee_bps int NOT NULL CHECK (payout_fee_bps BETWEEN 0 AND 10000),
    created_at     timestamptz NOT NULL
);

CREATE TABLE persons (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 140),
    id   text NOT NULL UNIQUE
);

CREATE TABLE api_keys (
    id          text PRIMARY KEY,
    key_hash    bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    prefix      text NOT NULL,
    merchant_id text REFERENCES merchants (id),
    person_id   text NOT NULL REFERENCES persons (id),
    role        text NOT NULL CHECK (role IN ('operator', 'admin', 'merchant_admin', 'finance_ops',
                                              'treasury_ops', 'billing_ops', 'system')),
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz,
    revoked_at  timestamptz
);

CREATE INDEX api_keys_by_merchant ON api_keys (merchant_id, created_at);

GRANT SELECT ON merchants, persons, api_keys TO bursar_api;

-- Who held which key belongs to an audit; the hash by which a key is recognised does not.
GRANT SELECT ON merchants, persons TO bursar_auditor;
GRANT SELECT (id, prefix, merchant_id, person_id, role, created_at, expires_at, revoked_at)
    ON api_keys TO bursar_auditor;
