-- the accept: one winner, judged here
-- depends: 0005_matching

-- migrate: apply

GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- Decide one accept in one statement and one round trip. Every lock comes before the read that depends on it, in the server's one
-- order (gate, job, offer, heads), each check in a later statement than its lock; all checks precede all writes, so a refusal
-- writes nothing. The clock is clock_timestamp(): now() is the start of the transaction and wrong after a lock wait.
-- p_board: the market's open board is on and the caller found the job within reach (p_distance_m): without an offer, his offer row is written here.
-- Words: accepted (also his own again) | replay (stored answer in `job`) | reused | no_provider | closed | offline | no_job | no_offer |
--   mismatch | documents | vehicle (not cleared for this service type, for want of these) | debt (a cash job, and he owes too much) | unjudged (judge his papers, ask again) | busy_provider | taken | cancelled | expired.   `status`: the gate's when closed.
-- 23505 on jobs_one_active is busy_provider too, on idem_pkey reused: the caller reads the constraint's name.
CREATE FUNCTION accept_job(p_user uuid, p_job uuid, p_offer uuid, p_round int, p_accept uuid, p_key text, p_fingerprint text,
  p_board boolean, p_board_offer uuid, p_distance_m int, p_lat double precision, p_lng double precision, p_located_at timestamptz,
  OUT word text, OUT status text, OUT round int, OUT job json, OUT facts fact[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  known idem;
  gate provider_gate;
  j jobs;
  o offers;
  was text;
  told pending_fact[];
  seen json;                                              -- the job as both parties see it
BEGIN
  facts := '{}';
  PERFORM set_config('app.user_id', p_user::text, true);
  SELECT * INTO known FROM idem i WHERE i.user_id = p_user AND i.key = p_key;
  IF FOUND THEN
    IF known.fingerprint <> p_fingerprint THEN
      word := 'reused';
    ELSE
      word := 'replay';
      job := known.response::json;
    END IF;
    RETURN;
  END IF;

  SELECT * INTO gate FROM provider_gate g WHERE g.user_id = p_user FOR SHARE;
  IF NOT FOUND THEN
    word := 'no_provider';
    RETURN;
  END IF;
  SELECT * INTO j FROM jobs WHERE id = p_job FOR UPDATE;
  IF NOT FOUND THEN
    word := 'no_job';
    RETURN;
  END IF;
  IF j.provider_id = gate.provider_id AND j.status <> 'cancelled' AND (p_round IS NULL OR p_round = j.round) THEN
    word := 'accepted';
    round := j.round;
    job := job_view(j, true);
    -- By another request of his, or by this one on another worker a moment ago: what it is told now it is told again (I10).
    IF p_key IS NOT NULL THEN
      INSERT INTO idem (user_id, key, fingerprint, status, response) VALUES (p_user, p_key, p_fingerprint, 200, job::text) ON CONFLICT DO NOTHING;
      SELECT * INTO STRICT known FROM idem i WHERE i.user_id = p_user AND i.key = p_key;
      IF known.fingerprint <> p_fingerprint THEN
        word := 'reused';
        job := NULL;
      ELSE
        job := known.response::json;
      END IF;
    END IF;
    RETURN;
  END IF;
  IF p_offer IS NULL THEN
    SELECT * INTO o FROM offers f WHERE f.job_id = p_job AND f.provider_id = gate.provider_id ORDER BY f.round DESC LIMIT 1;
  ELSE
    SELECT * INTO o FROM offers f WHERE f.offer_id = p_offer AND f.job_id = p_job AND f.provider_id = gate.provider_id;
  END IF;
  IF o.offer_id IS NULL AND (p_offer IS NOT NULL OR NOT p_board OR j.customer_id = p_user) THEN
    word := 'no_offer';
    RETURN;
  END IF;
  IF gate.status NOT IN ('approved', 'active') THEN
    word := 'closed';
    status := gate.status;
    RETURN;
  END IF;
  IF j.status = 'cancelled' THEN
    word := 'cancelled';
    RETURN;
  ELSIF j.status NOT IN ('pending', 'offered') THEN
    word := 'taken';
    RETURN;
  END IF;
  IF NOT gate.open THEN
    word := 'offline';
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM jobs b WHERE b.provider_id = gate.provider_id AND b.status IN ('accepted', 'arrived', 'in_progress')) THEN
    word := 'busy_provider';
    RETURN;
  END IF;
  IF j.expires_at <= clock_timestamp() THEN
    word := 'expired';
    RETURN;
  END IF;
  IF o.offer_id IS NOT NULL AND o.status = 'live' AND o.round = j.round AND (p_round IS NULL OR p_round = j.round)
     AND j.offer_deadline > clock_timestamp() THEN
    NULL;  -- his live offer of the standing round
  ELSIF p_board AND p_offer IS NULL AND (p_round IS NULL OR p_round = j.round) AND (o.offer_id IS NULL OR o.status IN ('expired', 'withdrawn')) THEN
    IF NOT j.service_type = ANY (services_now(gate)) AND j.service_type = ANY (cleared_now(gate)) THEN
      word := 'mismatch';
      RETURN;
    END IF;
    o.offer_id := NULL;
  ELSE
    word := 'expired';
    RETURN;
  END IF;

  IF NOT j.service_type = ANY (cleared_now(gate)) THEN
    -- Nothing lacks, and still: another paper of his has just run out, and he must be judged again first.
    SELECT coalesce(l.word, CASE WHEN gate.suspend_due THEN 'documents' ELSE 'unjudged' END) INTO word FROM provider_lack(gate.provider_id, j.service_type) l;
    RETURN;
  END IF;

  IF NOT payment_fits(j, p_user) THEN
    word := 'debt';
    RETURN;
  END IF;

  was := j.status;
  UPDATE jobs SET status = 'accepted', provider_id = gate.provider_id, (provider_first_name, provider_rating) = (
      SELECT p.first_name, p.rating FROM providers p WHERE p.id = gate.provider_id),
    provider_vehicle = (SELECT json_build_object('make', v.make, 'model', v.model, 'color', v.color, 'plate_number', v.plate_number)
      FROM provider_vehicles v WHERE v.provider_id = gate.provider_id AND v.is_active), provider_user_id = p_user, accept_id = p_accept,
    version = version + CASE was WHEN 'pending' THEN 2 ELSE 1 END, round = greatest(jobs.round, 1), accepted_at = clock_timestamp(), offer_deadline = NULL, next_search_at = NULL,
    provider_lat = p_lat, provider_lng = p_lng, provider_located_at = p_located_at, trail_m = 0, trail_fixes = 0
   WHERE id = p_job AND jobs.status = was AND jobs.round = j.round RETURNING * INTO STRICT j;  -- stays conditional, though the row is locked
  IF o.offer_id IS NULL THEN
    INSERT INTO offers AS f (offer_id, job_id, round, provider_id, provider_user_id, status, reason, pickup_distance_m, expires_at, responded_at)
      VALUES (p_board_offer, p_job, j.round, gate.provider_id, p_user, 'accepted', 'board', p_distance_m, clock_timestamp(), clock_timestamp())
      ON CONFLICT ON CONSTRAINT offers_job_id_round_provider_id_key DO UPDATE SET status = 'accepted', reason = 'board', responded_at = clock_timestamp();
  ELSE
    UPDATE offers SET status = 'accepted', reason = 'accepted', responded_at = clock_timestamp() WHERE offer_id = o.offer_id;
    told := ARRAY[offer_withdrawn(p_user, o.offer_id, p_job, 'accepted')];
  END IF;
  round := j.round;
  seen := job_view(j);
  job := contact_added(seen, j);
  facts := inbox_append(coalesce(told, '{}')
    || ROW(p_user, 'job.updated', json_build_object('job', job))::pending_fact
    || ROW(j.customer_id, 'job.accepted', json_build_object('job', seen, 'provider', provider_card(j)))::pending_fact);
  -- Nothing is accepted that was not offered: from the board the offer of this moment is part of the history too.
  IF was = 'pending' THEN
    INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_role, reason)
      VALUES (p_job, j.version - 1, 'pending', 'offered', j.round, 'system', 'board');
  END IF;
  INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_id, actor_role)
    VALUES (p_job, j.version, 'offered', 'accepted', j.round, p_user, 'provider');
  IF p_key IS NOT NULL THEN
    INSERT INTO idem (user_id, key, fingerprint, status, response) VALUES (p_user, p_key, p_fingerprint, 200, job::text);
  END IF;
  word := 'accepted';
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch TO dispatch_app, dispatch_system, dispatch_owner;
-- What only loops, sessions and other functions call is not for requests.
REVOKE EXECUTE ON FUNCTION dispatch.jobs_due, dispatch.offers_create, dispatch.offers_lapse, dispatch.offers_close, dispatch.offers_left_open,
  dispatch.jobs_rest, dispatch.jobs_wake, dispatch.providers_gone, dispatch.live_state, dispatch.socket_open,
  dispatch.offers_settle, dispatch.job_events_next, dispatch.providers_gate_open FROM dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.accept_job;
