"""One request id at two workers at the same moment: the same body gets one answer, another body is refused, nothing waits for ever."""

import asyncio
from collections import Counter
from uuid import uuid4

from tests.support.crowd import check_invariants, crowd, lone_job, offer, outcome
from tests.support.server import serving

TURNS = 40


async def test_one_request_at_two_workers_has_one_answer(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, workers=2, claims=False) as server:
        for _ in range(TURNS):
            (racer,) = await crowd(server, 1)
            job_id = await lone_job(server)
            made = (await offer(server, job_id, [racer]))[racer.id]
            key = str(uuid4())
            one, two = await asyncio.gather(
                *(app.claims.accept(racer.actor, job_id, made, 1, key) for app in server.apps)
            )
            assert one.job == two.job
            assert one.duplicate != two.duplicate
        await check_invariants(server)


async def test_one_key_for_two_bodies_at_two_workers_is_good_for_one(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, workers=2, claims=False) as server:
        seen: Counter[str] = Counter()
        for _ in range(TURNS):
            (racer,) = await crowd(server, 1)
            job_id = await lone_job(server)
            made = (await offer(server, job_id, [racer]))[racer.id]
            key = str(uuid4())
            bodies = [(made, 1), (made, None)]
            answers = await asyncio.gather(
                *(
                    outcome(app.claims.accept(racer.actor, job_id, offer_id, round, key))
                    for app, (offer_id, round) in zip(server.apps, bodies, strict=True)
                )
            )
            assert sorted(answers) == ["IDEMPOTENCY_KEY_REUSED", "accepted"]
            seen[answers[0]] += 1
        await check_invariants(server)
