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

-- name: documents_due :many
-- Documents that have run out, or whose provider is to be warned. $1 day and $2 id of the last row before, $3 how many at most
SELECT day, id, provider_id FROM documents_due($1, $2, $3);

-- name: vehicles_due :many
-- Vehicles whose registration or insurance has run out, or whose provider is to be warned. $1 day and $2 id of the last row before, $3 how many at most
SELECT day, id, provider_id FROM vehicles_due($1, $2, $3);

-- name: gate_claim :one
-- Lock a provider's gate unless somebody has it: an accept or another sweeper goes first, and he comes again. $1 provider_id
SELECT user_id, status, online, suspend_due FROM provider_gate WHERE provider_id = $1 FOR UPDATE SKIP LOCKED;

-- name: documents_expire :many
-- What has run out of a provider whose gate is locked. $1 provider_id
UPDATE provider_documents SET status = 'expired'
WHERE provider_id = $1 AND status = 'approved' AND replaced_by IS NULL AND expiry_date < (SELECT papers_today()) RETURNING id, document_type;

-- name: documents_warn :many
-- What a provider whose gate is locked is to be warned of: the nearest threshold, once. $1 provider_id
UPDATE provider_documents d SET warned_days = warning_at(d.expiry_date - (SELECT papers_today()))
WHERE d.provider_id = $1 AND d.status = 'approved' AND d.replaced_by IS NULL AND d.expiry_date BETWEEN (SELECT papers_today()) AND (SELECT papers_today() + 30)
  AND (d.warned_days IS NULL OR d.warned_days > warning_at(d.expiry_date - (SELECT papers_today())))
RETURNING d.id, d.document_type, d.warned_days, d.expiry_date - (SELECT papers_today()) AS days;

-- name: vehicles_warn :many
-- The vehicles of a provider whose gate is locked that he is to be warned of: the nearest threshold of the paper that ends first. $1 provider_id
UPDATE provider_vehicles v SET warned_days = warning_at(least(v.registration_expiry, v.insurance_expiry) - (SELECT papers_today()))
WHERE v.provider_id = $1 AND v.status = 'approved'
  AND least(v.registration_expiry, v.insurance_expiry) BETWEEN (SELECT papers_today()) AND (SELECT papers_today() + 30)
  AND (v.warned_days IS NULL OR v.warned_days > warning_at(least(v.registration_expiry, v.insurance_expiry) - (SELECT papers_today())))
RETURNING v.id, v.warned_days, least(v.registration_expiry, v.insurance_expiry) AS day,
  least(v.registration_expiry, v.insurance_expiry) - (SELECT papers_today()) AS days,
  CASE WHEN v.registration_expiry <= v.insurance_expiry THEN 'vehicle_registration' ELSE 'vehicle_insurance' END AS document_type;

-- name: suspensions_over :many
-- $1 how many at most
SELECT suspensions_over AS provider_id FROM suspensions_over($1);

-- name: suspension_over :value
-- Whether a suspension for papers has lost its ground, with the gate locked. $1 provider_id
SELECT suspension_over($1);

-- name: vehicles_suspend :many
-- The vehicles of a provider whose gate is locked that have run out. $1 provider_id
UPDATE provider_vehicles v SET status = 'suspended', is_active = false, version = version + 1, updated_at = clock_timestamp()
WHERE v.provider_id = $1 AND v.status = 'approved' AND least(v.registration_expiry, v.insurance_expiry) < (SELECT papers_today())
RETURNING v.id, v.make, v.model, v.plate_number, CASE WHEN v.registration_expiry < (SELECT papers_today()) THEN 'registration_expired' ELSE 'insurance_expired' END AS reason;

-- name: required_lost :value
-- Required documents of a provider that nothing approved stands for. $1 provider_id
SELECT documents_missing(p.id, p.service_types, false) FROM providers p WHERE p.id = $1;

-- name: active_job :value
-- $1 provider_id
SELECT active_job_of($1);

-- name: suspend_due_set :exec
-- $1 provider_id, $2 whether a suspension waits for his job to end
UPDATE provider_gate SET suspend_due = $2 WHERE provider_id = $1;

-- name: suspend_due :many
-- Providers whose suspension waited for a job that has ended. $1 how many at most
SELECT g.provider_id FROM provider_gate g WHERE g.suspend_due AND active_job_of(g.provider_id) IS NULL LIMIT $1;
