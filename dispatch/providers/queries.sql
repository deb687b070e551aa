-- name: provider_register :exec
-- $1 id, $2 user_id, $3 first_name, $4 last_name, $5 email, $6 phone, $7 service_types text[], $8 referral_code
INSERT INTO providers (id, user_id, first_name, last_name, email, phone_number, service_types, referral_code)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: provider_uid_known :value
-- $1 provider_uid text
SELECT provider_uid_known($1);

-- name: provider_mine :value
-- The own view of the acting user's record. $1 user_id
SELECT provider_view(p) FROM providers p WHERE p.user_id = $1;

-- name: provider_patch :exec
-- $1 user_id, $2 first_name, $3 last_name, $4 phone, $5 service_types text[], $6 service_radius_m
UPDATE providers p SET first_name = coalesce($2, first_name), last_name = coalesce($3, last_name), phone_number = coalesce($4, phone_number),
  service_types = coalesce($5, service_types), service_radius_m = coalesce($6, service_radius_m), updated_at = clock_timestamp()
WHERE user_id = $1;

-- name: clear :value
-- Judge his papers again, with the gate locked; his view when that changed something. $1 provider_id
SELECT providers_clear($1);

-- name: submit :value
-- A pending application with all its papers goes to review; his view when it did. $1 provider_id
SELECT providers_submit($1);

-- name: reapply :value
-- A rejected provider applies again, with the gate locked; NULL: he is not rejected. $1 provider_id
SELECT providers_reapply($1);

-- name: application :one
-- What an approval asks about. $1 provider_id
SELECT p.email, email_verified(p.user_id, p.email) AS verified, documents_missing(p.id, p.service_types, false) AS missing FROM providers p WHERE p.id = $1;

-- name: documents_missing :value
-- Required documents that nothing good stands for. $1 provider_id, $2 service_types text[], $3 whether one that waits for review will do
SELECT documents_missing($1, $2, $3);

-- name: lack :one
-- Why he is not cleared for a service type; NULL: he is. $1 provider_id, $2 service_type
SELECT word, missing FROM provider_lack($1, $2);

-- name: requirements_set :value
-- $1 service_types text[], $2 documents by service type as JSON, $3 service types that need a vehicle text[]
SELECT requirements_set($1, $2, $3);

-- name: gates_stale :many
-- Providers to be judged again. $1 how many at most
SELECT gates_stale AS provider_id FROM gates_stale($1);

-- name: provider_state :one
-- $1 user_id
SELECT p.id, p.user_id, g.status, g.online, services_now(g) AS service_types, cleared_now(g) AS cleared_types,
  p.service_types AS registered_types, p.service_radius_m,
  active_job_of(p.id) AS active_job, p.last_lat, p.last_lng, p.located_at
FROM providers p JOIN provider_gate g ON g.provider_id = p.id WHERE p.user_id = $1;

-- name: provider_states :many
-- The same for many. $1 user_ids uuid[]
SELECT p.id, p.user_id, g.status, g.online, services_now(g) AS service_types, cleared_now(g) AS cleared_types,
  p.service_types AS registered_types, p.service_radius_m,
  active_job_of(p.id) AS active_job, p.last_lat, p.last_lng, p.located_at
FROM providers p JOIN provider_gate g ON g.provider_id = p.id WHERE p.user_id = ANY ($1::uuid[]);

-- name: gate_lock :one
-- First lock of a change of status or intent. $1 provider_id
SELECT provider_id, user_id, status, online, status_ver FROM providers_gate_lock($1);

-- name: gate_try :value
-- The same, unless somebody holds it: whose it is, or nothing. $1 provider_id
SELECT user_id FROM provider_gate WHERE provider_id = $1 FOR UPDATE SKIP LOCKED;

-- name: ban :value
-- Why an office has suspended this user as a provider; nothing if it has not. $1 user_id
SELECT suspension_reason FROM providers WHERE user_id = $1 AND status = 'suspended' AND suspension_cause = 'admin';

-- name: suspension_cause :value
-- $1 provider_id
SELECT suspension_cause FROM providers WHERE id = $1;

-- name: status_set :value
-- $1 provider_id, $2 status, $3 reason, $4 cause, $5 provider_uid, $6 actor_id
SELECT providers_set_status($1, $2, $3, $4, $5, $6);

-- name: online_set :value
-- $1 provider_id, $2 online, $3 lat, $4 lng, $5 role, $6 narrowed service types text[]
SELECT providers_set_online($1, $2, $3, $4, $5, $6);

-- name: last_place :one
-- $1 user_id
SELECT last_lat, last_lng FROM providers WHERE user_id = $1;

-- name: seed_users :exec
-- $1 ids uuid[], $2 first_names text[], $3 last_name text
INSERT INTO users (id, first_name, last_name) SELECT id, first_name, $3 FROM unnest($1::uuid[], $2::text[]) AS t(id, first_name);

-- name: seed_providers :exec
-- Approved providers for load tests. $1 ids uuid[], $2 user_ids uuid[], $3 first_names text[], $4 emails text[], $5 phones text[], $6 uids text[]
INSERT INTO providers (id, user_id, first_name, last_name, email, phone_number, service_types, status, provider_uid, approved_at)
SELECT id, user_id, first_name, 'Seeded', email, phone, '{ride}', 'approved', uid, clock_timestamp()
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS t(id, user_id, first_name, email, phone, uid);

-- name: seed_papers :exec
-- What `ride` asks for, approved and without an end, and the gates that follow. $1 provider ids uuid[], $2 user_ids uuid[]
WITH papers AS (
  INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, status, verified_at)
  SELECT gen_random_uuid(), t.id, t.user_id, d, 'seed/' || t.id || '/' || d, 'image/jpeg', 1, '', 'approved', clock_timestamp()
  FROM unnest($1::uuid[], $2::uuid[]) AS t(id, user_id), service_requirements r, unnest(r.documents) d WHERE r.service_type = 'ride'
)
UPDATE provider_gate SET cleared = '{ride}', cleared_by = requirements_word() WHERE provider_id = ANY ($1::uuid[]);
