-- roles, users and the helpers every row policy reads
-- depends:

-- migrate: apply

DO $$
BEGIN
  -- Roles belong to the whole cluster, so another database may have made them already.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dispatch_owner') THEN
    CREATE ROLE dispatch_owner NOLOGIN NOSUPERUSER NOBYPASSRLS;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dispatch_app') THEN
    CREATE ROLE dispatch_app NOLOGIN NOSUPERUSER NOBYPASSRLS;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dispatch_system') THEN
    CREATE ROLE dispatch_system NOLOGIN NOSUPERUSER NOBYPASSRLS;
  END IF;
  EXECUTE format('GRANT dispatch_owner, dispatch_app, dispatch_system TO %I', current_user);
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL;  -- two databases migrated at the same moment; the other one made them
END $$;

CREATE SCHEMA IF NOT EXISTS dispatch;
GRANT USAGE, CREATE ON SCHEMA dispatch TO dispatch_owner;
GRANT USAGE ON SCHEMA dispatch TO dispatch_app, dispatch_system;

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- Who acts, set inside the transaction by the server and by nothing else. Unset: NULL, so every policy hides every row.
CREATE FUNCTION ctx_user() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
  RETURN nullif(current_setting('app.user_id', true), '')::uuid;
CREATE FUNCTION ctx_admin() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
  RETURN coalesce(current_setting('app.admin', true), '') = 'on';

-- A second lock behind the service's own check: functions that change other people's rows ask here whether a request may.
-- Loops run as dispatch_system and act for nobody; a request acts for its user or, as an admin, for anybody.
CREATE FUNCTION ctx_require(VARIADIC p_users uuid[]) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF current_setting('role') = 'dispatch_app' AND NOT ctx_admin() AND NOT coalesce(ctx_user() = ANY (p_users), false) THEN
    RAISE insufficient_privilege USING MESSAGE = 'the acting user may not do this to these rows';
  END IF;
END $$;

