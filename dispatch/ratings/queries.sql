-- name: rating_add :one
-- $1 id, $2 job_id, $3 score, $4 comment, $5 within, $6 how many of the newest a mean is taken over
SELECT word, view, owner, changed FROM ratings_add($1, $2, $3, $4, $5, $6);

-- name: reviews_of :many
-- Of one provider, newest first, as far as the acting user may see them. $1 provider_id, $2 created before, $3 id before, $4 limit
SELECT review_view(r, j.customer_first_name) AS view, r.created_at, r.id FROM ratings r JOIN jobs j ON j.id = r.job_id
WHERE r.provider_id = $1 AND (r.created_at, r.id) < ($2, $3) ORDER BY r.created_at DESC, r.id DESC LIMIT $4;

-- name: provider_known :value
-- Whether there is such a provider, for an admin. $1 provider_id
SELECT EXISTS (SELECT FROM providers WHERE id = $1);
