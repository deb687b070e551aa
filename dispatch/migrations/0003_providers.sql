-- providers, and the gate that says who may work
-- depends: 0002_inbox

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

CREATE TABLE providers (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL UNIQUE REFERENCES users (id),
  provider_uid text UNIQUE,
  status text NOT NULL DEFAULT 'pending'
    CHECK (status IN ('pending', 'pending_verification', 'approved', 'active', 'suspended', 'rejected')),
  first_name text NOT NULL CHECK (length(first_name) BETWEEN 1 AND 50),
  last_name text NOT NULL CHECK (length(last_name) BETWEEN 1 AND 50),
  email text NOT NULL,
  phone_number text NOT NULL,
  service_types text[] NOT NULL
    CHECK (cardinality(service_types) BETWEEN 1 AND 5
           AND service_types <@ ARRAY['ride', 'delivery', 'shopping', 'moving', 'laundry']),
  service_radius_m int NOT NULL DEFAULT 10000 CHECK (service_radius_m BETWEEN 1000 AND 50000),
  referral_code text,
  rating numeric(3, 2),
  approved_at timestamptz,
  suspended_at timestamptz,
  suspension_reason text,
  suspension_cause text CHECK (suspension_cause IN ('documents', 'admin')),
  rejection_reason text,
  last_lat double precision,
  last_lng double precision,
  located_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- What an office searches in. Lines, so that no match goes from one field into the next.
  search_text text NOT NULL GENERATED ALWAYS AS
    (lower(first_name || ' ' || last_name || E'\n' || email || E'\n' || phone_number || E'\n' || coalesce(provider_uid, ''))) STORED,
  CHECK (status <> 'suspended' OR suspension_reason IS NOT NULL),
  CHECK (status <> 'rejected' OR rejection_reason IS NOT NULL)
);
CREATE UNIQUE INDEX providers_email ON providers (lower(email));
-- On an expression, as that of the address: changing a column that a foreign key could name would lock the row against all who refer to it.
CREATE UNIQUE INDEX providers_phone_number_key ON providers (lower(phone_number));

-- Tiny and without heartbeat columns, so that an accept's FOR SHARE meets only suspensions, toggles and offers in the making.
-- `online` is the intent; whether a socket lives is `sockets`' business.
CREATE TABLE provider_gate (
  provider_id uuid PRIMARY KEY REFERENCES providers (id),
  user_id uuid NOT NULL UNIQUE REFERENCES users (id),
  status text NOT NULL,
  online boolean NOT NULL DEFAULT false,
  narrowed text[],                                        -- service types he wants now; NULL: all that he may
  cleared text[] NOT NULL DEFAULT '{}',                   -- service types he may be offered: chosen, with their papers and vehicle in order
  cleared_until timestamptz,                              -- when the first paper behind `cleared` runs out; NULL: never
  cleared_by text,                                        -- the requirements that `cleared` was judged by
  suspend_due boolean NOT NULL DEFAULT false,             -- a required paper ran out during a job: suspended when that ends
  status_ver bigint NOT NULL DEFAULT 1,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  open boolean GENERATED ALWAYS AS (online AND status IN ('approved', 'active')) STORED,
  UNIQUE (provider_id, user_id)                           -- what a job's provider refers to
) WITH (fillfactor = 50);

CREATE INDEX provider_gate_online ON provider_gate (provider_id) WHERE online;

-- Who went online or off, when and by whom: the operator's record (OPS-09).
CREATE TABLE provider_log (
  provider_id uuid NOT NULL REFERENCES providers (id),
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  what text NOT NULL,
  actor_id uuid,
  actor_role text NOT NULL,
  reason text
);
CREATE INDEX provider_log_of ON provider_log (provider_id, at);

