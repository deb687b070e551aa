-- papers: documents, vehicles, what each service type asks for, and the gate that follows from them
-- depends: 0007_notifications

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- Configuration, written by the server at its start: settings are the truth, this is where the judge can read them.
CREATE TABLE service_requirements (
  service_type text PRIMARY KEY CHECK (service_type IN ('ride', 'delivery', 'shopping', 'moving', 'laundry')),
  documents text[] NOT NULL,
  vehicle boolean NOT NULL
);

-- One row per upload. A new upload of the same type replaces a pending one at once and an approved one when it is approved itself:
-- `replaced_by` says by which. Rows stay: they are the history that an office is asked for.
CREATE TABLE provider_documents (
  id uuid PRIMARY KEY,
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),
  document_type text NOT NULL CHECK (document_type IN ('national_id', 'driver_license', 'vehicle_registration', 'vehicle_insurance',
    'bank_account', 'criminal_record', 'health_certificate')),
  storage_path text NOT NULL UNIQUE,
  content_type text NOT NULL,
  size_bytes int NOT NULL CHECK (size_bytes > 0),
  sha256 text NOT NULL,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'expired')),
  expiry_date date,
  warned_days smallint,                                   -- the last threshold that he was warned at: 30, 7 or 1
  uploaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  verified_at timestamptz,
  verified_by uuid REFERENCES users (id),
  rejection_reason text,
  replaced_by uuid REFERENCES provider_documents (id) DEFERRABLE INITIALLY DEFERRED,
  CHECK (status <> 'rejected' OR rejection_reason IS NOT NULL)
);
CREATE UNIQUE INDEX provider_documents_waiting ON provider_documents (provider_id, document_type) WHERE status = 'pending' AND replaced_by IS NULL;
CREATE UNIQUE INDEX provider_documents_valid ON provider_documents (provider_id, document_type) WHERE status = 'approved' AND replaced_by IS NULL;
CREATE INDEX provider_documents_of ON provider_documents (provider_id, uploaded_at DESC);
CREATE INDEX provider_documents_due ON provider_documents (expiry_date, id) WHERE status = 'approved' AND replaced_by IS NULL;
CREATE INDEX provider_documents_queue ON provider_documents (uploaded_at, provider_id) WHERE status = 'pending' AND replaced_by IS NULL;
CREATE INDEX provider_documents_queue_of ON provider_documents (provider_id, uploaded_at, id) WHERE status = 'pending' AND replaced_by IS NULL;

-- An object that is being written and has no row yet. Its entry is committed before the first byte is stored and goes with the
-- transaction that writes the row: whatever dies in between, what is left in the store stands here.
CREATE TABLE provider_uploads (
  storage_path text PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX provider_uploads_age ON provider_uploads (started_at);

CREATE TABLE provider_vehicles (
  id uuid PRIMARY KEY,
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),
  vehicle_type text NOT NULL CHECK (length(vehicle_type) BETWEEN 1 AND 50),
  make text NOT NULL CHECK (length(make) BETWEEN 1 AND 50),
  model text NOT NULL CHECK (length(model) BETWEEN 1 AND 50),
  year smallint NOT NULL,
  plate_number text NOT NULL CHECK (length(plate_number) BETWEEN 1 AND 20),
  plate_key text NOT NULL,                                -- the plate without blanks, dashes and case: two spellings are one vehicle
  color text NOT NULL CHECK (length(color) BETWEEN 1 AND 50),
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'suspended')),
  is_active boolean NOT NULL DEFAULT false,
  registration_expiry date NOT NULL,
  insurance_expiry date NOT NULL,
  registration_document_id uuid REFERENCES provider_documents (id),
  warned_days smallint,
  submitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  version int NOT NULL DEFAULT 1,
  verified_at timestamptz,
  verified_by uuid REFERENCES users (id),
  rejection_reason text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK (status <> 'rejected' OR rejection_reason IS NOT NULL),
  CHECK (NOT is_active OR status = 'approved')
);
CREATE UNIQUE INDEX provider_vehicles_plate ON provider_vehicles (plate_key) WHERE status <> 'rejected';
CREATE UNIQUE INDEX provider_vehicles_active ON provider_vehicles (provider_id) WHERE is_active;
CREATE INDEX provider_vehicles_of ON provider_vehicles (provider_id, created_at DESC);
CREATE INDEX provider_vehicles_due ON provider_vehicles (least(registration_expiry, insurance_expiry), id) WHERE status = 'approved';
CREATE INDEX provider_gate_suspend ON provider_gate (provider_id) WHERE suspend_due;
CREATE INDEX provider_gate_until ON provider_gate (cleared_until) WHERE cleared_until IS NOT NULL;
CREATE INDEX provider_vehicles_queue ON provider_vehicles (submitted_at, provider_id) WHERE status = 'pending';
CREATE INDEX provider_vehicles_queue_of ON provider_vehicles (provider_id, submitted_at, id) WHERE status = 'pending';