CREATE FUNCTION ctx_may(p_user uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
  RETURN current_setting('role') <> 'dispatch_app' OR ctx_admin() OR coalesce(ctx_user() = p_user, false);

-- RFC 3339, UTC, milliseconds: the one spelling of an instant on the wire.
CREATE FUNCTION wire_at(at timestamptz) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE
  RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- The name of this history. It changes only when an operator restores an older one: `UPDATE history SET epoch = …`.
CREATE TABLE history (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  epoch text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', '')
);

CREATE TABLE users (
  id uuid PRIMARY KEY,
  first_name text CHECK (length(first_name) BETWEEN 1 AND 50),
  last_name text CHECK (length(last_name) BETWEEN 1 AND 50),
  phone_number text,
  locale text NOT NULL DEFAULT 'th' CHECK (locale IN ('th', 'en', 'ar')),
  blocked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX users_blocked ON users (blocked_at) WHERE blocked_at IS NOT NULL;

-- Addresses that a user has proved to read. Lower case: two spellings of one address are one.
CREATE TABLE verified_emails (
  user_id uuid NOT NULL REFERENCES users (id),
  email text NOT NULL CHECK (email = lower(email)),
  verified_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (user_id, email)
);

-- One row per request id that changed something: the answer, kept for a day at least. Effects and answer commit together.
CREATE TABLE idem (
  user_id uuid NOT NULL REFERENCES users (id),
  key text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
  fingerprint text NOT NULL,
  status smallint NOT NULL,
  response text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (user_id, key)
);
CREATE INDEX idem_age ON idem (at);

-- A worker is a process with sockets. Its beat is the only clock by which others may call it dead.
CREATE TABLE workers (
  id text PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  beat_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per device of a user: which connection is the living one. `lost_at` is set when it closed.
CREATE TABLE sockets (
  user_id uuid NOT NULL REFERENCES users (id),
  device text NOT NULL CHECK (length(device) BETWEEN 1 AND 128),
  attempt bigint NOT NULL,
  worker_id text NOT NULL,
  conn_id uuid NOT NULL,
  connected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  lost_at timestamptz,
  PRIMARY KEY (user_id, device)
);
CREATE INDEX sockets_worker ON sockets (worker_id) WHERE lost_at IS NULL;

ALTER TABLE history ENABLE ROW LEVEL SECURITY;
ALTER TABLE history FORCE ROW LEVEL SECURITY;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
ALTER TABLE verified_emails ENABLE ROW LEVEL SECURITY;
ALTER TABLE verified_emails FORCE ROW LEVEL SECURITY;
ALTER TABLE idem ENABLE ROW LEVEL SECURITY;
ALTER TABLE idem FORCE ROW LEVEL SECURITY;
ALTER TABLE workers ENABLE ROW LEVEL SECURITY;
ALTER TABLE workers FORCE ROW LEVEL SECURITY;
ALTER TABLE sockets ENABLE ROW LEVEL SECURITY;
ALTER TABLE sockets FORCE ROW LEVEL SECURITY;

CREATE POLICY history_read ON history FOR SELECT TO dispatch_app USING (true);
CREATE POLICY history_system ON history TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY history_owner ON history TO dispatch_owner USING (true) WITH CHECK (true);
INSERT INTO history DEFAULT VALUES;

CREATE POLICY users_own ON users FOR SELECT TO dispatch_app USING (id = ctx_user() OR ctx_admin());
CREATE POLICY users_patch ON users FOR UPDATE TO dispatch_app USING (id = ctx_user()) WITH CHECK (id = ctx_user());
CREATE POLICY users_system ON users TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY verified_emails_own ON verified_emails FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY verified_emails_system ON verified_emails TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY idem_own ON idem TO dispatch_app USING (user_id = ctx_user()) WITH CHECK (user_id = ctx_user());
CREATE POLICY idem_system ON idem TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY workers_system ON workers TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY sockets_own ON sockets FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY sockets_system ON sockets TO dispatch_system USING (true) WITH CHECK (true);

GRANT SELECT ON history, users, verified_emails, sockets TO dispatch_app;
GRANT UPDATE (first_name, last_name, phone_number, locale, updated_at) ON users TO dispatch_app;
GRANT SELECT, INSERT ON idem TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON users, verified_emails, idem, workers, sockets TO dispatch_system;
GRANT SELECT, UPDATE ON history TO dispatch_system;

-- Foreign keys are checked as the table's owner, who is under FORCE like everybody: let it see what it must prove.
CREATE POLICY users_owner ON users FOR SELECT TO dispatch_owner USING (true);

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- The user of a token, made at first sight. Names of a known user are his own business and stay.
CREATE FUNCTION users_ensure(p_id uuid, p_first text, p_last text, p_phone text) RETURNS TABLE (locale text, blocked boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT u.locale, u.blocked_at IS NOT NULL FROM users u WHERE u.id = p_id;
  IF FOUND THEN RETURN; END IF;
  INSERT INTO users (id, first_name, last_name, phone_number) VALUES (p_id, p_first, p_last, p_phone) ON CONFLICT (id) DO NOTHING;
  RETURN QUERY SELECT u.locale, u.blocked_at IS NOT NULL FROM users u WHERE u.id = p_id;
END $$;

CREATE FUNCTION email_verified(p_user uuid, p_email text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp
RETURN EXISTS (SELECT FROM verified_emails v WHERE v.user_id = p_user AND v.email = lower(p_email));

-- Open a request id. Words: "new" go on and finish it, "replay" here is the stored answer, "reused" same id with another
-- body, "running" the same id is at work right now (held by the advisory lock until its transaction ends).
CREATE FUNCTION idem_begin(p_user uuid, p_key text, p_fingerprint text, OUT word text, OUT status smallint, OUT response text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  known idem;
BEGIN
  PERFORM ctx_require(p_user);
  IF NOT pg_try_advisory_xact_lock(hashtextextended(p_user::text || p_key, 0)) THEN
    word := 'running';
    RETURN;
  END IF;
  SELECT * INTO known FROM idem i WHERE i.user_id = p_user AND i.key = p_key;
  IF NOT FOUND THEN
    word := 'new';
  ELSIF known.fingerprint <> p_fingerprint THEN
    word := 'reused';
  ELSE
    word := 'replay';
    status := known.status;
    response := known.response;
  END IF;
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch TO dispatch_app, dispatch_system, dispatch_owner;

-- migrate: rollback

DROP SCHEMA dispatch CASCADE;
