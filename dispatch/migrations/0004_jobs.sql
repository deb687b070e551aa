-- jobs, their history, and the offers made for them
-- depends: 0003_providers

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

CREATE DOMAIN service_name AS text CHECK (VALUE IN ('ride', 'delivery', 'shopping', 'moving', 'laundry'));
CREATE DOMAIN job_status AS text CHECK (VALUE IN ('pending', 'offered', 'accepted', 'arrived', 'in_progress', 'completed', 'cancelled'));
CREATE DOMAIN offer_status AS text CHECK (VALUE IN ('live', 'accepted', 'declined', 'expired', 'withdrawn'));
CREATE DOMAIN job_actor AS text CHECK (VALUE IN ('customer', 'provider', 'admin', 'system'));
CREATE DOMAIN job_canceller AS text CHECK (VALUE IN ('customer', 'provider', 'system'));
CREATE DOMAIN payment_name AS text CHECK (VALUE IN ('cashless', 'cash'));
CREATE DOMAIN iso_currency AS text CHECK (length(VALUE) = 3);
CREATE DOMAIN latitude AS double precision CHECK (VALUE BETWEEN -90 AND 90);
CREATE DOMAIN longitude AS double precision CHECK (VALUE BETWEEN -180 AND 180);
CREATE DOMAIN street_address AS text CHECK (length(VALUE) <= 300);
CREATE DOMAIN remark AS text CHECK (length(VALUE) <= 500);
CREATE DOMAIN surge_percent AS int CHECK (VALUE BETWEEN 100 AND 999);
CREATE DOMAIN not_negative AS int CHECK (VALUE >= 0);
CREATE DOMAIN fare_part AS bigint CHECK (VALUE >= 0);

CREATE TABLE jobs (
  id uuid PRIMARY KEY,
  market text NOT NULL,
  service_type service_name NOT NULL,
  status job_status NOT NULL DEFAULT 'pending',
  round not_negative NOT NULL DEFAULT 0,                  -- the fencing token: grows with every (re)dispatch, only here
  version int NOT NULL DEFAULT 1,                         -- grows with every change
  customer_id uuid NOT NULL REFERENCES users (id),
  provider_id uuid,
  provider_user_id uuid,                                  -- kept beside provider_id so that row policies need no sub-select
  -- What the parties see of each other, as it was when they met: a view of a job is a function of its row, so that every change of it
  -- is a change of the row, and an event.
  provider_first_name text,
  provider_rating numeric(3, 2),
  provider_vehicle json,                                  -- {make, model, color, plate_number} of the vehicle that he had in use
  customer_first_name text,
  customer_phone text,
  accept_id uuid,
  pickup_lat latitude NOT NULL,
  pickup_lng longitude NOT NULL,
  pickup_address street_address NOT NULL,
  dropoff_lat latitude,
  dropoff_lng longitude,
  dropoff_address street_address,
  coarse json NOT NULL,                                   -- {"pickup": Place, "dropoff"?: Place} as those see it who have not won it
  passenger_name text NOT NULL,
  note remark,
  payment_method payment_name NOT NULL DEFAULT 'cashless',
  currency iso_currency NOT NULL,
  surge_pct surge_percent NOT NULL,
  distance_m not_negative,
  duration_s not_negative,
  base_minor fare_part NOT NULL,
  distance_minor fare_part NOT NULL,
  time_minor fare_part NOT NULL,
  surge_minor fare_part NOT NULL,
  estimated boolean NOT NULL DEFAULT true,
  estimated_earnings_minor bigint NOT NULL,
  actual_earnings_minor bigint,
  reported_distance_m int,
  distance_flagged boolean NOT NULL DEFAULT false,        -- the phone claimed more than trail x 1.3 + 500 m; the bound counted
  trail_m double precision NOT NULL DEFAULT 0,
  trail_fixes int NOT NULL DEFAULT 0,
  provider_lat double precision,
  provider_lng double precision,
  provider_located_at timestamptz,
  ttl_s double precision NOT NULL,                        -- how long it is searched for, from its creation or its last release
  offer_deadline timestamptz,
  next_search_at timestamptz,
  searched_until timestamptz,                             -- one search at a time: nobody else begins one of this job before
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  accepted_at timestamptz,
  arrived_at timestamptz,
  started_at timestamptz,
  completed_at timestamptz,
  cancelled_at timestamptz,
  cancelled_by job_canceller,
  cancellation_reason remark,
  -- To the gate, which an accept holds anyway: both or neither, and the user is the provider's.
  FOREIGN KEY (provider_id, provider_user_id) REFERENCES provider_gate (provider_id, user_id) MATCH FULL,
  CONSTRAINT jobs_provider_fits CHECK (CASE WHEN status IN ('pending', 'offered') THEN provider_id IS NULL ELSE status = 'cancelled' OR provider_id IS NOT NULL END),
  CONSTRAINT jobs_end_fits CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL) AND (status = 'completed') = (completed_at IS NOT NULL)),
  CHECK ((dropoff_lat IS NULL) = (dropoff_lng IS NULL) AND (dropoff_lat IS NULL) = (dropoff_address IS NULL))
) WITH (fillfactor = 80);

