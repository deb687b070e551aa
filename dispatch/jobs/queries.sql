-- name: job_create :one
-- $1 user_id, $2 key or NULL, $3 fingerprint, $4 id, $5 market, $6 service_type, $7-$9 pickup lat lng address, $10-$12 dropoff, $13 coarse json,
-- $14 the name of somebody without one, $15 note, $16 payment_method, $17 currency, $18 surge_pct, $19 distance_m, $20 duration_s,
-- $21-$24 fare parts, $25 earnings, $26 job_ttl_s
SELECT word, view, facts FROM jobs_create($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
  $24, $25, $26);

-- name: job_lock :one
-- Lock a job that the caller may see. $1 job_id
SELECT id, market, service_type, status, round, version, customer_id, provider_id, provider_user_id, pickup_lat, pickup_lng, surge_pct,
  payment_method, currency, trail_m, trail_fixes, started_at, extract(epoch FROM clock_timestamp() - started_at)::float8 AS riding_s
FROM jobs WHERE id = $1 FOR UPDATE;

-- name: job_row :one
-- The same, unlocked.
SELECT id, market, service_type, status, round, version, customer_id, provider_id, provider_user_id, pickup_lat, pickup_lng, surge_pct,
  payment_method, currency, trail_m, trail_fixes, started_at, extract(epoch FROM clock_timestamp() - started_at)::float8 AS riding_s
FROM jobs WHERE id = $1;

-- name: job_view :value
-- The wire form of a job that the caller is a party of; contact for its provider. $1 job_id, $2 user_id
SELECT job_view(j, j.provider_user_id = $2) FROM jobs j WHERE id = $1;

-- name: job_offer_view :value
-- $1 user_id, $2 job_id, $3 markets with an open board text[]
SELECT job_offer_view($1, $2, $3);

-- name: job_advance :one
-- Arrived or in_progress, by its provider; the step into the history with it. $1 job_id, $2 status, $3 trail metres since, $4 fixes since,
-- $5 lat, $6 lng, $7 located_at, $8 former status
WITH moved AS (UPDATE jobs j SET status = $2::text, version = version + 1,
  arrived_at = CASE WHEN $2 = 'arrived' THEN clock_timestamp() ELSE arrived_at END,
  started_at = CASE WHEN $2 = 'in_progress' THEN clock_timestamp() ELSE started_at END,
  trail_m = CASE WHEN $2 = 'in_progress' THEN 0 ELSE trail_m + $3 END,
  trail_fixes = CASE WHEN $2 = 'in_progress' THEN 0 ELSE trail_fixes + $4 END,
  provider_lat = coalesce($5, provider_lat), provider_lng = coalesce($6, provider_lng), provider_located_at = coalesce($7, provider_located_at)
WHERE id = $1 RETURNING id, provider_user_id, version, round, job_view(j, true) AS own, job_view(j, false) AS public),
stepped AS (INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_id, actor_role)
  SELECT m.id, m.version, $8, $2, m.round, m.provider_user_id, 'provider' FROM moved m)
SELECT version, round, own, public FROM moved;

-- name: job_complete :one
-- By its provider; the step into the history with it. $1 job_id, $2 distance_m, $3 duration_s, $4 reported_m, $5 flagged, $6-$9 fare parts,
-- $10 earnings, $11 trail metres since, $12 fixes since, $13 lat, $14 lng, $15 located_at, $16 former status
WITH moved AS (UPDATE jobs j SET status = 'completed', version = version + 1, completed_at = clock_timestamp(), distance_m = $2, duration_s = $3,
  reported_distance_m = $4, distance_flagged = $5, base_minor = $6, distance_minor = $7, time_minor = $8, surge_minor = $9, estimated = false,
  actual_earnings_minor = $10, trail_m = trail_m + $11, trail_fixes = trail_fixes + $12,
  provider_lat = coalesce($13, provider_lat), provider_lng = coalesce($14, provider_lng), provider_located_at = coalesce($15, provider_located_at)
WHERE id = $1 RETURNING id, provider_user_id, version, round, completed_at, job_view(j, true) AS own, job_view(j, false) AS public),
stepped AS (INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_id, actor_role)
  SELECT m.id, m.version, $16, 'completed', m.round, m.provider_user_id, 'provider' FROM moved m)
