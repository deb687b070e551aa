-- name: append :value
-- Number and store facts. $1 users uuid[], $2 names text[], $3 bodies json[]
SELECT inbox_append(ARRAY(SELECT ROW(f.user_id, f.name, f.body)::pending_fact
  FROM unnest($1::uuid[], $2::text[], $3::json[]) WITH ORDINALITY AS f(user_id, name, body, i) ORDER BY f.i));

-- name: head :one
-- Where a user's history stands: newest seq, the seq after which all is kept, and its name. $1 user_id uuid
SELECT h.epoch, coalesce((SELECT seq FROM inbox_head WHERE user_id = $1), 0) AS newest,
  coalesce((SELECT min(seq) - 1 FROM events WHERE user_id = $1), (SELECT seq FROM inbox_head WHERE user_id = $1), 0) AS floor
FROM history h;

-- name: heads_beyond :many
-- Whose history goes beyond what he was sent. $1 user_ids uuid[], $2 sent seqs bigint[]
SELECT h.user_id, h.seq FROM unnest($1::uuid[], $2::bigint[]) AS s(user_id, seq) JOIN inbox_head h ON h.user_id = s.user_id AND h.seq > s.seq;

-- name: after :many
-- Events of a user after $2 up to $3, at most $4. $1 user_id uuid
SELECT user_id, seq, name, body, at FROM events WHERE user_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4;

-- name: repeat :many
-- The same, without what another device has acked meanwhile. $1 user_id uuid, $2 after, $3 upto, $4 limit
SELECT user_id, seq, name, body, at FROM events
WHERE user_id = $1 AND seq <= $3 AND seq > greatest($2, coalesce((SELECT acked_seq FROM inbox_marks WHERE user_id = $1), 0))
ORDER BY seq LIMIT $4;

-- name: acked :value
-- The newest seq that any device of the user acked. $1 user_id uuid
SELECT coalesce((SELECT acked_seq FROM inbox_marks WHERE user_id = $1), 0);

-- name: mark_acked :exec
-- $1 user_ids uuid[] sorted, $2 seqs bigint[]
INSERT INTO inbox_marks AS m (user_id, acked_seq) SELECT * FROM unnest($1::uuid[], $2::bigint[])
ON CONFLICT (user_id) DO UPDATE SET acked_seq = greatest(m.acked_seq, excluded.acked_seq);

-- name: socket_open :one
-- $1 user_id uuid, $2 device text, $3 attempt bigint, $4 worker_id text, $5 conn_id uuid, $6 devices allowed int
SELECT word, victims, victim_workers, victim_codes FROM socket_open($1, $2, $3, $4, $5, $6);

-- name: socket_lost :exec
-- $1 conn_ids uuid[], $2 worker_id text
UPDATE sockets SET lost_at = clock_timestamp() WHERE conn_id = ANY ($1::uuid[]) AND lost_at IS NULL AND worker_id = $2;

-- name: sockets_of_worker :many
-- Connections that Postgres believes live on this worker. $1 worker_id text
SELECT conn_id FROM sockets WHERE worker_id = $1 AND lost_at IS NULL;

-- name: sockets_why :many
-- Why connections are not among the living: the same device came back (4409), others took their place (4410), or neither: their worker was
-- taken for dead (1012). $1 conn_ids uuid[], $2 user_ids uuid[], $3 devices text[], $4 devices allowed int[]
SELECT c.conn_id, CASE WHEN s.conn_id <> c.conn_id THEN 4409
  WHEN (SELECT count(*) FROM sockets o WHERE o.user_id = c.user_id AND o.device <> c.device AND o.lost_at IS NULL
        AND (s.conn_id IS NULL OR o.connected_at >= s.connected_at)) >= c.allowed THEN 4410
  ELSE 1012 END AS code
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[]) AS c(conn_id, user_id, device, allowed)
LEFT JOIN sockets s ON s.user_id = c.user_id AND s.device = c.device;

-- name: worker_beat :exec
-- $1 id text
INSERT INTO workers (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET beat_at = clock_timestamp();

-- name: worker_gone :exec
-- A worker leaves in order: its sockets are lost now. $1 id text
WITH gone AS (DELETE FROM workers WHERE id = $1)
UPDATE sockets SET lost_at = clock_timestamp() WHERE worker_id = $1 AND lost_at IS NULL;

-- name: workers_dead :value
-- Bury workers whose beat stopped: their sockets were lost at the last beat. Returns how many sockets.
WITH dead AS (DELETE FROM workers WHERE beat_at < clock_timestamp() - interval '10 s' RETURNING id, beat_at),
lost AS (UPDATE sockets s SET lost_at = dead.beat_at FROM dead WHERE s.worker_id = dead.id AND s.lost_at IS NULL RETURNING 1)
SELECT count(*) FROM lost;

-- name: events_forget :one
-- Of the next $3 users after $4: forget events older than $1 days, $2 of each at most. Returns the last of these users (NULL: there is none)
-- and how many events went. Along the key: an index by age, of tables whose pages are used again, either costs each event its place in it
-- or, by ranges of pages, reads all that is young in pages that the old have left. Of whoever has nothing that is old one row is read.
WITH whose AS (SELECT h.user_id FROM inbox_head h WHERE h.user_id > $4 ORDER BY h.user_id LIMIT $3),
oldest AS (SELECT s.user_id, f.at FROM whose s CROSS JOIN LATERAL (
  SELECT x.at FROM events x WHERE x.user_id = s.user_id ORDER BY x.seq LIMIT 1) f),
old AS (SELECT e.user_id, e.seq FROM oldest o CROSS JOIN LATERAL (
  SELECT x.user_id, x.seq, x.at FROM events x WHERE x.user_id = o.user_id ORDER BY x.seq LIMIT $2) e
  WHERE o.at < clock_timestamp() - make_interval(days => $1) AND e.at < clock_timestamp() - make_interval(days => $1)),
gone AS (DELETE FROM events e USING old WHERE e.user_id = old.user_id AND e.seq = old.seq RETURNING 1)
SELECT (SELECT s.user_id FROM whose s ORDER BY s.user_id DESC LIMIT 1) AS last, (SELECT count(*) FROM gone) AS gone;
