-- the office: searching providers, and what there is to count
-- depends: 0010_support

-- migrate: apply

GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- Every piece of three characters of a text, in any script. An index over them finds a part of a word without reading the table; the
-- extension that does the like knows letters by the database's locale, and in many there are none in Thai.
-- Its cost is told, or the planner would rather cut up every row of the table than look into the index.
CREATE FUNCTION search_grams(p_text text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 1000
RETURN ARRAY(SELECT DISTINCT substr(p_text, i, 3) FROM generate_series(1, length(p_text) - 2) i);

RESET ROLE;
SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;
CREATE INDEX providers_search ON providers USING gin (search_grams(search_text));
CREATE INDEX users_search ON users USING gin (search_grams(search_text));
CREATE INDEX users_recent ON users (created_at DESC, id DESC);
CREATE INDEX users_roles ON users USING gin (roles) WHERE roles IS NOT NULL;
CREATE INDEX providers_types ON providers USING gin (service_types);
CREATE INDEX providers_recent ON providers (created_at DESC, id DESC);
CREATE INDEX providers_status ON providers (status, created_at DESC, id DESC);
CREATE INDEX providers_approved ON providers (approved_at) WHERE approved_at IS NOT NULL;
CREATE INDEX jobs_completed ON jobs (completed_at) WHERE completed_at IS NOT NULL;

RESET ROLE;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- What stands in LIKE for a part of a text, taken letter by letter.
CREATE FUNCTION search_pattern(p_part text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN '%' || regexp_replace(lower(p_part), '([\\%_])', '\\\1', 'g') || '%';

-- What a part may stand for: numbers are kept with +66 in front, and people type the 0 that stands for it.
CREATE FUNCTION search_local(p_part text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN p_part ~ '^0[0-9]{2,9}$' THEN '+66' || substr(p_part, 2) ELSE p_part END;

-- How to find the newest rows of `p_rows` (a SELECT of rows `t` up to their place in the list) that a part stands in: as $1, or what it may
-- stand for as $2; $3 rows are wanted. A part that many have is found among the newest; one that few have, by the index of pieces; two letters
-- are no piece, and are looked for row by row. The planner cannot know which it is: how often a part occurs is in no statistics.
CREATE FUNCTION search_query(p_rows text, p_part text, p_many boolean) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
  WHEN p_part IS NULL THEN p_rows
  WHEN p_many THEN 'SELECT t.* FROM (' || p_rows || ' ORDER BY t.created_at DESC, t.id DESC LIMIT 2000) t'
    || ' WHERE (t.search_text LIKE search_pattern($1) OR t.search_text LIKE search_pattern($2))'
  ELSE p_rows || ' AND (t.search_text LIKE search_pattern($1) OR t.search_text LIKE search_pattern($2))'
    || CASE WHEN length(p_part) >= 3 THEN
      ' AND (search_grams(t.search_text) @> search_grams(lower($1)) OR search_grams(t.search_text) @> search_grams(lower($2)))' ELSE '' END
  END || ' ORDER BY t.created_at DESC, t.id DESC LIMIT $3';

-- Providers by part of name, phone, e-mail or uid, newest first. Runs past row security after asking for an admin: the planner may not
-- look into an index with a comparison that could leak, and LIKE is one. Planned for the very conditions that were given.
CREATE FUNCTION office_providers(p_search text, p_status text, p_type text, p_online boolean, p_before timestamptz, p_before_id uuid, p_limit int)
RETURNS TABLE (view json, created_at timestamptz, id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp SET enable_seqscan = off AS $$
DECLARE
  local text := search_local(p_search);
  rows text := 'SELECT t.* FROM providers t WHERE (t.created_at, t.id) < ($4, $5)';
  many boolean := false;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  IF p_status IS NOT NULL THEN rows := rows || ' AND t.status = $6'; END IF;
  IF p_type IS NOT NULL THEN rows := rows || ' AND t.service_types @> ARRAY[$7]'; END IF;
  IF p_online IS NOT NULL THEN
    rows := rows || CASE WHEN p_online THEN ' AND' ELSE ' AND NOT' END || ' EXISTS (SELECT FROM provider_gate g WHERE g.provider_id = t.id AND g.online)';
  END IF;
  IF length(p_search) >= 3 THEN
    EXECUTE 'SELECT count(*) >= $3 FROM (' || search_query(rows, p_search, true) || ') f'
      INTO many USING p_search, local, p_limit, p_before, p_before_id, p_status, p_type;
  END IF;
  RETURN QUERY EXECUTE 'SELECT provider_view(f::providers), f.created_at, f.id FROM (' || search_query(rows, p_search, many)
    || ') f ORDER BY f.created_at DESC, f.id DESC' USING p_search, local, p_limit, p_before, p_before_id, p_status, p_type;
END $$;

CREATE FUNCTION office_user(u users) RETURNS json LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp
RETURN json_strip_nulls(json_build_object('id', u.id, 'first_name', u.first_name, 'last_name', u.last_name, 'email', u.email,
  'email_verified', u.email IS NOT NULL AND email_verified(u.id, u.email), 'phone_number', u.phone_number,
  'phone_verified', u.phone_verified_at IS NOT NULL, 'locale', u.locale, 'roles', u.roles, 'blocked_at', wire_at(u.blocked_at),
  'blocked_reason', u.blocked_reason, 'provider_id', (SELECT p.id FROM providers p WHERE p.user_id = u.id), 'created_at', wire_at(u.created_at)));

-- Users by part of name, phone or e-mail, newest first; the same way.
CREATE FUNCTION office_users(p_search text, p_role text, p_blocked boolean, p_before timestamptz, p_before_id uuid, p_limit int)
RETURNS TABLE (view json, created_at timestamptz, id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp SET enable_seqscan = off AS $$
DECLARE
  local text := search_local(p_search);
  rows text := 'SELECT t.* FROM users t WHERE (t.created_at, t.id) < ($4, $5)';
  many boolean := false;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  IF p_role IS NOT NULL THEN rows := rows || ' AND t.roles @> ARRAY[$6]'; END IF;
  IF p_blocked IS NOT NULL THEN rows := rows || CASE WHEN p_blocked THEN ' AND t.blocked_at IS NOT NULL' ELSE ' AND t.blocked_at IS NULL' END; END IF;
  IF length(p_search) >= 3 THEN
    EXECUTE 'SELECT count(*) >= $3 FROM (' || search_query(rows, p_search, true) || ') f'
      INTO many USING p_search, local, p_limit, p_before, p_before_id, p_role;
  END IF;
  RETURN QUERY EXECUTE 'SELECT office_user(f::users), f.created_at, f.id FROM (' || search_query(rows, p_search, many)
    || ') f ORDER BY f.created_at DESC, f.id DESC' USING p_search, local, p_limit, p_before, p_before_id, p_role;
END $$;

-- What an operator asks first when something is wrong: who is alive, and what waits.
CREATE FUNCTION office_health() RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  RETURN json_build_object(
    'workers', (SELECT coalesce(json_agg(json_build_object('id', w.id, 'started_at', wire_at(w.started_at),
       'beat_age_s', round(extract(epoch FROM clock_timestamp() - w.beat_at)::numeric, 1)) ORDER BY w.id), '[]') FROM workers w),
    'queue_waiting', (SELECT count(*) FROM notification_deliveries WHERE status = 'pending'),
    'queue_lag_s', (SELECT coalesce(round(extract(epoch FROM greatest(clock_timestamp() - min(due_at), interval '0'))::numeric, 1), 0)
       FROM notification_deliveries WHERE status = 'pending'),
    'deliveries_dead', (SELECT count(*) FROM notification_deliveries WHERE status = 'dead'),
    'gates_stale', (SELECT count(*) FROM gates_stale(1000)),
    'jobs_overdue', (SELECT count(*) FROM jobs WHERE status IN ('pending', 'offered') AND next_search_at < clock_timestamp() - interval '10 s'));
END $$;

-- What the office is asked about a range of days, first and last included, in Bangkok's days. `growth` compares the providers approved in it with those of as
-- many days before; NULL without any.
CREATE FUNCTION office_analytics(p_from date, p_to date, p_type text, p_status text) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  starts timestamptz := p_from::timestamp AT TIME ZONE 'Asia/Bangkok';
  ends timestamptz := papers_end(p_to);
  people record;
  work record;
  fresh bigint;
  base bigint;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  SELECT count(*) AS total, count(*) FILTER (WHERE p.status IN ('approved', 'active')) AS active,
    count(*) FILTER (WHERE p.status = 'pending_verification') AS waiting, avg(p.rating) AS rating
   INTO people FROM providers p
   WHERE p.created_at < ends AND (p_type IS NULL OR p.service_types @> ARRAY[p_type]) AND (p_status IS NULL OR p.status = p_status);
  SELECT count(*) AS total, coalesce(sum(j.actual_earnings_minor), 0) AS earnings, min(j.currency) AS currency
   INTO work FROM jobs j
   WHERE j.completed_at >= starts AND j.completed_at < ends AND (p_type IS NULL OR j.service_type = p_type)
     AND (p_status IS NULL OR EXISTS (SELECT FROM providers p WHERE p.id = j.provider_id AND p.status = p_status));
  SELECT count(*) FILTER (WHERE p.approved_at >= starts), count(*) FILTER (WHERE p.approved_at < starts) INTO fresh, base FROM providers p
   WHERE p.approved_at >= starts - (ends - starts) AND p.approved_at < ends AND (p_type IS NULL OR p.service_types @> ARRAY[p_type])
     AND (p_status IS NULL OR p.status = p_status);
  RETURN json_strip_nulls(json_build_object('total_providers', people.total, 'active_providers', people.active,
    'pending_verifications', people.waiting, 'average_rating', round(people.rating, 2), 'total_jobs', work.total,
    'total_earnings_minor', work.earnings, 'currency', coalesce(work.currency, 'THB'),
    'growth_rate', CASE WHEN base > 0 THEN round(fresh::numeric / base - 1, 4) END, 'calculated_at', wire_at(clock_timestamp())));
END $$;

-- How things stand at this moment.
CREATE FUNCTION office_statistics() RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  RETURN json_build_object(
    'providers', (SELECT coalesce(json_object_agg(s.status, s.n), '{}') FROM (SELECT status, count(*) AS n FROM provider_gate GROUP BY status) s),
    'providers_online', (SELECT count(*) FROM provider_gate WHERE online),
    'jobs', (SELECT coalesce(json_object_agg(s.status, s.n), '{}') FROM (
      SELECT status, count(*) AS n FROM jobs WHERE status IN ('pending', 'offered', 'accepted', 'arrived', 'in_progress') GROUP BY status) s),
    'tickets_open', (SELECT count(*) FROM support_tickets WHERE status IN ('open', 'in_progress')),
    'documents_waiting', (SELECT count(*) FROM provider_documents WHERE status = 'pending' AND replaced_by IS NULL),
    'vehicles_waiting', (SELECT count(*) FROM provider_vehicles WHERE status = 'pending'),
    'sockets', (SELECT count(*) FROM sockets WHERE lost_at IS NULL));
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.search_grams, dispatch.search_pattern, dispatch.search_local, dispatch.search_query, dispatch.office_providers,
  dispatch.office_user, dispatch.office_users, dispatch.office_health, dispatch.office_analytics, dispatch.office_statistics FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.search_grams, dispatch.search_pattern, dispatch.search_local, dispatch.search_query TO dispatch_app, dispatch_system, dispatch_owner;
GRANT EXECUTE ON FUNCTION dispatch.office_providers, dispatch.office_user, dispatch.office_users, dispatch.office_health, dispatch.office_analytics,
  dispatch.office_statistics TO dispatch_app, dispatch_system;

-- migrate: rollback

DROP FUNCTION dispatch.office_statistics, dispatch.office_analytics, dispatch.office_health, dispatch.office_users, dispatch.office_user,
  dispatch.office_providers, dispatch.search_query, dispatch.search_local, dispatch.search_pattern;
DROP INDEX dispatch.users_search, dispatch.users_recent, dispatch.users_roles, dispatch.providers_search, dispatch.providers_types, dispatch.providers_recent, dispatch.providers_status, dispatch.providers_approved,
  dispatch.jobs_completed;
DROP FUNCTION dispatch.search_grams;
