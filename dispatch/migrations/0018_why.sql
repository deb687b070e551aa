-- why
-- depends: 0017_performance

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- Why a job was offered to whom: one row for each time that somebody was looked for. For people who ask, kept for days; nothing decides by it.
-- No foreign key: its lock on the job would wait for accepts.
CREATE TABLE match_rounds (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id uuid NOT NULL,
  at timestamptz NOT NULL,
  policy text NOT NULL,
  reason text NOT NULL,
  round int NOT NULL,                                     -- that it made; 0: none
  radius_m int NOT NULL,                                  -- how far it looked
  considered json NOT NULL                                -- [{"id", "outcome", "distance_m"?, "cost_s"?}], nearest first, then those left out
);
CREATE INDEX match_rounds_of ON match_rounds (job_id, id);

ALTER TABLE match_rounds ENABLE ROW LEVEL SECURITY;
ALTER TABLE match_rounds FORCE ROW LEVEL SECURITY;
CREATE POLICY match_rounds_read ON match_rounds FOR SELECT TO dispatch_app USING ((SELECT ctx_admin()));
CREATE POLICY match_rounds_system ON match_rounds TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON match_rounds TO dispatch_app;
GRANT SELECT, INSERT, DELETE ON match_rounds TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;

-- What became of one provider in the rounds of a job: his own lines and nobody else's; the newest, in order.
CREATE FUNCTION match_rounds_mine(p_user uuid, p_job uuid, p_limit int) RETURNS TABLE (at timestamptz, policy text, reason text, round int, mine json)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT m.at, m.policy, m.reason, m.round, m.value FROM (
    SELECT r.id, r.at, r.policy, r.reason, r.round, c.value FROM match_rounds r CROSS JOIN LATERAL json_array_elements(r.considered) AS c(value)
    WHERE ctx_may(p_user) AND r.job_id = p_job AND c.value ->> 'id' = (SELECT g.provider_id::text FROM provider_gate g WHERE g.user_id = p_user)
    ORDER BY r.id DESC LIMIT p_limit) m
  ORDER BY m.id
$$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.match_rounds_mine FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.match_rounds_mine TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.match_rounds_mine;
DROP TABLE dispatch.match_rounds;