-- The judge of "one provider, one job" (I2).
CREATE UNIQUE INDEX jobs_one_active ON jobs (provider_id) WHERE status IN ('accepted', 'arrived', 'in_progress');
CREATE INDEX jobs_customer ON jobs (customer_id, created_at DESC, id DESC);
CREATE INDEX jobs_provider ON jobs (provider_user_id, created_at DESC, id DESC) WHERE provider_user_id IS NOT NULL;
CREATE INDEX jobs_due ON jobs (next_search_at) WHERE status IN ('pending', 'offered');
CREATE INDEX jobs_open ON jobs (market, service_type) WHERE status IN ('pending', 'offered');
CREATE INDEX jobs_recent ON jobs (status, created_at DESC, id DESC);

-- Every transition, with actor, time and reason. Append only.
CREATE TABLE job_events (
  job_id uuid NOT NULL REFERENCES jobs (id),
  version int NOT NULL,
  from_status text,
  to_status text NOT NULL,
  round int NOT NULL,
  actor_id uuid,
  actor_role job_actor NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reason text,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),         -- the transaction that did it: what readers of the history go by
  PRIMARY KEY (job_id, version)
);
CREATE INDEX job_events_read ON job_events (xid, job_id, version);

-- How far each reader of the history has come. Rows of a transaction are read when none older is still under way, so that none is
-- overtaken and lost; the reader's own work commits with his place, so that none is read twice.
CREATE TABLE job_event_readers (
  name text PRIMARY KEY,
  xid xid8 NOT NULL,
  job_id uuid NOT NULL,
  version int NOT NULL
);
INSERT INTO job_event_readers VALUES ('notices', pg_current_xact_id(), '00000000-0000-0000-0000-000000000000', 0);

CREATE TABLE offers (
  offer_id uuid PRIMARY KEY,
  job_id uuid NOT NULL REFERENCES jobs (id),
  round int NOT NULL,
  provider_id uuid NOT NULL REFERENCES providers (id),
  provider_user_id uuid NOT NULL,
  slot smallint,                                          -- NULL: unbounded (broadcast)
  status offer_status NOT NULL,
  reason text,
  pickup_distance_m int NOT NULL,
  offered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  responded_at timestamptz,
  UNIQUE (job_id, round, provider_id)
) WITH (fillfactor = 80);
-- At most `offers_at_once` live offers per provider: the constraint, not the search, holds it.
CREATE UNIQUE INDEX offers_at_once ON offers (provider_id, slot) WHERE status = 'live';
CREATE INDEX offers_live ON offers (job_id) WHERE status = 'live';
CREATE INDEX offers_live_of ON offers (provider_user_id) WHERE status = 'live';
CREATE INDEX offers_of ON offers (provider_id, offered_at DESC);

ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs FORCE ROW LEVEL SECURITY;
ALTER TABLE job_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_events FORCE ROW LEVEL SECURITY;
ALTER TABLE job_event_readers ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_event_readers FORCE ROW LEVEL SECURITY;
ALTER TABLE offers ENABLE ROW LEVEL SECURITY;
ALTER TABLE offers FORCE ROW LEVEL SECURITY;
CREATE POLICY jobs_party ON jobs FOR SELECT TO dispatch_app
  USING (customer_id = ctx_user() OR provider_user_id = ctx_user() OR ctx_admin());
