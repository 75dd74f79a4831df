-- name: durability
-- What the server and the role promise. Settings that hold milliseconds come as such.
SELECT name, setting
  FROM pg_settings
 WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'statement_timeout',
                'lock_timeout', 'idle_in_transaction_session_timeout', 'server_version_num');

-- name: role_is_superuser
SELECT rolsuper FROM pg_roles WHERE rolname = current_user;

-- name: role_of_owner_rights
-- The connected role, if it is the owner of the schema or a member of it.
SELECT current_user
  FROM pg_class
 WHERE oid = to_regclass('schema_migrations') AND pg_has_role(current_user, relowner, 'MEMBER');

-- name: role_that_is_not
-- The connected role, unless it is $1 or a member of it.
SELECT current_user
 WHERE NOT EXISTS (SELECT FROM pg_roles
                    WHERE rolname = $1 AND pg_has_role(current_user, oid, 'MEMBER'));

-- name: role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1);

-- name: create_role_text
-- Role names and passwords cannot be parameters of CREATE ROLE: the server quotes them.
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', $1::text);

-- name: verifiers_are_readable
SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT');

-- name: role_verifier
SELECT rolpassword FROM pg_authid WHERE rolname = $1;

-- name: role_password_text
-- The second parameter is a verifier, never a password.
SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text);

-- name: role_setting_text
SELECT format('ALTER ROLE %I SET %I = %L', $1::text, $2::text, $3::text);

-- name: grant_role_text
-- An admin that is no superuser must be a member of a role to create a database for it.
SELECT format('GRANT %I TO CURRENT_USER', $1::text)
 WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);

-- name: database_exists
SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1);

-- name: create_database_text
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE %I', $1::text, $2::text, $3::text);

-- name: drop_database_text
SELECT format('DROP DATABASE IF EXISTS %I WITH (FORCE)', $1::text);

-- name: close_database_text
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text);

-- name: open_database_text
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', $1::text, $2::text);

-- name: wait_for_migration_lock
SELECT set_config('lock_timeout', '60s', false);

-- name: lock_migrations
-- One process migrates; others wait here and then find nothing to do. The key is arbitrary.
SELECT pg_advisory_lock(4027026001);

-- name: unlock_migrations
SELECT pg_advisory_unlock(4027026001);

-- name: restore_lock_timeout
RESET lock_timeout;

-- name: create_migrations_table
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY CHECK (version > 0),
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: is_migrated
SELECT to_regclass('schema_migrations') IS NOT NULL;

-- name: applied_migrations
SELECT version, name, checksum FROM schema_migrations ORDER BY version;

-- name: record_migration
INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3);
