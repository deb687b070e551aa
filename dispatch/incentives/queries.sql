-- name: count :many
-- $1 provider_id, $2 user_id, $3 market, $4 service_type, $5 currency, $6 pickup lat, $7 pickup lng, $8 completed_at, $9 time zone
SELECT incentive_id, tier, bonus, name FROM incentives_count($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: program_add :one
-- $1 id, $2 name, $3 service_types, $4 market, $5 currency, $6 starts_at, $7 ends_at, $8-$10 area lat lng radius, $11 hours from, $12 hours to,
-- $13 targets, $14 bonuses, $15 active, $16 created_by
INSERT INTO incentives AS i (id, name, service_types, market, currency, starts_at, ends_at, area_lat, area_lng, area_radius_m, hours_from, hours_to,
  targets, bonuses, active, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
RETURNING incentive_view(i, NULL, NULL) AS view, clock_timestamp() AS now;

-- name: program_lock :one
-- $1 id
SELECT i.*, i.starts_at <= clock_timestamp() AS started, clock_timestamp() AS now FROM incentives i WHERE id = $1 FOR UPDATE;

-- name: program_change :value
-- $1 id, $2 name, $3 service_types, $4 market, $5 currency, $6 starts_at, $7 ends_at, $8-$10 area lat lng radius, $11 hours from, $12 hours to,
-- $13 targets, $14 bonuses, $15 active
UPDATE incentives i SET name = $2, service_types = $3, market = $4, currency = $5, starts_at = $6, ends_at = $7, area_lat = $8, area_lng = $9,
  area_radius_m = $10, hours_from = $11, hours_to = $12, targets = $13, bonuses = $14, active = $15
WHERE id = $1 RETURNING incentive_view(i, NULL, NULL);

-- name: programs :many
-- Everybody's, newest first. $1 created before, $2 id before, $3 limit
SELECT incentive_view(i, NULL, NULL) AS view, created_at, id FROM incentives i WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3;

-- name: programs_for :many
-- Running and coming ones that fit somebody's service types, with his way in them. $1 user_id, $2 created before, $3 id before, $4 limit
SELECT incentive_view(i, coalesce(w.count, 0), coalesce(w.tiers_paid, 0)) AS view, i.created_at, i.id
FROM providers p JOIN incentives i ON i.service_types && p.service_types LEFT JOIN incentive_progress w ON w.incentive_id = i.id AND w.provider_id = p.id
WHERE p.user_id = $1 AND i.active AND i.ends_at > clock_timestamp() AND (i.created_at, i.id) < ($2, $3)
ORDER BY i.created_at DESC, i.id DESC LIMIT $4;

-- name: is_provider :value
-- $1 user_id
SELECT EXISTS (SELECT FROM providers WHERE user_id = $1);
