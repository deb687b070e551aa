-- name: ticket_open :value
-- $1 id, $2 user_id, $3 category, $4 subject, $5 body, $6 job_id
INSERT INTO support_tickets AS t (id, user_id, category, subject, body, job_id) VALUES ($1, $2, $3, $4, $5, $6) RETURNING ticket_view(t);

-- name: ticket_lock :one
-- $1 id
SELECT id, user_id, status, subject, handler_id FROM support_tickets WHERE id = $1 FOR UPDATE;

-- name: ticket_view :value
-- $1 id
SELECT ticket_view(t) FROM support_tickets t WHERE id = $1;

-- name: ticket_replies :many
-- The newest replies of a ticket, oldest first. $1 ticket_id, $2 how many
SELECT view FROM (SELECT ticket_reply_view(r) AS view, r.created_at, r.id FROM ticket_replies r WHERE ticket_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2) newest
ORDER BY created_at, id;

-- name: tickets_of :many
-- Own tickets, newest first. $1 user_id, $2 status or NULL, $3 created before, $4 id before, $5 limit
SELECT ticket_view(t) AS view, created_at, id FROM support_tickets t
WHERE user_id = $1 AND ($2::text IS NULL OR status = $2) AND (created_at, id) < ($3, $4)
ORDER BY created_at DESC, id DESC LIMIT $5;

-- name: tickets_all :many
-- Everybody's, for admins. $1 created before, $2 id before, $3 limit
SELECT ticket_view(t) AS view, created_at, id FROM support_tickets t
WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3;

-- name: tickets_in :many
-- Everybody's in one status, for admins. $1 status, $2 created before, $3 id before, $4 limit
SELECT ticket_view(t) AS view, created_at, id FROM support_tickets t
WHERE status = $1 AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4;

-- name: reply_add :value
-- $1 id, $2 ticket_id, $3 owner's user_id, $4 author_id, $5 staff, $6 body
INSERT INTO ticket_replies AS r (id, ticket_id, user_id, author_id, staff, body) VALUES ($1, $2, $3, $4, $5, $6) RETURNING ticket_reply_view(r);

-- name: ticket_touch :exec
-- $1 id, $2 status, $3 handler_id or NULL: unchanged
UPDATE support_tickets SET status = $2, handler_id = coalesce($3, handler_id), updated_at = clock_timestamp() WHERE id = $1;

-- name: office :many
-- Whom to tell of a reply that nobody has taken up yet. $1 how many
SELECT support_office AS user_id FROM support_office($1);