CREATE POLICY jobs_create ON jobs FOR INSERT TO dispatch_app WITH CHECK (customer_id = ctx_user() AND status = 'pending');
CREATE POLICY jobs_change ON jobs FOR UPDATE TO dispatch_app
  USING (customer_id = ctx_user() OR provider_user_id = ctx_user() OR ctx_admin())
  WITH CHECK (customer_id = ctx_user() OR provider_user_id = ctx_user() OR ctx_admin());
CREATE POLICY jobs_system ON jobs TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY jobs_owner ON jobs FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY job_events_read ON job_events FOR SELECT TO dispatch_app USING (ctx_admin());
CREATE POLICY job_events_write ON job_events FOR INSERT TO dispatch_app WITH CHECK (actor_id = ctx_user());
CREATE POLICY job_events_system ON job_events TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY job_event_readers_system ON job_event_readers TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY offers_own ON offers FOR SELECT TO dispatch_app USING (provider_user_id = ctx_user() OR ctx_admin());
CREATE POLICY offers_system ON offers TO dispatch_system USING (true) WITH CHECK (true);

GRANT SELECT ON jobs, job_events, offers TO dispatch_app;
GRANT INSERT (id, market, service_type, customer_id, customer_first_name, customer_phone, pickup_lat, pickup_lng, pickup_address, dropoff_lat, dropoff_lng, dropoff_address,
  coarse, passenger_name, note, payment_method, currency, surge_pct, distance_m, duration_s, base_minor, distance_minor, time_minor,
  surge_minor, estimated_earnings_minor, next_search_at, expires_at, ttl_s) ON jobs TO dispatch_app;
GRANT UPDATE (status, version, distance_m, duration_s, base_minor, distance_minor, time_minor, surge_minor, estimated,
  actual_earnings_minor, reported_distance_m, distance_flagged, trail_m, trail_fixes, provider_lat, provider_lng, provider_located_at,
  offer_deadline, next_search_at, arrived_at, started_at, completed_at, cancelled_at, cancelled_by, cancellation_reason) ON jobs TO dispatch_app;
GRANT INSERT ON job_events TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs, offers TO dispatch_system;
GRANT SELECT, INSERT ON job_events TO dispatch_system;
GRANT SELECT, UPDATE ON job_event_readers TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

CREATE FUNCTION job_fare(j jobs) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_build_object('base_minor', j.base_minor, 'distance_minor', j.distance_minor, 'time_minor', j.time_minor,
  'surge_minor', j.surge_minor, 'total_minor', j.base_minor + j.distance_minor + j.time_minor + j.surge_minor,
  'currency', j.currency, 'estimated', j.estimated);

-- Great-circle metres on the IUGG mean sphere, as dispatch.kit.geo has it.
CREATE FUNCTION distance_between(lat1 double precision, lng1 double precision, lat2 double precision, lng2 double precision)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 2 * 6371008.8 * asin(sqrt(least(1, sin(radians(lat2 - lat1) / 2) ^ 2 + cos(radians(lat1)) * cos(radians(lat2)) * sin(radians(lng2 - lng1) / 2) ^ 2)));

-- Whether a provider may be given this job as it is paid: of a cash job he owes the fee, and his wallet and the room of his debt must hold it.
CREATE FUNCTION payment_fits(j jobs, p_user uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN j.payment_method <> 'cash'
    OR ledger_can_owe(p_user, j.currency, j.base_minor + j.distance_minor + j.time_minor + j.surge_minor - j.estimated_earnings_minor);
END $$;

-- The job a provider is on, if any: at most one, by jobs_one_active.
CREATE FUNCTION active_job_of(p_provider uuid) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT j.id FROM jobs j WHERE j.provider_id = p_provider AND j.status IN ('accepted', 'arrived', 'in_progress'));

