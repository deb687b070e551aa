-- support: tickets and replies
-- depends: 0009_audit

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

CREATE TABLE support_tickets (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id),
  category text NOT NULL CHECK (category IN ('account', 'documents', 'job', 'payment', 'safety', 'app', 'other')),
  subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 200),
  body text NOT NULL CHECK (length(body) BETWEEN 1 AND 4000),
  job_id uuid REFERENCES jobs (id),
  status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'resolved', 'closed')),
  handler_id uuid REFERENCES users (id),                  -- the admin who last answered or moved it
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX support_tickets_of ON support_tickets (user_id, created_at DESC, id DESC);
CREATE INDEX support_tickets_recent ON support_tickets (created_at DESC, id DESC);
CREATE INDEX support_tickets_status ON support_tickets (status, created_at DESC, id DESC);

CREATE TABLE ticket_replies (
  id uuid PRIMARY KEY,
  ticket_id uuid NOT NULL REFERENCES support_tickets (id),
  user_id uuid NOT NULL REFERENCES users (id),            -- the ticket's owner, kept beside it so that row policies need no sub-select
  author_id uuid NOT NULL REFERENCES users (id),
  staff boolean NOT NULL,
  body text NOT NULL CHECK (length(body) BETWEEN 1 AND 4000),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ticket_replies_of ON ticket_replies (ticket_id, created_at, id);

ALTER TABLE support_tickets ENABLE ROW LEVEL SECURITY;
ALTER TABLE support_tickets FORCE ROW LEVEL SECURITY;
ALTER TABLE ticket_replies ENABLE ROW LEVEL SECURITY;
ALTER TABLE ticket_replies FORCE ROW LEVEL SECURITY;
CREATE POLICY support_tickets_read ON support_tickets FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY support_tickets_open ON support_tickets FOR INSERT TO dispatch_app WITH CHECK (user_id = ctx_user() AND status = 'open');
CREATE POLICY support_tickets_change ON support_tickets FOR UPDATE TO dispatch_app
  USING (user_id = ctx_user() OR ctx_admin()) WITH CHECK (user_id = ctx_user() OR ctx_admin());
CREATE POLICY support_tickets_owner ON support_tickets FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY ticket_replies_read ON ticket_replies FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY ticket_replies_write ON ticket_replies FOR INSERT TO dispatch_app
  WITH CHECK (author_id = ctx_user() AND ((NOT staff AND user_id = ctx_user()) OR (staff AND ctx_admin()))
    AND user_id = (SELECT t.user_id FROM support_tickets t WHERE t.id = ticket_id));
CREATE POLICY support_tickets_system ON support_tickets FOR SELECT TO dispatch_system USING (true);
GRANT SELECT ON support_tickets TO dispatch_system;
GRANT SELECT ON support_tickets, ticket_replies TO dispatch_app;
GRANT INSERT (id, user_id, category, subject, body, job_id) ON support_tickets TO dispatch_app;
GRANT UPDATE (status, handler_id, updated_at) ON support_tickets TO dispatch_app;
GRANT INSERT ON ticket_replies TO dispatch_app;

-- Computed by whoever reads, under his own row security: what the policies hide is not in it.
CREATE FUNCTION ticket_view(t support_tickets) RETURNS json LANGUAGE sql STABLE
RETURN json_strip_nulls(json_build_object('id', t.id, 'user_id', t.user_id, 'category', t.category, 'subject', t.subject, 'body', t.body,
  'job_id', t.job_id, 'status', t.status, 'created_at', wire_at(t.created_at), 'updated_at', wire_at(t.updated_at)));
CREATE FUNCTION ticket_reply_view(r ticket_replies) RETURNS json LANGUAGE sql STABLE
RETURN json_build_object('id', r.id, 'staff', r.staff, 'body', r.body, 'created_at', wire_at(r.created_at));

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- Whom to tell of a reply in a ticket that nobody has taken up yet: those whom the office has made admins, the newest few.
CREATE FUNCTION support_office(p_limit int) RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT u.id FROM users u WHERE u.roles @> '{admin}' AND u.blocked_at IS NULL ORDER BY u.created_at DESC, u.id DESC LIMIT p_limit
$$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.support_office FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.support_office TO dispatch_app;
REVOKE EXECUTE ON FUNCTION dispatch.ticket_view, dispatch.ticket_reply_view FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.ticket_view, dispatch.ticket_reply_view TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.support_office, dispatch.ticket_view, dispatch.ticket_reply_view;
DROP TABLE dispatch.ticket_replies, dispatch.support_tickets;
