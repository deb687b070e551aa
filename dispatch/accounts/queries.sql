-- name: user_ensure :one
-- The user of a good token, made at first sight. $1 id uuid, $2 first_name, $3 last_name, $4 phone_number, $5 email, $6 whether the issuer has verified it
SELECT locale, blocked, roles, valid_after FROM users_ensure($1, $2, $3, $4, $5, $6);

-- name: user_me :one
-- $1 id uuid
SELECT u.id, u.first_name, u.last_name, u.email, u.phone_number, u.locale, email_verified(u.id, u.email) AS email_verified,
  u.phone_verified_at IS NOT NULL AS phone_verified FROM users u WHERE u.id = $1;

-- name: user_patch :one
-- Change what is given, keep what is NULL. $1 id uuid, $2 first_name, $3 last_name, $4 phone_number, $5 locale
UPDATE users u SET first_name = coalesce($2, first_name), last_name = coalesce($3, last_name),
  phone_number = coalesce($4, phone_number), locale = coalesce($5, locale), updated_at = clock_timestamp()
WHERE u.id = $1 RETURNING u.id, u.first_name, u.last_name, u.email, u.phone_number, u.locale, email_verified(u.id, u.email) AS email_verified,
  u.phone_verified_at IS NOT NULL AS phone_verified;

-- name: users_changed :many
-- Whose rights changed within the last hour: handshakes judge newcomers. A worker that was stopped for longer has lost its sockets.
SELECT id, blocked_at IS NOT NULL AS blocked, tokens_valid_after AS valid_after, roles FROM users
WHERE blocked_at > clock_timestamp() - interval '1 hour' OR access_at > clock_timestamp() - interval '1 hour';

-- name: user_contact :one
-- Where a person is reached: only what he has proved to be his. His own address, else the last one that he has proved. $1 user_id
SELECT u.locale, u.first_name, CASE WHEN u.phone_verified_at IS NOT NULL THEN u.phone_number END AS phone_number,
  CASE WHEN email_verified(u.id, u.email) THEN u.email
    ELSE (SELECT v.email FROM verified_emails v WHERE v.user_id = u.id ORDER BY v.verified_at DESC, v.email LIMIT 1) END AS email
FROM users u WHERE u.id = $1;

-- name: user_roles_set :one
-- $1 user_id, $2 roles text[], NULL: as his token says
SELECT known, before FROM users_roles_set($1, $2);

-- name: user_blocked_set :one
-- $1 user_id, $2 blocked boolean, $3 reason
SELECT known, before FROM users_blocked_set($1, $2, $3);

-- name: user_sign_up :exec
-- $1 id, $2 email, $3 first_name, $4 last_name, $5 phone_number, $6 locale, $7 hash of the password
SELECT users_sign_up($1, $2, $3, $4, $5, $6, $7);

-- name: user_by_email :one
-- $1 email, in any case
SELECT u.id, u.email, u.roles, u.blocked_at IS NOT NULL AS blocked, p.hash FROM users u LEFT JOIN passwords p ON p.user_id = u.id WHERE lower(u.email) = lower($1);

-- name: user_email :value
-- $1 user_id uuid
SELECT email FROM users WHERE id = $1;

-- name: reset_ask :exec
-- A job that writes the mail for a new password; for an address that nobody has, one of the same form that finds nobody. $1 email, in any case,
-- $2 entrypoint
INSERT INTO dispatch_queue.pgqueuer (priority, entrypoint, payload, status)
VALUES (10, $2, convert_to(coalesce((SELECT id FROM users WHERE lower(email) = lower($1)), gen_random_uuid())::text, 'UTF8'), 'queued');

-- name: password_still :value
-- Whether the password is still the one that was checked; no other takes its place until the transaction ends. $1 user_id, $2 hash
SELECT true FROM passwords WHERE user_id = $1 AND hash = $2 FOR SHARE;

-- name: password_renew :exec
-- The same password under today's parameters. $1 user_id, $2 old hash, $3 new hash
UPDATE passwords SET hash = $3 WHERE user_id = $1 AND hash = $2;

-- name: password_set :exec
-- $1 user_id, $2 hash
SELECT password_set($1, $2);

-- name: session_open :value
-- $1 session id, $2 user_id, $3 hash of the refresh token, $4 life in seconds
SELECT session_open($1, $2, $3, make_interval(secs => $4));

