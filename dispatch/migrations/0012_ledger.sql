-- the ledger: accounts, transactions, entries, and the one function that writes them
-- depends: 0011_office

-- migrate: apply

SET LOCAL ROLE dispatch_owner;
SET LOCAL search_path = dispatch, pg_temp;

-- The chart of accounts. An owned account is somebody's (a provider's user, a booking, a partner, a member) and has a floor; the platform's own
-- and the outside world's have none, and 16 shards each, so that a hot one is not one row.
CREATE TABLE ledger_kind (
  kind text PRIMARY KEY CHECK (kind ~ '^[a-z_]{3,40}$'),
  owned boolean NOT NULL,
  floor bigint,
  what text NOT NULL,
  CHECK (owned = (floor IS NOT NULL))
);
INSERT INTO ledger_kind (kind, owned, floor, what) VALUES
  ('wallet', true, 0, 'money that its owner may take out'),
  ('payout_pending', true, 0, 'held for withdrawals that are not decided yet'),
  ('provider_debt', true, 0, 'fees of cash jobs that the wallet could not pay; the floor is a setting'),
  ('booking_escrow', true, 0, 'a customer''s payment until the work is done or given back; one account per booking'),
  ('credits', true, 0, 'credits without an end'),
  ('partner_pool', true, 0, 'a partner''s credits that nobody has got yet'),
  ('partner_lot', true, 0, 'credits given to a member, with an end; one account per grant'),
  ('ride_clearing', false, NULL, 'what customers pay for jobs'),
  ('stripe_clearing', false, NULL, 'what came in and went out through the card processor'),
  ('bank_clearing', false, NULL, 'what was paid out through the bank'),
  ('platform_fee', false, NULL, 'the platform''s share'),
  ('promo_expense', false, NULL, 'bonuses paid'),
  ('fee_writeoff', false, NULL, 'fees of cash jobs beyond the debt limit: the platform''s loss'),
  ('adjustment_expense', false, NULL, 'corrections by the office'),
  ('credit_issuance', false, NULL, 'where credits come from'),
  ('credit_redeemed', false, NULL, 'where credits go that were used'),
  ('credit_expired', false, NULL, 'where credits go that ran out');

