"""Many say yes at once; whatever happens in between, the invariants of the accept hold. I1, I2, I3, I4, I6, I7."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from dispatch.claims import Claims, keys, live
from protocol.lifecycle import AdminAction
from tests.support.crowd import Racer, check_invariants, crowd, lone_job, offer, outcome, until_final
from tests.support.server import WITHIN_S, Server, serving

TAKEN = "JOB_NOT_AVAILABLE:accepted"
CANCELLED = "JOB_NOT_AVAILABLE:cancelled"
EXPIRED = "JOB_NOT_AVAILABLE:expired"


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def race(
    server: Server, job_id: UUID, racers: list[Racer], offers: dict[UUID, UUID], round: int = 1
) -> list[str]:
    """All accept at the same moment, each until his answer is final."""
    start = asyncio.Barrier(len(racers))

    async def run(racer: Racer) -> str:
        await start.wait()
        return await until_final(server, racer, job_id, offers[racer.id], round)

    return list(await asyncio.gather(*(run(racer) for racer in racers)))


async def test_fifty_providers_on_one_job_make_one_winner(server: Server) -> None:
    racers = await crowd(server, 50)
    job_id = await lone_job(server)
    answers = await race(server, job_id, racers, await offer(server, job_id, racers))
    assert sorted(answers) == sorted(["accepted"] + [TAKEN] * 49)
    await check_invariants(server)


async def test_one_provider_on_two_jobs_gets_one(server: Server) -> None:
    (racer,) = await crowd(server, 1)
    jobs = [await lone_job(server) for _ in range(2)]
    offers = [await offer(server, job, [racer]) for job in jobs]

    # The door lets one accept of a provider run at a time; two workers do not see each other, so ask the judge as they would.
    async def ask(job: UUID, offer_id: UUID) -> str:
        return await outcome(server.app.claims._accept(_ask(racer, job, offer_id)))

    answers = await asyncio.gather(*(ask(job, given[racer.id]) for job, given in zip(jobs, offers, strict=True)))
    assert sorted(answers) == ["PROVIDER_HAS_ACTIVE_JOB", "accepted"]
    await check_invariants(server)


async def test_a_hundred_overlapping_jobs_are_each_won_once(server: Server) -> None:
    racers = await crowd(server, 60)
    jobs = [await lone_job(server) for _ in range(40)]
    offers = [await offer(server, job, [racers[(3 * n + k) % 60] for k in range(5)]) for n, job in enumerate(jobs)]
    by_id = {racer.id: racer for racer in racers}

    async def run(job: UUID, provider: UUID, offer_id: UUID) -> tuple[UUID, str]:
        return job, await until_final(server, by_id[provider], job, offer_id)

    answers = await asyncio.gather(
        *(
            run(job, provider, offer_id)
            for job, given in zip(jobs, offers, strict=True)
            for provider, offer_id in given.items()
        )
    )
    told: dict[UUID, int] = {}
    for job, word in answers:
        assert word in ("accepted", TAKEN, "PROVIDER_HAS_ACTIVE_JOB", EXPIRED), word
        told[job] = told.get(job, 0) + (word == "accepted")
    assert max(told.values()) == 1
    assigned = await server.sql("SELECT count(*) AS n FROM jobs WHERE status = 'accepted'")
    assert assigned[0]["n"] == sum(told.values())
    await check_invariants(server)


@pytest.mark.parametrize("turn", range(12))
async def test_accept_against_cancel_has_one_order(server: Server, turn: int) -> None:
    customer = uuid4()
    racers = await crowd(server, 3)
    job_id = await lone_job(server, customer)
    offers = await offer(server, job_id, racers)
    actor = (await _customer(server, customer)).actor
    *answers, cancelled = await asyncio.gather(
        *(until_final(server, racer, job_id, offers[racer.id]) for racer in racers),
        outcome(server.app.jobs.cancel(actor, job_id, None, None)),
    )
    row = (await server.sql("SELECT status, provider_id FROM jobs WHERE id = $1", job_id))[0]
    assert (cancelled, row["status"]) == ("accepted", "cancelled"), "a cancel is legal before and after the accept"
    won = [word for word in answers if word == "accepted"]
    assert len(won) <= 1
    assert set(answers) <= {"accepted", TAKEN, CANCELLED}
    assert bool(won) == (row["provider_id"] is not None), "told yes exactly if the row says so"
    await check_invariants(server)


@pytest.mark.parametrize("turn", range(12))
async def test_accept_against_suspension_leaves_no_live_job(server: Server, turn: int) -> None:
    """I7: no accept of his commits after the suspension; one that committed before is cancelled by it."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    admin = (await server.admin()).user_id
    from dispatch.kit.postgres import Actor

    boss = Actor(admin, frozenset({"admin"}), "en")
    answer, _ = await asyncio.gather(
        until_final(server, racer, job_id, offers[racer.id]),
        server.app.admin.act(boss, racer.id, AdminAction.SUSPEND, "fraud", None),
    )
    row = (await server.sql("SELECT status, provider_id FROM jobs WHERE id = $1", job_id))[0]
    if answer == "accepted":
        assert row["status"] == "cancelled"
    else:
        assert answer in ("PROVIDER_SUSPENDED:suspended", EXPIRED), answer
        assert row["status"] in ("pending", "offered")
    assert not await server.sql("SELECT 1 FROM offers WHERE provider_id = $1 AND status = 'live'", racer.id)
    again = await until_final(server, racer, job_id, offers[racer.id])
    assert again == ("PROVIDER_SUSPENDED:suspended")
    await check_invariants(server)


