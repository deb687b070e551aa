-- name: accept_job :one
-- The judge, one statement, one round trip. $1 user, $2 job, $3 offer, $4 round, $5 accept_id, $6 key, $7 fingerprint, $8 board, $9 offer_id for
-- the board, $10 distance_m, $11 lat, $12 lng, $13 located_at
SELECT word, status, round, job, facts FROM accept_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: accept_known :one
-- After a lost reply: wait for whoever holds the job, then read whose it is. $1 job_id
SELECT j.round, j.accept_id, j.provider_user_id FROM jobs j WHERE j.id = $1 FOR UPDATE;

-- name: accept_kept :value
-- The answer that was kept under a request id, if it was this request. A statement after the one that waited: what it waited for is
-- seen here. $1 user_id, $2 key, $3 fingerprint
SELECT response::json FROM idem WHERE user_id = $1 AND key = $2 AND fingerprint = $3;

-- name: job_facts :one
-- What the board must know of a job before the judge is asked. $1 job_id
SELECT round, market, status IN ('pending', 'offered') AS open, pickup_lat, pickup_lng FROM jobs WHERE id = $1;
