-- ratings
-- depends: 0014_wallets

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- One per job, by its customer. Rows are added, never changed.
CREATE TABLE ratings (
  id uuid PRIMARY KEY,
  job_id uuid NOT NULL UNIQUE REFERENCES jobs (id),
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),            -- the provider's, kept beside provider_id so that row policies need no sub-select
  customer_id uuid NOT NULL REFERENCES users (id),
  service_type text NOT NULL CHECK (service_type IN ('ride', 'delivery', 'shopping', 'moving', 'laundry')),
  score smallint NOT NULL CHECK (score BETWEEN 1 AND 5),
  comment text CHECK (length(comment) BETWEEN 1 AND 1000),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ratings_of ON ratings (provider_id, created_at DESC, id DESC);
CREATE INDEX ratings_of_type ON ratings (provider_id, service_type, created_at DESC, id DESC);

-- What the newest ratings come to, per service type; over all types it stands in providers.rating. Written with each rating, under the gate's lock.
CREATE TABLE provider_ratings (
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),
  service_type text NOT NULL,
  rating numeric(3, 2) NOT NULL CHECK (rating BETWEEN 1 AND 5),
  ratings_count bigint NOT NULL CHECK (ratings_count > 0),   -- all there ever were, also those that the mean has left behind
  PRIMARY KEY (provider_id, service_type)
) WITH (fillfactor = 70);

ALTER TABLE ratings ENABLE ROW LEVEL SECURITY;
ALTER TABLE ratings FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_ratings ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_ratings FORCE ROW LEVEL SECURITY;
CREATE POLICY ratings_read ON ratings FOR SELECT TO dispatch_app
  USING (user_id = (SELECT ctx_user()) OR customer_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY ratings_system ON ratings TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY provider_ratings_read ON provider_ratings FOR SELECT TO dispatch_app USING (user_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY provider_ratings_system ON provider_ratings TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON ratings, provider_ratings TO dispatch_app;
GRANT SELECT, INSERT ON ratings TO dispatch_system;
GRANT SELECT, INSERT, UPDATE ON provider_ratings TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

CREATE FUNCTION rating_view(r ratings) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_strip_nulls(json_build_object('id', r.id, 'job_id', r.job_id, 'score', r.score, 'comment', r.comment, 'created_at', wire_at(r.created_at)));

-- What the provider and the office read of it: the customer by his first name only.
CREATE FUNCTION review_view(r ratings, p_first_name text) RETURNS json LANGUAGE sql STABLE PARALLEL SAFE
RETURN json_strip_nulls(json_build_object('id', r.id, 'job_id', r.job_id, 'service_type', r.service_type, 'score', r.score, 'comment', r.comment,
  'customer_first_name', p_first_name, 'at', wire_at(r.created_at)));

-- Write a rating and what the last `p_last` come to. The gate is locked before anything is read that depends on other ratings: of two at
-- once the second counts the first. Words: rated, not_completed, exists, late. `changed`: the provider's view, if his overall rating moved.
CREATE FUNCTION ratings_add(p_id uuid, p_job uuid, p_score int, p_comment text, p_within interval, p_last int,
  OUT word text, OUT view json, OUT owner uuid, OUT changed json)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  j jobs;
  r ratings;
  mean numeric(3, 2);
BEGIN
  SELECT * INTO j FROM jobs WHERE id = p_job;
  PERFORM ctx_require(j.customer_id);
  IF j.status IS DISTINCT FROM 'completed' THEN
    word := 'not_completed';
    RETURN;
  END IF;
  -- Completed is final, so the provider read without a lock is the one.
  PERFORM providers_gate_lock(j.provider_id);
  PERFORM FROM jobs WHERE id = p_job FOR UPDATE;
  IF EXISTS (SELECT FROM ratings WHERE job_id = p_job) THEN
    word := 'exists';
    RETURN;
  END IF;
  IF j.completed_at + p_within < clock_timestamp() THEN
    word := 'late';
    RETURN;
  END IF;
  INSERT INTO ratings (id, job_id, provider_id, user_id, customer_id, service_type, score, comment)
    VALUES (p_id, p_job, j.provider_id, j.provider_user_id, j.customer_id, j.service_type, p_score, p_comment) RETURNING * INTO r;
  INSERT INTO provider_ratings AS k (provider_id, user_id, service_type, rating, ratings_count)
    SELECT r.provider_id, r.user_id, r.service_type, round(avg(n.score), 2), 1 FROM (
      SELECT t.score FROM ratings t WHERE t.provider_id = r.provider_id AND t.service_type = r.service_type
      ORDER BY t.created_at DESC, t.id DESC LIMIT p_last) n
    ON CONFLICT (provider_id, service_type) DO UPDATE SET rating = excluded.rating, ratings_count = k.ratings_count + 1;
  SELECT round(avg(n.score), 2) INTO mean FROM (
    SELECT t.score FROM ratings t WHERE t.provider_id = r.provider_id ORDER BY t.created_at DESC, t.id DESC LIMIT p_last) n;
  UPDATE providers p SET rating = mean, updated_at = clock_timestamp() WHERE p.id = r.provider_id AND p.rating IS DISTINCT FROM mean
    RETURNING provider_view(p) INTO changed;
  view := rating_view(r);
  owner := r.user_id;
  word := 'rated';
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.rating_view, dispatch.review_view, dispatch.ratings_add FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.review_view, dispatch.ratings_add TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.ratings_add, dispatch.review_view, dispatch.rating_view;
DROP TABLE dispatch.provider_ratings, dispatch.ratings;
