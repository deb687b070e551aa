"""What follows a win, a moment later: what else was offered to the winner is withdrawn, and nothing that came after."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from dispatch.claims import live
from dispatch.claims.model import Ask
from dispatch.kit.redis import Redis
from tests.support.crowd import crowd, lone_job, offer, until_final
from tests.support.server import Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_the_aftermath_of_a_win_leaves_the_offer_of_the_next_job_alone(server: Server) -> None:
    """It comes a moment late. The job is cancelled by then, and he holds the offer of another: that one is his to answer."""
    (racer,) = await crowd(server, 1)
    first, second = await lone_job(server), await lone_job(server)
    held = await offer(server, first, [racer])
    assert await until_final(server, racer, first, held[racer.id]) == "accepted"
    await server.app.jobs.cancel(racer.actor, first, "flat tyre", str(uuid4()))
    following = await offer(server, second, [racer])
    await server.app.matching.close(first)
    assert (await server.sql("SELECT status FROM offers WHERE offer_id = $1", following[racer.id]))[0][
        "status"
    ] == "live"
    assert await until_final(server, racer, second, following[racer.id]) == "accepted"


async def test_the_aftermath_of_a_win_withdraws_what_was_offered_before_it(server: Server) -> None:
    (racer,) = await crowd(server, 1)
    first, second = await lone_job(server), await lone_job(server)
    won, other = await offer(server, first, [racer], at_once=2), await offer(server, second, [racer], at_once=2)
    assert await until_final(server, racer, first, won[racer.id]) == "accepted"
    await server.app.matching.close(first)
    assert (await server.sql("SELECT status FROM offers WHERE offer_id = $1", other[racer.id]))[0][
        "status"
    ] == "withdrawn"


async def test_who_is_known_to_have_a_job_holds_up_nobody_with_a_claim(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge says no to him as to everybody, and meanwhile nobody is told to wait for it."""
    winner, other = await crowd(server, 2)
    first, second = await lone_job(server), await lone_job(server)
    won = await offer(server, first, [winner, other], at_once=2)
    both = await offer(server, second, [winner, other], at_once=2)
    state = await server.app.providers.state(winner.actor.user_id)
    assert state is not None
    server.app.presence.arrive(state, uuid4())
    claimed: list[UUID] = []

    async def counted(redis: Redis, ask: Ask, round: int) -> live.Word:
        claimed.append(ask.job_id)
        return await claim(redis, ask, round)

    claim = live.claim
    monkeypatch.setattr(live, "claim", counted)
    assert await until_final(server, winner, first, won[winner.id]) == "accepted"
    assert await until_final(server, winner, second, both[winner.id]) == "PROVIDER_HAS_ACTIVE_JOB"
    assert claimed == [first]
    assert await until_final(server, other, second, both[other.id]) == "accepted"
    assert claimed == [first, second]
