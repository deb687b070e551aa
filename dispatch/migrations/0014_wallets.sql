-- wallets
-- depends: 0013_earnings

-- migrate: apply

SELECT 1;

-- migrate: rollback

SELECT 1;
