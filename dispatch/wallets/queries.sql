-- name: purses :many
-- What somebody has, by currency. $1 owner_id
SELECT asset, coalesce(sum(balance) FILTER (WHERE kind = 'wallet'), 0)::bigint AS wallet, coalesce(sum(balance) FILTER (WHERE kind = 'payout_pending'), 0)::bigint AS held,
  coalesce(-sum(balance) FILTER (WHERE kind = 'provider_debt'), 0)::bigint AS owed
FROM ledger_account WHERE owner_id = $1 AND kind IN ('wallet', 'payout_pending', 'provider_debt') GROUP BY asset ORDER BY asset;

-- name: entries :many
-- Of the own wallet before a place in the list, newest first; the id is the entry's number. $1 owner_id, $2 asset, $3 before seq, $4 limit
SELECT view, created_at, lpad(to_hex(seq), 32, '0')::uuid AS id FROM wallet_entries($1, $2, $3, $4);

-- name: gate :one
-- First lock of what a provider asks about his money. $1 user_id
SELECT provider_id, status FROM wallet_gate($1);

-- name: account_add :one
-- $1 id, $2 user_id, $3 bank_code, $4 account_name, $5 sealed bytea, $6 key_id, $7 last_four, $8 document_id
SELECT word, view FROM bank_account_add($1, $2, $3, $4, $5, $6, $7, $8);

-- name: account_remove :value
-- $1 id, $2 user_id
SELECT bank_account_remove($1, $2);

-- name: accounts_of :many
-- Own ones that are not removed, newest first. $1 user_id, $2 limit
SELECT bank_account_view(b) AS view FROM bank_accounts b WHERE user_id = $1 AND removed_at IS NULL ORDER BY created_at DESC, id DESC LIMIT $2;

-- name: accounts_file :many
-- A provider's, for admins, removed ones too, newest first. $1 provider_id, $2 limit
SELECT b.id, b.sealed, bank_account_view(b) AS view FROM bank_accounts b WHERE provider_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2;

-- name: provider_known :value
-- $1 provider_id
SELECT EXISTS (SELECT FROM providers WHERE id = $1);

-- name: withdrawal_open :one
-- $1 id, $2 user_id, $3 bank_account_id, $4 amount_minor, $5 currency, $6 until it is estimated to be done interval
SELECT word, view FROM withdrawal_open($1, $2, $3, $4, $5, $6);

-- name: withdrawals_of :many
-- Own ones, newest first. $1 user_id, $2 requested before, $3 id before, $4 limit
SELECT withdrawal_view(w) AS view, requested_at AS created_at, id FROM withdrawals w
WHERE user_id = $1 AND (requested_at, id) < ($2, $3) ORDER BY requested_at DESC, id DESC LIMIT $4;

-- name: withdrawal_own :value
-- $1 id, $2 user_id
SELECT withdrawal_view(w) FROM withdrawals w WHERE id = $1 AND user_id = $2;

-- name: withdrawals_all :many
-- Everybody's, for admins, oldest first. $1 requested after, $2 id after, $3 limit
SELECT withdrawal_file(w) AS view, requested_at AS created_at, id FROM withdrawals w
WHERE (requested_at, id) > ($1, $2) ORDER BY requested_at, id LIMIT $3;

-- name: withdrawals_in :many
-- Those in one status, for admins, oldest first. $1 status, $2 requested after, $3 id after, $4 limit
SELECT withdrawal_file(w) AS view, requested_at AS created_at, id FROM withdrawals w
WHERE status = $1 AND (requested_at, id) > ($2, $3) ORDER BY requested_at, id LIMIT $4;

-- name: withdrawals_stuck :many
-- Those that have been processing for more than 30 minutes, for admins, oldest first. $1 requested after, $2 id after, $3 limit
SELECT withdrawal_file(w) AS view, requested_at AS created_at, id FROM withdrawals w
WHERE status = 'processing' AND processing_at < clock_timestamp() - interval '30 minutes' AND (requested_at, id) > ($1, $2) ORDER BY requested_at, id LIMIT $3;

