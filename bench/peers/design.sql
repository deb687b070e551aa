-- Peer (c): the design of the first documents in a schema of its own ({schema}); positions are a column, a job is taken under
-- SELECT … FOR UPDATE, and everybody who is to hear of something hears it by NOTIFY. `point` with GiST stands in for PostGIS'
-- geography, which is dearer.

CREATE SCHEMA {schema};
SET search_path = {schema};

CREATE TYPE job_status AS ENUM ('pending', 'offered', 'accepted', 'arrived', 'in_progress', 'completed', 'cancelled');

CREATE TABLE providers (
  id uuid PRIMARY KEY,
  first_name text NOT NULL DEFAULT 'Somchai',
  is_online boolean NOT NULL DEFAULT true,
  provider_location point,                                -- (lng, lat)
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX providers_location ON providers USING gist (provider_location) WHERE is_online;

CREATE TABLE jobs (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  status job_status NOT NULL DEFAULT 'pending',
  provider_id uuid REFERENCES providers (id),
  customer_id uuid NOT NULL,
  pickup_location point NOT NULL,
  pickup_address text NOT NULL,
  provider_location point,
  estimated_earnings decimal(10,2) NOT NULL DEFAULT 125,
  created_at timestamptz NOT NULL DEFAULT now(),
  accepted_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX jobs_pickup_location ON jobs USING gist (pickup_location);
CREATE INDEX jobs_status ON jobs (status) WHERE status IN ('pending', 'offered');
CREATE INDEX jobs_provider ON jobs (provider_id) WHERE status IN ('accepted', 'arrived', 'in_progress');

-- {"to": users, "frame": what they get}; heard by all gateways when the transaction commits.
CREATE FUNCTION tell(p_to uuid[], p_name text, p_data json) RETURNS void LANGUAGE sql AS $$
  SELECT pg_notify('{schema}', json_build_object('to', p_to, 'frame', json_build_object('type', p_name, 'data', p_data))::text)
$$;

-- `usual`: a position at a time.
CREATE FUNCTION update_provider_location(p_provider uuid, p_location point) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE providers SET provider_location = p_location, updated_at = now() WHERE id = p_provider;
END $$;

-- With an active job it is the job's row, and whoever watches that row is told, as Realtime's postgres_changes do.
CREATE FUNCTION update_job_location(p_job uuid, p_location point, p_at text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_customer uuid;
BEGIN
  UPDATE jobs SET provider_location = p_location, updated_at = now() WHERE id = p_job RETURNING customer_id INTO v_customer;
  PERFORM tell(ARRAY[v_customer], 'location', json_build_object('job_id', p_job, 'lat', p_location[1], 'lng', p_location[0], 'at', p_at));
END $$;

-- `best`: the newest of each provider, together.
CREATE FUNCTION update_provider_locations(p_providers uuid[], p_lats float8[], p_lngs float8[]) RETURNS void LANGUAGE sql AS $$
  UPDATE providers p SET provider_location = point(n.lng, n.lat), updated_at = now()
  FROM unnest(p_providers, p_lats, p_lngs) AS n(id, lat, lng) WHERE p.id = n.id
$$;

CREATE FUNCTION update_job_locations(p_jobs uuid[], p_lats float8[], p_lngs float8[], p_ats text[]) RETURNS void LANGUAGE sql AS $$
  WITH moved AS (
    UPDATE jobs j SET provider_location = point(n.lng, n.lat), updated_at = now()
    FROM unnest(p_jobs, p_lats, p_lngs, p_ats) AS n(id, lat, lng, at) WHERE j.id = n.id RETURNING j.id, j.customer_id, n.lat, n.lng, n.at)
  SELECT tell(ARRAY[customer_id], 'location', json_build_object('job_id', id, 'lat', lat, 'lng', lng, 'at', at)) FROM moved
$$;

-- The nearest are offered it: one NOTIFY for each of them, or (p_together) one for all.
CREATE FUNCTION create_job(p_customer uuid, p_pickup point, p_address text, p_wave int, p_together boolean,
  OUT job_id uuid, OUT offer_id uuid, OUT offered uuid[]) LANGUAGE plpgsql AS $$
DECLARE
  v_offer json;
BEGIN
  SELECT coalesce(array_agg(n.id), '{}') INTO offered FROM (
    SELECT p.id FROM providers p WHERE p.is_online AND p.provider_location IS NOT NULL
    ORDER BY p.provider_location <-> p_pickup LIMIT p_wave) n;
  offer_id := gen_random_uuid();
  INSERT INTO jobs (status, customer_id, pickup_location, pickup_address) VALUES ('offered', p_customer, p_pickup, p_address)
    RETURNING id INTO job_id;
  v_offer := json_build_object('offer_id', offer_id, 'round', 1, 'expires_at', now() + interval '15 s', 'job', json_build_object(
    'id', job_id, 'service_type', 'ride', 'status', 'offered',
    'pickup', json_build_object('lat', p_pickup[1], 'lng', p_pickup[0], 'address', p_address), 'payment_method', 'cashless',
    'estimated_earnings', json_build_object('amount_minor', 12500, 'currency', 'THB'), 'surge_pct', 100, 'passenger_name', 'Somchai'));
  IF p_together THEN
    PERFORM tell(offered, 'offer.created', v_offer);
  ELSE
    PERFORM tell(ARRAY[one], 'offer.created', v_offer) FROM unnest(offered) AS one;
  END IF;
END $$;

-- The row lock is the judge. Whoever takes two jobs at one instant may get both: what he holds is read before anything holds him.
CREATE FUNCTION accept_job(p_job_id uuid, p_provider_id uuid) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  v_status job_status;
  v_customer uuid;
BEGIN
  SELECT status, customer_id INTO v_status, v_customer FROM jobs WHERE id = p_job_id FOR UPDATE;
  IF v_status IS DISTINCT FROM 'offered' THEN
    RETURN jsonb_build_object('success', false, 'code', 'JOB_NOT_AVAILABLE');
  END IF;
  IF EXISTS (SELECT FROM jobs WHERE provider_id = p_provider_id AND status IN ('accepted', 'arrived', 'in_progress')) THEN
    RETURN jsonb_build_object('success', false, 'code', 'PROVIDER_HAS_ACTIVE_JOB');
  END IF;
  UPDATE jobs SET status = 'accepted', provider_id = p_provider_id, accepted_at = now(), updated_at = now() WHERE id = p_job_id;
  PERFORM tell(ARRAY[v_customer], 'job.accepted', json_build_object('job', json_build_object('id', p_job_id, 'provider', p_provider_id)));
  RETURN jsonb_build_object('success', true);
END $$;

CREATE FUNCTION cancel_job(p_job_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_provider uuid;
BEGIN
  UPDATE jobs SET status = 'cancelled', updated_at = now() WHERE id = p_job_id RETURNING provider_id INTO v_provider;
  IF v_provider IS NOT NULL THEN
    PERFORM tell(ARRAY[v_provider], 'job.cancelled', json_build_object('id', p_job_id));
  END IF;
END $$;
