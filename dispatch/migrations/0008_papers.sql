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
CREATE INDEX provider_documents_due ON provider_documents (expiry_date) WHERE status = 'approved' AND replaced_by IS NULL;
CREATE INDEX provider_documents_queue ON provider_documents (uploaded_at, provider_id) WHERE status = 'pending' AND replaced_by IS NULL;

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
CREATE INDEX provider_vehicles_due ON provider_vehicles (least(registration_expiry, insurance_expiry)) WHERE status = 'approved';
CREATE INDEX provider_gate_until ON provider_gate (cleared_until) WHERE cleared_until IS NOT NULL;
CREATE INDEX provider_vehicles_queue ON provider_vehicles (submitted_at, provider_id) WHERE status = 'pending';

ALTER TABLE service_requirements ENABLE ROW LEVEL SECURITY;
ALTER TABLE service_requirements FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_documents FORCE ROW LEVEL SECURITY;
ALTER TABLE provider_vehicles ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_vehicles FORCE ROW LEVEL SECURITY;
CREATE POLICY service_requirements_system ON service_requirements TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY provider_documents_read ON provider_documents FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY provider_documents_system ON provider_documents TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY provider_documents_owner ON provider_documents FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY provider_vehicles_read ON provider_vehicles FOR SELECT TO dispatch_app USING (user_id = ctx_user() OR ctx_admin());
CREATE POLICY provider_vehicles_system ON provider_vehicles TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON provider_documents, provider_vehicles TO dispatch_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON service_requirements, provider_documents, provider_vehicles TO dispatch_system;

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

-- Write the configuration. A service type that is not named asks for nothing. Answers whether anything changed.
CREATE FUNCTION requirements_set(p_types text[], p_documents json, p_vehicles text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  before text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('service_requirements', 0));
  before := requirements_word();
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

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA dispatch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.papers_today, dispatch.papers_end, dispatch.documents_missing, dispatch.vehicle_ready, dispatch.provider_lack,
  dispatch.providers_clear, dispatch.providers_submit TO dispatch_app, dispatch_system, dispatch_owner;
GRANT EXECUTE ON FUNCTION dispatch.requirements_word, dispatch.requirements_set, dispatch.gates_stale TO dispatch_system, dispatch_owner;

-- migrate: rollback

DROP FUNCTION dispatch.providers_submit, dispatch.gates_stale, dispatch.providers_clear, dispatch.provider_lack, dispatch.vehicle_ready,
  dispatch.documents_missing, dispatch.requirements_set, dispatch.requirements_word, dispatch.papers_end, dispatch.papers_today;
DROP INDEX dispatch.provider_gate_until;
DROP TABLE dispatch.provider_vehicles, dispatch.provider_documents, dispatch.service_requirements;