-- name: session_rotate :one
-- $1 hash of the old token, $2 hash of the new one, $3 life in seconds
SELECT word, user_id, roles, at FROM session_rotate($1, $2, make_interval(secs => $3));

-- name: session_end :exec
-- $1 hash of any refresh token of the session
UPDATE sessions SET ended_at = clock_timestamp(), why = 'signed_out'
WHERE ended_at IS NULL AND id = (SELECT session_id FROM refresh_tokens WHERE hash = $1);

-- name: sessions_end :value
-- $1 user_id, $2 why
SELECT sessions_end($1, $2);

-- name: attempts_take :value
-- $1 subjects bytea[], $2 limits int[], $3 window in seconds
SELECT attempts_take($1, $2, make_interval(secs => $3));

-- name: attempts_return :exec
-- $1 subjects bytea[]
SELECT attempts_return($1);

-- name: email_ask :value
-- $1 id, $2 user_id, $3 email, $4 purpose, $5 hash of the token, $6 life in seconds
SELECT email_ask($1, $2, $3, $4, $5, make_interval(secs => $6));

-- name: email_use :one
-- $1 hash of the token, $2 purpose
SELECT word, user_id, email, fresh FROM email_use($1, $2);

-- name: email_look :value
-- What email_use would say of a token now: ok | unknown (also used) | expired. $1 hash of the token, $2 purpose
SELECT coalesce((SELECT CASE WHEN e.used_at IS NOT NULL THEN 'unknown' WHEN e.expires_at <= clock_timestamp() THEN 'expired' ELSE 'ok' END
  FROM email_tokens e WHERE e.hash = $1 AND e.purpose = $2), 'unknown');

-- name: email_handle :one
-- What became of the address that a handle is for. $1 id
SELECT e.user_id, e.email, email_verified(e.user_id, e.email) AS verified FROM email_tokens e WHERE e.id = $1 AND e.purpose = 'verify';

-- name: email_secret :value
-- The address of a token that can still be used, for the mail that carries it. $1 id, $2 purpose
SELECT e.email FROM email_tokens e WHERE e.id = $1 AND e.purpose = $2 AND e.used_at IS NULL AND e.expires_at > clock_timestamp();

-- name: phone_code_ask :exec
-- $1 user_id, $2 id, $3 phone_number, $4 life in seconds
SELECT phone_code_ask($1, $2, $3, make_interval(secs => $4));

-- name: phone_code_try :one
-- $1 user_id, $2 tries that a code has
SELECT word, id, left_s FROM phone_code_try($1, $2);

-- name: phone_code_use :value
-- $1 user_id, $2 id
SELECT phone_code_use($1, $2);

-- name: phone_secret :value
-- The number of a code that can still be used. $1 id
SELECT phone_number FROM phone_codes WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp();

-- name: admin_of :one
-- The user of an address, locked, and whether he has proved it. $1 email
SELECT id, roles, email_verified(id, email) AS proved FROM users WHERE lower(email) = lower($1) FOR NO KEY UPDATE;

-- name: email_vouch :exec
-- The operator says so. $1 user_id, $2 email
INSERT INTO verified_emails (user_id, email) VALUES ($1, lower($2)) ON CONFLICT DO NOTHING;

-- name: accounts_forget :value
-- Forget what can decide nothing any more, $1 rows of a kind at a time. Returns how many went.
SELECT accounts_forget($1);

-- name: idem_begin :one
-- $1 user_id uuid, $2 key text, $3 fingerprint text
SELECT word, status, response FROM idem_begin($1, $2, $3);

-- name: idem_finish :exec
-- $1 user_id uuid, $2 key text, $3 fingerprint text, $4 status smallint, $5 response text
INSERT INTO idem (user_id, key, fingerprint, status, response) VALUES ($1, $2, $3, $4, $5);

-- name: idem_forget :value
-- Forget request ids older than $1 hours, $2 at a time. Returns how many. Nobody changes such a row, so that it stays where it was found.
-- An array and not a join: how many there will be no plan knows, and a join would read the whole table for them.
WITH gone AS (DELETE FROM idem WHERE ctid = ANY (ARRAY(
  SELECT i.ctid FROM idem i WHERE i.at < clock_timestamp() - make_interval(hours => $1) LIMIT $2)) RETURNING 1)
SELECT count(*) FROM gone;
