-- name: earnings_add :value
-- $1 id, $2 provider_id, $3 user_id, $4 kind, $5 job_id, $6 market, $7 service_type, $8 payment_method, $9 currency, $10-$13 fare parts, $14 tip,
-- $15 bonus, $16 adjustment, $17 gross, $18 fee, $19 net, $20 incentive_id, $21 reverses_id, $22 reason, $23 ledger_txn_id, $24 time zone,
-- $25 credited
SELECT earnings_add(ROW($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, NULL, NULL,
  $25, NULL, NULL)::earnings, $24);

-- name: earning_row :one
-- $1 id
SELECT id, provider_id, user_id, kind, market, currency, job_id, service_type, payment_method, base_minor, distance_minor, time_minor, surge_minor,
  tip_minor, bonus_minor, adjustment_minor, platform_fee_minor, incentive_id, reverses_id, reason, credited_minor, ledger_txn_id
FROM earnings WHERE id = $1;

-- name: earning_reversed :value
-- $1 id
SELECT EXISTS (SELECT FROM earnings WHERE reverses_id = $1);

-- name: earner :one
-- Who a provider is, by either of his names: $1 user_id or NULL, $2 provider_id or NULL
SELECT id, user_id FROM providers WHERE user_id = $1 OR id = $2;

-- name: last_market :value
-- The market that somebody earned in last, or nothing; by the newest row of each currency. $1 user_id, $2 currencies text[]
SELECT l.market FROM unnest($2::text[]) AS c(currency) CROSS JOIN LATERAL (
  SELECT e.market, e.earned_at, e.id FROM earnings e WHERE e.user_id = $1 AND e.currency = c.currency ORDER BY e.earned_at DESC, e.id DESC LIMIT 1) l
ORDER BY l.earned_at DESC, l.id DESC LIMIT 1;

-- name: moment :value
-- The judge's clock.
SELECT clock_timestamp();

-- name: overview :value
-- $1 user_id, $2 currency, $3 first day, $4 last day, $5 time zone
WITH sums AS MATERIALIZED (
  SELECT e.service_type, count(*) FILTER (WHERE e.kind = 'job') AS jobs, sum(e.base_minor) AS base, sum(e.distance_minor) AS distance,
    sum(e.time_minor) AS time, sum(e.surge_minor) AS surge, sum(e.tip_minor) AS tip, sum(e.bonus_minor) AS bonus, sum(e.adjustment_minor) AS adjustment,
    sum(e.gross_minor) AS gross, sum(e.platform_fee_minor) AS fee, sum(e.net_minor) AS net
  FROM earnings e WHERE e.user_id = $1 AND e.currency = $2 AND e.day BETWEEN $3 AND $4 GROUP BY e.service_type
), life AS (
  SELECT coalesce(sum(t.jobs), 0) AS jobs, coalesce(sum(t.net_minor), 0) AS net FROM earning_totals t WHERE t.user_id = $1 AND t.currency = $2
)
SELECT json_build_object('currency', $2::text, 'from_day', $3::date, 'to_day', $4::date, 'time_zone', $5::text, 'jobs', coalesce(sum(s.jobs), 0),
  'base_minor', coalesce(sum(s.base), 0), 'distance_minor', coalesce(sum(s.distance), 0), 'time_minor', coalesce(sum(s.time), 0),
  'surge_minor', coalesce(sum(s.surge), 0), 'regular_minor', coalesce(sum(s.base + s.distance + s.time + s.surge), 0),
  'tip_minor', coalesce(sum(s.tip), 0), 'bonus_minor', coalesce(sum(s.bonus), 0), 'adjustment_minor', coalesce(sum(s.adjustment), 0),
  'gross_minor', coalesce(sum(s.gross), 0), 'platform_fee_minor', coalesce(sum(s.fee), 0), 'net_minor', coalesce(sum(s.net), 0),
  'by_service_type', coalesce(json_agg(json_build_object('service_type', s.service_type, 'jobs', s.jobs,
    'regular_minor', s.base + s.distance + s.time + s.surge, 'tip_minor', s.tip, 'net_minor', s.net) ORDER BY s.service_type)
    FILTER (WHERE s.service_type IS NOT NULL), '[]'),
  'lifetime', (SELECT json_build_object('jobs', l.jobs, 'net_minor', l.net) FROM life l))
FROM sums s;

-- name: chart :value
-- One point for each day, also for those without earnings. $1 user_id, $2 currency, $3 first day, $4 last day, $5 time zone
WITH sums AS (
  SELECT e.day, count(*) FILTER (WHERE e.kind = 'job') AS jobs, sum(e.base_minor + e.distance_minor + e.time_minor + e.surge_minor) AS regular,
    sum(e.tip_minor) AS tip, sum(e.bonus_minor) AS bonus, sum(e.adjustment_minor) AS adjustment, sum(e.net_minor) AS net
  FROM earnings e WHERE e.user_id = $1 AND e.currency = $2 AND e.day BETWEEN $3 AND $4 GROUP BY e.day
)
SELECT json_build_object('currency', $2::text, 'from_day', $3::date, 'to_day', $4::date, 'time_zone', $5::text, 'points', json_agg(json_build_object(
  'day', d.day, 'jobs', coalesce(s.jobs, 0), 'regular_minor', coalesce(s.regular, 0), 'tip_minor', coalesce(s.tip, 0),
  'bonus_minor', coalesce(s.bonus, 0), 'adjustment_minor', coalesce(s.adjustment, 0), 'net_minor', coalesce(s.net, 0)) ORDER BY d.day))
