-- name: user_ensure :one
-- The user of a good token, made at first sight. $1 id uuid, $2 first_name, $3 last_name, $4 phone_number
SELECT locale, blocked FROM users_ensure($1, $2, $3, $4);

-- name: user_me :one
-- $1 id uuid
SELECT id, first_name, last_name, phone_number, locale FROM users WHERE id = $1;

-- name: user_patch :one
-- Change what is given, keep what is NULL. $1 id uuid, $2 first_name, $3 last_name, $4 phone_number, $5 locale
UPDATE users SET first_name = coalesce($2, first_name), last_name = coalesce($3, last_name),
  phone_number = coalesce($4, phone_number), locale = coalesce($5, locale), updated_at = clock_timestamp()
WHERE id = $1 RETURNING id, first_name, last_name, phone_number, locale;

-- name: users_blocked :many
-- Who was blocked within the last hour: handshakes refuse those of before. A worker that was stopped for longer has lost its sockets.
SELECT id FROM users WHERE blocked_at > clock_timestamp() - interval '1 hour';

-- name: idem_begin :one
-- $1 user_id uuid, $2 key text, $3 fingerprint text
SELECT word, status, response FROM idem_begin($1, $2, $3);

-- name: idem_finish :exec
-- $1 user_id uuid, $2 key text, $3 fingerprint text, $4 status smallint, $5 response text
INSERT INTO idem (user_id, key, fingerprint, status, response) VALUES ($1, $2, $3, $4, $5);

-- name: idem_forget :value
-- Forget request ids older than $1 hours, $2 at a time. Returns how many.
WITH old AS (SELECT user_id, key FROM idem WHERE at < clock_timestamp() - make_interval(hours => $1) LIMIT $2),
gone AS (DELETE FROM idem i USING old WHERE i.user_id = old.user_id AND i.key = old.key RETURNING 1)
SELECT count(*) FROM gone;