-- What the customer sees of the assigned provider.
CREATE FUNCTION provider_card(j jobs) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_strip_nulls(json_build_object('id', j.provider_id, 'first_name', j.provider_first_name, 'rating', j.provider_rating,
  'vehicle', j.provider_vehicle,
  'location', CASE WHEN j.provider_lat IS NOT NULL THEN
    json_build_object('lat', j.provider_lat, 'lng', j.provider_lng, 'at', wire_at(j.provider_located_at)) END));

-- The job as the wire shows it to both parties.
CREATE FUNCTION job_view(j jobs) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_strip_nulls(json_build_object(
    'id', j.id, 'market', j.market, 'service_type', j.service_type, 'status', j.status, 'round', j.round, 'version', j.version,
    'customer_id', j.customer_id, 'provider', CASE WHEN j.provider_id IS NOT NULL THEN provider_card(j) END,
    'pickup', json_build_object('lat', j.pickup_lat, 'lng', j.pickup_lng, 'address', j.pickup_address),
    'dropoff', CASE WHEN j.dropoff_lat IS NOT NULL THEN
      json_build_object('lat', j.dropoff_lat, 'lng', j.dropoff_lng, 'address', j.dropoff_address) END,
    'note', j.note, 'distance_m', j.distance_m, 'duration_s', j.duration_s, 'payment_method', j.payment_method,
    'surge_multiplier', j.surge_pct / 100.0::float8, 'fare', job_fare(j),
    'estimated_earnings_minor', j.estimated_earnings_minor, 'actual_earnings_minor', j.actual_earnings_minor,
    'created_at', wire_at(j.created_at), 'accepted_at', wire_at(j.accepted_at), 'arrived_at', wire_at(j.arrived_at),
    'started_at', wire_at(j.started_at), 'completed_at', wire_at(j.completed_at), 'cancelled_at', wire_at(j.cancelled_at),
    'cancelled_by', j.cancelled_by, 'cancellation_reason', j.cancellation_reason));

-- That view with how to reach the customer: for the assigned provider of an active job only. Spliced, as the view is what costs.
CREATE FUNCTION contact_added(p_view json, j jobs) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN j.status IN ('accepted', 'arrived', 'in_progress') THEN (left(p_view::text, -1) || ',"customer":'
  || json_strip_nulls(json_build_object('first_name', j.customer_first_name, 'phone_number', j.customer_phone))::text || '}')::json ELSE p_view END;
CREATE FUNCTION job_view(j jobs, p_contact boolean) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN p_contact THEN contact_added(job_view(j), j) ELSE job_view(j) END;

-- The part of a job that somebody sees who has not won it: coarse places, no contact.
CREATE FUNCTION job_glance(j jobs) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_strip_nulls(json_build_object('id', j.id, 'service_type', j.service_type, 'pickup', j.coarse -> 'pickup',
  'dropoff', j.coarse -> 'dropoff', 'distance_m', j.distance_m, 'fare', job_fare(j),
  'estimated_earnings_minor', j.estimated_earnings_minor, 'passenger_name', j.passenger_name));

CREATE FUNCTION offer_view(o offers, p_glance json) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_build_object('offer_id', o.offer_id, 'job', p_glance, 'pickup_distance_m', o.pickup_distance_m,
  'expires_at', wire_at(o.expires_at), 'round', o.round);