-- name: withdrawal_file :value
-- For admins. $1 id
SELECT withdrawal_file(w) FROM withdrawals w WHERE id = $1;

-- name: withdrawal_sealed :one
-- The number that it goes to, for admins. $1 id
SELECT b.id, b.sealed, withdrawal_file(w) AS view FROM withdrawals w JOIN bank_accounts b ON b.id = w.bank_account_id WHERE w.id = $1;

-- name: withdrawal_lock :one
-- $1 id
SELECT user_id, status, way, amount_minor, currency, lease, stuck, held_now FROM withdrawal_lock($1);

-- name: withdrawal_process :value
-- $1 id, $2 gateway, folder or manual, $3 admin's user_id
SELECT withdrawal_process($1, $2, $3);

-- name: withdrawal_resolve :value
-- $1 id, $2 status, $3 reason, $4 transaction_id, $5 admin's user_id or NULL
SELECT withdrawal_resolve($1, $2, $3, $4, $5);

-- name: payout_claim :one
-- $1 id, $2 gateway or folder, $3 lease uuid, $4 seconds that the lease lasts
SELECT word, wait_s, sent_before, tries, amount_minor, currency, account_id, bank_code, account_name, sealed FROM payout_claim($1, $2, $3, $4);

-- name: payout_sending :value
-- $1 id, $2 lease uuid, $3 seconds that it lasts anew
SELECT payout_sending($1, $2, $3);

-- name: payout_later :exec
-- $1 id, $2 lease uuid, $3 seconds to the next question, $4 error, $5 whether the question counts
SELECT payout_later($1, $2, $3, $4, $5);

-- name: payouts_rescue :value
-- $1 gateway or folder, $2 seconds overdue, $3 limit
SELECT payouts_rescue($1, $2, $3);

-- name: sealed_before :many
-- Numbers that are sealed with another key than this one, by id. $1 key_id, $2 id before, $3 limit
SELECT id, sealed FROM bank_accounts WHERE key_id <> $1 AND id > $2 ORDER BY id LIMIT $3 FOR UPDATE;

-- name: reseal :exec
-- $1 ids uuid[], $2 sealed bytea[], $3 key_id
UPDATE bank_accounts b SET sealed = n.sealed, key_id = $3 FROM unnest($1::uuid[], $2::bytea[]) AS n(id, sealed) WHERE b.id = n.id;

-- name: held_off :many
-- Where what is held is not what undecided withdrawals add up to.
SELECT coalesce(a.owner_id, w.user_id) AS owner_id, coalesce(a.asset, w.currency) AS currency, coalesce(a.held, 0)::bigint AS held, coalesce(w.asked, 0)::bigint AS asked
FROM (SELECT owner_id, asset, sum(balance) AS held FROM ledger_account WHERE kind = 'payout_pending' GROUP BY owner_id, asset) a
FULL JOIN (SELECT user_id, currency, sum(amount_minor) AS asked FROM withdrawals WHERE status IN ('pending', 'processing') GROUP BY user_id, currency) w
  ON w.user_id = a.owner_id AND w.currency = a.asset
WHERE coalesce(a.held, 0) <> coalesce(w.asked, 0) ORDER BY 1, 2;

-- name: payouts_stuck :many
-- Withdrawals that have been processing for more than 30 minutes, oldest first.
SELECT id, user_id, amount_minor, currency, way, processing_at, tries, last_error FROM withdrawals
WHERE status = 'processing' AND processing_at < clock_timestamp() - interval '30 minutes' ORDER BY processing_at, id;

-- name: paid_out :many
-- Completed withdrawals with what had been paid out in all up to and with each. $1 user_id, $2 currency, $3 from this sum on, $4 up to the first that reaches it
SELECT id, upto::bigint AS upto FROM (
  SELECT w.id, w.amount_minor, sum(w.amount_minor) OVER (ORDER BY w.processed_at, w.id) AS upto, w.processed_at FROM withdrawals w
  WHERE w.user_id = $1 AND w.currency = $2 AND w.status = 'completed') s
WHERE s.upto >= $3 AND s.upto - s.amount_minor < $4 ORDER BY s.processed_at, s.id;
