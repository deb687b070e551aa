-- name: recipient_locales :many
-- Each user's language. $1 user_ids uuid[]
SELECT user_id, locale FROM notice_locales($1);

-- name: notice_write :many
-- Store notifications whose key is new, with their deliveries and jobs; the rows to tell live. $1 ids uuid[], $2 recipients uuid[],
-- $3 types text[], $4 locales text[], $5 titles text[], $6 bodies text[], $7 datas json[], $8 keys text[],
-- $9 channels text[] (words with blanks between), $10 priorities int[]
SELECT user_id, body FROM notice_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: notices_page :many
-- Own notifications before a place in the list, newest first. $1 user_id uuid, $2 only unread boolean, $3 before created_at timestamptz,
-- $4 and its id uuid, $5 limit
SELECT n.id, n.created_at, notice_view(n) AS view FROM notifications n
WHERE n.recipient_id = $1 AND (NOT $2 OR n.read_at IS NULL) AND (n.created_at, n.id) < ($3, $4)
ORDER BY n.created_at DESC, n.id DESC LIMIT $5;

-- name: notices_unread :value
-- How many own notifications are unread, counted to $2 at most. $1 user_id uuid
SELECT count(*) FROM (SELECT FROM notifications WHERE recipient_id = $1 AND read_at IS NULL LIMIT $2) AS few;

-- name: notice_read :value
-- Read one of the own; the first time stays. No row: it is another's, or none. $1 id uuid, $2 user_id uuid
UPDATE notifications n SET read_at = coalesce(n.read_at, clock_timestamp()) WHERE n.id = $1 AND n.recipient_id = $2 RETURNING notice_view(n);

-- name: notices_read_all :value
-- Read all of the own. Returns how many were unread. $1 user_id uuid
WITH read AS (UPDATE notifications SET read_at = clock_timestamp() WHERE recipient_id = $1 AND read_at IS NULL RETURNING 1)
SELECT count(*) FROM read;

-- name: device_register :value
-- $1 new id uuid, $2 user_id uuid, $3 kind, $4 address, $5 p256dh, $6 auth, $7 name, $8 how many a user may have
SELECT device_register($1, $2, $3, $4, $5, $6, $7, $8);

-- name: devices_of :many
-- A user's devices, the newest first. $1 user_id uuid
SELECT id, kind, address, p256dh, auth, name, created_at, registered_at FROM push_devices WHERE user_id = $1 ORDER BY registered_at DESC, id DESC;

-- name: device_drop :value
-- $1 id uuid, $2 user_id uuid
DELETE FROM push_devices WHERE id = $1 AND user_id = $2 RETURNING id;

-- name: device_gone :exec
-- The service does not know this address any more, unless it was registered again since. $1 id uuid, $2 address
DELETE FROM push_devices WHERE id = $1 AND address = $2;

-- name: delivery_claim :one
-- $1 id uuid, $2 lease uuid, $3 seconds that the lease lasts, $4 tries in all
SELECT word, wait_s, delivery, notice FROM delivery_claim($1, $2, $3, $4);

-- name: delivery_settle :value
-- $1 id uuid, $2 lease uuid, $3 status, $4 error, $5 reached uuid[], $6 seconds to the next try, $7 whether the try counts
SELECT delivery_settle($1, $2, $3, $4, $5, $6, $7);

-- name: deliveries_rescue :value
-- $1 seconds overdue, $2 limit
SELECT deliveries_rescue($1, $2);

-- name: deliveries_page :many
-- Deliveries before a place in the list, newest first, for admins: the newest of each channel, then of those, so that an index leads to all of
-- them whatever the planner thinks. $1 channel or NULL, $2 before created_at timestamptz, $3 and its id uuid, $4 limit
SELECT d.id, d.created_at, (SELECT delivery_view(d::notification_deliveries, n) FROM notifications n WHERE n.id = d.notification_id) AS view FROM (
  SELECT o.* FROM unnest('{push,email,sms}'::text[]) c(channel) CROSS JOIN LATERAL (SELECT * FROM notification_deliveries d
    WHERE d.channel = c.channel AND (d.created_at, d.id) < ($2, $3) ORDER BY d.created_at DESC, d.id DESC LIMIT $4) o
  WHERE $1::text IS NULL OR c.channel = $1 ORDER BY o.created_at DESC, o.id DESC LIMIT $4) d ORDER BY d.created_at DESC, d.id DESC;

-- name: deliveries_in :many
-- Those in one status. $1 status, $2 channel or NULL, $3 before created_at timestamptz, $4 and its id uuid, $5 limit
SELECT d.id, d.created_at, (SELECT delivery_view(d::notification_deliveries, n) FROM notifications n WHERE n.id = d.notification_id) AS view FROM (
  SELECT o.* FROM unnest('{push,email,sms}'::text[]) c(channel) CROSS JOIN LATERAL (SELECT * FROM notification_deliveries d
    WHERE d.status = $1 AND d.channel = c.channel AND (d.created_at, d.id) < ($3, $4) ORDER BY d.created_at DESC, d.id DESC LIMIT $5) o
  WHERE $2::text IS NULL OR c.channel = $2 ORDER BY o.created_at DESC, o.id DESC LIMIT $5) d ORDER BY d.created_at DESC, d.id DESC;

-- name: delivery_requeue :value
-- $1 id uuid
SELECT delivery_requeue($1);

-- name: notices_forget :value
-- Forget notifications older than $1 days with their deliveries, $2 at a time. Returns how many. Along the key, whose ids begin with the time.
-- An array and not a join: how many there will be no plan knows, and a join would read the whole table for them.
WITH oldest AS (SELECT id, created_at FROM notifications ORDER BY id LIMIT $2),
old AS (SELECT id FROM oldest WHERE created_at < clock_timestamp() - make_interval(days => $1)),
ways AS (DELETE FROM notification_deliveries WHERE notification_id = ANY (ARRAY(SELECT id FROM old))),
gone AS (DELETE FROM notifications WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING 1)
SELECT count(*) FROM gone;

-- name: queue_forget :value
-- Forget what the queue noted of jobs more than $1 days ago, and jobs parked since then, $2 at a time. Returns how many notes.
WITH old AS (SELECT id FROM dispatch_queue.pgqueuer_log WHERE created < clock_timestamp() - make_interval(days => $1) LIMIT $2),
counts AS (DELETE FROM dispatch_queue.pgqueuer_statistics WHERE created < clock_timestamp() - make_interval(days => $1)),
parked AS (DELETE FROM dispatch_queue.pgqueuer WHERE status = 'failed' AND updated < clock_timestamp() - make_interval(days => $1)),
gone AS (DELETE FROM dispatch_queue.pgqueuer_log WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING 1)
SELECT count(*) FROM gone;