-- What somebody with a live offer (or, on an open board, an eligible provider) may see of a job that is not his.
CREATE FUNCTION job_offer_view(p_user uuid, p_job uuid, p_board_markets text[]) RETURNS json
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT CASE WHEN o.offer_id IS NOT NULL THEN offer_view(o, job_glance(j))
              ELSE json_build_object('job', job_glance(j), 'round', j.round) END
  FROM jobs j
  LEFT JOIN offers o ON o.job_id = j.id AND o.provider_user_id = p_user AND o.status = 'live' AND o.expires_at > clock_timestamp()
  WHERE j.id = p_job AND j.status IN ('pending', 'offered') AND ctx_may(p_user)
    AND (o.offer_id IS NOT NULL OR (j.market = ANY (p_board_markets) AND j.expires_at > clock_timestamp() AND j.customer_id <> p_user AND EXISTS (
      SELECT FROM providers p JOIN provider_gate g ON g.provider_id = p.id
      WHERE p.user_id = p_user AND g.open AND j.service_type = ANY (services_now(g))
        AND distance_between(p.last_lat, p.last_lng, j.pickup_lat, j.pickup_lng) <= p.service_radius_m
        AND NOT EXISTS (SELECT FROM offers d WHERE d.job_id = j.id AND d.provider_id = p.id AND d.status = 'declined'))))
$$;