CREATE TABLE ledger_account (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL REFERENCES ledger_kind (kind),
  owner_id uuid,
  asset text NOT NULL CHECK (asset ~ '^[A-Z]{3,8}$'),
  shard smallint NOT NULL DEFAULT 0 CHECK (shard BETWEEN 0 AND 15),
  balance bigint NOT NULL DEFAULT 0,
  version bigint NOT NULL DEFAULT 0,                      -- how many entries
  min_balance bigint,                                     -- NULL: unbounded
  expires_at timestamptz,                                 -- a lot's end
  CONSTRAINT ledger_floor CHECK (min_balance IS NULL OR balance >= min_balance)
) WITH (fillfactor = 50);
-- Never `balance` in an index or a predicate: it would end HOT updates.
CREATE UNIQUE INDEX ledger_account_key ON ledger_account (kind, owner_id, asset, shard) NULLS NOT DISTINCT WHERE expires_at IS NULL;
CREATE INDEX ledger_account_of ON ledger_account (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX ledger_account_lots ON ledger_account (kind, owner_id, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE ledger_txn (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 40),
  idem_key text NOT NULL UNIQUE CHECK (length(idem_key) BETWEEN 1 AND 200),  -- the business key, for ever
  req_hash bytea NOT NULL,                                -- of what was asked for, not of the legs: they depend on balances
  reverses bigint REFERENCES ledger_txn (id),
  ref text,                                               -- what the outside world knows it by: clearing accounts net to 0 per ref
  actor_id uuid,
  meta json NOT NULL DEFAULT '{}',
  posted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX ledger_txn_reversed_once ON ledger_txn (reverses) WHERE reverses IS NOT NULL;

-- Money goes from `src` to `dst` by a positive amount: a leg is two rows of opposite sign, so an unbalanced transaction cannot be written.
CREATE TABLE ledger_entry (
  account_id bigint NOT NULL REFERENCES ledger_account (id),
  seq bigint NOT NULL,
  txn_id bigint NOT NULL REFERENCES ledger_txn (id),
  leg smallint NOT NULL,
  owner_id uuid,
  amount bigint NOT NULL CHECK (amount <> 0),
  balance_before bigint NOT NULL,
  balance_after bigint NOT NULL,
  at timestamptz NOT NULL,                                -- taken under the accounts' locks, one for all entries of a transaction: grows with seq
  PRIMARY KEY (account_id, seq),
  CHECK (balance_after = balance_before + amount)
);
CREATE INDEX ledger_entry_txn ON ledger_entry (txn_id);

ALTER TABLE ledger_kind ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_kind FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_account ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_account FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_txn ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_txn FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY ledger_kind_system ON ledger_kind TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY ledger_kind_owner ON ledger_kind FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY ledger_account_read ON ledger_account FOR SELECT TO dispatch_app USING (owner_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY ledger_account_system ON ledger_account TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY ledger_account_owner ON ledger_account FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY ledger_txn_read ON ledger_txn FOR SELECT TO dispatch_app USING ((SELECT ctx_admin()));
CREATE POLICY ledger_txn_system ON ledger_txn TO dispatch_system USING (true) WITH CHECK (true);
CREATE POLICY ledger_txn_owner ON ledger_txn FOR SELECT TO dispatch_owner USING (true);
CREATE POLICY ledger_entry_read ON ledger_entry FOR SELECT TO dispatch_app USING (owner_id = (SELECT ctx_user()) OR (SELECT ctx_admin()));
CREATE POLICY ledger_entry_system ON ledger_entry TO dispatch_system USING (true) WITH CHECK (true);
GRANT SELECT ON ledger_account, ledger_txn, ledger_entry TO dispatch_app;
GRANT SELECT, INSERT, UPDATE ON ledger_account, ledger_kind TO dispatch_system;
GRANT SELECT, INSERT ON ledger_txn, ledger_entry TO dispatch_system;

-- Nobody has the right to change what was posted; whoever has all rights meets this.
CREATE FUNCTION ledger_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE insufficient_privilege USING MESSAGE = 'the ledger is append-only: correct it by a posting';
END $$;
CREATE TRIGGER ledger_txn_frozen BEFORE UPDATE OR DELETE ON ledger_txn FOR EACH ROW EXECUTE FUNCTION ledger_frozen();
CREATE TRIGGER ledger_txn_kept BEFORE TRUNCATE ON ledger_txn FOR EACH STATEMENT EXECUTE FUNCTION ledger_frozen();
CREATE TRIGGER ledger_entry_frozen BEFORE UPDATE OR DELETE ON ledger_entry FOR EACH ROW EXECUTE FUNCTION ledger_frozen();
CREATE TRIGGER ledger_entry_kept BEFORE TRUNCATE ON ledger_entry FOR EACH STATEMENT EXECUTE FUNCTION ledger_frozen();
ALTER TABLE ledger_txn ENABLE ALWAYS TRIGGER ledger_txn_frozen;
ALTER TABLE ledger_txn ENABLE ALWAYS TRIGGER ledger_txn_kept;
ALTER TABLE ledger_entry ENABLE ALWAYS TRIGGER ledger_entry_frozen;
ALTER TABLE ledger_entry ENABLE ALWAYS TRIGGER ledger_entry_kept;

RESET ROLE;
GRANT CREATE ON SCHEMA dispatch TO dispatch_system;
SET LOCAL ROLE dispatch_system;
SET LOCAL search_path = dispatch, pg_temp;

-- The account of a kind and owner, made when it is first asked for. The platform's: the shard of this connection.
CREATE FUNCTION ledger_account_of(p_kind text, p_owner uuid, p_asset text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  k ledger_kind;
  part smallint := CASE WHEN p_owner IS NULL THEN pg_backend_pid() % 16 ELSE 0 END;
  account bigint;
BEGIN
  FOR turn IN 1..2 LOOP
    -- Two statements: IS NOT DISTINCT FROM cannot use the index.
    IF p_owner IS NULL THEN
      SELECT a.id INTO account FROM ledger_account a WHERE a.kind = p_kind AND a.owner_id IS NULL AND a.asset = p_asset AND a.shard = part AND a.expires_at IS NULL;
    ELSE
      SELECT a.id INTO account FROM ledger_account a WHERE a.kind = p_kind AND a.owner_id = p_owner AND a.asset = p_asset AND a.shard = 0 AND a.expires_at IS NULL;
    END IF;
    IF account IS NOT NULL THEN
      RETURN account;
    END IF;
    SELECT * INTO k FROM ledger_kind WHERE kind = p_kind;
    IF NOT FOUND OR k.owned <> (p_owner IS NOT NULL) THEN
      RAISE EXCEPTION 'LEDGER_BAD_LEG' USING ERRCODE = 'LD400', DETAIL = format('no account of kind %s for owner %s', p_kind, p_owner);
    END IF;
    -- A missing row takes no lock: it is made first, and by one of all who miss it; the others find it in their second turn.
    INSERT INTO ledger_account (kind, owner_id, asset, shard, min_balance) VALUES (p_kind, p_owner, p_asset, part, k.floor)
      ON CONFLICT (kind, owner_id, asset, shard) WHERE expires_at IS NULL DO NOTHING RETURNING id INTO account;
    IF account IS NOT NULL THEN
      RETURN account;
    END IF;
  END LOOP;
  RAISE EXCEPTION 'the account % of % was made and is gone', p_kind, p_owner;
END $$;

-- A lot: an account of its own that counts until `p_expires`. Its key keeps one grant one lot.
CREATE FUNCTION ledger_lot_open(p_kind text, p_owner uuid, p_asset text, p_expires timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
  INSERT INTO ledger_account (kind, owner_id, asset, min_balance, expires_at)
  SELECT p_kind, p_owner, p_asset, k.floor, p_expires FROM ledger_kind k WHERE k.kind = p_kind AND k.owned RETURNING id
$$;

-- The living lots of an owner, locked, soonest end first, as far as `p_amount` needs them. Fewer than asked for: there is no more.
CREATE FUNCTION ledger_lots(p_kind text, p_owner uuid, p_asset text, p_amount bigint) RETURNS TABLE (account_id bigint, amount bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM ctx_require(p_owner);
  PERFORM 1 FROM ledger_account a WHERE a.kind = p_kind AND a.owner_id = p_owner AND a.asset = p_asset AND a.expires_at > clock_timestamp()
    ORDER BY a.id FOR NO KEY UPDATE;
  RETURN QUERY
  WITH lots AS (
    SELECT a.id, a.balance, sum(a.balance) OVER (ORDER BY a.expires_at, a.id) - a.balance AS before FROM ledger_account a
    WHERE a.kind = p_kind AND a.owner_id = p_owner AND a.asset = p_asset AND a.expires_at > clock_timestamp() AND a.balance > 0
  )
  SELECT l.id, least(l.balance, p_amount - l.before)::bigint FROM lots l WHERE l.before < p_amount ORDER BY l.before;
END $$;

-- What an owner has in one asset, with his wallet locked until the end of the transaction: every change of his money begins here, so two
-- of them do not see the same balance. The heads of `p_tell` are locked before (they come before the ledger in the server's one order), so that
-- what is posted may be told with its balances.
CREATE FUNCTION ledger_purse(p_owner uuid, p_asset text, p_tell uuid[], OUT wallet bigint, OUT held bigint, OUT owed bigint, OUT owed_max bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  id_of bigint;
BEGIN
  PERFORM 1 FROM inbox_head h WHERE h.user_id = ANY (p_tell) ORDER BY h.user_id FOR NO KEY UPDATE;
  id_of := ledger_account_of('wallet', p_owner, p_asset);
  SELECT a.balance INTO wallet FROM ledger_account a WHERE a.id = id_of FOR NO KEY UPDATE;
  SELECT coalesce(sum(a.balance) FILTER (WHERE a.kind = 'payout_pending'), 0), coalesce(-sum(a.balance) FILTER (WHERE a.kind = 'provider_debt'), 0)
    INTO held, owed FROM ledger_account a WHERE a.owner_id = p_owner AND a.asset = p_asset AND a.kind IN ('payout_pending', 'provider_debt');
  -- The setting, also where an account's own floor is still lower: what was paid back of an old debt is not lent again.
  SELECT -greatest(k.floor, (SELECT a.min_balance FROM ledger_account a WHERE a.kind = 'provider_debt' AND a.owner_id = p_owner AND a.asset = p_asset))
    INTO owed_max FROM ledger_kind k WHERE k.kind = 'provider_debt';
END $$;

-- The only writer. Legs are (source, destination, amount) by position. `p_hash` says what was asked for: the same key with the same hash is a
-- replay and changes nothing, with another it is refused (LD409). A bad leg is LD400; a balance below its floor 23514 on ledger_floor.
-- Who takes from an owned account must be its owner, an admin or the server; giving is free. Call it last: what it locks is hot.
CREATE FUNCTION ledger_post(p_kind text, p_key text, p_hash bytea, p_src bigint[], p_dst bigint[], p_amount bigint[], p_ref text, p_reverses bigint, p_meta json,
  OUT txn bigint, OUT replayed boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
DECLARE
  known bytea;
  ids bigint[];
  locked ledger_account[];
  bad text;
  moment timestamptz;
  taken_from uuid[];
  owner uuid;
BEGIN
  replayed := false;
  INSERT INTO ledger_txn (kind, idem_key, req_hash, reverses, ref, actor_id, meta) VALUES (p_kind, p_key, p_hash, p_reverses, p_ref, ctx_user(), coalesce(p_meta, '{}'))
    ON CONFLICT (idem_key) DO NOTHING RETURNING id INTO txn;
  IF txn IS NULL THEN
    SELECT t.id, t.req_hash INTO txn, known FROM ledger_txn t WHERE t.idem_key = p_key;
    IF known IS DISTINCT FROM p_hash THEN
      RAISE EXCEPTION 'IDEMPOTENCY_KEY_REUSED' USING ERRCODE = 'LD409', DETAIL = p_key;
    END IF;
    replayed := true;
    RETURN;
  END IF;
  IF coalesce(cardinality(p_src), 0) = 0 OR cardinality(p_src) > 1000 OR cardinality(p_src) <> cardinality(p_dst) OR cardinality(p_src) <> cardinality(p_amount) THEN
    RAISE EXCEPTION 'LEDGER_BAD_LEG' USING ERRCODE = 'LD400', DETAIL = 'no legs, or lists of different lengths';
  END IF;
  ids := p_src || p_dst;
  SELECT array_agg(l.a) INTO locked FROM (
    SELECT a FROM ledger_account a WHERE a.id = ANY (ids) ORDER BY (a.min_balance IS NULL), a.id FOR NO KEY UPDATE) l;
  SELECT format('leg %s: %s from %s to %s', l.n, l.amount, l.src, l.dst) INTO bad
    FROM unnest(p_src, p_dst, p_amount) WITH ORDINALITY AS l(src, dst, amount, n)
    LEFT JOIN unnest(locked) s ON s.id = l.src LEFT JOIN unnest(locked) d ON d.id = l.dst
   WHERE s.id IS NULL OR d.id IS NULL OR l.amount IS NULL OR l.amount <= 0 OR l.amount > 9007199254740992 OR l.src = l.dst OR s.asset <> d.asset
      OR (p_kind <> 'expiry' AND (s.expires_at <= clock_timestamp() OR d.expires_at <= clock_timestamp())) LIMIT 1;
  IF bad IS NOT NULL THEN
    RAISE EXCEPTION 'LEDGER_BAD_LEG' USING ERRCODE = 'LD400', DETAIL = bad;
  END IF;
  moment := clock_timestamp();
  WITH moves AS (
    SELECT m.k, m.leg, m.amount, a.id, a.owner_id, a.balance, a.version, sum(m.amount) OVER w AS upto, row_number() OVER w AS nth
    FROM (
      SELECT n * 2 - 1 AS k, n AS leg, src AS id, -amount AS amount FROM unnest(p_src, p_dst, p_amount) WITH ORDINALITY AS l(src, dst, amount, n)
      UNION ALL
      SELECT n * 2, n, dst, amount FROM unnest(p_src, p_dst, p_amount) WITH ORDINALITY AS l(src, dst, amount, n)
    ) m JOIN unnest(locked) a ON a.id = m.id
    WINDOW w AS (PARTITION BY m.id ORDER BY m.k)
  ), written AS (
    INSERT INTO ledger_entry (account_id, seq, txn_id, leg, owner_id, amount, balance_before, balance_after, at)
    SELECT m.id, m.version + m.nth, txn, m.leg, m.owner_id, m.amount, m.balance + m.upto - m.amount, m.balance + m.upto, moment FROM moves m
  ), changed AS (
    UPDATE ledger_account a SET balance = t.balance + t.amount, version = t.version + t.n
    FROM (SELECT m.id, m.balance, m.version, sum(m.amount)::bigint AS amount, count(*) AS n FROM moves m GROUP BY m.id, m.balance, m.version) t
    WHERE a.id = t.id AND a.id = ANY (ids) RETURNING a.owner_id, t.amount
  )
  SELECT array_agg(DISTINCT c.owner_id) INTO taken_from FROM changed c WHERE c.amount < 0 AND c.owner_id IS NOT NULL;
  FOREACH owner IN ARRAY coalesce(taken_from, '{}') LOOP
    PERFORM ctx_require(owner);
  END LOOP;
END $$;

-- The setting of the debt limit, in minor units of whatever asset. Who owes more already keeps what he owes, and can owe no more.
CREATE FUNCTION ledger_configure(p_debt_limit bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = dispatch, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger_configure', 0));
  UPDATE ledger_kind SET floor = -p_debt_limit WHERE kind = 'provider_debt' AND floor <> -p_debt_limit;
  UPDATE ledger_account a SET min_balance = least(-p_debt_limit, a.balance) WHERE a.kind = 'provider_debt' AND a.min_balance <> least(-p_debt_limit, a.balance);
END $$;

-- Whether a cash job with such a fee may be given to him: his wallet and the room of his debt must hold it.
CREATE FUNCTION ledger_can_owe(p_owner uuid, p_asset text, p_fee bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = dispatch, pg_temp
RETURN coalesce((SELECT a.balance FROM ledger_account a WHERE a.kind = 'wallet' AND a.owner_id = p_owner AND a.asset = p_asset AND a.shard = 0 AND a.expires_at IS NULL), 0)
  + (SELECT coalesce((SELECT greatest(0, a.balance - greatest(a.min_balance, k.floor)) FROM ledger_account a
      WHERE a.kind = 'provider_debt' AND a.owner_id = p_owner AND a.asset = p_asset AND a.shard = 0 AND a.expires_at IS NULL), -k.floor)
    FROM ledger_kind k WHERE k.kind = 'provider_debt') >= p_fee;

RESET ROLE;
REVOKE CREATE ON SCHEMA dispatch FROM dispatch_system;
REVOKE EXECUTE ON FUNCTION dispatch.ledger_frozen, dispatch.ledger_account_of, dispatch.ledger_lot_open, dispatch.ledger_lots, dispatch.ledger_purse,
  dispatch.ledger_post, dispatch.ledger_configure, dispatch.ledger_can_owe FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dispatch.ledger_account_of, dispatch.ledger_purse, dispatch.ledger_post TO dispatch_app;

-- migrate: rollback

DROP FUNCTION dispatch.ledger_account_of, dispatch.ledger_lot_open, dispatch.ledger_lots, dispatch.ledger_purse, dispatch.ledger_post,
  dispatch.ledger_configure, dispatch.ledger_can_owe;
DROP TABLE dispatch.ledger_entry, dispatch.ledger_txn, dispatch.ledger_account, dispatch.ledger_kind;
DROP FUNCTION dispatch.ledger_frozen;