ALTER TABLE service_requirements ENABLE ROW LEVEL SECURITY;
ALTER TABLE service_requirements FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_documents FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_uploads ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_uploads FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_vehicles ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_vehicles FORCE ROW LEVEL SECURITY;
CREATE POLICY service_requirements_system ON service_requirements TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY provider_documents_read ON provider_documents FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY provider_documents_system ON provider_documents TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY provider_documents_owner ON provider_documents FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY provider_uploads_system ON provider_uploads TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY provider_vehicles_read ON provider_vehicles FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY provider_vehicles_system ON provider_vehicles TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON provider_documents, provider_vehicles TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON service_requirements, provider_documents, provider_uploads, provider_vehicles TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- Days of papers begin and end in Bangkok.
CREATE FUNCTION papers_today() RETURNS date LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (clock_timestamp() AT TIME ZONE 'Asia/Bangkok')::date;
-- The instant after which a paper that is good through that day counts no more.
CREATE FUNCTION papers_end(p_day date) RETURNS timestamptz LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (p_day + 1)::timestamp AT TIME ZONE 'Asia/Bangkok';

-- What all the requirements are, as one word: gates judged by others are judged again.
CREATE FUNCTION requirements_word() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp
RETURN (SELECT coalesce(md5(string_agg(r::text, ';' ORDER BY r.service_type)), '') FROM service_requirements r);

-- Write the configuration. A service type that is not named asks for nothing. Answers whether anything changed. Where more is asked for than
-- before, those who were cleared for it are cleared no more from this commit on, until they are judged again.
CREATE FUNCTION requirements_set(p_types text[], p_documents json, p_vehicles text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  before text;
  tightened text[];
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('service_requirements', 0));
  before := requirements_word();
  SELECT coalesce(array_agg(t), '{}') INTO tightened FROM unnest(p_types) t LEFT JOIN service_requirements r ON r.service_type = t
   WHERE (t = ANY (p_vehicles) AND NOT coalesce(r.vehicle, false))
      OR NOT ARRAY(SELECT json_array_elements_text(p_documents -> t)) <@ coalesce(r.documents, '{}');
  IF cardinality(tightened) > 0 THEN
    UPDATE provider_gate SET cleared_until = clock_timestamp() WHERE cleared && tightened;
  END IF;
  INSERT INTO service_requirements AS r (service_type, documents, vehicle)
    SELECT t, ARRAY(SELECT json_array_elements_text(p_documents -> t) ORDER BY 1), t = ANY (p_vehicles) FROM unnest(p_types) t
    ON CONFLICT (service_type) DO UPDATE SET documents = excluded.documents, vehicle = excluded.vehicle
    WHERE (r.documents, r.vehicle) IS DISTINCT FROM (excluded.documents, excluded.vehicle);
  RETURN before <> requirements_word();
END $$;

