-- name: providers_found :many
-- $1 search, $2 status, $3 service_type, $4 online, $5 created before, $6 id before, $7 limit; NULL: any
SELECT view, created_at, id FROM office_providers($1, $2, $3, $4, $5, $6, $7);

-- name: provider_file :one
-- $1 provider_id
SELECT provider_view(p) AS view, active_job_of(p.id) AS active_job FROM providers p WHERE p.id = $1;

-- name: provider_history :many
-- Newest first. $1 provider_id, $2 how many
SELECT json_strip_nulls(json_build_object('at', wire_at(at), 'what', what, 'actor_role', actor_role, 'actor_id', actor_id, 'reason', reason)) AS view
FROM provider_log WHERE provider_id = $1 ORDER BY at DESC LIMIT $2;

-- name: analytics :value
-- $1 from date, $2 to date, $3 service_type or NULL, $4 status or NULL
SELECT office_analytics($1, $2, $3, $4);

-- name: statistics :value
SELECT office_statistics();

-- name: audit_all :many
-- Newest first. $1 before, $2 id before, $3 limit
SELECT audit_view(a) AS view, a.at AS created_at, a.id FROM audit_log a
WHERE (at, id) < ($1, $2) ORDER BY at DESC, id DESC LIMIT $3;

-- name: audit_of_subject :many
-- $1 subject_id, $2 before, $3 id before, $4 limit
SELECT audit_view(a) AS view, a.at AS created_at, a.id FROM audit_log a
WHERE subject_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4;

-- name: audit_of_actor :many
-- $1 actor_id, $2 before, $3 id before, $4 limit
SELECT audit_view(a) AS view, a.at AS created_at, a.id FROM audit_log a
WHERE actor_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4;

-- name: users_found :many
-- $1 search, $2 role, $3 blocked, $4 created before, $5 id before, $6 limit; NULL: any
SELECT view, created_at, id FROM office_users($1, $2, $3, $4, $5, $6);

-- name: user_file :value
-- $1 user_id
SELECT office_user(u) FROM users u WHERE u.id = $1;

-- name: health :value
SELECT office_health();
