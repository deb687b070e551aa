-- name: earnings_add :value
-- $1 id, $2 provider_id, $3 user_id, $4 kind, $5 job_id, $6 market, $7 service_type, $8 payment_method, $9 currency, $10-$13 fare parts, $14 tip,
-- $15 bonus, $16 adjustment, $17 gross, $18 fee, $19 net, $20 incentive_id, $21 reverses_id, $22 reason, $23 ledger_txn_id, $24 time zone
SELECT earnings_add(ROW($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, NULL, NULL)::earnings, $24);