-- Required documents of these service types that nothing good stands for. `p_uploaded`: one that waits for review is good enough.
CREATE FUNCTION documents_missing(p_provider uuid, p_types text[], p_uploaded boolean) RETURNS text[]
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT coalesce(array_agg(DISTINCT needed ORDER BY needed), '{}')
  FROM service_requirements r CROSS JOIN LATERAL unnest(r.documents) AS needed
  WHERE r.service_type = ANY (p_types) AND NOT EXISTS (
    SELECT FROM provider_documents d WHERE d.provider_id = p_provider AND d.document_type = needed AND d.replaced_by IS NULL
      AND (d.status = 'approved' OR (p_uploaded AND d.status = 'pending')) AND (d.expiry_date IS NULL OR d.expiry_date >= papers_today()))
$$;

CREATE FUNCTION vehicle_ready(p_provider uuid) RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp
RETURN EXISTS (SELECT FROM provider_vehicles v WHERE v.provider_id = p_provider AND v.is_active AND v.status = 'approved'
  AND least(v.registration_expiry, v.insurance_expiry) >= papers_today());

-- Why a provider is not cleared for a service type: "mismatch" (not among his), "documents", "vehicle"; NULL: he is.
CREATE FUNCTION provider_lack(p_provider uuid, p_type text, OUT word text, OUT missing text[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  missing := '{}';
  IF NOT EXISTS (SELECT FROM providers p WHERE p.id = p_provider AND p_type = ANY (p.service_types)) THEN
    word := 'mismatch';
    RETURN;
  END IF;
  missing := documents_missing(p_provider, ARRAY[p_type], false);
  IF cardinality(missing) > 0 THEN
    word := 'documents';
  ELSIF (SELECT r.vehicle FROM service_requirements r WHERE r.service_type = p_type) AND NOT vehicle_ready(p_provider) THEN
    word := 'vehicle';
  END IF;
END $$;

-- Judge a provider's papers again and write what follows into his gate. Part of every transaction that changes his service types,
-- documents or vehicles; the caller holds the gate FOR UPDATE. The provider's view when his clearance changed, else NULL.
CREATE FUNCTION providers_clear(p_provider uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  p providers;
  kinds text[];
  until timestamptz;
  before text[];
BEGIN
  SELECT * INTO STRICT p FROM providers WHERE id = p_provider;
  SELECT coalesce(array_agg(t ORDER BY i), '{}') INTO kinds FROM unnest(p.service_types) WITH ORDINALITY AS s(t, i)
   WHERE (SELECT l.word FROM provider_lack(p_provider, t) l) IS NULL;
  SELECT min(papers_end(ends)) INTO until FROM (
    SELECT d.expiry_date AS ends FROM provider_documents d JOIN service_requirements r ON d.document_type = ANY (r.documents)
     WHERE d.provider_id = p_provider AND d.status = 'approved' AND d.replaced_by IS NULL AND r.service_type = ANY (kinds)
    UNION ALL
    SELECT least(v.registration_expiry, v.insurance_expiry) FROM provider_vehicles v
     WHERE v.provider_id = p_provider AND v.is_active AND EXISTS (SELECT FROM service_requirements r WHERE r.service_type = ANY (kinds) AND r.vehicle)) e;
  SELECT cleared INTO before FROM provider_gate WHERE provider_id = p_provider;
  UPDATE provider_gate g SET cleared = kinds, cleared_until = until, cleared_by = requirements_word(),
    status_ver = status_ver + CASE WHEN g.cleared IS DISTINCT FROM kinds THEN 1 ELSE 0 END
   WHERE g.provider_id = p_provider AND (g.cleared, g.cleared_until, g.cleared_by) IS DISTINCT FROM (kinds, until, requirements_word());
  RETURN CASE WHEN before IS DISTINCT FROM kinds THEN provider_view(p) END;
END $$;

-- Providers whose gate was judged by other requirements, or whose clearance has run out: to be judged again, some at a time.
CREATE FUNCTION gates_stale(p_limit int) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  (SELECT g.provider_id FROM provider_gate g WHERE g.cleared_until <= clock_timestamp() LIMIT p_limit)
  UNION
  (SELECT g.provider_id FROM provider_gate g WHERE g.cleared_by IS DISTINCT FROM (SELECT requirements_word()) LIMIT p_limit)
$$;

-- An application with all its papers uploaded goes to review by itself. The provider's view when it did, else NULL. Gate locked by the caller.
CREATE FUNCTION providers_submit(p_provider uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  p providers;
BEGIN
  PERFORM ctx_require((SELECT user_id FROM provider_gate WHERE provider_id = p_provider));
  SELECT * INTO STRICT p FROM providers WHERE id = p_provider;
  IF p.status <> 'pending' OR cardinality(documents_missing(p_provider, p.service_types, true)) > 0 THEN
    RETURN NULL;
  END IF;
  UPDATE provider_gate SET status = 'pending_verification', status_ver = status_ver + 1, changed_at = clock_timestamp() WHERE provider_id = p_provider;
  UPDATE providers SET status = 'pending_verification', updated_at = clock_timestamp() WHERE id = p_provider RETURNING * INTO p;
  INSERT INTO provider_log (provider_id, what, actor_id, actor_role) VALUES (p_provider, 'pending_verification', p.user_id, 'provider');
  RETURN provider_view(p);
END $$;

-- --- documents

-- A document as the wire shows it. `expires_in_days` is the warning: there from 30 days before the end.
CREATE FUNCTION document_view(d provider_documents) RETURNS json LANGUAGE sql VOLATILE
RETURN json_strip_nulls(json_build_object('id', d.id, 'document_type', d.document_type, 'status', d.status, 'storage_path', d.storage_path,
  'content_type', d.content_type, 'size_bytes', d.size_bytes, 'expiry_date', d.expiry_date,
  'expires_in_days', CASE WHEN d.replaced_by IS NULL AND d.status IN ('pending', 'approved') AND d.expiry_date - papers_today() <= 30
    THEN greatest(0, d.expiry_date - papers_today()) END,
  'uploaded_at', wire_at(d.uploaded_at), 'verified_at', wire_at(d.verified_at), 'rejection_reason', d.rejection_reason,
  'replaced_by', d.replaced_by, 'verified_by', CASE WHEN ctx_admin() THEN d.verified_by END));

-- A new upload, with the gate locked by the caller. It takes the place of whatever stands there unapproved.
CREATE FUNCTION document_add(p_id uuid, p_provider uuid, p_type text, p_path text, p_content_type text, p_size int, p_sha256 text, p_expiry date)
RETURNS json LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  owner uuid := (SELECT user_id FROM provider_gate WHERE provider_id = p_provider);
  d provider_documents;
BEGIN
  PERFORM ctx_require(owner);
  DELETE FROM provider_uploads WHERE storage_path = p_path;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the object % was swept while it was uploaded', p_path;
  END IF;
  UPDATE provider_documents SET replaced_by = p_id
   WHERE provider_id = p_provider AND document_type = p_type AND replaced_by IS NULL AND status <> 'approved';
  INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, expiry_date)
    VALUES (p_id, p_provider, owner, p_type, p_path, p_content_type, p_size, p_sha256, p_expiry) RETURNING * INTO d;
  RETURN document_view(d);
END $$;

-- An admin's word on a document that waits, with the gate locked and the document judged by the caller. An approved renewal takes the
-- place of the one before.
CREATE FUNCTION document_review(p_document uuid, p_status text, p_reason text, p_admin uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  d provider_documents;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  SELECT * INTO STRICT d FROM provider_documents WHERE id = p_document AND status = 'pending' AND replaced_by IS NULL;
  IF p_status = 'approved' THEN
    UPDATE provider_documents SET replaced_by = p_document
     WHERE provider_id = d.provider_id AND document_type = d.document_type AND replaced_by IS NULL AND id <> p_document;
  END IF;
  UPDATE provider_documents SET status = p_status, rejection_reason = p_reason, verified_at = clock_timestamp(), verified_by = p_admin
   WHERE id = p_document RETURNING * INTO d;
  RETURN document_view(d);
END $$;

-- Whether a suspension for papers has lost its ground, with the gate locked by the caller: every required document is approved again.
-- One that was only due is called off here.
CREATE FUNCTION suspension_over(p_provider uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  p providers;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  SELECT * INTO STRICT p FROM providers WHERE id = p_provider;
  IF cardinality(documents_missing(p_provider, p.service_types, false)) > 0 THEN
    RETURN false;
  END IF;
  UPDATE provider_gate SET suspend_due = false WHERE provider_id = p_provider AND suspend_due;
  RETURN p.status = 'suspended' AND p.suspension_cause = 'documents';
END $$;

-- --- vehicles

CREATE FUNCTION vehicle_view(v provider_vehicles) RETURNS json LANGUAGE sql VOLATILE
RETURN json_strip_nulls(json_build_object('id', v.id, 'vehicle_type', v.vehicle_type, 'make', v.make, 'model', v.model, 'year', v.year,
  'plate_number', v.plate_number, 'color', v.color, 'status', v.status, 'is_active', v.is_active,
  'registration_expiry', v.registration_expiry, 'insurance_expiry', v.insurance_expiry, 'registration_document_id', v.registration_document_id,
  'expires_in_days', CASE WHEN v.status IN ('pending', 'approved') AND least(v.registration_expiry, v.insurance_expiry) - papers_today() <= 30
    THEN greatest(0, least(v.registration_expiry, v.insurance_expiry) - papers_today()) END,
  'version', v.version, 'submitted_at', wire_at(v.submitted_at), 'verified_at', wire_at(v.verified_at), 'rejection_reason', v.rejection_reason,
  'verified_by', CASE WHEN ctx_admin() THEN v.verified_by END));

-- A new vehicle, with the gate locked by the caller. 23505 on provider_vehicles_plate: somebody has this plate.
CREATE FUNCTION vehicle_add(p_id uuid, p_provider uuid, p_type text, p_make text, p_model text, p_year int, p_plate text, p_plate_key text,
  p_color text, p_registration date, p_insurance date, p_document uuid)
RETURNS json LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  owner uuid := (SELECT user_id FROM provider_gate WHERE provider_id = p_provider);
  v provider_vehicles;
BEGIN
  PERFORM ctx_require(owner);
  INSERT INTO provider_vehicles (id, provider_id, user_id, vehicle_type, make, model, year, plate_number, plate_key, color,
      registration_expiry, insurance_expiry, registration_document_id)
    VALUES (p_id, p_provider, owner, p_type, p_make, p_model, p_year, p_plate, p_plate_key, p_color, p_registration, p_insurance, p_document)
    RETURNING * INTO v;
  RETURN vehicle_view(v);
END $$;

-- Change a vehicle, with the gate locked by the caller. `p_resubmit`: it goes back to the queue and out of use.
CREATE FUNCTION vehicle_change(p_id uuid, p_type text, p_make text, p_model text, p_year int, p_plate text, p_plate_key text,
  p_color text, p_registration date, p_insurance date, p_document uuid, p_resubmit boolean)
RETURNS json LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  v provider_vehicles;
BEGIN
  PERFORM ctx_require((SELECT user_id FROM provider_vehicles WHERE id = p_id));
  UPDATE provider_vehicles SET vehicle_type = p_type, make = p_make, model = p_model, year = p_year, plate_number = p_plate,
    plate_key = p_plate_key, color = p_color, registration_expiry = p_registration, insurance_expiry = p_insurance,
    registration_document_id = p_document, version = version + 1, updated_at = clock_timestamp(),
    status = CASE WHEN p_resubmit THEN 'pending' ELSE status END, is_active = is_active AND NOT p_resubmit,
    submitted_at = CASE WHEN p_resubmit THEN clock_timestamp() ELSE submitted_at END,
    rejection_reason = CASE WHEN p_resubmit THEN NULL ELSE rejection_reason END
   WHERE id = p_id RETURNING * INTO v;
  RETURN vehicle_view(v);
END $$;

-- Put an approved vehicle into use and the other one out of it, with the gate locked by the caller.
CREATE FUNCTION vehicle_activate(p_id uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  v provider_vehicles;
BEGIN
  SELECT * INTO STRICT v FROM provider_vehicles WHERE id = p_id;
  PERFORM ctx_require(v.user_id);
  UPDATE provider_vehicles SET is_active = false, updated_at = clock_timestamp() WHERE provider_id = v.provider_id AND is_active AND id <> p_id;
  UPDATE provider_vehicles SET is_active = true, updated_at = clock_timestamp() WHERE id = p_id AND NOT is_active;
  SELECT * INTO STRICT v FROM provider_vehicles WHERE id = p_id;
  RETURN vehicle_view(v);
END $$;

-- An admin's word on a vehicle that waits, with the gate locked and the vehicle judged by the caller. Who has none in use gets this one.
CREATE FUNCTION vehicle_review(p_id uuid, p_status text, p_reason text, p_admin uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  v provider_vehicles;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  SELECT * INTO STRICT v FROM provider_vehicles WHERE id = p_id AND status = 'pending';
  UPDATE provider_vehicles SET status = p_status, rejection_reason = p_reason, verified_at = clock_timestamp(), verified_by = p_admin,
    version = version + 1, updated_at = clock_timestamp(), warned_days = NULL, is_active = p_status = 'approved' AND NOT EXISTS (
      SELECT FROM provider_vehicles a WHERE a.provider_id = v.provider_id AND a.is_active)
   WHERE id = p_id RETURNING * INTO v;
  RETURN vehicle_view(v);
END $$;

-- --- the office's queue, and where an application stands

-- Providers with something to verify, by their oldest submission, then by id; after (p_at, p_provider). Two index scans in that order, merged:
-- a provider shows up at the item that nothing of his is older than.
-- The plan is the indexes' order and a look-up for each row, also before statistics say so: without them a page took a second.
CREATE FUNCTION verification_queue(p_at timestamptz, p_provider uuid, p_limit int) RETURNS TABLE (at timestamptz, provider_id uuid, body json)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp
SET enable_sort = off AS $$
  WITH docs AS (
    SELECT d.uploaded_at AS at, d.provider_id FROM provider_documents d
    WHERE d.status = 'pending' AND d.replaced_by IS NULL AND ctx_admin() AND (d.uploaded_at, d.provider_id) > (p_at, p_provider)
      AND d.id = (SELECT o.id FROM provider_documents o WHERE o.provider_id = d.provider_id AND o.status = 'pending' AND o.replaced_by IS NULL
                  ORDER BY o.uploaded_at, o.id LIMIT 1)
      AND coalesce((SELECT v.submitted_at FROM provider_vehicles v WHERE v.provider_id = d.provider_id AND v.status = 'pending'
                    ORDER BY v.submitted_at, v.id LIMIT 1) >= d.uploaded_at, true)
    ORDER BY d.uploaded_at, d.provider_id LIMIT p_limit
  ), cars AS (
    SELECT v.submitted_at AS at, v.provider_id FROM provider_vehicles v
    WHERE v.status = 'pending' AND ctx_admin() AND (v.submitted_at, v.provider_id) > (p_at, p_provider)
      AND v.id = (SELECT o.id FROM provider_vehicles o WHERE o.provider_id = v.provider_id AND o.status = 'pending'
                  ORDER BY o.submitted_at, o.id LIMIT 1)
      AND coalesce((SELECT d.uploaded_at FROM provider_documents d WHERE d.provider_id = v.provider_id AND d.status = 'pending' AND d.replaced_by IS NULL
                    ORDER BY d.uploaded_at, d.id LIMIT 1) > v.submitted_at, true)
    ORDER BY v.submitted_at, v.provider_id LIMIT p_limit
  ), heads AS (
    SELECT * FROM docs UNION ALL SELECT * FROM cars ORDER BY 1, 2 LIMIT p_limit
  )
  SELECT h.at, h.provider_id, json_strip_nulls(json_build_object('provider_id', p.id, 'status', p.status, 'first_name', p.first_name,
      'last_name', p.last_name, 'service_types', p.service_types, 'submitted_at', wire_at(h.at),
      'documents', (SELECT coalesce(json_agg(document_view(d) ORDER BY d.uploaded_at, d.id), '[]') FROM provider_documents d
                    WHERE d.provider_id = p.id AND d.status = 'pending' AND d.replaced_by IS NULL),
      'vehicles', (SELECT coalesce(json_agg(vehicle_view(v) ORDER BY v.submitted_at, v.id), '[]') FROM provider_vehicles v
                   WHERE v.provider_id = p.id AND v.status = 'pending')))
  FROM heads h JOIN providers p ON p.id = h.provider_id ORDER BY h.at, h.provider_id
$$;

-- The way to the first job, step by step. `missing` says what the provider himself has to do.
CREATE FUNCTION onboarding_view(p_provider uuid) RETURNS json
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT json_build_object('provider_id', p.id, 'status', p.status, 'steps', (
    SELECT json_agg(json_strip_nulls(json_build_object('step', s.step, 'service_type', s.service_type, 'state', s.state, 'missing', s.missing,
      'reason', s.reason)) ORDER BY s.i, s.j)
    FROM (
      SELECT 1 AS i, 0 AS j, 'email' AS step, NULL AS service_type, CASE WHEN e.ok THEN 'done' ELSE 'open' END AS state,
        CASE WHEN e.ok THEN '{}' ELSE '{email}' END::text[] AS missing, NULL AS reason FROM (SELECT email_verified(p.user_id, p.email) AS ok) e
      UNION ALL
      SELECT 2, t.j, 'documents', t.kind, CASE WHEN cardinality(m.open) > 0 THEN 'open' WHEN cardinality(m.unapproved) > 0 THEN 'waiting' ELSE 'done' END,
        m.open, NULL
      FROM unnest(p.service_types) WITH ORDINALITY AS t(kind, j)
      CROSS JOIN LATERAL (SELECT documents_missing(p.id, ARRAY[t.kind], true) AS open, documents_missing(p.id, ARRAY[t.kind], false) AS unapproved) m
      UNION ALL
      SELECT 3, 0, 'vehicle', NULL, w.state, CASE WHEN w.state = 'open' THEN '{vehicle}' ELSE '{}' END::text[], NULL FROM (SELECT CASE
          WHEN vehicle_ready(p.id) THEN 'done'
          WHEN NOT EXISTS (SELECT FROM service_requirements r WHERE r.service_type = ANY (p.service_types) AND r.vehicle) THEN 'optional'
          WHEN EXISTS (SELECT FROM provider_vehicles v WHERE v.provider_id = p.id AND v.status = 'pending') THEN 'waiting'
          ELSE 'open' END AS state) w
      UNION ALL
      SELECT 4, 0, 'review', NULL, CASE p.status WHEN 'pending' THEN 'open' WHEN 'pending_verification' THEN 'waiting' WHEN 'rejected' THEN 'rejected'
          WHEN 'suspended' THEN 'suspended' ELSE 'done' END, '{}', coalesce(p.rejection_reason, p.suspension_reason)) s))
  FROM providers p WHERE p.id = p_provider AND ctx_may(p.user_id)
$$;

-- --- the end of papers

-- The threshold that stands at so many days before the end; NULL: none yet.
CREATE FUNCTION warning_at(p_days int) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_days <= 1 THEN 1 WHEN p_days <= 7 THEN 7 WHEN p_days <= 30 THEN 30 END;

-- Approved documents that have run out or that their provider is to be warned of, in order, after (p_day, p_id).
CREATE FUNCTION documents_due(p_day date, p_id uuid, p_limit int) RETURNS TABLE (day date, id uuid, provider_id uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT d.expiry_date, d.id, d.provider_id FROM provider_documents d
  WHERE d.status = 'approved' AND d.replaced_by IS NULL AND d.expiry_date <= (SELECT papers_today() + 30) AND (d.expiry_date, d.id) > (p_day, p_id)
    AND (d.expiry_date < (SELECT papers_today()) OR d.warned_days IS NULL OR d.warned_days > warning_at(d.expiry_date - (SELECT papers_today())))
  ORDER BY d.expiry_date, d.id LIMIT p_limit
$$;
CREATE FUNCTION vehicles_due(p_day date, p_id uuid, p_limit int) RETURNS TABLE (day date, id uuid, provider_id uuid)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT least(v.registration_expiry, v.insurance_expiry), v.id, v.provider_id FROM provider_vehicles v
  WHERE v.status = 'approved' AND least(v.registration_expiry, v.insurance_expiry) <= (SELECT papers_today() + 30)
    AND (least(v.registration_expiry, v.insurance_expiry), v.id) > (p_day, p_id)
    AND (least(v.registration_expiry, v.insurance_expiry) < (SELECT papers_today()) OR v.warned_days IS NULL
      OR v.warned_days > warning_at(least(v.registration_expiry, v.insurance_expiry) - (SELECT papers_today())))
  ORDER BY 1, v.id LIMIT p_limit
$$;
-- Providers suspended for papers that are in order again, though no approval said so: service types or requirements have changed.
CREATE FUNCTION suspensions_over(p_limit int) RETURNS SETOF uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT p.id FROM providers p WHERE p.status = 'suspended' AND p.suspension_cause = 'documents'
    AND cardinality(documents_missing(p.id, p.service_types, false)) = 0 ORDER BY p.created_at DESC, p.id DESC LIMIT p_limit
$$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.papers_today, dispatch.papers_end, dispatch.documents_missing, dispatch.vehicle_ready, dispatch.provider_lack,
  dispatch.providers_clear, dispatch.providers_submit, dispatch.document_view, dispatch.document_add, dispatch.document_review,
  dispatch.suspension_over, dispatch.vehicle_view, dispatch.vehicle_add, dispatch.vehicle_change, dispatch.vehicle_activate,
  dispatch.vehicle_review, dispatch.verification_queue, dispatch.onboarding_view TO dispatch_app, dispatch_system, dispatch_owner;
GRANT EXECUTE ON FUNCTION dispatch.requirements_word, dispatch.requirements_set, dispatch.gates_stale, dispatch.warning_at,
  dispatch.documents_due, dispatch.vehicles_due, dispatch.suspensions_over TO dispatch_system, dispatch_owner;

-- migrate: rollback

DROP FUNCTION dispatch.suspensions_over, dispatch.vehicles_due, dispatch.documents_due, dispatch.warning_at, dispatch.onboarding_view, dispatch.verification_queue,
  dispatch.vehicle_review, dispatch.vehicle_activate, dispatch.vehicle_change, dispatch.vehicle_add, dispatch.vehicle_view,
  dispatch.suspension_over, dispatch.document_review, dispatch.document_add, dispatch.document_view;
DROP INDEX dispatch.provider_gate_suspend;
DROP FUNCTION dispatch.providers_submit, dispatch.gates_stale, dispatch.providers_clear, dispatch.provider_lack, dispatch.vehicle_ready,
  dispatch.documents_missing, dispatch.requirements_set, dispatch.requirements_word, dispatch.papers_end, dispatch.papers_today;
DROP INDEX dispatch.provider_gate_until;
DROP TABLE dispatch.provider_vehicles, dispatch.provider_uploads, dispatch.provider_documents, dispatch.service_requirements;
