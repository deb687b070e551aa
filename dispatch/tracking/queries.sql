-- name: watched :one
-- What a watcher's frames need. $1 job_id
SELECT id, market, status, customer_id, provider_user_id, pickup_lat, pickup_lng, dropoff_lat, dropoff_lng, provider_lat, provider_lng, provider_located_at
FROM jobs WHERE id = $1;
