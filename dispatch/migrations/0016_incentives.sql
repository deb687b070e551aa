-- incentives
-- depends: 0015_ratings

-- migrate: apply

SELECT 1;

-- migrate: rollback

SELECT 1;
