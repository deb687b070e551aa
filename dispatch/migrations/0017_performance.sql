-- performance
-- depends: 0016_incentives

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- What became of a provider's offers, by the day of the offer in the market's time zone: for the office, up to five minutes old. The truth is
-- offers and job_events; a row is written over with what they say now, never added to.
CREATE TABLE performance_days (
  provider_id uuid NOT NULL REFERENCES providers (id),
  service_type text NOT NULL CHECK (service_type IN ('ride', 'delivery', 'shopping', 'moving', 'laundry')),
  day date NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),             -- for cursors
  offered int NOT NULL DEFAULT 0,
  accepted int NOT NULL DEFAULT 0,
  completed int NOT NULL DEFAULT 0,
  cancelled int NOT NULL DEFAULT 0,
  open boolean NOT NULL DEFAULT true,                     -- may still change: to be counted again
  counted_at timestamptz NOT NULL DEFAULT '-infinity',
  PRIMARY KEY (provider_id, service_type, day)
) WITH (fillfactor = 70);
CREATE INDEX performance_days_open ON performance_days (counted_at) WHERE open;
CREATE INDEX performance_days_all ON performance_days (day DESC, id DESC) WHERE offered > 0;
CREATE INDEX performance_days_of ON performance_days (provider_id, day DESC, id DESC) WHERE offered > 0;
CREATE INDEX performance_days_type ON performance_days (service_type, day DESC, id DESC) WHERE offered > 0;

-- How far the counting has come; its lock is the right to count.
CREATE TABLE performance_run (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  began_at timestamptz,                                   -- of the run under way, else of the last one
  upto timestamptz,                                       -- days of offers made before it are known
  calculated_at timestamptz                               -- when the last run that ended began; NULL: none has
);
INSERT INTO performance_run DEFAULT VALUES;

ALTER TABLE performance_days ENABLE ROW LEVEL SECURITY;
ALTER TABLE performance_days FORCE ROW LEVEL SECURITY;
ALTER TABLE performance_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE performance_run FORCE ROW LEVEL SECURITY;
CREATE POLICY performance_days_read ON performance_days FOR SELECT TO dispatch_app USING ((SELECT ctx_admin()));
CREATE POLICY performance_days_system ON performance_days TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY performance_run_read ON performance_run FOR SELECT TO dispatch_app USING ((SELECT ctx_admin()));
CREATE POLICY performance_run_system ON performance_run TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON performance_days, performance_run TO dispatch_app;
GRANT SELECT, INSERT, UPDATE ON performance_days TO dispatch_system;
GRANT SELECT, UPDATE ON performance_run TO dispatch_system;

-- Offers are added in the order of time: what the last minutes brought is found without a pass over years of them.
CREATE INDEX offers_when ON offers USING brin (offered_at) WITH (pages_per_range = 32, autosummarize = on);

