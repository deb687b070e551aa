-- name: documents_due :many
-- Documents that have run out, or whose provider is to be warned. $1 day and $2 id of the last row before, $3 how many at most
SELECT day, id, provider_id FROM documents_due($1, $2, $3);

-- name: vehicles_due :many
-- Vehicles whose registration or insurance has run out. $1 day and $2 id of the last row before, $3 how many at most
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
