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

-- name: legs :many
-- $1 txn_id
SELECT src_kind, dst_kind, amount FROM ledger_legs($1);

-- name: configure :exec
-- $1 debt limit in minor units
SELECT ledger_configure($1);
