"""The office's list of deliveries reads what it shows, however many there are."""

from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import orjson

from dispatch.notifications.store import Q

FIRST = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1), 51)
MANY = """
INSERT INTO users (id) SELECT gen_random_uuid() FROM generate_series(1, 500);
INSERT INTO notifications (id, recipient_id, type, locale, title, body, data, dedupe_key, created_at)
  SELECT gen_random_uuid(), u.id, 'account_suspended', 'th', 'title', 'body', '{}', n::text, clock_timestamp() - make_interval(secs => n)
    FROM users u, generate_series(1, 200) n;
INSERT INTO notification_deliveries (notification_id, channel, status, created_at)
  SELECT id, CASE WHEN i % 25000 = 0 THEN 'sms' ELSE 'email' END, CASE WHEN i % 100 = 0 THEN 'dead' ELSE 'sent' END, created_at
    FROM (SELECT *, row_number() OVER (ORDER BY id) AS i FROM notifications) n;
ANALYZE;
"""


async def test_a_page_of_deliveries_reads_little_whatever_is_asked_and_by_the_plan_for_any_values(
    database_url: str,
) -> None:
    sql = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    try:
        await sql.execute(MANY)
        for plans in ("force_generic_plan", "force_custom_plan"):
            for name, values in (
                ("deliveries_page", (None,)),
                ("deliveries_page", ("sms",)),
                ("deliveries_in", ("dead", None)),
                ("deliveries_in", ("sent", "sms")),
                ("deliveries_in", ("pending", "push")),
            ):
                async with sql.transaction():
                    await sql.execute(f"SET LOCAL plan_cache_mode = {plans}")
                    await sql.execute("SET LOCAL ROLE dispatch_app; SET LOCAL app.admin = 'on'; SET LOCAL jit = off")
                    (said,) = orjson.loads(
                        await sql.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {Q[name]}", *values, *FIRST)
                    )
                    found = await sql.fetch(Q[name], *values, *FIRST)
                read = said["Plan"]["Shared Hit Blocks"] + said["Plan"]["Shared Read Blocks"]
                assert read < 450, (plans, name, values)
                order = [(row["created_at"], row["id"]) for row in found]
                assert order == sorted(order, reverse=True)
                assert len(order) == {("sms",): 4, ("sent", "sms"): 0, ("pending", "push"): 0}.get(values, 51)
    finally:
        await sql.close()
