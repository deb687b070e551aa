-- earnings: what each job, tip, bonus and correction was worth to its provider
-- depends: 0012_ledger

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- One row for each thing earned. Rows are added, never changed: a correction is a row of its own. References restrict: history outlives accounts.
CREATE TABLE earnings (
  id uuid PRIMARY KEY,
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),            -- kept beside provider_id so that row policies need no sub-select
  kind text NOT NULL CHECK (kind IN ('job', 'tip', 'bonus', 'adjustment', 'reversal')),
  job_id uuid REFERENCES jobs (id),
  market text NOT NULL,
  service_type text CHECK (service_type IN ('ride', 'delivery', 'shopping', 'moving', 'laundry')),
  payment_method text CHECK (payment_method IN ('cashless', 'cash')),
  currency text NOT NULL CHECK (length(currency) = 3),
  base_minor bigint NOT NULL DEFAULT 0,
  distance_minor bigint NOT NULL DEFAULT 0,
  time_minor bigint NOT NULL DEFAULT 0,
  surge_minor bigint NOT NULL DEFAULT 0,
  tip_minor bigint NOT NULL DEFAULT 0,
  bonus_minor bigint NOT NULL DEFAULT 0,
  adjustment_minor bigint NOT NULL DEFAULT 0,
  gross_minor bigint NOT NULL,
  platform_fee_minor bigint NOT NULL DEFAULT 0,
  net_minor bigint NOT NULL,
  incentive_id uuid,                                      -- of a bonus
  reverses_id uuid UNIQUE REFERENCES earnings (id),
  reason text CHECK (length(reason) <= 500),
  ledger_txn_id bigint REFERENCES ledger_txn (id),        -- NULL: nothing moved, as with a fare of 0
  day date NOT NULL,                                      -- in the market's time zone
  earned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  credited_minor bigint NOT NULL,                         -- what it changed of his own money, wallet less debt: of a cash job, less its fee
  credited_sum bigint NOT NULL,                           -- all of these up to this row, of this user and currency
  credited_upto bigint NOT NULL,                          -- the highest that this sum has been: once so much is paid out, this row is
  CHECK (gross_minor = base_minor + distance_minor + time_minor + surge_minor + tip_minor + bonus_minor + adjustment_minor),
  CHECK (net_minor = gross_minor - platform_fee_minor),
  CHECK (kind <> 'job' OR (job_id IS NOT NULL AND platform_fee_minor BETWEEN 0 AND base_minor + distance_minor + time_minor + surge_minor)),
  CHECK (kind = 'job' OR kind = 'reversal' OR platform_fee_minor = 0),
  CHECK ((kind = 'reversal') = (reverses_id IS NOT NULL)),
  CHECK (kind NOT IN ('adjustment', 'reversal') OR reason IS NOT NULL),
  CHECK (CASE WHEN payment_method = 'cash' THEN abs(credited_minor) <= abs(platform_fee_minor) ELSE credited_minor = net_minor END)
);
-- One earning and one tip per job, however often somebody asks.
CREATE UNIQUE INDEX earnings_once ON earnings (job_id, kind) WHERE kind IN ('job', 'tip');
CREATE INDEX earnings_of ON earnings (user_id, currency, earned_at DESC, id DESC);
CREATE INDEX earnings_days ON earnings (user_id, currency, day);

-- Lifetime sums, so that a page need not add up years. Written with the rows, and held against them by reconcile.
CREATE TABLE earning_totals (
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),
  currency text NOT NULL,
  service_type text,                                      -- NULL: of no service type, such as a bonus over several
  jobs bigint NOT NULL DEFAULT 0,
  net_minor bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX earning_totals_key ON earning_totals (provider_id, currency, service_type) NULLS NOT DISTINCT;
CREATE INDEX earning_totals_of ON earning_totals (user_id);

ALTER TABLE earnings ENABLE ROW LEVEL SECURITY;
ALTER TABLE earnings FORCE ROW LEVEL SECURITY;
ALTER TABLE earning_totals ENABLE ROW LEVEL SECURITY;
ALTER TABLE earning_totals FORCE ROW LEVEL SECURITY;
CREATE POLICY earnings_read ON earnings FOR SELECT TO dispatch_app USING (user_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY earnings_system ON earnings TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY earnings_owner ON earnings FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY earning_totals_read ON earning_totals FOR SELECT TO dispatch_app USING (user_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY earning_totals_system ON earning_totals TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON earnings, earning_totals TO dispatch_app;
GRANT SELECT, INSERT ON earnings TO dispatch_system;
GRANT SELECT, INSERT, UPDATE ON earning_totals TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

CREATE FUNCTION earning_view(e earnings) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_strip_nulls(json_build_object('id', e.id, 'kind', e.kind, 'job_id', e.job_id, 'service_type', e.service_type, 'payment_method', e.payment_method,
  'currency', e.currency, 'base_minor', e.base_minor, 'distance_minor', e.distance_minor, 'time_minor', e.time_minor, 'surge_minor', e.surge_minor,
  'regular_minor', e.base_minor + e.distance_minor + e.time_minor + e.surge_minor, 'tip_minor', e.tip_minor, 'bonus_minor', e.bonus_minor,
  'adjustment_minor', e.adjustment_minor, 'gross_minor', e.gross_minor, 'platform_fee_minor', e.platform_fee_minor, 'net_minor', e.net_minor,
  'incentive_id', e.incentive_id, 'reverses_id', e.reverses_id, 'reason', e.reason, 'day', e.day, 'earned_at', wire_at(e.earned_at)));

-- Write down what somebody has earned, with the posting of the same transaction. His wallet is locked by the caller. Who may: himself (his
-- job), the job's customer (a tip), an admin (a correction), the server. The row before it gives the sums; it is the newest one in every case,
-- also when the machine's clock has been set back.
CREATE FUNCTION earnings_add(p_row earnings, p_zone text) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  e earnings;
  last earnings;
BEGIN
  PERFORM ctx_require(p_row.user_id, (SELECT j.customer_id FROM jobs j WHERE j.id = p_row.job_id AND p_row.kind = 'tip'));
  SELECT * INTO last FROM earnings s WHERE s.user_id = p_row.user_id AND s.currency = p_row.currency ORDER BY s.earned_at DESC, s.id DESC LIMIT 1;
  p_row.earned_at := greatest(clock_timestamp(), last.earned_at + interval '1 microsecond');
  p_row.credited_sum := coalesce(last.credited_sum, 0) + p_row.credited_minor;
  p_row.credited_upto := greatest(coalesce(last.credited_upto, 0), p_row.credited_sum);
  p_row.day := (p_row.earned_at AT TIME ZONE p_zone)::date;
  INSERT INTO earnings SELECT p_row.* RETURNING * INTO e;
  INSERT INTO earning_totals AS t (provider_id, user_id, currency, service_type, jobs, net_minor)
    VALUES (e.provider_id, e.user_id, e.currency, e.service_type, CASE WHEN e.kind = 'job' THEN 1 ELSE 0 END, e.net_minor)
    ON CONFLICT (provider_id, currency, service_type) DO UPDATE SET jobs = t.jobs + excluded.jobs, net_minor = t.net_minor + excluded.net_minor;
  RETURN earning_view(e);
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.earning_view, dispatch.earnings_add FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.earning_view, dispatch.earnings_add TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.earnings_add, dispatch.earning_view;
DROP TABLE dispatch.earning_totals, dispatch.earnings;