-- Settle the live offers of a job whose row the caller has locked; returns whom to tell. Declined and expired ones stay as they are.
CREATE FUNCTION offers_settle(p_job uuid, p_status text, p_reason text) RETURNS TABLE (offer_id uuid, provider_user_id uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  UPDATE offers o SET status = p_status, reason = p_reason, responded_at = clock_timestamp()
  WHERE o.job_id = p_job AND o.status = 'live' RETURNING o.offer_id, o.provider_user_id;
$$;

-- A new job with all that belongs to it, in one statement and one round trip: the request id, the row, its first step, the customer's event,
-- the kept answer. Not past row security: each of them is judged as written by who asks. Words: "new", "replay" (`view` is the stored answer),
-- "reused" the same id with another body, "running" the same id is at work. NO_DATA_FOUND: no such user.
CREATE FUNCTION jobs_create(p_user uuid, p_key text, p_fingerprint text, p_id uuid, p_market text, p_service_type text,
  p_pickup_lat double precision, p_pickup_lng double precision, p_pickup_address text,
  p_dropoff_lat double precision, p_dropoff_lng double precision, p_dropoff_address text,
  p_coarse json, p_unnamed text, p_note text, p_payment_method text, p_currency text, p_surge_pct int, p_distance_m int, p_duration_s int,
  p_base_minor bigint, p_distance_minor bigint, p_time_minor bigint, p_surge_minor bigint, p_earnings_minor bigint, p_ttl_s double precision,
  OUT word text, OUT view json, OUT facts fact[])
LANGUAGE plpgsql VOLATILE SET search_path = dispatch, pg_temp AS $$
DECLARE
  known record;
  who record;
BEGIN
  facts := '{}';
  PERFORM set_config('app.user_id', p_user::text, true);
  IF p_key IS NOT NULL THEN
    SELECT * INTO known FROM idem_begin(p_user, p_key, p_fingerprint);
    IF known.word <> 'new' THEN
      word := known.word;
      view := known.response::json;
      RETURN;
    END IF;
  END IF;
  word := 'new';
  SELECT u.first_name, u.last_name, u.phone_number INTO STRICT who FROM users u WHERE u.id = p_user;
  INSERT INTO jobs (id, market, service_type, customer_id, pickup_lat, pickup_lng, pickup_address, dropoff_lat, dropoff_lng, dropoff_address,
    coarse, passenger_name, note, payment_method, currency, surge_pct, distance_m, duration_s, base_minor, distance_minor, time_minor, surge_minor,
    estimated_earnings_minor, next_search_at, expires_at, customer_first_name, customer_phone, ttl_s)
  VALUES (p_id, p_market, p_service_type, p_user, p_pickup_lat, p_pickup_lng, p_pickup_address, p_dropoff_lat, p_dropoff_lng, p_dropoff_address,
    p_coarse, CASE WHEN who.first_name IS NULL THEN p_unnamed ELSE concat_ws(' ', who.first_name, who.last_name) END, p_note,
    p_payment_method, p_currency, p_surge_pct, p_distance_m, p_duration_s, p_base_minor, p_distance_minor, p_time_minor, p_surge_minor,
    p_earnings_minor, clock_timestamp() + interval '1 s', clock_timestamp() + make_interval(secs => p_ttl_s), who.first_name, who.phone_number, p_ttl_s)
  RETURNING job_view(jobs, false) INTO view;
  INSERT INTO job_events (job_id, version, to_status, round, actor_id, actor_role) VALUES (p_id, 1, 'pending', 0, p_user, 'customer');
  facts := inbox_append(ARRAY[ROW(p_user, 'job.created', json_build_object('job', view))::pending_fact]);
  IF p_key IS NOT NULL THEN
    INSERT INTO idem (user_id, key, fingerprint, status, response) VALUES (p_user, p_key, p_fingerprint, 201, view::text);
  END IF;
END $$;

-- The next rows of the history for a reader, in the order of their transactions, and his place moved behind them: one reader of a name at a
-- time, the others get nothing. Where a row's transaction is not yet the oldest under way, the reading ends before it.
CREATE FUNCTION job_events_next(p_reader text, p_limit int)
RETURNS TABLE (job_id uuid, version int, from_status text, to_status text, actor_id uuid, actor_role job_actor, reason text,
               customer_id uuid, provider_user_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  place job_event_readers;
  horizon xid8;
BEGIN
  SELECT * INTO place FROM job_event_readers r WHERE r.name = p_reader FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  horizon := pg_snapshot_xmin(pg_current_snapshot());
  IF place.xid > pg_snapshot_xmax(pg_current_snapshot()) THEN
    -- The history was restored into a younger server, whose transactions begin anew below it: so does the reading. What was told before is
    -- not told again: each notification has its key.
    place.xid := '0';
  END IF;
  RETURN QUERY
  WITH found AS (
    SELECT e.* FROM job_events e WHERE (e.xid, e.job_id, e.version) > (place.xid, place.job_id, place.version) AND e.xid < horizon
    ORDER BY e.xid, e.job_id, e.version LIMIT p_limit
  ), moved AS (
    UPDATE job_event_readers r SET xid = l.xid, job_id = l.job_id, version = l.version
    FROM (SELECT * FROM found f ORDER BY f.xid DESC, f.job_id DESC, f.version DESC LIMIT 1) l WHERE r.name = p_reader
  )
  SELECT f.job_id, f.version, f.from_status, f.to_status, f.actor_id, f.actor_role, f.reason, j.customer_id,
    coalesce(j.provider_user_id, (SELECT o.provider_user_id FROM offers o WHERE o.job_id = f.job_id AND o.round = f.round - 1 AND o.status = 'accepted' LIMIT 1))
  -- One by one: how many there will be no plan knows, and joined with whole tables it would read all jobs that ever were.
  FROM found f CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = f.job_id LIMIT 1) j ORDER BY f.xid, f.job_id, f.version;
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch TO dispatch_app, dispatch_system, dispatch_owner;

-- migrate: rollback

DROP FUNCTION dispatch.payment_fits, dispatch.active_job_of, dispatch.distance_between, dispatch.offers_settle, dispatch.job_offer_view, dispatch.offer_view, dispatch.job_glance, dispatch.job_view(dispatch.jobs, boolean), dispatch.contact_added, dispatch.job_view(dispatch.jobs), dispatch.provider_card, dispatch.job_fare;
DROP FUNCTION dispatch.jobs_create, dispatch.job_events_next;
DROP TABLE dispatch.offers, dispatch.job_events, dispatch.job_event_readers, dispatch.jobs;
DROP DOMAIN dispatch.service_name, dispatch.job_status, dispatch.offer_status, dispatch.job_actor, dispatch.job_canceller, dispatch.payment_name, dispatch.iso_currency, dispatch.latitude,
  dispatch.longitude, dispatch.street_address, dispatch.remark, dispatch.surge_percent, dispatch.not_negative, dispatch.fare_part;
