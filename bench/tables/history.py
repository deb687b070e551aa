"""A history of jobs, written by SQL; the people in it; and what a completion leaves besides."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from bench.ledger import RIDING
from bench.peers.judge import JOBS, OFFERED, OFFERS, OVER
from bench.progress import bar, say
from dispatch.app import build
from dispatch.kit import log
from dispatch.kit.embedded import Stores
from dispatch.kit.postgres import Actor
from dispatch.settings import load
from protocol.lifecycle import Stage

BATCH: Final = 20_000
JOBS_PER_CUSTOMER: Final = 50
EVERY: Final = timedelta(seconds=6)
"""Between two jobs of the history: five millions are a year."""
TABLES: Final = ("jobs", "offers", "job_events")
WITHDRAWN: Final = """
UPDATE offers SET status = 'withdrawn', reason = 'taken', responded_at = clock_timestamp() WHERE status = 'live' AND job_id = ANY ($1::uuid[])
"""

PEOPLE: Final = """
CREATE TABLE IF NOT EXISTS history_customers (n bigint PRIMARY KEY, id uuid NOT NULL);
CREATE TABLE IF NOT EXISTS history_providers AS
  SELECT row_number() OVER (ORDER BY user_id) - 1 AS n, provider_id, user_id FROM provider_gate;
UPDATE provider_gate SET online = true;
"""
CUSTOMERS: Final = """
WITH made AS (SELECT n, gen_random_uuid() AS id FROM generate_series((SELECT count(*) FROM history_customers), $1::bigint - 1) n),
  users_made AS (INSERT INTO users (id, first_name, last_name) SELECT id, 'Customer ' || n, 'History' FROM made)
INSERT INTO history_customers SELECT n, id FROM made
"""
HISTORY: Final = """
WITH n AS MATERIALIZED (
  SELECT i, at, i % 10 AS kind, c.id AS customer, CASE WHEN i % 10 <> 8 THEN p.provider_id END AS provider, CASE WHEN i % 10 <> 8 THEN p.user_id END AS taker,
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid AS id,
    CASE WHEN i % 10 < 8 THEN ARRAY['pending', 'offered', 'accepted', 'arrived', 'in_progress', 'completed']
         WHEN i % 10 = 8 THEN ARRAY['pending', 'offered', 'cancelled'] ELSE ARRAY['pending', 'offered', 'accepted', 'cancelled'] END AS steps
  FROM generate_series($1::bigint, $2::bigint) i CROSS JOIN LATERAL (SELECT $3::timestamptz + i * $4::interval AS at, md5(i::text) AS h) made
  JOIN history_customers c ON c.n = (i * 7919) % $5::bigint JOIN history_providers p ON p.n = (i * 104729) % $6::bigint
), made_jobs AS (
  INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, provider_id, provider_user_id, provider_first_name, provider_rating,
    provider_vehicle, customer_first_name, customer_phone, accept_id, pickup_lat, pickup_lng, pickup_address, dropoff_lat, dropoff_lng, dropoff_address, coarse,
    passenger_name, currency, surge_pct, distance_m, duration_s, base_minor, distance_minor, time_minor, surge_minor, estimated, estimated_earnings_minor,
    actual_earnings_minor, trail_m, trail_fixes, ttl_s, expires_at, created_at, accepted_at, arrived_at, started_at, completed_at, cancelled_at, cancelled_by)
  SELECT id, 'bkk', 'ride', steps[cardinality(steps)], 1, cardinality(steps), customer, provider, taker, CASE WHEN provider IS NOT NULL THEN 'Somchai' END, 4.85,
    CASE WHEN provider IS NOT NULL THEN '{"make":"Toyota","model":"Yaris","color":"white","plate_number":"1กข 2345"}'::json END, 'Somying', '+66812345678',
    CASE WHEN provider IS NOT NULL THEN gen_random_uuid() END, 13.75, 100.5, '1 Sukhumvit Road, Khlong Toei', 13.78, 100.55, '99 Phahonyothin Road, Chatuchak',
    '{"pickup":{"lat":13.75,"lng":100.5,"address":"Khlong Toei"},"dropoff":{"lat":13.78,"lng":100.55,"address":"Chatuchak"}}',
    'Somying S.', 'THB', 100, 6400, 900, 3500, 3200, 1500, 0, kind >= 8, 6560,
    CASE WHEN kind < 8 THEN 6560 END, 6200, 180, 600, at + interval '600 s', at, CASE WHEN kind <> 8 THEN at + interval '5 s' END,
    CASE WHEN kind < 8 THEN at + interval '300 s' END, CASE WHEN kind < 8 THEN at + interval '360 s' END,
    CASE WHEN kind < 8 THEN at + interval '1260 s' END, CASE WHEN kind >= 8 THEN at + interval '100 s' END, CASE kind WHEN 8 THEN 'system' WHEN 9 THEN 'customer' END
  FROM n
), made_offers AS (
  INSERT INTO offers (offer_id, job_id, round, provider_id, provider_user_id, status, pickup_distance_m, offered_at, expires_at, responded_at)
  SELECT (left(n.id::text, 15) || right(md5(n.id::text || k), 19))::uuid, n.id, 1, p.provider_id, p.user_id,
    CASE WHEN kind = 8 THEN 'expired' WHEN k = 0 THEN 'accepted' ELSE 'withdrawn' END, 400 + 100 * k, at + interval '1 s', at + interval '16 s', at + interval '5 s'
  FROM n CROSS JOIN generate_series(0, $7::int - 1) k JOIN history_providers p ON p.n = (n.i * 104729 + k) % $6::bigint
)
INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_id, actor_role, at)
SELECT n.id, s.version, n.steps[s.version - 1], s.word, least(s.version, 2) - 1, CASE WHEN s.version = 1 THEN n.customer END,
  CASE WHEN s.version = 1 THEN 'customer' ELSE 'system' END, n.at + s.version * interval '60 s'
