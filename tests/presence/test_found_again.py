"""Whoever sends positions, is on and is idle can be found, whatever became of what Redis knew of him."""

from collections.abc import AsyncIterator

import pytest

from dispatch.markets import Markets
from dispatch.presence import live
from tests.support.server import BANGKOK, Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_whoever_was_taken_off_for_silent_is_found_after_his_next_fix(server: Server) -> None:
    """By a worker whose clock ran an hour ahead: he stayed on no map until he switched off and on."""
    presence, market = server.app.presence, Markets.load()["bkk"]
    customer = await server.person()
    async with server.working() as (driver, phone):
        seen = presence.of(driver.user_id)
        assert seen is not None
        assert await live.unlist_silent(server.app.redis, market, seen.seen_ms + 3_600_000) == 1
        phone.locate(BANGKOK[0] + 1e-4, BANGKOK[1])
        await server.request(customer)
        await driver.inbox.named("offer.created")
