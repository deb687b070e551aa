-- the inbox: every promise to a person, numbered without gaps
-- depends: 0001_accounts

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

CREATE TABLE inbox_head (
  user_id uuid PRIMARY KEY REFERENCES users (id),
  seq bigint NOT NULL CHECK (seq > 0)
) WITH (fillfactor = 50);

-- The newest event that any device of the user has acked; apart from the head, so that acks never wait for an accept.
CREATE TABLE inbox_marks (
  user_id uuid PRIMARY KEY REFERENCES users (id),
  acked_seq bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE events (
  user_id uuid NOT NULL,
  seq bigint NOT NULL,
  name text NOT NULL,
  body json NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (user_id, seq)
);

CREATE TYPE fact AS (user_id uuid, seq bigint, name text, body json, at timestamptz);
-- A fact that is decided but not yet numbered: collected while jobs are locked, appended after the last job lock.
CREATE TYPE pending_fact AS (user_id uuid, name text, body json);

ALTER TABLE inbox_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbox_head FORCE ROW LEVEL SECURITY;
ALTER TABLE inbox_marks ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbox_marks FORCE ROW LEVEL SECURITY;
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY inbox_head_own ON inbox_head FOR SELECT TO dispatch_app USING (user_id = ctx_user());
CREATE POLICY inbox_head_system ON inbox_head TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY inbox_marks_own ON inbox_marks FOR SELECT TO dispatch_app USING (user_id = ctx_user());
CREATE POLICY inbox_marks_system ON inbox_marks TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY events_own ON events FOR SELECT TO dispatch_app USING (user_id = ctx_user());
CREATE POLICY events_system ON events TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON inbox_head, inbox_marks, events TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON inbox_head, inbox_marks, events TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- Number and store facts. Heads are locked by user id, the last lock but the ledger's in the server's one order; a user's facts keep the order
-- they were given in. The numbers are taken in the transaction, so a rollback leaves no gap.
CREATE FUNCTION inbox_append(p_facts pending_fact[]) RETURNS fact[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  whose uuid;
  last bigint;
  told record;
  facts fact[] := '{}';
BEGIN
  FOR told IN SELECT f.user_id, f.name, f.body, count(*) OVER (PARTITION BY f.user_id) AS many
      FROM unnest(p_facts) WITH ORDINALITY AS f(user_id, name, body, i) ORDER BY f.user_id, f.i LOOP
    IF told.user_id IS DISTINCT FROM whose THEN
      whose := told.user_id;
      UPDATE inbox_head h SET seq = h.seq + told.many WHERE h.user_id = whose RETURNING h.seq - told.many INTO last;
      IF NOT FOUND THEN  -- his first; ON CONFLICT, as another transaction may be telling him his first too
        INSERT INTO inbox_head AS h (user_id, seq) VALUES (whose, told.many)
          ON CONFLICT (user_id) DO UPDATE SET seq = h.seq + told.many RETURNING h.seq - told.many INTO last;
      END IF;
    END IF;
    last := last + 1;
    facts := facts || ROW(whose, last, told.name, told.body, clock_timestamp())::fact;
  END LOOP;
  INSERT INTO events (user_id, seq, name, body, at) SELECT f.user_id, f.seq, f.name, f.body, f.at FROM unnest(facts) AS f;
  RETURN facts;
END $$;

-- A device says hello. Words: "open" it is the living connection now, "stale" the same device lives with this attempt or a later one
-- (the new connection must close, 4409). `victims`: connections that must close for it, with their workers and close codes: the
-- device's former one (4409), other devices of a provider (4410), the oldest beyond `p_devices` of anybody else (4410).
-- Rows of a dead worker count as lost. One hello of a user at a time: an advisory lock, held for these few statements.
CREATE FUNCTION socket_open(p_user uuid, p_device text, p_attempt bigint, p_worker text, p_conn uuid, p_devices int,
  OUT word text, OUT victims uuid[], OUT victim_workers text[], OUT victim_codes int[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  living sockets[];
  s sockets;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('socket' || p_user::text, 0));
  victims := '{}'; victim_workers := '{}'; victim_codes := '{}';
  SELECT array_agg(x ORDER BY x.connected_at) INTO living FROM sockets x JOIN workers w ON w.id = x.worker_id
   WHERE x.user_id = p_user AND x.lost_at IS NULL AND w.beat_at > clock_timestamp() - interval '10 s';
  FOREACH s IN ARRAY coalesce(living, '{}') LOOP
    IF s.device = p_device THEN
      IF p_attempt <= s.attempt THEN
        word := 'stale';
        RETURN;
      END IF;
      victims := victims || s.conn_id; victim_workers := victim_workers || s.worker_id; victim_codes := victim_codes || 4409;
    END IF;
  END LOOP;
  FOR s IN SELECT * FROM unnest(coalesce(living, '{}')) x WHERE x.device <> p_device ORDER BY x.connected_at DESC OFFSET p_devices - 1 LOOP
    victims := victims || s.conn_id; victim_workers := victim_workers || s.worker_id; victim_codes := victim_codes || 4410;
    UPDATE sockets x SET lost_at = clock_timestamp() WHERE x.user_id = p_user AND x.device = s.device;
  END LOOP;
  INSERT INTO sockets AS x (user_id, device, attempt, worker_id, conn_id) VALUES (p_user, p_device, p_attempt, p_worker, p_conn)
    ON CONFLICT (user_id, device) DO UPDATE SET attempt = p_attempt, worker_id = p_worker, conn_id = p_conn,
      connected_at = clock_timestamp(), lost_at = NULL;
  word := 'open';
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch TO dispatch_app, dispatch_system, dispatch_owner;

-- migrate: rollback

DROP FUNCTION dispatch.inbox_append;
DROP TYPE dispatch.fact, dispatch.pending_fact;
DROP TABLE dispatch.events, dispatch.inbox_marks, dispatch.inbox_head;
