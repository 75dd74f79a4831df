-- Incidents, the ledger, payouts and their attempts. Amounts are minor units.

CREATE TABLE incidents (
    id text PRIMARY KEY,
    merchant_id text NOT NULL,
    kind text NOT NULL,
    subject_id text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    detail text NOT NULL,
    opened_at timestamptz NOT NULL,
    assigned_to text,
    closed_at timestamptz,
    closed_by text,
    note text,
    CONSTRAINT closed_by_somebody CHECK ((closed_at IS NULL) = (closed_by IS NULL)),
    CONSTRAINT debt_of_something CHECK (kind <> 'merchant_owes' OR amount > 0)
);
CREATE UNIQUE INDEX one_open_debt ON incidents (kind, subject_id)
    WHERE kind = 'merchant_owes' AND closed_at IS NULL;
CREATE INDEX open_incidents ON incidents (subject_id) WHERE closed_at IS NULL;
CREATE INDEX incidents_of_merchant ON incidents (merchant_id, opened_at, id);
CREATE INDEX open_incidents_of_merchant ON incidents (merchant_id, opened_at, id)
    WHERE closed_at IS NULL;

CREATE TABLE accounts (
    address text PRIMARY KEY,
    merchant_id text NOT NULL,
    role text NOT NULL,
    currency text NOT NULL,
    limited boolean NOT NULL,
    debits_pending bigint NOT NULL CHECK (debits_pending >= 0),
    debits_posted bigint NOT NULL CHECK (debits_posted >= 0),
    credits_pending bigint NOT NULL CHECK (credits_pending >= 0),
    credits_posted bigint NOT NULL CHECK (credits_posted >= 0),
    CONSTRAINT account_not_overdrawn
        CHECK (NOT limited OR debits_pending + debits_posted <= credits_posted),
    UNIQUE (merchant_id, currency, role)
) WITH (fillfactor = 20);

CREATE TABLE holds (
    id text PRIMARY KEY,
    merchant_id text NOT NULL,
    subject_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'posted', 'voided', 'expired')),
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT hold_ends_once CHECK ((state = 'active') = (ended_at IS NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX one_active_hold ON holds (subject_id) WHERE state = 'active';

-- No foreign keys to accounts: their rows are locked in the same transaction, and the check per
-- row would cost more than the insert. `bursar verify` compares the two.
CREATE TABLE transfers (
    merchant_id text NOT NULL,
    journal_seq bigint NOT NULL,
    line integer NOT NULL,
    id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('posted', 'pending', 'post', 'void', 'expire')),
    recipe text NOT NULL,
    subject_id text NOT NULL,
    debit text NOT NULL,
    credit text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    hold_id text,
    pending_id text,
    at timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, journal_seq, line),
    CHECK (debit <> credit),
    CHECK ((kind = 'posted') = (hold_id IS NULL)),
    CHECK ((kind IN ('post', 'void', 'expire')) = (pending_id IS NOT NULL))
);
CREATE UNIQUE INDEX pending_ends_once ON transfers (pending_id) WHERE pending_id IS NOT NULL;
CREATE INDEX transfers_subject ON transfers (subject_id);
CREATE INDEX transfers_pending_of_hold ON transfers (hold_id) WHERE kind = 'pending';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON transfers
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE payout_references (
    merchant_id text NOT NULL,
    reference text NOT NULL,
    payout_id text NOT NULL,
    PRIMARY KEY (merchant_id, reference)
);

CREATE TABLE payouts (
    id text PRIMARY KEY,
    merchant_id text NOT NULL,
    reference text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    fee bigint NOT NULL CHECK (fee >= 0),
    state text NOT NULL,
    version integer NOT NULL,
    beneficiary_name text NOT NULL,
    beneficiary_iban text NOT NULL,
    description text NOT NULL,
    priority smallint NOT NULL,
    metadata jsonb NOT NULL,
    due_at timestamptz NOT NULL,
    next_attempt_at timestamptz,
    expires_at timestamptz NOT NULL,
    attempt_count integer NOT NULL,
    retries_burned integer NOT NULL,
    max_retries integer NOT NULL,
    hold_id text NOT NULL,
    provider text,
    provider_ref text,
    provider_cost bigint NOT NULL,
    failure_code text,
    failure_reason text,
    amount_returned bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    settled_at timestamptz,
    correlation_id text NOT NULL,
    CONSTRAINT returned_within_amount CHECK (amount_returned BETWEEN 0 AND amount)
) WITH (fillfactor = 60);
CREATE INDEX payouts_of_merchant ON payouts (merchant_id, created_at, id);
CREATE INDEX payouts_in_state ON payouts (merchant_id, state, created_at, id);
CREATE INDEX payouts_expiring ON payouts (expires_at) WHERE state = 'funds_locked';
CREATE INDEX payouts_waiting ON payouts (priority DESC, next_attempt_at)
    WHERE state = 'funds_locked';

CREATE TABLE attempts (
    id text PRIMARY KEY,
    merchant_id text NOT NULL,
    payout_id text NOT NULL REFERENCES payouts (id),
    number integer NOT NULL,
    provider text NOT NULL,
    provider_key text NOT NULL,
    hold_id text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    begun_at timestamptz NOT NULL,
    state text NOT NULL,
    lease_token text NOT NULL,
    lease_until timestamptz NOT NULL,
    ambiguous_at timestamptz,
    provider_ref text,
    code text,
    reason text,
    inquire_at timestamptz,
    inquiries integer NOT NULL,
    proof_at timestamptz,
    sends integer NOT NULL,
    resend_at timestamptz,
    frozen_at timestamptz,
    UNIQUE (payout_id, number)
) WITH (fillfactor = 60);
CREATE UNIQUE INDEX one_open_attempt ON attempts (payout_id)
    WHERE state IN ('sending', 'unknown', 'accepted');
