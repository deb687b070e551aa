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
  email text CHECK (length(email) BETWEEN 3 AND 254),     -- as he spelt it; unique without case
  phone_number text,
  phone_verified_at timestamptz,                          -- of this very number: another number starts unproven
  locale text NOT NULL DEFAULT 'th' CHECK (locale IN ('th', 'en', 'ar')),
  roles text[] CHECK (roles <@ ARRAY['customer', 'partner', 'support', 'admin']),  -- NULL: as the token says
  blocked_at timestamptz,
  blocked_reason text,
  tokens_valid_after timestamptz,                         -- access tokens made before are refused
  access_at timestamptz,                                  -- the last block, change of roles or sign-out everywhere
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- What an office searches in. Lines, so that no match goes from one field into the next.
  search_text text NOT NULL GENERATED ALWAYS AS
    (lower(coalesce(first_name, '') || ' ' || coalesce(last_name, '') || E'\n' || coalesce(email, '') || E'\n' || coalesce(phone_number, ''))) STORED
);

CREATE UNIQUE INDEX users_email ON users (lower(email));
CREATE INDEX users_blocked ON users (blocked_at) WHERE blocked_at IS NOT NULL;
CREATE INDEX users_access ON users (access_at) WHERE access_at IS NOT NULL;

CREATE FUNCTION users_phone_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.phone_number IS DISTINCT FROM OLD.phone_number AND NEW.phone_verified_at IS NOT DISTINCT FROM OLD.phone_verified_at THEN
    NEW.phone_verified_at := NULL;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER users_phone_changed BEFORE UPDATE OF phone_number ON users FOR EACH ROW EXECUTE FUNCTION users_phone_changed();

-- Apart from `users`, whose rows their owners read: no request ever reads a hash.
CREATE TABLE passwords (
  user_id uuid PRIMARY KEY REFERENCES users (id),
  hash text NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One sign-in: a family of refresh tokens, each used once and replaced by the next. Ended: none of them works.
CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id),
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,                        -- of its newest token
  ended_at timestamptz,
  why text CHECK (why IN ('signed_out', 'reused', 'blocked', 'password', 'too_many'))
);
CREATE INDEX sessions_live ON sessions (user_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE refresh_tokens (
  hash bytea PRIMARY KEY CHECK (length(hash) = 32),       -- SHA-256; the token itself is kept nowhere
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  expires_at timestamptz NOT NULL,
  used_at timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);

-- Tries counted before they are judged. The subject is a keyed hash of a purpose and an address: nobody can be read out of it.
CREATE TABLE attempts (
  subject bytea PRIMARY KEY,
  n int NOT NULL,
  until timestamptz NOT NULL                              -- then the count starts anew
) WITH (fillfactor = 50);
CREATE INDEX attempts_until ON attempts (until);

-- A link in a mail. The token is derived from the row's id with the server's key, so a mail can be made at any time and the token stands nowhere.
CREATE TABLE email_tokens (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id),
  purpose text NOT NULL CHECK (purpose IN ('verify', 'reset')),
  email text NOT NULL CHECK (email = lower(email)),
  hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz
);
CREATE INDEX email_tokens_expiry ON email_tokens (expires_at);
CREATE INDEX email_tokens_reset ON email_tokens (user_id) WHERE purpose = 'reset' AND used_at IS NULL;

-- The newest code of each user, and no other. It is derived from `id`; not even its hash is kept, since a hash of six digits hides nothing.
CREATE TABLE phone_codes (
  user_id uuid PRIMARY KEY REFERENCES users (id),
  id uuid NOT NULL UNIQUE,
  phone_number text NOT NULL,
  tries int NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL,
  used_at timestamptz
);
CREATE INDEX phone_codes_expiry ON phone_codes (expires_at);

-- Addresses that a user has proved to read. Lower case: two spellings of one address are one.
CREATE TABLE verified_emails (
  user_id uuid NOT NULL REFERENCES users (id),
  email text NOT NULL CHECK (email = lower(email)),
  verified_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (user_id, email)
);

