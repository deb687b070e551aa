-- performance
-- depends: 0016_incentives

-- migrate: apply

SELECT 1;

-- migrate: rollback

SELECT 1;