FROM n CROSS JOIN LATERAL unnest(n.steps) WITH ORDINALITY AS s(word, version)
"""
UNTOLD: Final = """
SELECT EXISTS (SELECT FROM job_event_readers r CROSS JOIN LATERAL (
  SELECT FROM job_events e WHERE (e.xid, e.job_id, e.version) > (r.xid, r.job_id, r.version) ORDER BY e.xid, e.job_id, e.version LIMIT 1) n)
"""
"""In the order of its index: else the whole history is read for one that may not be there."""
TOLD_WITHIN_S: Final = 60.0
"""A loop of the server's makes notifications out of the history of jobs."""


class UntoldError(Exception):
    """The server has not told of a completion in time."""


EVERY_TABLE: Final = """
SELECT c.relname AS name, pg_total_relation_size(c.oid) AS size FROM pg_class c
WHERE c.relnamespace = 'dispatch'::regnamespace AND c.relkind = 'r' ORDER BY 1
"""


async def grow(judge: "asyncpg.Connection[Any]", have: int, size: int, providers: int, began: datetime) -> float:
    """Write the history from job `have` to `size`; the seconds that it took."""
    start = time.monotonic()
    customers = max(1, size // JOBS_PER_CUSTOMER)
    await judge.execute(CUSTOMERS, customers)
    with bar(f"writing the history up to {size:,} jobs", size - have) as advance:
        for first in range(have, size, BATCH):
            last = min(first + BATCH, size)
            await judge.execute(HISTORY, first, last - 1, began, EVERY, customers, providers, OFFERED)
            advance(last - first)
            if first == have and last < size:
                left_s = (time.monotonic() - start) / (last - first) * (size - last)
                say(f"{last:,} of {size:,} written; about {left_s / 60:.1f} min to go")
    say("vacuum and analyze")
    for table in TABLES:
        await judge.execute(f"VACUUM (ANALYZE) {table}")
    await judge.execute("ANALYZE users; CHECKPOINT")
    return time.monotonic() - start


@dataclass(frozen=True, slots=True)
class People:
    """Of a history: who takes fresh jobs, who asks for them, and who has never asked for any."""

    takers: Sequence[UUID]
    buyers: Sequence[UUID]
    newcomer: UUID


async def people_of(judge: "asyncpg.Connection[Any]") -> People:
    """Who there is now."""
    takers = [row["user_id"] for row in await judge.fetch("SELECT user_id FROM history_providers ORDER BY n")]
    buyers = [row["id"] for row in await judge.fetch("SELECT id FROM history_customers ORDER BY n")]
    newcomer = await judge.fetchval("INSERT INTO users (id, first_name) VALUES (gen_random_uuid(), 'New') RETURNING id")
    return People(takers, buyers, newcomer)


async def fresh(
    judge: "asyncpg.Connection[Any]", takers: Sequence[UUID], buyers: Sequence[UUID]
) -> list[tuple[UUID, UUID]]:
    """(job, offer) of a fresh job for each taker, who will win it; four others are offered it too."""
    count = len(takers)
    jobs = [uuid4() for _ in takers]
    offers = [[uuid4() for _ in range(OFFERED)] for _ in takers]
    await judge.execute(JOBS, jobs, [buyers[number % len(buyers)] for number in range(count)])
    await judge.execute(
        OFFERS,
        [offer for many in offers for offer in many],
        [job for job in jobs for _ in range(OFFERED)],
        [takers[(number + more) % count] for number in range(count) for more in range(OFFERED)],
    )
    return [(job, many[0]) for job, many in zip(jobs, offers, strict=True)]


async def over(judge: "asyncpg.Connection[Any]", jobs: Sequence[UUID]) -> None:
    """End fresh jobs and what is still offered of them, as the server does behind an accept: loops are asked beside a history, and not beside what
    the asking of accepts has left.
    """
    await judge.execute(OVER, jobs)
    await judge.execute(WITHDRAWN, jobs)


async def completed(started: Stores, judge: "asyncpg.Connection[Any]", people: People) -> tuple[dict[str, int], float]:
    """Bytes that a completion leaves in each table but those of the history, by the server's own use case with its pay: all providers
    complete a job twice, and the second time counts, as the first makes new pages everywhere. With it the notifications of each. Raises
    UntoldError when the server's loop has not told of them all TOLD_WITHIN_S after they were completed.
    """
    log.configure("error")
    settings = load(database_url=started.database_url, redis_url=started.redis_url, mail_by="off", log_level="error")
    customers = [people.buyers[number % len(people.buyers)] for number in range(len(people.takers))]
    sizes_of: list[dict[str, int]] = []
    # Of the history nobody is to be told now: its events would count as those of a completion.
    await judge.execute("UPDATE job_event_readers SET xid = pg_current_xact_id()")
    async with build(settings) as app:
        for _ in range(2):
            # One after the other: bytes are looked at, and nobody is to wait for another's lock.
            for row in await judge.fetch(RIDING, customers):
                actor = Actor(row["provider_user_id"])
                await app.jobs.advance(actor, row["id"], Stage.COMPLETED, distance_m=5_000, key=str(uuid4()))
            try:
                async with asyncio.timeout(TOLD_WITHIN_S):
                    while await judge.fetchval(UNTOLD):
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise UntoldError(f"not told of within {TOLD_WITHIN_S:.0f} s") from None
            sizes_of.append({row["name"]: row["size"] for row in await judge.fetch(EVERY_TABLE)})
    before, after = sizes_of
    notices = await judge.fetchval("SELECT count(*) FROM notifications") / (2 * len(customers))
    each = {name: round((size - before.get(name, 0)) / len(customers)) for name, size in after.items()}
    return {name: size for name, size in each.items() if size > 0 and name not in TABLES}, notices


async def sized(judge: "asyncpg.Connection[Any]") -> dict[str, int]:
    """Bytes of each table of the history with its indexes."""
    return {table: await judge.fetchval("SELECT pg_total_relation_size($1::text::regclass)", table) for table in TABLES}
