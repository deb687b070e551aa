-- wallets: bank accounts, withdrawals and payouts
-- depends: 0013_earnings

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- Where somebody's money may go. Verified while the document that shows it is approved: the reviewer has seen the number beside the paper, since a
-- document is linked while it waits, and once for ever. Removed ones stay, for the withdrawals that went there.
CREATE TABLE bank_accounts (
  id uuid PRIMARY KEY,
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),            -- kept beside provider_id so that row policies need no sub-select
  bank_code text NOT NULL CHECK (length(bank_code) BETWEEN 2 AND 11),
  account_name text NOT NULL CHECK (length(account_name) BETWEEN 1 AND 100),
  sealed bytea NOT NULL,                                  -- the number with this row's id, encrypted
  key_id text NOT NULL CHECK (length(key_id) = 16),       -- which key it is encrypted with
  last_four text NOT NULL CHECK (length(last_four) = 4),
  document_id uuid NOT NULL UNIQUE REFERENCES provider_documents (id),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  removed_at timestamptz
);
CREATE INDEX bank_accounts_of ON bank_accounts (user_id, created_at DESC, id DESC);
CREATE INDEX bank_accounts_provider ON bank_accounts (provider_id, created_at DESC, id DESC);

-- The amount is held from the request on. `way`: who pays, the gateway, a folder or a person; fixed when it is processed, so that a changed setting
-- cannot pay it a second time, nor call paid what nobody has paid. `submitted_at`: set before it is first sent, so from then on the gateway is asked before anything is sent.
CREATE TABLE withdrawals (
  id uuid PRIMARY KEY,
  provider_id uuid NOT NULL REFERENCES providers (id),
  user_id uuid NOT NULL REFERENCES users (id),
  bank_account_id uuid NOT NULL REFERENCES bank_accounts (id),
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL CHECK (length(currency) = 3),
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'rejected')),
  way text CHECK (way IN ('gateway', 'folder', 'manual')),
  reason text CHECK (length(reason) BETWEEN 1 AND 500),
  transaction_id text CHECK (length(transaction_id) BETWEEN 1 AND 200),
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  estimated_completion_at timestamptz NOT NULL,
  processing_at timestamptz,
  processed_at timestamptz,                               -- when it was decided for good
  processed_by uuid REFERENCES users (id),                -- the admin who let it go, or decided it by hand
  submitted_at timestamptz,
  tries int NOT NULL DEFAULT 0,
  due_at timestamptz,                                     -- when it is worth asking the gateway again
  lease uuid,
  leased_until timestamptz,                               -- somebody is asking the gateway right now, or died while he was
  last_error text CHECK (length(last_error) <= 300),
  CHECK (status IN ('pending', 'rejected') = (processing_at IS NULL)),
  CHECK ((status = 'processing' AND way IS NOT NULL) OR status <> 'processing'),
  CHECK (status IN ('pending', 'processing') = (processed_at IS NULL)),
  CHECK ((status = 'completed') = (transaction_id IS NOT NULL)),
  CHECK (status NOT IN ('failed', 'rejected') OR reason IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX withdrawals_of ON withdrawals (user_id, requested_at DESC, id DESC);
CREATE INDEX withdrawals_recent ON withdrawals (requested_at, id);
CREATE INDEX withdrawals_status ON withdrawals (status, requested_at, id);
CREATE INDEX withdrawals_due ON withdrawals (way, due_at) WHERE status = 'processing' AND way <> 'manual';

ALTER TABLE bank_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE bank_accounts FORCE ROW LEVEL SECURITY;
ALTER TABLE withdrawals ENABLE ROW LEVEL SECURITY;
ALTER TABLE withdrawals FORCE ROW LEVEL SECURITY;
CREATE POLICY bank_accounts_read ON bank_accounts FOR SELECT TO dispatch_app USING (user_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY bank_accounts_system ON bank_accounts TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY bank_accounts_owner ON bank_accounts FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY withdrawals_read ON withdrawals FOR SELECT TO dispatch_app USING (user_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY withdrawals_system ON withdrawals TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON bank_accounts, withdrawals TO dispatch_app;
GRANT SELECT, INSERT, UPDATE ON bank_accounts, withdrawals TO dispatch_system;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- --- reading

-- Entries of the owner's wallet account, newest first; of the other side of each nothing is told.
CREATE FUNCTION wallet_entries(p_owner uuid, p_asset text, p_before bigint, p_limit int) RETURNS TABLE (view json, created_at timestamptz, seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  SELECT json_strip_nulls(json_build_object('at', wire_at(e.at), 'kind', t.kind, 'ref', t.ref, 'amount_minor', e.amount,
    'balance_before_minor', e.balance_before, 'balance_after_minor', e.balance_after)), e.at, e.seq
  FROM ledger_account a JOIN ledger_entry e ON e.account_id = a.id JOIN ledger_txn t ON t.id = e.txn_id
  WHERE ctx_may(p_owner) AND a.kind = 'wallet' AND a.owner_id = p_owner AND a.asset = p_asset AND a.shard = 0 AND a.expires_at IS NULL AND e.seq < p_before
  ORDER BY e.seq DESC LIMIT p_limit
$$;

-- Whether money may go there now.
CREATE FUNCTION bank_account_verified(b bank_accounts) RETURNS boolean LANGUAGE sql VOLATILE
RETURN b.removed_at IS NULL AND EXISTS (SELECT FROM provider_documents d WHERE d.id = b.document_id AND d.user_id = b.user_id AND d.status = 'approved'
  AND d.replaced_by IS NULL AND (d.expiry_date IS NULL OR d.expiry_date >= papers_today()));

CREATE FUNCTION bank_account_view(b bank_accounts) RETURNS json LANGUAGE sql VOLATILE
RETURN json_strip_nulls(json_build_object('id', b.id, 'bank_code', b.bank_code, 'last_four', b.last_four, 'account_name', b.account_name,
  'document_id', b.document_id, 'verified', bank_account_verified(b), 'created_at', wire_at(b.created_at), 'removed_at', wire_at(b.removed_at)));

-- What its owner sees. The same whoever's transaction makes it: it is also told live.
CREATE FUNCTION withdrawal_view(w withdrawals) RETURNS json LANGUAGE sql STABLE
RETURN json_strip_nulls(json_build_object('id', w.id, 'status', w.status, 'amount_minor', w.amount_minor, 'currency', w.currency,
  'bank_account_id', w.bank_account_id, 'bank_code', (SELECT b.bank_code FROM bank_accounts b WHERE b.id = w.bank_account_id),
  'last_four', (SELECT b.last_four FROM bank_accounts b WHERE b.id = w.bank_account_id),
  'requested_at', wire_at(w.requested_at), 'estimated_completion_at', wire_at(w.estimated_completion_at), 'processing_at', wire_at(w.processing_at),
  'processed_at', wire_at(w.processed_at), 'transaction_id', w.transaction_id, 'reason', w.reason));

-- What the office sees: whose it is, who decided, and how far the gateway has come.
CREATE FUNCTION withdrawal_file(w withdrawals) RETURNS json LANGUAGE sql STABLE
RETURN json_strip_nulls(json_build_object('withdrawal', withdrawal_view(w), 'user_id', w.user_id, 'provider_id', w.provider_id,
  'account_name', (SELECT b.account_name FROM bank_accounts b WHERE b.id = w.bank_account_id), 'paid_by', w.way, 'processed_by', w.processed_by,
  'submitted_at', wire_at(w.submitted_at), 'tries', w.tries, 'last_error', w.last_error,
  'stuck', w.status = 'processing' AND w.processing_at < clock_timestamp() - interval '30 minutes'));

-- --- bank accounts

-- First lock of what a provider asks about his money: a suspension, and a review of his papers, wait for it or come before it. No row: no provider.
CREATE FUNCTION wallet_gate(p_user uuid, OUT provider_id uuid, OUT status text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(p_user);
  SELECT g.provider_id, g.status INTO provider_id, status FROM provider_gate g WHERE g.user_id = p_user FOR SHARE;
END $$;

-- Link a bank account to the paper that shows it, with the gate held by the caller. Words: "linked" with the view | "document" none of his |
-- "type" it is no paper of a bank account | "late" it does not wait for a review any more, or shows another account.
CREATE FUNCTION bank_account_add(p_id uuid, p_user uuid, p_bank text, p_name text, p_sealed bytea, p_key text, p_last_four text, p_document uuid,
  OUT word text, OUT view json)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  d provider_documents;
  b bank_accounts;
BEGIN
  PERFORM ctx_require(p_user);
  SELECT * INTO d FROM provider_documents WHERE id = p_document AND user_id = p_user;
  IF NOT FOUND THEN
    word := 'document';
  ELSIF d.document_type <> 'bank_account' THEN
    word := 'type';
  ELSIF d.status <> 'pending' OR d.replaced_by IS NOT NULL THEN
    word := 'late';
  ELSE
    INSERT INTO bank_accounts AS a (id, provider_id, user_id, bank_code, account_name, sealed, key_id, last_four, document_id)
      VALUES (p_id, d.provider_id, p_user, p_bank, p_name, p_sealed, p_key, p_last_four, p_document)
      ON CONFLICT (document_id) DO NOTHING RETURNING * INTO b;
    word := CASE WHEN b.id IS NULL THEN 'late' ELSE 'linked' END;
    view := CASE WHEN b.id IS NOT NULL THEN bank_account_view(b) END;
  END IF;
END $$;

-- No money goes there any more; what was asked for before still does. False: there is none.
CREATE FUNCTION bank_account_remove(p_id uuid, p_user uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(p_user);
  UPDATE bank_accounts SET removed_at = clock_timestamp() WHERE id = p_id AND user_id = p_user AND removed_at IS NULL;
  RETURN FOUND;
END $$;

-- --- withdrawals

-- A new one, with the gate held by the caller, who holds the amount next. Words: "open" | "account" none of his | "unverified".
CREATE FUNCTION withdrawal_open(p_id uuid, p_user uuid, p_account uuid, p_amount bigint, p_currency text, p_within interval, OUT word text, OUT view json)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  b bank_accounts;
  w withdrawals;
BEGIN
  PERFORM ctx_require(p_user);
  SELECT * INTO b FROM bank_accounts WHERE id = p_account AND user_id = p_user AND removed_at IS NULL FOR SHARE;
  IF NOT FOUND THEN
    word := 'account';
  ELSIF NOT bank_account_verified(b) THEN
    word := 'unverified';
  ELSE
    INSERT INTO withdrawals (id, provider_id, user_id, bank_account_id, amount_minor, currency, estimated_completion_at)
      VALUES (p_id, b.provider_id, p_user, p_account, p_amount, p_currency, clock_timestamp() + p_within) RETURNING * INTO w;
    word := 'open';
    view := withdrawal_view(w);
  END IF;
END $$;

-- For a decision. `held_now`: somebody is asking the gateway this very moment.
CREATE FUNCTION withdrawal_lock(p_id uuid) RETURNS TABLE (user_id uuid, status text, way text, amount_minor bigint, currency text, lease uuid, stuck boolean, held_now boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  RETURN QUERY SELECT w.user_id, w.status, w.way, w.amount_minor, w.currency, w.lease,
    coalesce(w.processing_at < clock_timestamp() - interval '30 minutes', false), coalesce(w.leased_until > clock_timestamp(), false)
    FROM withdrawals w WHERE w.id = p_id FOR UPDATE;
END $$;

-- One job at a time for a withdrawal; the withdrawal's row is the truth, the job only the reason to look at it.
CREATE FUNCTION payout_enqueue(p_ids uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  IF coalesce(cardinality(p_ids), 0) = 0 THEN
    RETURN;  -- the queue's trigger wakes everybody up also for a statement that inserts nothing
  END IF;
  INSERT INTO dispatch_queue.pgqueuer (priority, entrypoint, payload, dedupe_key, status)
  SELECT 5, 'payout', convert_to(id::text, 'UTF8'), 'payout:' || id, 'queued' FROM unnest(p_ids) id
  ON CONFLICT (dedupe_key) WHERE status IN ('queued', 'picked') AND dedupe_key IS NOT NULL DO NOTHING;
END $$;

-- Let it go, judged and locked by the caller: to the gateway or the folder by a job, or to a person who pays by hand.
CREATE FUNCTION withdrawal_process(p_id uuid, p_way text, p_by uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  w withdrawals;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  UPDATE withdrawals SET status = 'processing', way = p_way, processing_at = clock_timestamp(), processed_by = p_by, due_at = clock_timestamp()
   WHERE id = p_id AND status = 'pending' RETURNING * INTO STRICT w;
  IF p_way <> 'manual' THEN
    PERFORM payout_enqueue(ARRAY[p_id]);
  END IF;
  RETURN withdrawal_view(w);
END $$;

-- Decide it for good, judged and locked by the caller, who posts what follows in the same transaction. p_by NULL: the gateway has decided.
CREATE FUNCTION withdrawal_resolve(p_id uuid, p_status text, p_reason text, p_transaction text, p_by uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  w withdrawals;
BEGIN
  PERFORM ctx_require(VARIADIC '{}');
  UPDATE withdrawals SET status = p_status, reason = p_reason, transaction_id = p_transaction, processed_at = clock_timestamp(),
    processed_by = coalesce(p_by, processed_by), lease = NULL, leased_until = NULL, due_at = NULL
   WHERE id = p_id AND status = CASE WHEN p_status = 'rejected' THEN 'pending' ELSE 'processing' END RETURNING * INTO STRICT w;
  RETURN withdrawal_view(w);
END $$;

-- --- payouts

-- Begin to ask the asking server's door `p_way`, by a conditional update: two workers never get "yours" within one lease. Words: "yours" with what to
-- pay, and whether it was sent before | "held" by another for `wait_s` more | "done" it needs nothing, or is none of this door's.
CREATE FUNCTION payout_claim(p_id uuid, p_way text, p_lease uuid, p_lease_s double precision,
  OUT word text, OUT wait_s double precision, OUT sent_before boolean, OUT tries int, OUT amount_minor bigint, OUT currency text,
  OUT account_id uuid, OUT bank_code text, OUT account_name text, OUT sealed bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
#variable_conflict use_column
DECLARE
  w withdrawals;
BEGIN
  UPDATE withdrawals u SET lease = p_lease, leased_until = clock_timestamp() + make_interval(secs => p_lease_s), tries = u.tries + 1
   WHERE u.id = p_id AND u.status = 'processing' AND u.way = p_way AND u.way <> 'manual' AND (u.leased_until IS NULL OR u.leased_until <= clock_timestamp())
   RETURNING * INTO w;
  IF NOT FOUND THEN
    SELECT greatest(0.1, coalesce(extract(epoch FROM u.leased_until - clock_timestamp()), 0)) INTO wait_s FROM withdrawals u
     WHERE u.id = p_id AND u.status = 'processing' AND u.way = p_way AND u.way <> 'manual';
    word := CASE WHEN FOUND THEN 'held' ELSE 'done' END;
    RETURN;
  END IF;
  SELECT 'yours', w.submitted_at IS NOT NULL, w.tries, w.amount_minor, w.currency, b.id, b.bank_code, b.account_name, b.sealed
    INTO word, sent_before, tries, amount_minor, currency, account_id, bank_code, account_name, sealed FROM bank_accounts b WHERE b.id = w.bank_account_id;
END $$;

-- About to be sent: from now on the gateway may have it, and the lease lasts anew, longer than the sending may. False: it was lost, and
-- nothing may be sent.
CREATE FUNCTION payout_sending(p_id uuid, p_lease uuid, p_lease_s double precision) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  UPDATE withdrawals SET submitted_at = coalesce(submitted_at, clock_timestamp()), leased_until = clock_timestamp() + make_interval(secs => p_lease_s)
   WHERE id = p_id AND status = 'processing' AND lease = p_lease AND leased_until > clock_timestamp();
  RETURN FOUND;
END $$;

-- Nothing is known yet: it stays what it is, and the gateway is asked again later. Nobody's lease but the own one ends.
CREATE FUNCTION payout_later(p_id uuid, p_lease uuid, p_wait_s double precision, p_error text, p_counted boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  UPDATE withdrawals SET lease = NULL, leased_until = NULL, due_at = clock_timestamp() + make_interval(secs => p_wait_s), last_error = p_error,
    tries = tries - CASE WHEN p_counted THEN 0 ELSE 1 END
   WHERE id = p_id AND status = 'processing' AND lease = p_lease
$$;

-- Payouts of one door that are due and have no job (its worker died, or somebody emptied the queue) get one. Returns how many.
CREATE FUNCTION payouts_rescue(p_way text, p_after_s double precision, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  lost uuid[];
BEGIN
  SELECT array_agg(x.id) INTO lost FROM (
    SELECT w.id FROM withdrawals w
     WHERE w.status = 'processing' AND w.way = p_way AND w.way <> 'manual' AND w.due_at < clock_timestamp() - make_interval(secs => p_after_s)
       AND (w.leased_until IS NULL OR w.leased_until < clock_timestamp())
     ORDER BY w.due_at LIMIT p_limit) x
   WHERE NOT EXISTS (SELECT FROM dispatch_queue.pgqueuer q WHERE q.dedupe_key = 'payout:' || x.id AND q.status IN ('queued', 'picked') AND q.dedupe_key IS NOT NULL);
  PERFORM payout_enqueue(lost);
  RETURN coalesce(cardinality(lost), 0);
END $$;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.wallet_entries, dispatch.bank_account_verified, dispatch.bank_account_view, dispatch.withdrawal_view,
  dispatch.withdrawal_file, dispatch.wallet_gate, dispatch.bank_account_add, dispatch.bank_account_remove, dispatch.withdrawal_open,
  dispatch.withdrawal_lock, dispatch.payout_enqueue, dispatch.withdrawal_process, dispatch.withdrawal_resolve, dispatch.payout_claim,
  dispatch.payout_sending, dispatch.payout_later, dispatch.payouts_rescue FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.wallet_entries, dispatch.bank_account_verified, dispatch.bank_account_view, dispatch.withdrawal_view,
  dispatch.withdrawal_file, dispatch.wallet_gate, dispatch.bank_account_add, dispatch.bank_account_remove, dispatch.withdrawal_open,
  dispatch.withdrawal_lock, dispatch.withdrawal_process, dispatch.withdrawal_resolve TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.payouts_rescue, dispatch.payout_later, dispatch.payout_sending, dispatch.payout_claim, dispatch.withdrawal_resolve,
  dispatch.withdrawal_process, dispatch.payout_enqueue, dispatch.withdrawal_lock, dispatch.withdrawal_open, dispatch.bank_account_remove,
  dispatch.bank_account_add, dispatch.wallet_gate, dispatch.withdrawal_file, dispatch.withdrawal_view, dispatch.bank_account_view,
  dispatch.bank_account_verified, dispatch.wallet_entries;
DROP TABLE dispatch.withdrawals, dispatch.bank_accounts;