FROM (SELECT $3::date + n AS day FROM generate_series(0, $4::date - $3::date) n) d LEFT JOIN sums s ON s.day = d.day;

-- name: items :many
-- Newest first. A day of any time zone lies within a day more on both sides: so the walk along the index ends with the range.
-- $1 user_id, $2 currency, $3 first day, $4 last day, $5 before earned_at, $6 before id, $7 limit
SELECT e.id, e.earned_at AS created_at, earning_view(e) AS view, e.credited_minor, e.credited_upto FROM earnings e
WHERE e.user_id = $1 AND e.currency = $2 AND e.day BETWEEN $3 AND $4 AND (e.earned_at, e.id) < ($5, $6)
  AND e.earned_at >= $3::date - interval '1 day' AND e.earned_at < $4::date + interval '2 days'
ORDER BY e.earned_at DESC, e.id DESC LIMIT $7;

-- name: tip_job :one
-- A job that the caller may see, locked, with whether its time for tips is over. $1 job_id, $2 seconds
SELECT j.market, j.service_type, j.status, j.customer_id, j.provider_id, j.provider_user_id, j.currency,
  coalesce(clock_timestamp() - j.completed_at > make_interval(secs => $2), false) AS late
FROM jobs j WHERE j.id = $1 FOR UPDATE;

-- name: jobs_unpaid :many
-- Completed jobs without their one earning or with one that says something else, and earnings of jobs that are not completed. For the server alone.
-- $1 how many
SELECT coalesce(j.id, e.job_id) AS job_id, j.status, j.actual_earnings_minor AS job_minor, e.id AS earning_id, e.net_minor AS earning_minor
FROM (SELECT * FROM jobs WHERE status = 'completed') j FULL JOIN (SELECT * FROM earnings WHERE kind = 'job') e ON e.job_id = j.id
WHERE e.id IS NULL OR j.id IS NULL OR e.net_minor IS DISTINCT FROM j.actual_earnings_minor OR e.provider_id <> j.provider_id
  OR (e.base_minor, e.distance_minor, e.time_minor, e.surge_minor) <> (j.base_minor, j.distance_minor, j.time_minor, j.surge_minor)
  OR e.currency <> j.currency OR e.payment_method <> j.payment_method OR e.service_type <> j.service_type
LIMIT $1;

-- name: earnings_unposted :many
-- Earnings whose posting moved something else than they say: of the owner's money, or of the platform's fees. And postings without an earning.
-- For the server alone. $1 how many
WITH moved AS (
  SELECT n.txn_id, sum(n.amount) FILTER (WHERE a.kind IN ('wallet', 'provider_debt')) AS own, sum(n.amount) FILTER (WHERE a.kind = 'platform_fee') AS fee,
    min(n.owner_id::text)::uuid AS owner_id, count(DISTINCT n.owner_id) AS owners
  FROM ledger_entry n JOIN ledger_account a ON a.id = n.account_id
  WHERE n.txn_id IN (SELECT t.id FROM ledger_txn t WHERE t.kind IN ('earning', 'cash_fee', 'tip', 'bonus', 'adjustment', 'earning_reversal'))
  GROUP BY n.txn_id
)
SELECT e.id AS earning_id, coalesce(e.ledger_txn_id, m.txn_id) AS txn_id, e.credited_minor AS said_minor, coalesce(m.own, 0)::bigint AS moved_minor,
  e.platform_fee_minor AS said_fee_minor, coalesce(m.fee, 0)::bigint AS moved_fee_minor
FROM earnings e FULL JOIN moved m ON m.txn_id = e.ledger_txn_id
WHERE e.id IS NULL OR e.credited_minor <> coalesce(m.own, 0) OR e.platform_fee_minor <> coalesce(m.fee, 0) OR m.owners > 1 OR m.owner_id <> e.user_id
LIMIT $1;

-- name: totals_wrong :many
-- Lifetime sums that are not those of their rows. For the server alone. $1 how many
SELECT coalesce(t.provider_id, s.provider_id) AS provider_id, coalesce(t.currency, s.currency) AS currency, coalesce(t.service_type, s.service_type) AS service_type,
  t.jobs AS said_jobs, s.jobs, t.net_minor AS said_minor, s.net_minor::bigint AS net_minor
FROM earning_totals t FULL JOIN (
  SELECT e.provider_id, e.currency, e.service_type, count(*) FILTER (WHERE e.kind = 'job') AS jobs, sum(e.net_minor) AS net_minor
  FROM earnings e GROUP BY e.provider_id, e.currency, e.service_type
) s ON s.provider_id = t.provider_id AND s.currency = t.currency AND coalesce(s.service_type, '') = coalesce(t.service_type, '')
WHERE t.jobs IS DISTINCT FROM s.jobs OR t.net_minor IS DISTINCT FROM s.net_minor
LIMIT $1;

-- name: sums_wrong :many
-- Earnings whose running sums are not those of the rows before them. For the server alone. $1 how many
SELECT r.id AS earning_id, r.credited_sum AS said_minor, r.real::bigint AS real_minor FROM (
  SELECT w.id, w.credited_sum, w.credited_upto, w.real, greatest(0, max(w.real) OVER (PARTITION BY w.user_id, w.currency ORDER BY w.earned_at, w.id)) AS upto
  FROM (SELECT e.id, e.user_id, e.currency, e.earned_at, e.credited_sum, e.credited_upto,
    sum(e.credited_minor) OVER (PARTITION BY e.user_id, e.currency ORDER BY e.earned_at, e.id) AS real FROM earnings e) w
) r WHERE r.credited_sum <> r.real OR r.credited_upto <> r.upto
LIMIT $1;
