-- rounds: searching, offering, declining, lapsing, releasing, and what a user sees of it all
-- depends: 0004_jobs

-- migrate: apply

GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

CREATE FUNCTION offer_withdrawn(p_user uuid, p_offer uuid, p_job uuid, p_reason text) RETURNS pending_fact
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ROW(p_user, 'offer.withdrawn', json_build_object('offer_id', p_offer, 'job_id', p_job, 'reason', p_reason))::pending_fact;

-- Take jobs whose next action is due (or the one asked for) on lease, so that of many workers one searches. No leader: whoever
-- dies with a lease loses it when it runs out. Two searches of one job would hold providers against each other, and the nearest would be
-- passed over. `excluded`: providers who answered this job already, or let it lapse a moment ago.
-- `silent`: those who ever let it lapse.
CREATE FUNCTION jobs_due(p_job uuid, p_limit int, p_lease interval, p_markets text[], p_cooldowns_s double precision[])
RETURNS TABLE (job_id uuid, market text, service_type service_name, status job_status, round not_negative, pickup_lat latitude, pickup_lng longitude,
               customer_id uuid, expired boolean, lapsed boolean, waiting boolean, excluded uuid[], silent uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  due uuid[];
  at timestamptz := clock_timestamp();
BEGIN
  -- Two statements, each with its own index: one condition for both would read every open job. So may an index of all that is open, which a
  -- table that nobody has analysed yet makes look small: what is asked of one job asks for its key alone.
  IF p_job IS NULL THEN
    SELECT array_agg(d.id) INTO due FROM (
      SELECT j.id FROM jobs j WHERE j.status IN ('pending', 'offered') AND j.next_search_at <= at AND coalesce(j.searched_until <= at, true)
      ORDER BY j.next_search_at LIMIT p_limit FOR UPDATE SKIP LOCKED) d;
  ELSE
    SELECT array_agg(d.id) INTO due FROM (
      SELECT j.id, j.status, j.searched_until FROM jobs j WHERE j.id = p_job FOR UPDATE SKIP LOCKED) d
    WHERE d.status IN ('pending', 'offered') AND coalesce(d.searched_until <= at, true);
  END IF;
  IF due IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH taken AS (
    UPDATE jobs j SET next_search_at = CASE WHEN j.offer_deadline > at THEN j.offer_deadline ELSE at + p_lease END,
      searched_until = CASE WHEN j.offer_deadline > at THEN NULL ELSE at + p_lease END
    WHERE j.id = ANY (due) RETURNING j.*
  )
  SELECT t.id, t.market, t.service_type, t.status, t.round, t.pickup_lat, t.pickup_lng, t.customer_id,
    t.expires_at <= clock_timestamp(),
    coalesce(t.offer_deadline <= clock_timestamp(), false),
    -- No EXISTS, for the same reason: it may become a table of all live offers, made anew for each search.
    (SELECT true FROM offers o WHERE o.job_id = t.id AND o.status = 'live' LIMIT 1) IS NOT NULL,
    ARRAY(SELECT DISTINCT o.provider_id FROM offers o WHERE o.job_id = t.id
          AND (o.status IN ('declined', 'accepted') OR o.responded_at > clock_timestamp()
            - make_interval(secs => coalesce(p_cooldowns_s[array_position(p_markets, t.market)], 0)))),
    ARRAY(SELECT DISTINCT o.provider_id FROM offers o WHERE o.job_id = t.id AND o.status = 'expired')
  FROM taken t;
END $$;

-- Make the next round: lock the gates, then the job, and only then look who is eligible (I4: active, idle, of the type, in reach,
-- with a living socket, at this very commit). A gate that somebody holds is a provider about to change: skipped, not awaited.
-- No round: the search goes on among others; without candidates it is over, and comes again after `p_again`, or at once when it is `woken`, as
-- somebody came meanwhile whom it may have missed. Words: "offered", "nobody", "closed" (no longer open, another round, or a live round stands).
CREATE FUNCTION offers_create(p_job uuid, p_round int, p_offers uuid[], p_providers uuid[], p_distances int[], p_ttl interval,
  p_at_once int, p_again interval, p_cooldown interval, OUT word text, OUT offered uuid[], OUT offered_to uuid[], OUT round int, OUT facts fact[],
  OUT woken boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  locked uuid[];
  j jobs;
  was text;
  glance json;
  made pending_fact[];
  deadline timestamptz;
BEGIN
  offered := '{}'; offered_to := '{}'; facts := '{}'; woken := false;
  SELECT array_agg(g.provider_id) INTO locked FROM (
    SELECT provider_id FROM provider_gate WHERE provider_id = ANY (p_providers) AND open
    ORDER BY provider_id FOR NO KEY UPDATE SKIP LOCKED) g;
  SELECT * INTO j FROM jobs WHERE id = p_job FOR UPDATE;
  IF NOT FOUND OR j.status NOT IN ('pending', 'offered') OR j.round <> p_round OR j.expires_at <= clock_timestamp()
     OR EXISTS (SELECT FROM offers WHERE job_id = p_job AND status = 'live') THEN
    word := 'closed';
    RETURN;
  END IF;
  was := j.status;
  glance := job_glance(j);
  deadline := clock_timestamp() + p_ttl;
  WITH eligible AS (
    SELECT c.offer_id, c.provider_id, c.distance_m, p.user_id, c.i
    FROM unnest(p_offers, p_providers, p_distances) WITH ORDINALITY AS c(offer_id, provider_id, distance_m, i)
    JOIN providers p ON p.id = c.provider_id JOIN provider_gate g ON g.provider_id = p.id
    WHERE c.provider_id = ANY (locked) AND j.service_type = ANY (services_now(g)) AND c.distance_m <= p.service_radius_m
      AND p.user_id <> j.customer_id AND payment_fits(j, p.user_id)
      AND NOT EXISTS (SELECT FROM jobs b WHERE b.provider_id = p.id AND b.status IN ('accepted', 'arrived', 'in_progress'))
      AND NOT EXISTS (SELECT FROM offers o WHERE o.job_id = p_job AND o.provider_id = p.id
                      AND (o.status IN ('declined', 'accepted') OR o.responded_at > clock_timestamp() - p_cooldown))
      AND EXISTS (SELECT FROM sockets s JOIN workers w ON w.id = s.worker_id
                  WHERE s.user_id = p.user_id AND (s.lost_at IS NULL OR s.lost_at > clock_timestamp() - interval '5 s')
                    AND w.beat_at > clock_timestamp() - interval '5 s')
  ), made_offers AS (
    INSERT INTO offers AS o (offer_id, job_id, round, provider_id, provider_user_id, slot, status, pickup_distance_m, expires_at)
    SELECT e.offer_id, p_job, j.round + 1, e.provider_id, e.user_id,
      CASE WHEN p_at_once > 0 THEN (SELECT min(s) FROM generate_series(0, p_at_once - 1) s
        WHERE NOT EXISTS (SELECT FROM offers l WHERE l.provider_id = e.provider_id AND l.slot = s AND l.status = 'live')) END,
      'live', e.distance_m, deadline
    FROM eligible e
    WHERE p_at_once = 0 OR (SELECT count(*) FROM offers l WHERE l.provider_id = e.provider_id AND l.status = 'live') < p_at_once
    ORDER BY e.i
    ON CONFLICT DO NOTHING
    RETURNING o.*
  )
  SELECT array_agg(ROW(m.provider_user_id, 'offer.created', offer_view(m, glance))::pending_fact), array_agg(m.offer_id), array_agg(m.provider_id)
    INTO made, offered, offered_to FROM made_offers m;
  IF made IS NULL THEN
    offered := '{}'; offered_to := '{}';
    word := 'nobody';
    -- With candidates who did not fit the search goes on, and its lease stands; without any this is its end.
    IF cardinality(p_providers) = 0 THEN
      woken := coalesce(j.next_search_at < j.searched_until, false);
      UPDATE jobs SET next_search_at = CASE WHEN woken THEN next_search_at ELSE least(clock_timestamp() + p_again, expires_at) END, searched_until = NULL
        WHERE id = p_job;
    END IF;
    RETURN;
  END IF;
  UPDATE jobs SET status = 'offered', round = j.round + 1, version = version + 1, offer_deadline = deadline,
    next_search_at = least(deadline, expires_at), searched_until = NULL WHERE id = p_job RETURNING * INTO j;
  INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_role) VALUES (j.id, j.version, was, 'offered', j.round, 'system');
  facts := inbox_append(made || ROW(j.customer_id, 'job.updated', json_build_object('job', job_view(j, false)))::pending_fact);
  round := j.round;
  word := 'offered';
END $$;

-- Close a round whose deadline has passed: the exact complement of accept's check, on the same clock.
CREATE FUNCTION offers_lapse(p_job uuid) RETURNS fact[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  j jobs;
  told pending_fact[];
BEGIN
  SELECT * INTO j FROM jobs WHERE id = p_job FOR UPDATE;
  IF NOT FOUND OR j.status NOT IN ('pending', 'offered') OR j.offer_deadline IS NULL OR j.offer_deadline > clock_timestamp() THEN
    RETURN '{}';
  END IF;
  SELECT array_agg(offer_withdrawn(s.provider_user_id, s.offer_id, p_job, 'expired')) INTO told FROM offers_settle(p_job, 'expired', 'expired') s;
  UPDATE jobs SET offer_deadline = NULL, next_search_at = clock_timestamp(), searched_until = NULL WHERE id = p_job;
  RETURN coalesce(inbox_append(told), '{}');
END $$;

-- Settle what is left of a job that has found its provider or its end: the losers' offers, and what else was offered to the winner before he
-- won it (while he has it nobody makes him an offer); jobs left without a live offer by that come back in `wake`. All jobs that this touches
-- are locked by id before any of it.
CREATE FUNCTION offers_close(p_job uuid, OUT facts fact[], OUT wake uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  j jobs;
  why text;
  told pending_fact[];
  revoked pending_fact[];
BEGIN
  facts := '{}'; wake := '{}';
  PERFORM FROM jobs l WHERE l.id IN (
    SELECT p_job UNION SELECT o.job_id FROM jobs w JOIN offers o ON o.provider_id = w.provider_id AND o.status = 'live' WHERE w.id = p_job)
    ORDER BY l.id FOR UPDATE;
  SELECT * INTO j FROM jobs WHERE id = p_job;
  IF NOT FOUND OR j.status IN ('pending', 'offered') THEN
    RETURN;
  END IF;
  why := CASE WHEN j.status = 'cancelled' THEN 'cancelled' ELSE 'taken' END;
  SELECT array_agg(offer_withdrawn(s.provider_user_id, s.offer_id, p_job, why)) INTO told FROM offers_settle(p_job, 'withdrawn', why) s;
  IF j.status IN ('accepted', 'arrived', 'in_progress') THEN
    SELECT v.told, v.wake INTO revoked, wake FROM offers_void(j.provider_id, 'revoked') v;
  END IF;
  facts := inbox_append(told || revoked);
END $$;

-- What a dead worker left for `offers_close`: jobs that have an end or a provider but still live offers, and jobs whose provider still holds
-- live offers of others.
CREATE FUNCTION offers_left_open(p_limit int) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT o.job_id FROM offers o JOIN jobs j ON j.id = o.job_id
  WHERE o.status = 'live' AND j.status NOT IN ('pending', 'offered')
  UNION
  SELECT b.id FROM offers o JOIN jobs b ON b.provider_id = o.provider_id AND b.status IN ('accepted', 'arrived', 'in_progress')
  WHERE o.status = 'live' LIMIT p_limit
$$;

-- Withdraw a provider's live offers (won another job, went offline, was suspended). Jobs are locked by id; a job left without a live offer is
-- searched again at once: its id comes back in `wake`.
CREATE FUNCTION offers_void(p_provider uuid, p_reason text, OUT told pending_fact[], OUT wake uuid[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  ids uuid[];
BEGIN
  PERFORM ctx_require((SELECT user_id FROM provider_gate WHERE provider_id = p_provider));
  SELECT array_agg(l.id) INTO ids FROM (
    SELECT j.id FROM jobs j WHERE j.id IN (SELECT o.job_id FROM offers o WHERE o.provider_id = p_provider AND o.status = 'live')
    ORDER BY j.id FOR UPDATE) l;
  WITH voided AS (
    UPDATE offers o SET status = 'withdrawn', reason = p_reason, responded_at = clock_timestamp()
    WHERE o.provider_id = p_provider AND o.status = 'live' AND o.job_id = ANY (ids) RETURNING o.*
  )
  SELECT coalesce(array_agg(offer_withdrawn(v.provider_user_id, v.offer_id, v.job_id, p_reason)), '{}') INTO told FROM voided v;
  WITH woken AS (
    UPDATE jobs j SET next_search_at = clock_timestamp(), searched_until = NULL, offer_deadline = NULL
    WHERE j.id = ANY (ids) AND j.status IN ('pending', 'offered') AND NOT EXISTS (SELECT FROM offers o WHERE o.job_id = j.id AND o.status = 'live')
    RETURNING j.id
  )
  SELECT coalesce(array_agg(w.id), '{}') INTO wake FROM woken w;
END $$;

-- Words: "declined" (also when asked again), "no_offer", or why it is no longer his to decline: "taken", "cancelled", "expired".
CREATE FUNCTION offers_decline(p_user uuid, p_offer uuid, p_reason text, OUT word text, OUT job_id uuid, OUT exhausted boolean, OUT facts fact[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  j jobs;
  o offers;
BEGIN
  PERFORM ctx_require(p_user);
  exhausted := false;
  facts := '{}';
  SELECT f.job_id INTO job_id FROM offers f WHERE f.offer_id = p_offer AND f.provider_user_id = p_user;
  IF NOT FOUND THEN
    word := 'no_offer';
    RETURN;
  END IF;
  SELECT * INTO j FROM jobs WHERE id = job_id FOR UPDATE;
  SELECT * INTO o FROM offers f WHERE f.offer_id = p_offer;
  IF o.status = 'declined' THEN
    word := 'declined';
  ELSIF j.status = 'cancelled' THEN
    word := 'cancelled';
  ELSIF j.status NOT IN ('pending', 'offered') THEN
    word := 'taken';
  ELSIF o.status <> 'live' OR o.expires_at <= clock_timestamp() THEN
    word := 'expired';
  ELSE
    UPDATE offers SET status = 'declined', reason = p_reason, responded_at = clock_timestamp() WHERE offer_id = p_offer;
    IF NOT EXISTS (SELECT FROM offers f WHERE f.job_id = j.id AND f.status = 'live') THEN
      UPDATE jobs SET next_search_at = clock_timestamp(), searched_until = NULL, offer_deadline = NULL WHERE id = j.id;
      exhausted := true;
    END IF;
    facts := inbox_append(ARRAY[offer_withdrawn(p_user, p_offer, j.id, 'declined')]);
    word := 'declined';
  END IF;
END $$;

-- End a job that the caller has locked and may end; returns what to tell whom. Losers' offers are settled here too.
CREATE FUNCTION jobs_cancel(p_job uuid, p_by text, p_actor uuid, p_role text, p_reason text) RETURNS pending_fact[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  j jobs;
  was text;
  told pending_fact[];
BEGIN
  SELECT * INTO j FROM jobs WHERE id = p_job;
  PERFORM ctx_require(j.customer_id, j.provider_user_id);
  was := j.status;
  UPDATE jobs SET status = 'cancelled', version = version + 1, cancelled_at = clock_timestamp(), cancelled_by = p_by,
    cancellation_reason = p_reason, offer_deadline = NULL, next_search_at = NULL WHERE id = p_job RETURNING * INTO j;
  INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_id, actor_role, reason)
    VALUES (p_job, j.version, was, 'cancelled', j.round, p_actor, p_role, p_reason);
  SELECT array_agg(offer_withdrawn(s.provider_user_id, s.offer_id, p_job, 'cancelled')) INTO told FROM offers_settle(p_job, 'withdrawn', 'cancelled') s;
  told := coalesce(told, '{}') || ROW(j.customer_id, 'job.cancelled',
    json_strip_nulls(json_build_object('job', job_view(j, false), 'by', p_by, 'reason', p_reason)))::pending_fact;
  IF j.provider_user_id IS NOT NULL THEN
    told := told || ROW(j.provider_user_id, 'job.cancelled',
      json_strip_nulls(json_build_object('job', job_view(j, true), 'by', p_by, 'reason', p_reason)))::pending_fact;
  END IF;
  RETURN told;
END $$;

-- Take a job back from its provider before pickup and open the next round; the caller has locked it and may do so. What was still offered
-- to the losers of the round before ends here.
CREATE FUNCTION jobs_release(p_job uuid, p_by text, p_actor uuid, p_role text, p_reason text) RETURNS pending_fact[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  before jobs;
  j jobs;
  told pending_fact[];
BEGIN
  SELECT * INTO before FROM jobs WHERE id = p_job;
  PERFORM ctx_require(before.provider_user_id);
  UPDATE jobs SET status = 'offered', round = round + 1, version = version + 1, provider_id = NULL, provider_user_id = NULL, accept_id = NULL,
    provider_first_name = NULL, provider_rating = NULL, provider_vehicle = NULL,
    accepted_at = NULL, arrived_at = NULL, provider_lat = NULL, provider_lng = NULL, provider_located_at = NULL, trail_m = 0, trail_fixes = 0,
    offer_deadline = NULL, next_search_at = clock_timestamp(), searched_until = NULL, expires_at = clock_timestamp() + make_interval(secs => ttl_s)
   WHERE id = p_job RETURNING * INTO j;
  INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_id, actor_role, reason)
    VALUES (p_job, j.version, before.status, 'offered', j.round, p_actor, p_role, p_reason);
  -- A moment after an accept its losers still have their offers: left alive, they would keep the next round from ever being made.
  SELECT array_agg(offer_withdrawn(s.provider_user_id, s.offer_id, p_job, 'taken')) INTO told FROM offers_settle(p_job, 'withdrawn', 'taken') s;
  RETURN coalesce(told, '{}') || ARRAY[
    ROW(before.provider_user_id, 'job.cancelled',
        json_strip_nulls(json_build_object('job', job_glance(j), 'by', p_by, 'reason', p_reason)))::pending_fact,
    ROW(j.customer_id, 'job.updated', json_build_object('job', job_view(j, false)))::pending_fact];
END $$;

-- Unassigned jobs of a provider's service types around a place, nearest first; those he has answered are left out.
CREATE FUNCTION jobs_board(p_user uuid, p_markets text[], p_lat double precision, p_lng double precision, p_radius_m double precision, p_limit int)
RETURNS TABLE (glance json, round int, distance_m int)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT job_glance(j), j.round, d.m::int
  FROM providers p JOIN provider_gate g ON g.provider_id = p.id AND g.open
  CROSS JOIN LATERAL (SELECT services_now(g) AS types) s
  JOIN jobs j ON j.status IN ('pending', 'offered') AND j.market = ANY (p_markets) AND j.service_type = ANY (s.types)
  CROSS JOIN LATERAL (SELECT distance_between(p_lat, p_lng, j.pickup_lat, j.pickup_lng) AS m) d
  WHERE p.user_id = p_user AND ctx_may(p_user) AND j.customer_id <> p_user AND j.expires_at > clock_timestamp() AND d.m <= p_radius_m AND payment_fits(j, p_user)
    AND NOT EXISTS (SELECT FROM offers o WHERE o.job_id = j.id AND o.provider_user_id = p_user AND o.status IN ('live', 'declined', 'accepted'))
  ORDER BY d.m LIMIT p_limit
$$;

-- A provider's live offers, nearest first.
CREATE FUNCTION offers_board(p_user uuid, p_types text[], p_limit int) RETURNS TABLE (offer json, distance_m int)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT offer_view(o, job_glance(j)), o.pickup_distance_m FROM offers o JOIN jobs j ON j.id = o.job_id
  WHERE o.provider_user_id = p_user AND ctx_may(p_user) AND o.status = 'live' AND o.expires_at > clock_timestamp() AND j.status IN ('pending', 'offered') AND j.service_type = ANY (p_types)
  ORDER BY o.pickup_distance_m LIMIT p_limit
$$;

-- What needs a person: open jobs whose next search is 10 s late, active jobs whose provider has had no socket for 45 s.
CREATE FUNCTION jobs_stuck(p_limit int) RETURNS SETOF jobs
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT j.* FROM jobs j WHERE ctx_admin() AND j.status IN ('pending', 'offered')
    AND (j.next_search_at IS NULL OR j.next_search_at < clock_timestamp() - interval '10 s')
  UNION ALL
  SELECT j.* FROM jobs j WHERE ctx_admin() AND j.status IN ('accepted', 'arrived', 'in_progress')
    AND NOT EXISTS (SELECT FROM sockets s WHERE s.user_id = j.provider_user_id
                    AND (s.lost_at IS NULL OR s.lost_at > clock_timestamp() - interval '45 s'))
  LIMIT p_limit
$$;

-- Providers switched on (or with a job before pickup) who have had no living socket for `p_gone`: what the sweeper ends.
CREATE FUNCTION providers_gone(p_gone interval, p_limit int) RETURNS TABLE (provider_id uuid, user_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT g.provider_id, g.user_id FROM provider_gate g
  WHERE (g.online OR EXISTS (SELECT FROM jobs j WHERE j.provider_id = g.provider_id AND j.status IN ('accepted', 'arrived')))
    AND NOT EXISTS (SELECT FROM sockets s LEFT JOIN workers w ON w.id = s.worker_id WHERE s.user_id = g.user_id
                    AND coalesce(s.lost_at, w.beat_at, s.connected_at) > clock_timestamp() - p_gone)
    AND g.changed_at < clock_timestamp() - p_gone
  LIMIT p_limit
$$;

-- Lock every job that a provider has an active part or a live offer in, by id: before a change that touches several of them.
CREATE FUNCTION jobs_lock_of(p_provider uuid) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT j.id FROM jobs j WHERE j.id IN (
    SELECT o.job_id FROM offers o WHERE o.provider_id = p_provider AND o.status = 'live'
    UNION SELECT a.id FROM jobs a WHERE a.provider_id = p_provider AND a.status IN ('accepted', 'arrived', 'in_progress'))
  ORDER BY j.id FOR UPDATE
$$;

-- Put off the next search of a job that has had all its rounds, and wake those that wait for one.
CREATE FUNCTION jobs_rest(p_job uuid) RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  UPDATE jobs SET next_search_at = expires_at, searched_until = NULL WHERE id = p_job AND status IN ('pending', 'offered')
$$;
CREATE FUNCTION jobs_wake(p_market text, p_types text[], p_limit int) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  WITH waiting AS (
    SELECT j.id FROM jobs j WHERE j.market = p_market AND j.service_type = ANY (p_types) AND j.status IN ('pending', 'offered')
      AND j.offer_deadline IS NULL AND j.next_search_at > clock_timestamp() AND j.next_search_at < j.expires_at
    ORDER BY j.created_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ), woken AS (UPDATE jobs j SET next_search_at = clock_timestamp() FROM waiting WHERE j.id = waiting.id RETURNING 1)
  SELECT count(*) FROM woken
$$;

-- The whole live state of a user as of `seq`, in one statement and so in one snapshot. An offer of a job that somebody else has by now is
-- withdrawn in a moment, and what becomes of that job is none of its holder's business.
CREATE FUNCTION live_state(p_user uuid, OUT seq bigint, OUT provider json, OUT jobs json[], OUT offers json[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT coalesce((SELECT h.seq FROM inbox_head h WHERE h.user_id = p_user), 0),
    (SELECT provider_view(p) FROM providers p WHERE p.user_id = p_user),
    ARRAY(SELECT job_view(j, j.provider_user_id = p_user) FROM dispatch.jobs j
          WHERE (j.customer_id = p_user OR j.provider_user_id = p_user) AND j.status NOT IN ('completed', 'cancelled') ORDER BY j.created_at, j.id),
    ARRAY(SELECT offer_view(o, job_glance(j)) FROM dispatch.offers o JOIN dispatch.jobs j ON j.id = o.job_id
          WHERE o.provider_user_id = p_user AND o.status = 'live' AND j.status IN ('pending', 'offered') ORDER BY o.offered_at, o.offer_id)
$$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch TO dispatch_app, dispatch_system, dispatch_owner;

-- migrate: rollback

DROP FUNCTION dispatch.jobs_wake, dispatch.jobs_rest, dispatch.jobs_lock_of, dispatch.providers_gone, dispatch.jobs_stuck, dispatch.offers_board, dispatch.jobs_board, dispatch.live_state, dispatch.jobs_release, dispatch.jobs_cancel, dispatch.offers_decline, dispatch.offers_void, dispatch.offers_left_open, dispatch.offers_close, dispatch.offers_lapse, dispatch.offers_create, dispatch.jobs_due, dispatch.offer_withdrawn;