-- The round of the offer that such an event ends: a release opens the next round, and its event carries that.
CREATE FUNCTION ended_round(p_to_status text, p_round int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_to_status = 'offered' THEN p_round - 1 ELSE p_round END;

-- How accepted jobs ended by their provider's doing, one entry for each: a year of one provider is counted in a moment.
CREATE INDEX job_events_ends ON job_events (job_id, ended_round(to_status, round)) INCLUDE (to_status, round)
  WHERE to_status = 'completed' OR (actor_role = 'provider' AND from_status IN ('accepted', 'arrived', 'in_progress') AND to_status IN ('cancelled', 'offered'));

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- What became of each offer: the one place that says what counts. An offer counts (`offered`) that the provider decided or let lapse; one that
-- was withdrawn under him does not, so that nobody else's doing lowers his rates. The end is read from the history, in the round of his offer;
-- of completing and giving up only one can happen in a round. `open`: something may still become of it, in this round.
-- The join of jobs is never empty; it is left so that whoever asks for no column of the job does not pay for it.
CREATE VIEW offer_outcomes AS
  SELECT o.offer_id, o.provider_id, o.offered_at, j.market, j.service_type,
    o.status IN ('accepted', 'declined', 'expired') AS offered,
    o.status = 'accepted' AS accepted,
    coalesce(e.to_status = 'completed', false) AS completed,
    coalesce(e.to_status <> 'completed', false) AS cancelled,
    j.round = o.round AND j.status NOT IN ('completed', 'cancelled') AS open
  FROM offers o LEFT JOIN jobs j ON j.id = o.job_id LEFT JOIN LATERAL (
    SELECT e.to_status FROM job_events e WHERE o.status = 'accepted' AND e.job_id = o.job_id AND ended_round(e.to_status, e.round) = o.round
      AND (e.to_status = 'completed'
        OR (e.actor_role = 'provider' AND e.from_status IN ('accepted', 'arrived', 'in_progress') AND e.to_status IN ('cancelled', 'offered')))
    LIMIT 1) e ON true;

-- One provider's counts, now: all there ever were, and of the newest `p_last`. For himself and admins; nobody else is told anything but zeros.
-- Planned anew each time, as the step below is: a plan made while the tables were small reads all of them when they are large.
CREATE FUNCTION performance_counts(p_provider uuid, p_last int, OUT offered bigint, OUT accepted bigint, OUT completed bigint, OUT cancelled bigint,
  OUT last_offered bigint, OUT last_accepted bigint, OUT last_completed bigint, OUT last_cancelled bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp SET plan_cache_mode = force_custom_plan AS $$
  SELECT count(*), count(*) FILTER (WHERE c.accepted), count(*) FILTER (WHERE c.completed), count(*) FILTER (WHERE c.cancelled),
    count(*) FILTER (WHERE c.nth <= p_last), count(*) FILTER (WHERE c.nth <= p_last AND c.accepted),
    count(*) FILTER (WHERE c.nth <= p_last AND c.completed), count(*) FILTER (WHERE c.nth <= p_last AND c.cancelled)
  FROM (SELECT o.accepted, o.completed, o.cancelled, row_number() OVER (ORDER BY o.offered_at DESC, o.offer_id DESC) AS nth
        FROM offer_outcomes o WHERE o.provider_id = p_provider AND o.offered
          AND ctx_may((SELECT g.user_id FROM provider_gate g WHERE g.provider_id = p_provider))) c
$$;

-- One step of counting, in a transaction of its own; false: nothing more to do now (done, too soon for another run, or somebody else is at it).
-- A run first looks which days got offers since the last one, `p_slice` of time in a step, then counts every day that is open, `p_limit` in a
-- step. A day is open as long as one of its offers' jobs is under way in the round of that offer: a job accepted yesterday may complete
-- tomorrow, and its day waits for it, however long; all others can never change again and are never read again. A minute is looked at twice:
-- who took the time of his offer before the last look may have committed after it, and no transaction of ours lasts so long.
CREATE FUNCTION performance_step(p_rest interval, p_slice interval, p_limit int, p_markets text[], p_zones text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
  run performance_run;
  upto_next timestamptz;
  n int;
BEGIN
  SELECT * INTO run FROM performance_run FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF run.calculated_at IS NOT DISTINCT FROM run.began_at THEN
    IF run.began_at > clock_timestamp() - p_rest THEN
      RETURN false;
    END IF;
    run.began_at := clock_timestamp();
    -- No offer is older than the oldest job.
    run.upto := coalesce(run.upto, (SELECT min(j.created_at) FROM jobs j), run.began_at);
    UPDATE performance_run SET began_at = run.began_at, upto = run.upto;
  END IF;
  IF run.upto < run.began_at THEN
    upto_next := least(run.upto + p_slice, run.began_at);
    INSERT INTO performance_days AS d (provider_id, service_type, day)
      SELECT DISTINCT o.provider_id, j.service_type, (o.offered_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date
      -- One by one: a join might read all jobs that ever were, for those of a slice.
      FROM offers o CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = o.job_id LIMIT 1) j LEFT JOIN unnest(p_markets, p_zones) AS z(market, zone) ON z.market = j.market
      WHERE o.offered_at >= run.upto - interval '1 min' AND o.offered_at < upto_next
      ON CONFLICT (provider_id, service_type, day) DO UPDATE SET open = true WHERE NOT d.open;
    UPDATE performance_run SET upto = upto_next;
    RETURN true;
  END IF;
  WITH due AS (
    SELECT d.provider_id, d.service_type, d.day FROM performance_days d
    WHERE d.open AND d.counted_at < run.began_at ORDER BY d.counted_at LIMIT p_limit
  ), counted AS (
    SELECT due.provider_id, due.service_type, due.day, c.* FROM due CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE o.offered) AS offered, count(*) FILTER (WHERE o.accepted) AS accepted,
        count(*) FILTER (WHERE o.completed) AS completed, count(*) FILTER (WHERE o.cancelled) AS cancelled, coalesce(bool_or(o.open), false) AS open
      FROM offer_outcomes o LEFT JOIN unnest(p_markets, p_zones) AS z(market, zone) ON z.market = o.market
      -- No zone is further from UTC than 14 hours.
      WHERE o.provider_id = due.provider_id AND o.service_type = due.service_type
        AND o.offered_at >= due.day::timestamp AT TIME ZONE 'UTC' - interval '14 h' AND o.offered_at < due.day::timestamp AT TIME ZONE 'UTC' + interval '38 h'
        AND (o.offered_at AT TIME ZONE coalesce(z.zone, 'UTC'))::date = due.day) c
  )
  UPDATE performance_days d SET offered = c.offered, accepted = c.accepted, completed = c.completed, cancelled = c.cancelled, open = c.open,
    counted_at = clock_timestamp()
  FROM counted c WHERE d.provider_id = c.provider_id AND d.service_type = c.service_type AND d.day = c.day;
  GET DIAGNOSTICS n = ROW_COUNT;
  IF n < p_limit THEN
    UPDATE performance_run SET calculated_at = run.began_at;
  END IF;
  RETURN n = p_limit;
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.ended_round, dispatch.performance_counts, dispatch.performance_step FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.ended_round TO dispatch_app, dispatch_system;
GRANT EXECUTE ON FUNCTION dispatch.performance_counts TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.performance_step, dispatch.performance_counts;
DROP VIEW dispatch.offer_outcomes;
DROP INDEX dispatch.offers_when, dispatch.job_events_ends;
DROP FUNCTION dispatch.ended_round;
DROP TABLE dispatch.performance_run, dispatch.performance_days;
