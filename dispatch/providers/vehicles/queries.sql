-- name: vehicle_row :one
-- A vehicle that the acting user may see. $1 id, $2 whose it has to be, NULL: anybody's
SELECT v.*, papers_today() AS today FROM provider_vehicles v WHERE v.id = $1 AND ($2::uuid IS NULL OR v.user_id = $2);

-- name: vehicle_owner :one
-- Who registers, the day in Bangkok, and how many vehicles he has. $1 user_id
SELECT p.id, papers_today() AS today, (SELECT count(*) FROM provider_vehicles v WHERE v.provider_id = p.id) AS vehicles
FROM providers p WHERE p.user_id = $1;

-- name: registration_kind :value
-- The type of an own document. $1 document id, $2 user_id
SELECT document_type FROM provider_documents WHERE id = $1 AND user_id = $2;

-- name: vehicle_add :value
-- $1 id, $2 provider_id, $3 type, $4 make, $5 model, $6 year, $7 plate, $8 plate_key, $9 color, $10 registration_expiry, $11 insurance_expiry,
-- $12 registration_document_id
SELECT vehicle_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: vehicle_change :value
-- $1 id, $2 type, $3 make, $4 model, $5 year, $6 plate, $7 plate_key, $8 color, $9 registration_expiry, $10 insurance_expiry,
-- $11 registration_document_id, $12 whether it goes back to the queue
SELECT vehicle_change($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: vehicle_activate :value
-- $1 id
SELECT vehicle_activate($1);

-- name: vehicle_view :value
-- $1 id
SELECT vehicle_view(v) FROM provider_vehicles v WHERE v.id = $1;

-- name: vehicles_own :many
-- Newest first. $1 user_id, $2 how many at most
SELECT vehicle_view(v) AS body FROM provider_vehicles v JOIN providers p ON p.id = v.provider_id WHERE p.user_id = $1
ORDER BY v.created_at DESC, v.id LIMIT $2;

-- name: active_job :value
-- $1 provider_id
SELECT active_job_of($1);
