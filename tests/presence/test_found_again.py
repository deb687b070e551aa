"""Whoever sends positions, is on and is idle can be found, whatever became of what Redis knew of him."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatch.markets import Markets
from dispatch.presence import live
from tests.support.server import BANGKOK, WITHIN_S, Server, serving


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


async def test_who_was_listed_by_a_tick_whose_reply_was_lost_comes_off_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He took a job before the next tick: nobody knew that he stood on the map, and searches found him there."""
    presence, market = server.app.presence, Markets.load()["bkk"]
    write, lost = live.write, asyncio.Event()

    async def executed_and_lost(redis: Any, moved: Any, listing: Any, *rest: Any) -> Any:
        found = await write(redis, moved, listing, *rest)
        if listing and not lost.is_set():
            lost.set()
            listing[0].open = False
            raise ConnectionError("reply lost")
        return found

    async with server.working() as (driver, _):
        monkeypatch.setattr(live, "write", executed_and_lost)
        known = presence.of(driver.user_id)
        assert known is not None
        known.listed = None  # as of one who has just come: the next tick lists him
        presence.put(known, *BANGKOK)
        async with asyncio.timeout(WITHIN_S):
            await lost.wait()
            while (await presence.near(market, "ride", *BANGKOK, wanted=1, radius_max_m=1_000, hold_s=0)).found:
                await asyncio.sleep(0.01)


async def test_a_market_without_its_node_keeps_no_other_from_being_swept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[str] = []

    async def unlist(_: Any, market: Any, __: int) -> int:
        if not swept:
            swept.append("")
            raise ConnectionError("its node is away")
        swept.append(market.code)
        return 0

    monkeypatch.setattr(live, "unlist_silent", unlist)
    with pytest.raises(ConnectionError):
        await server.app.presence.sweep_silent()
    assert len(swept) == len(list(Markets.load()))