@pytest.mark.parametrize("turn", range(8))
async def test_accept_against_expiry_has_one_order(server: Server, turn: int) -> None:
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer], ttl_s=0.004 * (turn + 1))
    answer, _ = await asyncio.gather(until_final(server, racer, job_id, offers[racer.id]), server.app.matching.turn())
    status = (await server.sql("SELECT status FROM offers WHERE offer_id = $1", offers[racer.id]))[0]["status"]
    if answer == "accepted":
        assert status == "accepted"
    else:
        assert answer == EXPIRED
        assert status in ("live", "expired")
    await check_invariants(server)


async def test_claims_switched_off_change_nothing(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, claims=False) as server:
        racers = await crowd(server, 30)
        job_id = await lone_job(server)
        answers = await race(server, job_id, racers, await offer(server, job_id, racers))
        assert sorted(answers) == sorted(["accepted"] + [TAKEN] * 29)
        await check_invariants(server)


@pytest.mark.parametrize("word", ["first", "yours", "committed", "stale", "unknown"])
async def test_a_lying_claim_changes_nothing(server: Server, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    async def lie(*_: Any, **__: Any) -> str:
        return word

    monkeypatch.setattr(live, "claim", lie)
    racers = await crowd(server, 20)
    job_id = await lone_job(server)
    answers = await race(server, job_id, racers, await offer(server, job_id, racers))
    assert sorted(answers) == sorted(["accepted"] + [TAKEN] * 19), (
        "a wrong «committed» may not turn into «taken» either (I1b)"
    )
    await check_invariants(server)


async def test_randomly_lying_claims_lose_nobody_for_good(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["first", "pending", "committed", "yours", "stale", "pending", "unknown"]
    asked = 0

    async def lie(*_: Any, **__: Any) -> str:
        nonlocal asked
        asked += 1
        return words[asked % len(words)]

    monkeypatch.setattr(live, "claim", lie)
    racers = await crowd(server, 20)
    job_id = await lone_job(server)
    answers = await race(server, job_id, racers, await offer(server, job_id, racers))
    assert sorted(answers) == sorted(["accepted"] + [TAKEN] * 19)
    await check_invariants(server)


@pytest.mark.parametrize("lapse", [{"px": 3_600_000}, {}])
async def test_a_claim_that_outlives_its_asker_holds_nobody_up(server: Server, lapse: dict[str, int]) -> None:
    """Its worker died, and then Redis' clock was set back: the claim was pending for an hour, and everybody was told BUSY."""
    racers = await crowd(server, 5)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, racers)
    dead = f"1:{racers[0].id}:{uuid4()}"
    await server.app.redis.plain.set(keys.claim(job_id), dead, **lapse)
    async with asyncio.timeout(WITHIN_S):
        answers = await race(server, job_id, racers[1:], offers)
    assert sorted(answers) == sorted(["accepted"] + [TAKEN] * 3)
    await check_invariants(server)


async def test_who_starts_anew_is_not_shown_what_somebody_else_has(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """His offer lives on until the aftermath; that job's final fare and way stood in it."""

    async def later(*_: Any) -> None:
        """The loser has not been told yet."""

    monkeypatch.setattr(Claims, "_aftermath", later)
    winner, loser = await crowd(server, 2)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [winner, loser])
    assert len((await server.app.matching.state_of(loser.actor.user_id)).offers) == 1
    assert await until_final(server, winner, job_id, offers[winner.id]) == "accepted"
    (row,) = await server.sql("SELECT status FROM offers WHERE offer_id = $1", offers[loser.id])
    assert row["status"] == "live"
    assert (await server.app.matching.state_of(loser.actor.user_id)).offers == []


async def test_redis_flushed_in_mid_race_changes_nothing(server: Server) -> None:
    racers = await crowd(server, 40)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, racers)

    async def flush() -> None:
        for _ in range(30):
            await server.app.redis.plain.execute_command("FLUSHDB")
            await server.app.redis.plain.execute_command("FUNCTION", "FLUSH")

    answers, _ = await asyncio.gather(race(server, job_id, racers, offers), flush())
    assert sorted(answers) == sorted(["accepted"] + [TAKEN] * 39)
    await check_invariants(server)