ALTER TABLE providers ENABLE ROW LEVEL SECURITY;
ALTER TABLE providers FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_gate ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_gate FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_log FORCE ROW LEVEL SECURITY;
CREATE POLICY providers_read ON providers FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY providers_register ON providers FOR INSERT TO dispatch_app WITH CHECK (user_id = ctx_user() AND status = 'pending');
CREATE POLICY providers_patch ON providers FOR UPDATE TO dispatch_app USING (user_id = ctx_user()) WITH CHECK (user_id = ctx_user());
CREATE POLICY providers_system ON providers TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY providers_owner ON providers FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY provider_gate_read ON provider_gate FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY provider_gate_system ON provider_gate TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY provider_log_read ON provider_log FOR SELECT TO dispatch_app USING (ctx_admin());
CREATE POLICY provider_log_system ON provider_log TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON providers, provider_gate, provider_log TO dispatch_app;
GRANT INSERT (id, user_id, first_name, last_name, email, phone_number, service_types, referral_code) ON providers TO dispatch_app;
GRANT UPDATE (first_name, last_name, phone_number, service_types, service_radius_m, updated_at) ON providers TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON providers, provider_gate TO dispatch_system;
GRANT SELECT, INSERT ON provider_log TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

CREATE FUNCTION providers_gate_open() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  INSERT INTO provider_gate (provider_id, user_id, status) VALUES (NEW.id, NEW.user_id, NEW.status);
  RETURN NULL;
END $$;

-- THE question of eligibility, asked by going online, by candidates, the board and accepts alike: what he may be offered at this very
-- moment, and of that what he takes. Exact without any sweep: a paper that has run out counts no more from that instant on, and who is to be
-- suspended when his job ends takes no other.
CREATE FUNCTION cleared_now(g provider_gate) RETURNS text[] LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN CASE WHEN g.suspend_due OR g.cleared_until <= clock_timestamp() THEN '{}' ELSE g.cleared END;
-- Apart, as a body with a query in it is never inlined: most take all that they are cleared for, and for these nothing is called.
CREATE FUNCTION of_both(one text[], other text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT unnest(one) INTERSECT SELECT unnest(other));
CREATE FUNCTION services_now(g provider_gate) RETURNS text[] LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN CASE WHEN g.narrowed IS NULL THEN cleared_now(g) ELSE of_both(g.narrowed, cleared_now(g)) END;

-- The provider's own view, as the wire wants it.
CREATE FUNCTION provider_view(p providers) RETURNS json LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp
RETURN json_strip_nulls(json_build_object(
  'id', p.id, 'user_id', p.user_id, 'provider_uid', p.provider_uid, 'status', p.status, 'first_name', p.first_name,
  'last_name', p.last_name, 'email', p.email, 'phone_number', p.phone_number, 'service_types', p.service_types,
  'service_radius_m', p.service_radius_m, 'is_online', (SELECT g.online FROM provider_gate g WHERE g.provider_id = p.id),
  'cleared_service_types', (SELECT g.cleared FROM provider_gate g WHERE g.provider_id = p.id),
  'rating', p.rating, 'created_at', wire_at(p.created_at),
  'approved_at', wire_at(p.approved_at),
  'suspended_at', CASE WHEN p.status = 'suspended' THEN wire_at(p.suspended_at) END,
  'suspension_cause', CASE WHEN p.status = 'suspended' THEN p.suspension_cause END,
  'suspension_reason', CASE WHEN p.status = 'suspended' THEN p.suspension_reason END,
  'rejection_reason', CASE WHEN p.status = 'rejected' THEN p.rejection_reason END));

