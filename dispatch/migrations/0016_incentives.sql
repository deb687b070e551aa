-- incentives: programs that pay a bonus for so many completed jobs
-- depends: 0015_ratings

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- Tier n asks for targets[n] jobs and pays bonuses[n]. Who counts: jobs of these types in this market whose completion lies in the window, and,
-- where given, whose pickup lies in the circle, and whose completion lies between two times of the local day (across midnight when the first is later).
CREATE TABLE incentives (
  id uuid PRIMARY KEY,
  name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  service_types text[] NOT NULL CHECK (cardinality(service_types) BETWEEN 1 AND 5
    AND service_types <@ '{ride,delivery,shopping,moving,laundry}'),
  market text NOT NULL,
  currency text NOT NULL CHECK (length(currency) = 3),
  starts_at timestamptz NOT NULL,
  ends_at timestamptz NOT NULL,
  metric text NOT NULL DEFAULT 'completed_jobs' CHECK (metric = 'completed_jobs'),
  area_lat double precision CHECK (area_lat BETWEEN -90 AND 90),
  area_lng double precision CHECK (area_lng BETWEEN -180 AND 180),
  area_radius_m double precision CHECK (area_radius_m > 0),
  hours_from time,
  hours_to time,
  targets int[] NOT NULL CHECK (cardinality(targets) BETWEEN 1 AND 10 AND 0 < ALL (targets)),
  bonuses bigint[] NOT NULL CHECK (0 < ALL (bonuses)),
  active boolean NOT NULL DEFAULT true,
  created_by uuid NOT NULL REFERENCES users (id),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK (starts_at < ends_at),
  CHECK (cardinality(targets) = cardinality(bonuses)),
  CHECK ((area_lat IS NULL) = (area_lng IS NULL) AND (area_lat IS NULL) = (area_radius_m IS NULL)),
  CHECK ((hours_from IS NULL) = (hours_to IS NULL) AND hours_from <> hours_to)
);
CREATE INDEX incentives_recent ON incentives (created_at DESC, id DESC);
CREATE INDEX incentives_running ON incentives (market, ends_at) WHERE active;

-- How far somebody has come in a program: a row of his own, so that two providers never wait for each other.
CREATE TABLE incentive_progress (
  incentive_id uuid NOT NULL REFERENCES incentives (id),
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),            -- kept beside provider_id so that row policies need no sub-select
  count int NOT NULL CHECK (count >= 0),
  tiers_paid int NOT NULL DEFAULT 0,                      -- tiers are paid in their order
  PRIMARY KEY (incentive_id, provider_id)
) WITH (fillfactor = 50);
CREATE INDEX incentive_progress_of ON incentive_progress (user_id);