CREATE INDEX attempts_to_inquire ON attempts (inquire_at) WHERE inquire_at IS NOT NULL;
CREATE INDEX attempts_to_resend ON attempts (resend_at) WHERE state = 'unknown';
CREATE INDEX attempts_leased ON attempts (lease_until) WHERE state = 'sending';

-- What two persons say became of an attempt of which there is no other proof.
CREATE TABLE resolutions (
    attempt_id text PRIMARY KEY REFERENCES attempts (id),
    merchant_id text NOT NULL,
    payout_id text NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('executed', 'not_executed')),
    provider_ref text,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    evidence text NOT NULL,
    proposed_by text NOT NULL,
    proposed_at timestamptz NOT NULL,
    confirmed_by text,
    confirmed_at timestamptz,
    CONSTRAINT confirmed_by_another CHECK (confirmed_by <> proposed_by),
    CONSTRAINT confirmed_by_somebody CHECK ((confirmed_by IS NULL) = (confirmed_at IS NULL)),
    CONSTRAINT executed_under_a_reference
        CHECK ((verdict = 'executed') = (provider_ref IS NOT NULL))
);

CREATE TABLE provider_keys (
    provider text NOT NULL,
    key text NOT NULL,
    merchant_id text NOT NULL,
    payout_id text NOT NULL,
    attempt_id text NOT NULL,
    hold_id text NOT NULL,
    currency text NOT NULL,
    PRIMARY KEY (provider, key)
);

CREATE TABLE facts (
    merchant_id text NOT NULL,
    attempt_id text NOT NULL REFERENCES attempts (id),
    kind text NOT NULL CHECK (kind IN ('accepted', 'paid', 'failed', 'returned', 'foreign')),
    item text NOT NULL,
    provider_ref text,
    amount bigint NOT NULL,
    cost bigint NOT NULL,
    code text,
    reason text,
    source text NOT NULL,
    at timestamptz NOT NULL,
    sequence bigint,
    PRIMARY KEY (attempt_id, kind, item)
);

CREATE TABLE inbox (
    provider text NOT NULL,
    event_id text NOT NULL,
    body text NOT NULL,
    received_at timestamptz NOT NULL,
    result text NOT NULL,
    tries integer NOT NULL,
    next_try_at timestamptz,
    PRIMARY KEY (provider, event_id)
) WITH (fillfactor = 60);
CREATE INDEX inbox_waiting ON inbox (next_try_at) WHERE next_try_at IS NOT NULL;

-- The API makes payouts, the worker carries them out; neither makes accounts. What a row is about
-- (who, to whom, how much) is never granted for UPDATE, only the columns that the statements set.
GRANT SELECT, INSERT ON transfers TO bursar_api, bursar_worker;
GRANT SELECT, INSERT, UPDATE (amount, assigned_to, closed_at, closed_by, note)
    ON incidents TO bursar_api, bursar_worker;
GRANT SELECT, INSERT ON facts TO bursar_api, bursar_worker;
GRANT SELECT, UPDATE (debits_pending, debits_posted, credits_pending, credits_posted)
    ON accounts TO bursar_api, bursar_worker;
GRANT SELECT, UPDATE (state, ended_at) ON holds TO bursar_api, bursar_worker;
GRANT SELECT, UPDATE (state, version, next_attempt_at, expires_at, attempt_count, retries_burned,
                      hold_id, provider, provider_ref, provider_cost, failure_code,
                      failure_reason, amount_returned, updated_at, settled_at)
    ON payouts TO bursar_api, bursar_worker;
GRANT INSERT ON holds, payouts TO bursar_api;
GRANT SELECT, INSERT, DELETE, UPDATE (payout_id) ON payout_references TO bursar_api;
GRANT SELECT ON provider_keys TO bursar_api;
-- The worker alone begins attempts. The API ends one when two persons have said what became of it.
GRANT SELECT, UPDATE (state, lease_token, lease_until, ambiguous_at, provider_ref, code,
                      reason, inquire_at, inquiries, proof_at, sends, resend_at, frozen_at)
    ON attempts TO bursar_api, bursar_worker;
GRANT INSERT ON attempts TO bursar_worker;
GRANT SELECT, INSERT, UPDATE (verdict, provider_ref, evidence, proposed_by, proposed_at,
                              confirmed_by, confirmed_at)
    ON resolutions TO bursar_api;
-- Never updated; but a row lock asks for UPDATE on some column.
GRANT SELECT, INSERT, UPDATE (hold_id) ON provider_keys TO bursar_worker;
GRANT SELECT, INSERT, DELETE ON inbox TO bursar_api;
GRANT SELECT ON inbox TO bursar_worker;
GRANT UPDATE (result, tries, next_try_at) ON inbox TO bursar_api, bursar_worker;
GRANT SELECT ON incidents, accounts, holds, transfers, payout_references, payouts, attempts,
    provider_keys, facts, inbox, resolutions TO bursar_auditor;
