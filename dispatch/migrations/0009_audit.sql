-- the audit log: who did what to whom, kept for ever and changed by nobody
-- depends: 0008_papers

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

CREATE TABLE audit_log (
  id uuid PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor_id uuid NOT NULL,
  action text NOT NULL CHECK (length(action) BETWEEN 1 AND 100),
  subject text NOT NULL CHECK (length(subject) BETWEEN 1 AND 50),   -- what kind of thing: provider, document, vehicle, job, user, ticket, delivery
  subject_id uuid NOT NULL,
  before json,
  after json,
  reason text,
  request_id text,
  address text
);
CREATE INDEX audit_log_recent ON audit_log (at DESC, id DESC);
CREATE INDEX audit_log_subject ON audit_log (subject_id, at DESC, id DESC);
CREATE INDEX audit_log_actor ON audit_log (actor_id, at DESC, id DESC);

ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_log_read ON audit_log FOR SELECT TO dispatch_app USING (ctx_admin());
CREATE POLICY audit_log_write ON audit_log FOR INSERT TO dispatch_app WITH CHECK (ctx_admin() AND actor_id = ctx_user());
CREATE POLICY audit_log_system ON audit_log FOR SELECT TO dispatch_system USING (true);
GRANT SELECT, INSERT ON audit_log TO dispatch_app;
GRANT SELECT ON audit_log TO dispatch_system;

-- Nobody has the right to change a row; whoever has all rights meets this.
CREATE FUNCTION audit_log_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE insufficient_privilege USING MESSAGE = 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_log_frozen BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_frozen();
CREATE TRIGGER audit_log_kept BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_frozen();
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_frozen;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_kept;

CREATE FUNCTION audit_view(a audit_log) RETURNS json LANGUAGE sql STABLE
RETURN json_strip_nulls(json_build_object('id', a.id, 'at', wire_at(a.at), 'actor_id', a.actor_id, 'action', a.action, 'subject', a.subject,
  'subject_id', a.subject_id, 'before', a.before, 'after', a.after, 'reason', a.reason, 'request_id', a.request_id, 'address', a.address));

RESET ROLE;
REVOKE EXECUTE ON FUNCTION dispatch.audit_log_frozen, dispatch.audit_view FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.audit_view TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.audit_view;
DROP TABLE dispatch.audit_log;
DROP FUNCTION dispatch.audit_log_frozen;