SELECT version, round, completed_at, own, public FROM moved;

-- name: job_cancel :value
-- $1 job_id, $2 by, $3 actor_id, $4 role, $5 reason
SELECT jobs_cancel($1, $2, $3, $4, $5);

-- name: job_cancel_told :value
-- The same, and what there is to tell is numbered.
SELECT inbox_append(jobs_cancel($1, $2, $3, $4, $5));

-- name: job_release :value
-- $1 job_id, $2 by, $3 actor_id, $4 role, $5 reason
SELECT jobs_release($1, $2, $3, $4, $5);

-- name: job_release_told :value
-- The same, and what there is to tell is numbered.
SELECT inbox_append(jobs_release($1, $2, $3, $4, $5));

-- name: jobs_of :many
-- A user's jobs, newest first. Two parts, each along its own index; whoever is both parties of a job has it once.
-- $1 user_id, $2 status or NULL, $3 before created_at, $4 before id, $5 limit
SELECT n.id, n.created_at, job_view(n.j, (n.j).provider_user_id = $1) AS view FROM (
  (SELECT j.id, j.created_at, j FROM jobs j WHERE j.customer_id = $1 AND ($2::text IS NULL OR j.status = $2)
     AND (j.created_at, j.id) < ($3, $4) ORDER BY j.created_at DESC, j.id DESC LIMIT $5)
  UNION ALL
  (SELECT j.id, j.created_at, j FROM jobs j WHERE j.provider_user_id = $1 AND j.customer_id <> $1 AND ($2::text IS NULL OR j.status = $2)
     AND (j.created_at, j.id) < ($3, $4) ORDER BY j.created_at DESC, j.id DESC LIMIT $5)
) n ORDER BY n.created_at DESC, n.id DESC LIMIT $5;

-- name: jobs_all :many
-- All that row security shows, newest first: the newest of each status along the index of statuses, and of these the newest.
-- $1 statuses text[], $2 before created_at, $3 before id, $4 limit
SELECT n.id, n.created_at, job_view(n.j, false) AS view FROM unnest($1::text[]) AS wanted (status) CROSS JOIN LATERAL (
  SELECT j.id, j.created_at, j FROM jobs j WHERE j.status = wanted.status AND (j.created_at, j.id) < ($2, $3)
  ORDER BY j.created_at DESC, j.id DESC LIMIT $4) n
ORDER BY n.created_at DESC, n.id DESC LIMIT $4;

-- name: jobs_stuck :many
-- $1 limit
SELECT j.id, j.created_at, job_view(j, false) AS view FROM jobs_stuck($1) j;

-- name: trail_add :exec
-- What was seen of running trips since the last flush. The place itself is written at changes of state only: a view of the job shows it.
-- $1 job_ids uuid[], $2 metres float8[], $3 fixes int[]
UPDATE jobs j SET trail_m = j.trail_m + t.m, trail_fixes = j.trail_fixes + t.n FROM unnest($1::uuid[], $2::float8[], $3::int[]) AS t(id, m, n)
WHERE j.id = t.id AND j.status IN ('accepted', 'arrived', 'in_progress');

-- name: jobs_by_status :many
-- For gauges.
SELECT market, status, count(*) AS n FROM jobs WHERE status IN ('pending', 'offered', 'accepted', 'arrived', 'in_progress') GROUP BY market, status;

-- name: job_events_next :many
-- The next rows of the history, and the reader's place behind them. $1 reader, $2 how many
SELECT job_id, version, from_status, to_status, actor_id, actor_role, reason, customer_id, provider_user_id FROM job_events_next($1, $2);