-- Whether a referral code is somebody's uid; row security hides that somebody from the asker.
CREATE FUNCTION provider_uid_known(p_uid text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp
RETURN EXISTS (SELECT FROM providers WHERE provider_uid = p_uid);

-- Lock a provider's gate for a change of status or intent: first lock of such a transaction. No row: no such provider.
CREATE FUNCTION providers_gate_lock(p_provider uuid) RETURNS SETOF provider_gate
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT * FROM provider_gate WHERE provider_id = p_provider FOR UPDATE;
$$;

-- Write a status already judged legal, with the gate locked by the caller. A status that may not work ends the online intent.
CREATE FUNCTION providers_set_status(p_provider uuid, p_status text, p_reason text, p_cause text, p_uid text, p_actor uuid)
RETURNS json LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  p providers;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  UPDATE provider_gate SET status = p_status, status_ver = status_ver + 1, changed_at = clock_timestamp(), suspend_due = false,
    online = online AND p_status IN ('approved', 'active')
   WHERE provider_id = p_provider;
  UPDATE providers SET status = p_status, updated_at = clock_timestamp(),
    provider_uid = coalesce(provider_uid, p_uid),
    approved_at = CASE WHEN p_status = 'approved' THEN coalesce(approved_at, clock_timestamp()) ELSE approved_at END,
    suspended_at = CASE WHEN p_status = 'suspended' THEN clock_timestamp() END,
    suspension_reason = CASE WHEN p_status = 'suspended' THEN p_reason END,
    suspension_cause = CASE WHEN p_status = 'suspended' THEN p_cause END,
    rejection_reason = CASE WHEN p_status = 'rejected' THEN p_reason END
   WHERE id = p_provider RETURNING * INTO p;
  INSERT INTO provider_log (provider_id, what, actor_id, actor_role, reason)
    VALUES (p_provider, p_status, p_actor, CASE WHEN p_actor IS NULL THEN 'system' ELSE 'admin' END, p_reason);
  RETURN provider_view(p);
END $$;

-- A rejected provider applies again; the caller holds the gate. History stays in provider_log. NULL: he is not rejected.
CREATE FUNCTION providers_reapply(p_provider uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  p providers;
BEGIN
  PERFORM ctx_require((SELECT user_id FROM provider_gate WHERE provider_id = p_provider));
  UPDATE providers SET status = 'pending', rejection_reason = NULL, updated_at = clock_timestamp()
   WHERE id = p_provider AND status = 'rejected' RETURNING * INTO p;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE provider_gate SET status = 'pending', status_ver = status_ver + 1, changed_at = clock_timestamp() WHERE provider_id = p_provider;
  INSERT INTO provider_log (provider_id, what, actor_id, actor_role) VALUES (p_provider, 'pending', p.user_id, 'provider');
  RETURN provider_view(p);
END $$;

-- Write the online intent, with the gate locked by the caller. The first time online after approval makes the provider active.
CREATE FUNCTION providers_set_online(p_provider uuid, p_online boolean, p_lat double precision, p_lng double precision, p_role text, p_narrowed text[])
RETURNS json LANGUAGE plpgsql SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  p providers;
  was boolean;
BEGIN
  PERFORM ctx_require((SELECT user_id FROM provider_gate WHERE provider_id = p_provider));
  SELECT online INTO was FROM provider_gate WHERE provider_id = p_provider;
  UPDATE provider_gate SET online = p_online, status_ver = status_ver + 1, changed_at = clock_timestamp(), narrowed = CASE WHEN p_online THEN p_narrowed END,
    status = CASE WHEN p_online AND status = 'approved' THEN 'active' ELSE status END
   WHERE provider_id = p_provider;
  UPDATE providers SET updated_at = clock_timestamp(), status = (SELECT status FROM provider_gate WHERE provider_id = p_provider),
    last_lat = coalesce(p_lat, last_lat), last_lng = coalesce(p_lng, last_lng),
    located_at = CASE WHEN p_lat IS NULL THEN located_at ELSE clock_timestamp() END
   WHERE id = p_provider RETURNING * INTO p;
  IF was IS DISTINCT FROM p_online THEN
    INSERT INTO provider_log (provider_id, what, actor_id, actor_role)
      VALUES (p_provider, CASE WHEN p_online THEN 'online' ELSE 'offline' END, CASE WHEN p_role = 'system' THEN NULL ELSE p.user_id END, p_role);
  END IF;
  RETURN provider_view(p);
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch TO dispatch_app, dispatch_system, dispatch_owner;
SET LOCAL ROLE dispatch_owner;
CREATE TRIGGER providers_gate_open AFTER INSERT ON dispatch.providers FOR EACH ROW EXECUTE FUNCTION dispatch.providers_gate_open();
RESET ROLE;

-- migrate: rollback

DROP TABLE dispatch.provider_log;
DROP FUNCTION dispatch.services_now, dispatch.of_both, dispatch.cleared_now;
DROP TABLE dispatch.provider_gate CASCADE;
DROP FUNCTION dispatch.provider_view CASCADE;
DROP TABLE dispatch.providers CASCADE;
DROP FUNCTION dispatch.provider_uid_known, dispatch.providers_gate_open, dispatch.providers_gate_lock, dispatch.providers_set_status, dispatch.providers_reapply, dispatch.providers_set_online;
