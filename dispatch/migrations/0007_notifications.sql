-- notifications: what people are told besides the app
-- depends: 0006_accept

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

CREATE TABLE notifications (
  id uuid PRIMARY KEY,
  recipient_id uuid NOT NULL REFERENCES users (id),
  type text NOT NULL,
  title text NOT NULL,
  body text NOT NULL,
  data json NOT NULL,
  dedupe_key text NOT NULL,
  read_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (recipient_id, dedupe_key)
);
CREATE INDEX notifications_of ON notifications (recipient_id, created_at DESC, id DESC);
CREATE INDEX notifications_unread ON notifications (recipient_id) WHERE read_at IS NULL;

CREATE TABLE notification_deliveries (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  notification_id uuid NOT NULL REFERENCES notifications (id),
  channel text NOT NULL CHECK (channel IN ('push', 'email', 'sms')),
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'skipped', 'dead')),
  attempts int NOT NULL DEFAULT 0,
  last_error text,
  sent_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (notification_id, channel)
) WITH (fillfactor = 80);
CREATE INDEX notification_deliveries_dead ON notification_deliveries (created_at DESC, id DESC) WHERE status = 'dead';

ALTER TABLE notifications ENABLE ROW LEVEL SECURITY;
ALTER TABLE notifications FORCE ROW LEVEL SECURITY;
ALTER TABLE notification_deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_deliveries FORCE ROW LEVEL SECURITY;
CREATE POLICY notifications_own ON notifications FOR SELECT TO dispatch_app USING (recipient_id = ctx_user());
CREATE POLICY notifications_read ON notifications FOR UPDATE TO dispatch_app USING (recipient_id = ctx_user()) WITH CHECK (recipient_id = ctx_user());
CREATE POLICY notifications_system ON notifications TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY notifications_owner ON notifications FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY notification_deliveries_admin ON notification_deliveries FOR SELECT TO dispatch_app USING (ctx_admin());
CREATE POLICY notification_deliveries_system ON notification_deliveries TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON notifications, notification_deliveries TO dispatch_app;
GRANT UPDATE (read_at) ON notifications TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON notifications, notification_deliveries TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

CREATE FUNCTION notice_view(n notifications) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_strip_nulls(json_build_object('id', n.id, 'type', n.type, 'title', n.title, 'body', n.body, 'data', n.data,
  'read', n.read_at IS NOT NULL, 'read_at', wire_at(n.read_at), 'created_at', wire_at(n.created_at)));

CREATE FUNCTION notice_locales(p_users uuid[]) RETURNS TABLE (user_id uuid, locale text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT u.id, u.locale FROM users u WHERE u.id = ANY (p_users)
$$;

-- Store notifications whose key is new to their recipient, and one delivery for each way out.
CREATE FUNCTION notice_write(p_ids uuid[], p_recipients uuid[], p_types text[], p_titles text[], p_bodies text[], p_datas json[], p_keys text[], p_channels text[])
RETURNS TABLE (user_id uuid, body json) LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  WITH written AS (
    INSERT INTO notifications AS n (id, recipient_id, type, title, body, data, dedupe_key)
    SELECT * FROM unnest(p_ids, p_recipients, p_types, p_titles, p_bodies, p_datas, p_keys)
    ON CONFLICT (recipient_id, dedupe_key) DO NOTHING RETURNING n.*
  ), sent AS (
    INSERT INTO notification_deliveries (notification_id, channel)
    SELECT w.id, c.channel FROM written w JOIN unnest(p_ids, p_channels) AS o(id, channels) ON o.id = w.id
    CROSS JOIN LATERAL string_to_table(o.channels, ' ') AS c(channel)
  )
  SELECT w.recipient_id, json_build_object('notification', notice_view(w)) FROM written w
  JOIN unnest(p_ids) WITH ORDINALITY AS o(id, i) ON o.id = w.id ORDER BY o.i
$$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.notice_view, dispatch.notice_locales, dispatch.notice_write TO dispatch_app, dispatch_system, dispatch_owner;

-- migrate: rollback

DROP FUNCTION dispatch.notice_write, dispatch.notice_locales, dispatch.notice_view;
DROP TABLE dispatch.notification_deliveries, dispatch.notifications;
