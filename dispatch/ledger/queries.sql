-- name: purse :one
-- $1 owner_id, $2 asset, $3 users whose heads are locked first uuid[]
SELECT wallet, held, owed, owed_max FROM ledger_purse($1, $2, $3);

-- name: post :one
-- $1 kind, $2 key, $3 hash, $4 source kinds text[], $5 source owners uuid[], $6 destination kinds text[], $7 destination owners uuid[],
-- $8 amounts bigint[], $9 asset, $10 ref, $11 txn that it reverses, $12 meta json
SELECT p.txn, p.replayed FROM (
  SELECT array_agg(ledger_account_of(l.src, l.src_owner, $9) ORDER BY l.n) AS src, array_agg(ledger_account_of(l.dst, l.dst_owner, $9) ORDER BY l.n) AS dst
  FROM unnest($4::text[], $5::uuid[], $6::text[], $7::uuid[]) WITH ORDINALITY AS l(src, src_owner, dst, dst_owner, n)
) a CROSS JOIN LATERAL ledger_post($1, $2, $3, a.src, a.dst, $8, $10, $11, $12) p;

-- name: configure :exec
-- $1 debt limit in minor units
SELECT ledger_configure($1);

-- name: accounts_off :many
-- (a), (b), (e): accounts that differ from their entries. One reading of all entries. $1 how many at most
SELECT a.id, a.kind, a.owner_id, a.asset, a.balance, a.version, coalesce(e.total, 0)::bigint AS total, coalesce(e.n, 0) AS n, coalesce(e.broken, 0) AS broken
FROM ledger_account a LEFT JOIN (
  SELECT account_id, sum(amount) AS total, count(*) AS n,
    count(*) FILTER (WHERE seq <> nth OR balance_before <> before OR balance_after <> balance_before + amount) AS broken
  FROM (SELECT account_id, seq, amount, balance_before, balance_after, row_number() OVER w AS nth, coalesce(lag(balance_after) OVER w, 0) AS before
        FROM ledger_entry WINDOW w AS (PARTITION BY account_id ORDER BY seq)) chain
  GROUP BY account_id
) e ON e.account_id = a.id
WHERE a.balance <> coalesce(e.total, 0) OR a.version <> coalesce(e.n, 0) OR coalesce(e.broken, 0) > 0 ORDER BY a.id LIMIT $1;

-- name: txns_off :many
-- (c): transactions without entries, and legs that do not sum to zero. $1 how many at most
SELECT t.id, t.kind, t.idem_key, NULL::smallint AS leg, 0::bigint AS total FROM ledger_txn t
WHERE NOT EXISTS (SELECT FROM ledger_entry e WHERE e.txn_id = t.id)
UNION ALL
SELECT t.id, t.kind, t.idem_key, l.leg, l.total FROM (
  SELECT txn_id, leg, sum(amount)::bigint AS total FROM ledger_entry GROUP BY txn_id, leg HAVING sum(amount) <> 0 OR count(*) <> 2
) l JOIN ledger_txn t ON t.id = l.txn_id
ORDER BY id, leg LIMIT $1;

-- name: assets_off :many
-- (d): assets whose balances do not sum to zero.
SELECT asset, sum(balance)::bigint AS total FROM ledger_account GROUP BY asset HAVING sum(balance) <> 0 ORDER BY asset;

-- name: lots_left :many
-- (h): lots that have ended and still hold something. $1 grace in s, $2 how many at most
SELECT id, kind, owner_id, asset, balance, expires_at FROM ledger_account
WHERE expires_at < clock_timestamp() - make_interval(secs => $1) AND balance <> 0 ORDER BY id LIMIT $2;

-- name: clearing_of :many
-- (i): what a clearing account has open by the outside world's reference, and how much of it is late. $1 kind, $2 late is what was posted before
SELECT t.ref, a.asset, sum(e.amount)::bigint AS amount, coalesce(sum(e.amount) FILTER (WHERE e.at < $2), 0)::bigint AS late, min(e.at) AS since
FROM ledger_account a JOIN ledger_entry e ON e.account_id = a.id JOIN ledger_txn t ON t.id = e.txn_id
WHERE a.kind = $1 GROUP BY t.ref, a.asset;

-- name: clearing_totals :many
-- What is open in all, by clearing account. $1 kinds text[]
SELECT a.kind, a.asset, sum(a.balance)::bigint AS amount FROM ledger_account a WHERE a.kind = ANY ($1::text[]) GROUP BY a.kind, a.asset ORDER BY a.kind, a.asset;

-- name: statement :many
-- What an owner had at a moment, by account. $1 owner_id, $2 at
SELECT a.kind, a.asset, coalesce(sum(e.amount), 0)::bigint AS balance, count(e.seq) AS entries, max(e.at) AS last_at
FROM ledger_account a LEFT JOIN ledger_entry e ON e.account_id = a.id AND e.at <= $2
WHERE a.owner_id = $1 GROUP BY a.id, a.kind, a.asset ORDER BY a.asset, a.kind, a.id;

-- name: counts :one
-- How much there is.
SELECT (SELECT count(*) FROM ledger_account) AS accounts, (SELECT count(*) FROM ledger_txn) AS txns, (SELECT count(*) FROM ledger_entry) AS entries;
