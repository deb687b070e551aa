-- name: write :exec
-- $1 id, $2 actor_id, $3 action, $4 subject, $5 subject_id, $6 before json, $7 after json, $8 reason, $9 request_id, $10 address
INSERT INTO audit_log (id, actor_id, action, subject, subject_id, before, after, reason, request_id, address)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
