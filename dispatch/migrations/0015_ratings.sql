-- ratings
-- depends: 0014_wallets

-- migrate: apply

SELECT 1;

-- migrate: rollback

SELECT 1;