-- Rules of a single column that is written on the paths that everybody waits for are domains: a CHECK is read anew and tried at every
-- UPDATE of its row, a domain is read once a session and tried where its column is assigned.
CREATE DOMAIN request_key AS text CHECK (length(VALUE) BETWEEN 1 AND 200);

-- One row per request id that changed something: the answer, kept for a day at least. Effects and answer commit together. No foreign key:
-- whoever asks has a user by then, no user is ever deleted, and its check would lock his row once more in every accept.
CREATE TABLE idem (
  user_id uuid NOT NULL,
  key request_key NOT NULL,
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
ALTER TABLE passwords ENABLE ROW LEVEL SECURITY;
ALTER TABLE passwords FORCE ROW LEVEL SECURITY;
ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE refresh_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE refresh_tokens FORCE ROW LEVEL SECURITY;
ALTER TABLE attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE attempts FORCE ROW LEVEL SECURITY;
ALTER TABLE email_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE email_tokens FORCE ROW LEVEL SECURITY;
ALTER TABLE phone_codes ENABLE ROW LEVEL SECURITY;
ALTER TABLE phone_codes FORCE ROW LEVEL SECURITY;
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
-- What proves who somebody is has no policy for requests: it is read and written by the functions below and by the server itself.
CREATE POLICY passwords_system ON passwords TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY sessions_system ON sessions TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY refresh_tokens_system ON refresh_tokens TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY attempts_system ON attempts TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY email_tokens_system ON email_tokens TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY phone_codes_system ON phone_codes TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY idem_own ON idem TO dispatch_app USING (user_id = ctx_user()) WITH CHECK (user_id = ctx_user());
CREATE POLICY idem_system ON idem TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY workers_system ON workers TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY sockets_own ON sockets FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY sockets_system ON sockets TO dispatch_system USING (true) WITH CHECK (true);

GRANT SELECT ON history, users, verified_emails, sockets TO dispatch_app;
GRANT UPDATE (first_name, last_name, phone_number, locale, updated_at) ON users TO dispatch_app;
GRANT SELECT, INSERT ON idem TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON users, verified_emails, idem, workers, sockets TO dispatch_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON passwords, sessions, refresh_tokens, attempts, email_tokens, phone_codes TO dispatch_system;
GRANT SELECT, UPDATE ON history TO dispatch_system;

-- Foreign keys are checked as the table's owner, who is under FORCE like everybody: let it see what it must prove.
CREATE POLICY users_owner ON users FOR SELECT TO dispatch_owner USING (true);

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- The user of a token, made at first sight. What a known user is called is his own business and stays. An address that its
-- issuer has not verified is not taken, or a stranger could sit on it; one that is another user's already stays that user's: the new one has none.
CREATE FUNCTION users_ensure(p_id uuid, p_first text, p_last text, p_phone text, p_email text DEFAULT NULL, p_email_verified boolean DEFAULT false)
RETURNS TABLE (locale text, blocked boolean, roles text[], valid_after timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT u.locale, u.blocked_at IS NOT NULL, u.roles, u.tokens_valid_after FROM users u WHERE u.id = p_id;
  IF FOUND THEN RETURN; END IF;
  INSERT INTO users (id, first_name, last_name, phone_number, email)
    VALUES (p_id, p_first, p_last, p_phone, CASE WHEN p_email_verified THEN p_email END) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    INSERT INTO users (id, first_name, last_name, phone_number) VALUES (p_id, p_first, p_last, p_phone) ON CONFLICT (id) DO NOTHING;
  END IF;
  IF p_email_verified AND p_email IS NOT NULL THEN
    INSERT INTO verified_emails (user_id, email) VALUES (p_id, lower(p_email)) ON CONFLICT DO NOTHING;
  END IF;
  RETURN QUERY SELECT u.locale, u.blocked_at IS NOT NULL, u.roles, u.tokens_valid_after FROM users u WHERE u.id = p_id;
END $$;

-- A user who signed up, with his password. 23505 on users_email: the address is taken.
CREATE FUNCTION users_sign_up(p_id uuid, p_email text, p_first text, p_last text, p_phone text, p_locale text, p_hash text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(p_id);
  INSERT INTO users (id, email, first_name, last_name, phone_number, locale)
    VALUES (p_id, p_email, p_first, p_last, p_phone, coalesce(p_locale, 'th'));
  INSERT INTO passwords (user_id, hash) VALUES (p_id, p_hash);
END $$;

-- A new family with its first token. Nobody has more than twenty: the oldest go. Returns the moment: access tokens carry this clock, since they are compared with it.
CREATE FUNCTION session_open(p_id uuid, p_user uuid, p_hash bytea, p_ttl interval) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(p_user);
  INSERT INTO sessions (id, user_id, expires_at) VALUES (p_id, p_user, clock_timestamp() + p_ttl);
  INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES (p_hash, p_id, clock_timestamp() + p_ttl);
  UPDATE sessions SET ended_at = clock_timestamp(), why = 'too_many' WHERE id IN (
    SELECT s.id FROM sessions s WHERE s.user_id = p_user AND s.ended_at IS NULL ORDER BY s.started_at DESC OFFSET 20 FOR UPDATE SKIP LOCKED);
  RETURN clock_timestamp();
END $$;

-- Replace a refresh token by the next of its family. Whoever comes second with the same one waits for the family's row, finds it used,
-- and ends the family: one of the two is a thief, and nobody can tell which.
-- Words: ok | unknown | reused | ended | expired | blocked. Runs as its caller: only the server may.
CREATE FUNCTION session_rotate(p_old bytea, p_new bytea, p_ttl interval, OUT word text, OUT user_id uuid, OUT roles text[], OUT at timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
  family sessions;
  token refresh_tokens;
  person users;
BEGIN
  SELECT s.* INTO family FROM sessions s WHERE s.id = (SELECT r.session_id FROM refresh_tokens r WHERE r.hash = p_old) FOR UPDATE;
  IF NOT FOUND THEN
    word := 'unknown';
    RETURN;
  END IF;
  user_id := family.user_id;
  SELECT r.* INTO token FROM refresh_tokens r WHERE r.hash = p_old;
  SELECT u.* INTO person FROM users u WHERE u.id = family.user_id;
  at := clock_timestamp();
  IF token.used_at IS NOT NULL THEN
    UPDATE sessions s SET ended_at = at, why = 'reused' WHERE s.id = family.id AND s.ended_at IS NULL;
    word := 'reused';
  ELSIF family.ended_at IS NOT NULL THEN
    word := 'ended';
  ELSIF token.expires_at <= at THEN
    word := 'expired';
  ELSIF person.blocked_at IS NOT NULL THEN
    word := 'blocked';
  ELSE
    UPDATE refresh_tokens r SET used_at = at WHERE r.hash = p_old;
    INSERT INTO refresh_tokens (hash, session_id, expires_at) VALUES (p_new, family.id, at + p_ttl);
    UPDATE sessions s SET expires_at = at + p_ttl WHERE s.id = family.id;
    roles := person.roles;
    word := 'ok';
  END IF;
END $$;

-- End all families of a user and refuse his access tokens of before. Families first: a rotation under way is waited for, and what it
-- gave away is older than the moment taken after it.
CREATE FUNCTION sessions_end(p_user uuid, p_why text) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  moment timestamptz;
BEGIN
  PERFORM ctx_require(p_user);
  UPDATE sessions SET ended_at = clock_timestamp(), why = p_why WHERE user_id = p_user AND ended_at IS NULL;
  moment := clock_timestamp();
  UPDATE users SET tokens_valid_after = moment, access_at = moment WHERE id = p_user;
  RETURN moment;
END $$;

-- A new password of a user who has proved who he is. All his sessions end, and no other link of before replaces it again: one that is
-- expired stays so. Links first and by id, as email_use takes them.
CREATE FUNCTION password_set(p_user uuid, p_hash text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(p_user);
  UPDATE email_tokens SET used_at = clock_timestamp() WHERE id IN (
    SELECT e.id FROM email_tokens e WHERE e.user_id = p_user AND e.purpose = 'reset' AND e.used_at IS NULL AND e.expires_at > clock_timestamp()
    ORDER BY e.id FOR UPDATE);
  INSERT INTO passwords AS p (user_id, hash) VALUES (p_user, p_hash)
    ON CONFLICT (user_id) DO UPDATE SET hash = p_hash, changed_at = clock_timestamp();
  PERFORM sessions_end(p_user, 'password');
END $$;

-- What an admin does to a user. NULL: there is no such user. Both answer what was before.
CREATE FUNCTION users_roles_set(p_user uuid, p_roles text[], OUT known boolean, OUT before text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  SELECT u.roles INTO before FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
  known := FOUND;
  UPDATE users SET roles = p_roles, access_at = clock_timestamp(), updated_at = clock_timestamp() WHERE id = p_user;
END $$;

CREATE FUNCTION users_blocked_set(p_user uuid, p_blocked boolean, p_reason text, OUT known boolean, OUT before boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  IF p_blocked THEN
    UPDATE sessions SET ended_at = clock_timestamp(), why = 'blocked' WHERE user_id = p_user AND ended_at IS NULL;
  END IF;
  SELECT u.blocked_at IS NOT NULL INTO before FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
  known := FOUND;
  UPDATE users SET blocked_at = CASE WHEN p_blocked THEN clock_timestamp() END, blocked_reason = CASE WHEN p_blocked THEN p_reason END,
    access_at = clock_timestamp(), updated_at = clock_timestamp() WHERE id = p_user;
END $$;

-- Take one try for each subject, in the given order, until one has none left. Returns 0, or the seconds until that one has some again.
-- The row's lock makes the count true under any number of tries at once. Runs as its caller: only the server may.
CREATE FUNCTION attempts_take(p_subjects bytea[], p_limits int[], p_window interval) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  left_s int;
BEGIN
  FOR i IN 1 .. cardinality(p_subjects) LOOP
    INSERT INTO attempts AS a (subject, n, until) VALUES (p_subjects[i], 1, clock_timestamp() + p_window)
    ON CONFLICT (subject) DO UPDATE SET
      n = CASE WHEN a.until <= clock_timestamp() THEN 1 ELSE a.n + 1 END,
      until = CASE WHEN a.until <= clock_timestamp() THEN clock_timestamp() + p_window ELSE a.until END
    WHERE a.until <= clock_timestamp() OR a.n < p_limits[i];
    IF NOT FOUND THEN
      SELECT ceil(extract(epoch FROM a.until - clock_timestamp()))::int INTO left_s FROM attempts a WHERE a.subject = p_subjects[i];
      RETURN greatest(1, coalesce(left_s, 1));
    END IF;
  END LOOP;
  RETURN 0;
END $$;

-- Give one try back: it was no failure. In the order in which they were taken.
CREATE FUNCTION attempts_return(p_subjects bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. cardinality(p_subjects) LOOP
    UPDATE attempts SET n = greatest(0, n - 1) WHERE subject = p_subjects[i];
  END LOOP;
END $$;

-- A token for a mail. True: this user has proved this address before, so there is nothing to mail.
CREATE FUNCTION email_ask(p_id uuid, p_user uuid, p_email text, p_purpose text, p_hash bytea, p_ttl interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  done boolean := p_purpose = 'verify' AND email_verified(p_user, p_email);
BEGIN
  PERFORM ctx_require(p_user);
  INSERT INTO email_tokens (id, user_id, purpose, email, hash, expires_at, used_at)
    VALUES (p_id, p_user, p_purpose, lower(p_email), p_hash, clock_timestamp() + p_ttl, CASE WHEN done THEN clock_timestamp() END);
  RETURN done;
END $$;

-- Use a token: whoever used it read the mail, so the address is his. `fresh`: it was not known to be before.
-- Words: ok | unknown (also used) | expired. Runs as its caller: only the server may.
CREATE FUNCTION email_use(p_hash bytea, p_purpose text, OUT word text, OUT user_id uuid, OUT email text, OUT fresh boolean)
LANGUAGE plpgsql AS $$
DECLARE
  t email_tokens;
BEGIN
  IF p_purpose = 'reset' THEN
    -- The first of two links voids the other: they are locked in one order, so that two used at once wait and do not embrace.
    PERFORM FROM email_tokens e WHERE e.user_id = (SELECT o.user_id FROM email_tokens o WHERE o.hash = p_hash)
      AND e.purpose = 'reset' AND e.used_at IS NULL ORDER BY e.id FOR UPDATE;
  END IF;
  UPDATE email_tokens e SET used_at = clock_timestamp()
   WHERE e.hash = p_hash AND e.purpose = p_purpose AND e.used_at IS NULL AND e.expires_at > clock_timestamp() RETURNING e.* INTO t;
  IF FOUND THEN
    user_id := t.user_id;
    email := t.email;
    INSERT INTO verified_emails (user_id, email) VALUES (t.user_id, t.email) ON CONFLICT DO NOTHING;
    fresh := FOUND;
    word := 'ok';
  ELSIF EXISTS (SELECT FROM email_tokens e WHERE e.hash = p_hash AND e.purpose = p_purpose AND e.used_at IS NULL) THEN
    word := 'expired';
  ELSE
    word := 'unknown';
  END IF;
END $$;

-- A new code for this number; what was sent before is void.
CREATE FUNCTION phone_code_ask(p_user uuid, p_id uuid, p_phone text, p_ttl interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(p_user);
  INSERT INTO phone_codes AS c (user_id, id, phone_number, expires_at) VALUES (p_user, p_id, p_phone, clock_timestamp() + p_ttl)
  ON CONFLICT (user_id) DO UPDATE SET id = p_id, phone_number = p_phone, tries = 0, expires_at = clock_timestamp() + p_ttl, used_at = NULL;
END $$;

-- Take one try at the newest code, before anybody looks whether it is right. Words: try | none | expired | tries.
CREATE FUNCTION phone_code_try(p_user uuid, p_tries int, OUT word text, OUT id uuid, OUT left_s int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  code phone_codes;
BEGIN
  PERFORM ctx_require(p_user);
  SELECT c.* INTO code FROM phone_codes c WHERE c.user_id = p_user AND c.used_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN
    word := 'none';
  ELSIF code.expires_at <= clock_timestamp() THEN
    word := 'expired';
  ELSIF code.tries >= p_tries THEN
    word := 'tries';
    left_s := greatest(1, ceil(extract(epoch FROM code.expires_at - clock_timestamp()))::int);
  ELSE
    UPDATE phone_codes c SET tries = c.tries + 1 WHERE c.user_id = p_user;
    word := 'try';
    id := code.id;
  END IF;
END $$;

-- The code was right: the number is his. False: somebody else used it, or there is a newer one.
CREATE FUNCTION phone_code_use(p_user uuid, p_id uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  number text;
BEGIN
  PERFORM ctx_require(p_user);
  UPDATE phone_codes c SET used_at = clock_timestamp() WHERE c.user_id = p_user AND c.id = p_id AND c.used_at IS NULL RETURNING c.phone_number INTO number;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE users SET phone_number = number, phone_verified_at = clock_timestamp(), updated_at = clock_timestamp() WHERE id = p_user;
  RETURN true;
END $$;

-- Forget what can no longer decide anything, p_batch of each kind at a time. Returns how many rows went. Handles of mails live a month longer
-- than their links: with them a client asks whether the address is verified.
CREATE FUNCTION accounts_forget(p_batch int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  gone int;
  total int := 0;
BEGIN
  DELETE FROM attempts WHERE subject IN (SELECT subject FROM attempts WHERE until <= clock_timestamp() LIMIT p_batch FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS gone = ROW_COUNT;
  total := total + gone;
  DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at <= clock_timestamp() LIMIT p_batch FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS gone = ROW_COUNT;
  total := total + gone;
  DELETE FROM sessions WHERE id IN (SELECT id FROM sessions
    WHERE expires_at <= clock_timestamp() OR ended_at <= clock_timestamp() - interval '1 day' LIMIT p_batch FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS gone = ROW_COUNT;
  total := total + gone;
  DELETE FROM email_tokens WHERE id IN (SELECT id FROM email_tokens WHERE expires_at <= clock_timestamp() - interval '30 days' LIMIT p_batch FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS gone = ROW_COUNT;
  total := total + gone;
  DELETE FROM phone_codes WHERE id IN (SELECT id FROM phone_codes WHERE expires_at <= clock_timestamp() - interval '1 day' LIMIT p_batch FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN total + gone;
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
