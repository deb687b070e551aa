-- name: jobs_due :many
-- $1 job_id or NULL, $2 limit, $3 lease_s, $4 markets text[], $5 their cooldowns in s float8[]
SELECT job_id, market, service_type, status, round, pickup_lat, pickup_lng, expired, lapsed, waiting, excluded, silent
FROM jobs_due($1, $2, make_interval(secs => $3), $4, $5);

-- name: offers_create :one
-- $1 job_id, $2 round, $3 offer_ids uuid[], $4 provider_ids uuid[], $5 distances int[], $6 ttl_s, $7 offers at once, $8 again_s, $9 cooldown_s
SELECT word, offered, offered_to, round, facts, woken
FROM offers_create($1, $2, $3, $4, $5, make_interval(secs => $6), $7, make_interval(secs => $8), make_interval(secs => $9));

-- name: offers_lapse :value
-- $1 job_id
SELECT offers_lapse($1);

-- name: offers_close :one
-- $1 job_id
SELECT facts, wake FROM offers_close($1);

-- name: offers_left_open :many
-- $1 limit
SELECT * FROM offers_left_open($1) AS f(job_id);

-- name: offers_void :one
-- $1 provider_id, $2 reason
SELECT told, wake FROM offers_void($1, $2);

-- name: offers_decline :one
-- $1 user_id, $2 offer_id, $3 reason
SELECT word, job_id, exhausted, facts FROM offers_decline($1, $2, $3);

-- name: jobs_rest :exec
-- $1 job_id
SELECT jobs_rest($1);

-- name: jobs_wake :value
-- $1 market, $2 service_types text[], $3 limit
SELECT jobs_wake($1, $2, $3);

-- name: jobs_lock_of :many
-- $1 provider_id
SELECT * FROM jobs_lock_of($1) AS f(job_id);

-- name: offers_board :many
-- $1 user_id, $2 service_types text[], $3 limit
SELECT offer, distance_m FROM offers_board($1, $2, $3);

-- name: jobs_board :many
-- $1 user_id, $2 markets text[], $3 lat, $4 lng, $5 radius_m, $6 limit
SELECT glance, round, distance_m FROM jobs_board($1, $2, $3, $4, $5, $6);

-- name: providers_gone :many
-- $1 gone_s, $2 limit
SELECT provider_id, user_id FROM providers_gone(make_interval(secs => $1), $2);

-- name: live_state :one
-- $1 user_id
SELECT seq, provider, jobs, offers FROM live_state($1);

-- name: offers_unheard :many
-- Live offers that no device has acked $1 seconds after they were made, of providers who have a push device, not pushed yet. $2 limit
SELECT o.offer_id, o.provider_user_id AS user_id, o.job_id, o.pickup_distance_m AS distance_m,
  (job_fare(j) ->> 'total_minor')::bigint AS fare_minor, j.currency, o.expires_at
FROM offers o JOIN jobs j ON j.id = o.job_id LEFT JOIN inbox_marks m ON m.user_id = o.provider_user_id
WHERE o.status = 'live' AND o.offered_at < clock_timestamp() - make_interval(secs => $1) AND o.expires_at > clock_timestamp()
  AND EXISTS (SELECT FROM push_devices d WHERE d.user_id = o.provider_user_id)
  AND EXISTS (SELECT FROM events e WHERE e.user_id = o.provider_user_id AND e.seq > coalesce(m.acked_seq, 0) AND e.name = 'offer.created'
    AND e.body ->> 'offer_id' = o.offer_id::text)
  AND NOT EXISTS (SELECT FROM notifications n WHERE n.recipient_id = o.provider_user_id AND n.dedupe_key = 'offer:' || o.offer_id)
LIMIT $2;

-- name: waits :many
-- How long jobs have been wanted. $1 job_ids uuid[]
SELECT j.id, extract(epoch FROM clock_timestamp() - j.created_at)::float8 AS waited_s FROM jobs j WHERE j.id = ANY ($1);

-- name: standings :many
-- What else counts about candidates: seconds since their last job ended or they came online, and what became of their offers of the last
-- seven days, up to five minutes old. $1 provider_ids uuid[]
SELECT g.provider_id,
  greatest(0, extract(epoch FROM clock_timestamp() - greatest(g.changed_at, b.ended_at)))::float8 AS idle_s,
  coalesce(p.offered, 0)::int AS offered, coalesce(p.accepted, 0)::int AS accepted
FROM provider_gate g
LEFT JOIN LATERAL (SELECT coalesce(j.completed_at, j.cancelled_at) AS ended_at FROM jobs j WHERE j.provider_user_id = g.user_id
  ORDER BY j.created_at DESC, j.id DESC LIMIT 1) b ON true
LEFT JOIN LATERAL (SELECT sum(d.offered) AS offered, sum(d.accepted) AS accepted FROM performance_days d
  WHERE d.provider_id = g.provider_id AND d.day > (clock_timestamp() AT TIME ZONE 'UTC')::date - 7) p ON true
WHERE g.provider_id = ANY ($1);

-- name: rounds_note :exec
-- $1 job_ids uuid[], $2 at timestamptz[], $3 policies text[], $4 reasons text[], $5 rounds int[], $6 radii int[], $7 considered json[]
INSERT INTO match_rounds (job_id, at, policy, reason, round, radius_m, considered)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::int[], $6::int[], $7::json[]);

-- name: rounds_forget :one
-- Forget what is older than $1 days, $2 at most. Returns how many went. Along the key, which is as old as the rows: an index by ranges of
-- pages would read all young rows in pages that old ones have left.
-- An array and not a join: how many there will be no plan knows, and a join would read the whole table for them.
WITH oldest AS (SELECT r.id, r.at FROM match_rounds r ORDER BY r.id LIMIT $2),
  gone AS (DELETE FROM match_rounds WHERE id = ANY (ARRAY(
    SELECT o.id FROM oldest o WHERE o.at < clock_timestamp() - make_interval(days => $1))) RETURNING 1)
SELECT count(*) AS n FROM gone;

-- name: rounds_of :many
-- $1 job_id, $2 limit; the newest, in order. For an admin.
SELECT r.at, r.policy, r.reason, r.round, r.radius_m, r.considered FROM
  (SELECT * FROM match_rounds m WHERE m.job_id = $1 ORDER BY m.id DESC LIMIT $2) r ORDER BY r.id;

-- name: rounds_mine :many
-- $1 user_id, $2 job_id, $3 limit
SELECT at, policy, reason, round, mine FROM match_rounds_mine($1, $2, $3);

-- name: status_of :one
-- $1 job_id. For an admin.
SELECT j.status FROM jobs j WHERE j.id = $1;

-- name: uids_of :many
-- The words by which people know providers. $1 provider_ids uuid[]. For an admin.
SELECT p.id, p.provider_uid FROM providers p WHERE p.id = ANY ($1);