ALTER TABLE incentives ENABLE ROW LEVEL SECURITY;
ALTER TABLE incentives FORCE ROW LEVEL SECURITY;
ALTER TABLE incentive_progress ENABLE ROW LEVEL SECURITY;
ALTER TABLE incentive_progress FORCE ROW LEVEL SECURITY;
CREATE POLICY incentives_read ON incentives FOR SELECT TO dispatch_app USING ((SELECT ctx_admin()) OR (active AND (SELECT ctx_user()) IS NOT NULL));
CREATE POLICY incentives_create ON incentives FOR INSERT TO dispatch_app WITH CHECK ((SELECT ctx_admin()) AND created_by = (SELECT ctx_user()));
CREATE POLICY incentives_change ON incentives FOR UPDATE TO dispatch_app USING ((SELECT ctx_admin())) WITH CHECK ((SELECT ctx_admin()));
CREATE POLICY incentives_system ON incentives FOR SELECT TO dispatch_system USING (true);
CREATE POLICY incentives_owner ON incentives FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY incentive_progress_read ON incentive_progress FOR SELECT TO dispatch_app USING (user_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY incentive_progress_system ON incentive_progress TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON incentives, incentive_progress TO dispatch_app;
GRANT INSERT (id, name, service_types, market, currency, starts_at, ends_at, area_lat, area_lng, area_radius_m, hours_from, hours_to, targets, bonuses, active, created_by)
  ON incentives TO dispatch_app;
GRANT UPDATE (name, service_types, market, currency, starts_at, ends_at, area_lat, area_lng, area_radius_m, hours_from, hours_to, targets, bonuses, active)
  ON incentives TO dispatch_app;
GRANT SELECT ON incentives TO dispatch_system;
GRANT SELECT, INSERT, UPDATE ON incentive_progress TO dispatch_system;

-- The program as the wire shows it, with somebody's way in it where `p` is given.
CREATE FUNCTION incentive_view(i incentives, p_count int, p_paid int) RETURNS json LANGUAGE sql STABLE
RETURN json_strip_nulls(json_build_object('id', i.id, 'name', i.name, 'service_types', to_json(i.service_types), 'market', i.market, 'currency', i.currency,
  'starts_at', wire_at(i.starts_at), 'ends_at', wire_at(i.ends_at), 'metric', i.metric,
  'area', CASE WHEN i.area_lat IS NOT NULL THEN json_build_object('lat', i.area_lat, 'lng', i.area_lng, 'radius_m', i.area_radius_m) END,
  'hours', CASE WHEN i.hours_from IS NOT NULL THEN json_build_object('from', to_char(i.hours_from, 'HH24:MI'), 'to', to_char(i.hours_to, 'HH24:MI')) END,
  'tiers', (SELECT json_agg(json_build_object('target', t.target, 'bonus_minor', t.bonus, 'paid', CASE WHEN p_paid IS NOT NULL THEN t.n <= p_paid END) ORDER BY t.n)
    FROM unnest(i.targets, i.bonuses) WITH ORDINALITY AS t(target, bonus, n)),
  'active', i.active, 'created_at', wire_at(i.created_at), 'count', p_count,
  'status', CASE WHEN NOT i.active OR i.ends_at <= clock_timestamp() THEN 'ended' WHEN i.starts_at > clock_timestamp() THEN 'coming' ELSE 'running' END,
  'seconds_left', CASE WHEN p_count IS NOT NULL THEN greatest(0, floor(extract(epoch FROM i.ends_at - clock_timestamp())))::bigint END));

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- Count a job that has just been completed in every program that it fits; the tiers that it reaches, each returned once for ever. In the
-- completing transaction, with the provider's wallet locked: of one provider only one such runs at a time.
CREATE FUNCTION incentives_count(p_provider uuid, p_user uuid, p_market text, p_service_type text, p_currency text, p_lat double precision,
  p_lng double precision, p_at timestamptz, p_zone text)
RETURNS TABLE (incentive_id uuid, tier int, bonus bigint, name text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
#variable_conflict use_column
DECLARE
  program incentives;
  way incentive_progress;
  reached int;
BEGIN
  PERFORM ctx_require(p_user);
  FOR program IN
    SELECT i.* FROM incentives i
     WHERE i.active AND i.market = p_market AND i.ends_at > p_at AND i.starts_at <= p_at AND i.currency = p_currency AND p_service_type = ANY (i.service_types)
       AND (i.hours_from IS NULL OR CASE WHEN i.hours_from < i.hours_to
         THEN (p_at AT TIME ZONE p_zone)::time >= i.hours_from AND (p_at AT TIME ZONE p_zone)::time < i.hours_to
         ELSE (p_at AT TIME ZONE p_zone)::time >= i.hours_from OR (p_at AT TIME ZONE p_zone)::time < i.hours_to END)
       AND (i.area_lat IS NULL OR distance_between(i.area_lat, i.area_lng, p_lat, p_lng) <= i.area_radius_m)
     ORDER BY i.id
  LOOP
    INSERT INTO incentive_progress AS p (incentive_id, provider_id, user_id, count) VALUES (program.id, p_provider, p_user, 1)
      ON CONFLICT (incentive_id, provider_id) DO UPDATE SET count = p.count + 1 RETURNING p.* INTO way;
    reached := (SELECT count(*) FROM unnest(program.targets) t(target) WHERE t.target <= way.count);
    IF reached > way.tiers_paid THEN
      UPDATE incentive_progress p SET tiers_paid = reached WHERE p.incentive_id = program.id AND p.provider_id = p_provider;
      FOR tier IN way.tiers_paid + 1 .. reached LOOP
        RETURN QUERY SELECT program.id, tier, program.bonuses[tier], program.name;
      END LOOP;
    END IF;
  END LOOP;
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.incentive_view, dispatch.incentives_count FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.incentive_view, dispatch.incentives_count TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.incentives_count, dispatch.incentive_view;
DROP TABLE dispatch.incentive_progress, dispatch.incentives;
