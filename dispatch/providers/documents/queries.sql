-- name: uploader :one
-- Who uploads, the day in Bangkok, and how much he has uploaded within the hour. $1 user_id
SELECT p.id, papers_today() AS today, (SELECT count(*) FROM provider_documents d WHERE d.provider_id = p.id
  AND d.uploaded_at > clock_timestamp() - interval '1 hour') AS lately FROM providers p WHERE p.user_id = $1;

-- name: uploads_lately :value
-- $1 provider_id
SELECT count(*) FROM provider_documents d WHERE d.provider_id = $1 AND d.uploaded_at > clock_timestamp() - interval '1 hour';

-- name: upload_begin :exec
-- An object is about to be written. $1 storage_path
INSERT INTO provider_uploads (storage_path) VALUES ($1);

-- name: upload_open :value
-- Whether an upload's object has no row. Waits for the transaction that may be giving it one. $1 storage_path
SELECT true FROM provider_uploads WHERE storage_path = $1 FOR UPDATE;

-- name: upload_end :exec
-- Objects that are gone again. $1 storage_paths text[]
DELETE FROM provider_uploads WHERE storage_path = ANY ($1::text[]);

-- name: uploads_stale :many
-- Take over uploads of more than an hour ago that have no row, for an hour. $1 how many at most
UPDATE provider_uploads u SET started_at = clock_timestamp() FROM (
  SELECT storage_path FROM provider_uploads WHERE started_at < clock_timestamp() - interval '1 hour' ORDER BY started_at LIMIT $1 FOR UPDATE SKIP LOCKED) s
WHERE u.storage_path = s.storage_path RETURNING u.storage_path;

-- name: document_add :value
-- $1 id, $2 provider_id, $3 document_type, $4 storage_path, $5 content_type, $6 size, $7 sha256, $8 expiry_date
SELECT document_add($1, $2, $3, $4, $5, $6, $7, $8);

-- name: documents_own :many
-- Those of a user that stand, then history; newest first. $1 user_id, $2 how many at most
SELECT document_view(d) AS body FROM provider_documents d JOIN providers p ON p.id = d.provider_id WHERE p.user_id = $1
ORDER BY d.replaced_by IS NOT NULL, d.uploaded_at DESC, d.id LIMIT $2;

-- name: documents_of :many
-- The same for an admin. $1 provider_id, $2 how many at most
SELECT document_view(d) AS body FROM provider_documents d WHERE d.provider_id = $1
ORDER BY d.replaced_by IS NOT NULL, d.uploaded_at DESC, d.id LIMIT $2;

-- name: provider_known :value
-- $1 provider_id
SELECT EXISTS (SELECT FROM providers WHERE id = $1);

-- name: document_path :value
-- Of a document that the acting user may see. $1 id, $2 whose it has to be, NULL: anybody's
SELECT storage_path FROM provider_documents WHERE id = $1 AND ($2::uuid IS NULL OR user_id = $2);

-- name: document_file :one
-- $1 id
SELECT storage_path, content_type FROM provider_documents WHERE id = $1;
