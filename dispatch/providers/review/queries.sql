-- name: document_row :one
-- $1 id
SELECT provider_id, user_id, document_type, status, expiry_date, replaced_by IS NOT NULL AS replaced, papers_today() AS today
FROM provider_documents WHERE id = $1;

-- name: document_review :value
-- $1 id, $2 status, $3 reason, $4 admin id
SELECT document_review($1, $2, $3, $4);

-- name: suspension_over :value
-- Whether a suspension for papers has lost its ground. $1 provider_id
SELECT suspension_over($1);

-- name: vehicle_review :value
-- $1 id, $2 status, $3 reason, $4 admin id
SELECT vehicle_review($1, $2, $3, $4);

-- name: verification_queue :many
-- Oldest submission first. $1 submitted_at and $2 provider_id of the last row before, $3 how many at most
SELECT at AS created_at, provider_id AS id, body AS view FROM verification_queue($1, $2, $3);

-- name: onboarding :value
-- Of the acting user. $1 user_id
SELECT onboarding_view(p.id) FROM providers p WHERE p.user_id = $1;