async def test_the_same_request_sent_ten_times_gets_one_answer(server: Server) -> None:
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    key = str(uuid4())
    answers = await asyncio.gather(
        *(server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, key) for _ in range(10))
    )
    assert len({answer.job for answer in answers}) == 1
    later = await server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, key)
    assert later.duplicate and later.job == answers[0].job
    assert (
        await outcome(server.app.claims.accept(racer.actor, job_id, offers[racer.id], None, key))
        == "IDEMPOTENCY_KEY_REUSED"
    )
    events = await server.sql("SELECT name FROM events WHERE user_id = $1 ORDER BY seq", racer.actor.user_id)
    assert [row["name"] for row in events] == ["offer.created", "offer.withdrawn", "job.updated"]


async def test_asking_goes_on_when_the_asker_has_gone(server: Server) -> None:
    """A closing socket cancels the request's task, never the accept: handlers are cancelled in test clients and not in servers."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    task = asyncio.create_task(server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, "k"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await until_final(server, racer, job_id, offers[racer.id], key="k") == "accepted"
    await check_invariants(server)


async def test_losers_are_told_soon_and_the_winners_other_offers_go(server: Server) -> None:
    first, second = await crowd(server, 2)
    jobs = [await lone_job(server) for _ in range(2)]
    one = await offer(server, jobs[0], [first, second])
    await offer(server, jobs[1], [first])
    assert await until_final(server, first, jobs[0], one[first.id]) == "accepted"
    await server.app.nursery.close(5.0)
    rows = await server.sql("SELECT provider_id, job_id, status, reason FROM offers ORDER BY offered_at, offer_id")
    assert {(row["provider_id"], row["job_id"], row["status"], row["reason"]) for row in rows} == {
        (first.id, jobs[0], "accepted", "accepted"),
        (second.id, jobs[0], "withdrawn", "taken"),
        (first.id, jobs[1], "withdrawn", "revoked"),
    }


def _ask(racer: Racer, job: UUID, offer_id: UUID) -> Any:
    from dispatch.claims.model import Ask

    return Ask(racer.actor.user_id, job, offer_id, 1, uuid4(), str(uuid4()), "f")


async def _customer(server: Server, user_id: UUID) -> Racer:
    from dispatch.kit.postgres import Actor

    return Racer(Actor(user_id, frozenset({"customer"}), "en"), None)  # type: ignore[arg-type]
