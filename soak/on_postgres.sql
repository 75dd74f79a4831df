-- Schedules over a real server: a clock that a session is told, and what is asked beside the product.

-- name: make_clock
-- Stands before pg_catalog in the search path, so that the product's own statements read it.
CREATE SCHEMA simclock;
CREATE FUNCTION simclock.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.current_setting('bursar.now')::pg_catalog.timestamptz $$;
CREATE FUNCTION simclock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.current_setting('bursar.now')::pg_catalog.timestamptz $$;
CREATE FUNCTION simclock.transaction_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.current_setting('bursar.now')::pg_catalog.timestamptz $$;
CREATE FUNCTION simclock.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.current_setting('bursar.now')::pg_catalog.timestamptz $$;
GRANT USAGE ON SCHEMA simclock TO PUBLIC

-- name: make_role
-- A schedule's process is API and worker in one.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bursar_soak') THEN
        CREATE ROLE bursar_soak NOLOGIN IN ROLE bursar_api, bursar_worker;
    END IF;
END $$

-- name: tell_time
SELECT set_config('bursar.now', $1, false)

-- name: waiting_for_locks
-- Of these servers' processes, those that wait for others of them, and for nobody else.
SELECT pid FROM pg_stat_activity
WHERE pid = ANY($1::int[]) AND wait_event_type = 'Lock' AND pg_blocking_pids(pid) <@ $2::int[]

-- name: whole_table_text
SELECT format('SELECT %s FROM public.%I',
              (SELECT string_agg(quote_ident(name), ', ') FROM unnest($2::text[]) AS name), $1::text)
