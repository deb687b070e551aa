-- name: performance_mine :one
-- $1 user_id, $2 how many offers the window has
SELECT p.id AS provider_id, p.status, p.rating::float8 AS rating, c.*, clock_timestamp() AS calculated_at
FROM providers p CROSS JOIN LATERAL performance_counts(p.id, $2) c WHERE p.user_id = $1;

-- name: performance_of :one
-- $1 provider_id, $2 how many offers the window has
SELECT p.id AS provider_id, p.status, p.rating::float8 AS rating, c.*, clock_timestamp() AS calculated_at
FROM providers p CROSS JOIN LATERAL performance_counts(p.id, $2) c WHERE p.id = $1;

-- name: ratings_of :many
-- $1 provider_id
SELECT service_type, rating::float8 AS rating, ratings_count FROM provider_ratings WHERE provider_id = $1 ORDER BY service_type;

-- name: current_job :value
-- The provider's active job as he sees it, or no row. $1 provider_id
SELECT job_view(j, true) FROM jobs j WHERE j.id = active_job_of($1);

-- name: earned_today :one
-- now() and not the clock: an index takes no value that may change from row to row. $1 user_id, $2 time zone, $3 currency
SELECT (now() AT TIME ZONE $2)::date AS day, coalesce(sum(net_minor), 0)::bigint AS net_minor, count(*) FILTER (WHERE kind = 'job') AS jobs
FROM earnings WHERE user_id = $1 AND currency = $3 AND day = (now() AT TIME ZONE $2)::date;

-- name: step :value
-- $1 seconds between runs, $2 seconds of offers in a step, $3 days in a step, $4 markets text[], $5 their time zones text[]
SELECT performance_step(make_interval(secs => $1), make_interval(secs => $2), $3, $4, $5);

-- name: calculated_at :value
SELECT calculated_at FROM performance_run;

-- name: acceptance_all :many
-- Newest day first. $1 first day, $2 last day, $3 of the row before, $4 its id, $5 limit
SELECT d.*, d.day::timestamp AT TIME ZONE 'UTC' AS created_at FROM performance_days d
WHERE d.offered > 0 AND d.day BETWEEN $1 AND $2 AND (d.day, d.id) < (($3::timestamptz AT TIME ZONE 'UTC')::date, $4)
ORDER BY d.day DESC, d.id DESC LIMIT $5;

-- name: acceptance_of_type :many
-- The same of one service type, $6
SELECT d.*, d.day::timestamp AT TIME ZONE 'UTC' AS created_at FROM performance_days d
WHERE d.offered > 0 AND d.day BETWEEN $1 AND $2 AND (d.day, d.id) < (($3::timestamptz AT TIME ZONE 'UTC')::date, $4) AND d.service_type = $6
ORDER BY d.day DESC, d.id DESC LIMIT $5;

-- name: acceptance_of_provider :many
-- The same of one provider, $6, and of one service type, $7, or NULL: of all
SELECT d.*, d.day::timestamp AT TIME ZONE 'UTC' AS created_at FROM performance_days d
WHERE d.offered > 0 AND d.day BETWEEN $1 AND $2 AND (d.day, d.id) < (($3::timestamptz AT TIME ZONE 'UTC')::date, $4)
  AND d.provider_id = $6 AND ($7::text IS NULL OR d.service_type = $7)
ORDER BY d.day DESC, d.id DESC LIMIT $5;

-- name: providers_counted :many
-- Providers, newest first, with the sums of their days. $1 created before, $2 id before, $3 limit
SELECT p.*, t.* FROM (
  SELECT id, created_at, first_name, last_name, status, rating::float8 AS rating FROM providers
  WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3) p
CROSS JOIN LATERAL (SELECT coalesce(sum(d.offered), 0) AS offered, coalesce(sum(d.accepted), 0) AS accepted,
  coalesce(sum(d.completed), 0) AS completed, coalesce(sum(d.cancelled), 0) AS cancelled FROM performance_days d WHERE d.provider_id = p.id) t
ORDER BY p.created_at DESC, p.id DESC;
