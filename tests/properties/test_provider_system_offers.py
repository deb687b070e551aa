"""Who hears of a job, and how soon: properties 15 and 36. Providers on real sockets, jobs by HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.presence import keys
from protocol.client import Client
from tests.properties.scenes import BANGKOK, MARKETS, PROPERTY, Scene, kind, kinds, metres, place, scene_of
from tests.support.server import WITHIN_S, Person

FREE = ("free", "free again")
NOT_FREE = ("never on", "off again", "busy", "suspended")


@dataclass(frozen=True)
class Cab:
    """A provider in one of the ways in which he may differ from the one wanted."""

    kinds: tuple[str, ...]
    away: tuple[int, int]
    radius_m: int
    state: str

    def eligible(self, wanted: str) -> bool:
        reach_m = min(self.radius_m, MARKETS["bkk"].radius_max_m)
        return self.state in FREE and wanted in self.kinds and metres(BANGKOK, place(*self.away)) <= reach_m

    @property
    def in_doubt(self) -> bool:
        """So near the edge of his radius that Redis' coarser distance may see it otherwise."""
        away_m = metres(BANGKOK, place(*self.away))
        return any(abs(away_m - edge_m) < 30 for edge_m in (self.radius_m, MARKETS["bkk"].radius_max_m))


offset = st.one_of(st.integers(-600, 600), st.integers(-4_000, 4_000), st.integers(-9_000, 9_000))
cabs = st.lists(
    st.builds(
        Cab,
        kinds=kinds.map(tuple) | st.just(("ride", "delivery")),
        away=st.tuples(offset, offset),
        radius_m=st.integers(1_000, 20_000),
        state=st.sampled_from(FREE + FREE + NOT_FREE),
    ).filter(lambda cab: not cab.in_doubt),
    min_size=1,
    max_size=4,
)


async def put(scene: Scene, stack: AsyncExitStack, cab: Cab) -> tuple[Person, Client]:
    """Bring a provider into that state, by the doors that lead there."""
    driver = await scene.driver(service_types=cab.kinds, radius_m=cab.radius_m)
    phone = await stack.enter_async_context(driver.connected(jitter=lambda _: 0.0))
    if cab.state == "never on":
        return driver, phone
    await scene.online(driver, phone, place(*cab.away))
    match cab.state:
        case "off again":
            await phone.offline()
        case "busy" | "free again":
            job = await scene.far_job(cab.kinds[0])
            offer = (await scene.offer(job, driver))[driver.provider_id]
            await phone.accept(job["id"], offer)
            await scene.quiet()
            if cab.state == "free again":
                scene.freed.discard(driver.user_id)
                await scene.customer.http.cancel(job["id"])
                await scene.until_free(driver)
        case "suspended":
            admin = await scene.server.admin()
            await admin.http.provider_action(driver.provider_id, "suspend", "papers")
    return driver, phone


def heard(driver: Person, job: dict[str, Any]) -> list[Any]:
    """The offers of this job that reached his phone."""
    return [e for e in driver.inbox.events if e.name == "offer.created" and e.data["job"]["id"] == job["id"]]


async def put_on_the_map(scene: Scene, wanted: str, driver: Person, cab: Cab) -> None:
    """As an index would have him that is out of date: whether he is fit is then for the judge alone to see."""
    lat, lng = place(*cab.away)
    redis = scene.server.app.redis.plain
    await redis.geoadd(keys.free("bkk", wanted), [lng, lat, driver.provider_id])
    await redis.hset(keys.radii("bkk"), driver.provider_id, "50000")
    await redis.zadd(keys.seen("bkk"), {driver.provider_id: scene.server.app.clock.now().timestamp() * 1000})


async def take_off_the_map(scene: Scene, wanted: str, driver: Person) -> None:
    await scene.server.app.redis.plain.zrem(keys.free("bkk", wanted), driver.provider_id)


@PROPERTY
@given(wanted=kind, street=cabs, misled=st.sampled_from([True, True, True, False]))
async def test_a_broadcast_reaches_exactly_the_eligible(
    broadcasting: Scene, wanted: str, street: list[Cab], misled: bool
) -> None:
    """Feature: provider-system-redesign, Property 15: a new job is told only to providers online, of its type and within their area.

    Also while the index of searches says otherwise (`misled`). Fails when offers_create drops its service type check.
    """
    scene = broadcasting
    await scene.clear()
    async with AsyncExitStack() as stack:
        drivers = [(cab, *await put(scene, stack, cab)) for cab in street]
        for cab, driver, _ in drivers:
            if misled and not cab.eligible(wanted):
                await put_on_the_map(scene, wanted, driver, cab)
                stack.push_async_callback(take_off_the_map, scene, wanted, driver)
        job = await scene.job(wanted)
        eligible = {driver.provider_id for cab, driver, _ in drivers if cab.eligible(wanted)}
        await scene.until_offered(job, eligible)
        for _, driver, _ in drivers:
            if driver.provider_id in eligible:
                await driver.inbox.until(lambda driver=driver: heard(driver, job))
            else:
                assert not heard(driver, job)


@pytest.fixture
async def waving(database_url: str, redis_url: str) -> AsyncIterator[Scene]:
    async with scene_of(database_url, redis_url, markets={"bkk": {"wave_size": 2}}) as opened:
        yield opened


@PROPERTY
@given(wanted=kind, street=cabs)
async def test_waves_reach_the_eligible_and_nobody_else(waving: Scene, wanted: str, street: list[Cab]) -> None:
    """Feature: provider-system-redesign, Property 15: offered ⊆ eligible always, and all of them once everybody has declined.

    Fails when a search does not look beyond a first ring that is empty.
    """
    scene = waving
    await scene.clear()
    async with AsyncExitStack() as stack:
        drivers = [(cab, *await put(scene, stack, cab)) for cab in street]
        job = await scene.job(wanted)
        eligible = {driver.provider_id for cab, driver, _ in drivers if cab.eligible(wanted)}
        answered: set[str] = set()
        while answered != eligible:
            async with asyncio.timeout(WITHIN_S):
                while not (asked := await scene.offered(job) - answered):
                    pass
            assert asked <= eligible
            assert len(asked) <= 2
            for _, driver, phone in drivers:
                if driver.provider_id in asked:
                    (offer,) = await driver.inbox.until(lambda driver=driver: heard(driver, job))
                    await phone.decline(offer.data["offer_id"])
            answered |= asked
        await scene.until_offered(job, eligible)


PASTS = ("idle", "all declined", "one took it", "one took it and was cancelled", "cancelled before an answer")


@PROPERTY
@given(
    places=st.lists(st.tuples(st.integers(-500, 500), st.integers(-500, 500)), min_size=1, max_size=4),
    past=st.sampled_from(PASTS),
    dropped=st.sets(st.integers(0, 3), max_size=2),
)
async def test_an_offer_reaches_everybody_free_in_ten_seconds(
    scene: Scene, places: list[tuple[int, int]], past: str, dropped: set[int]
) -> None:
    """Feature: provider-system-redesign, Property 36: notifications go to eligible providers within 10 seconds of job creation.

    Whatever they were asked before: who declined, lost or was let down is free. Push comes later; the channel here is the socket.
    Fails when offers_create appends no `offer.created`.
    """
    await scene.clear()
    async with AsyncExitStack() as stack:
        drivers = [await put(scene, stack, Cab(("ride",), at, 10_000, "free")) for at in places]
        free = list(range(len(drivers)))
        if past != "idle":
            before = await scene.job()
            offers = [
                (await driver.inbox.until(lambda driver=driver: heard(driver, before)))[0] for driver, _ in drivers
            ]
            scene.freed.clear()
            match past:
                case "all declined":
                    for (_, phone), offer in zip(drivers, offers, strict=True):
                        await phone.decline(offer.data["offer_id"])
                case "cancelled before an answer":
                    await scene.customer.http.cancel(before["id"])
                case _:
                    await drivers[0][1].accept(before["id"], offers[0].data["offer_id"])
                    if past == "one took it":
                        free.remove(0)
                    else:
                        await scene.customer.http.cancel(before["id"])
            for number in free:
                await scene.until_free(drivers[number][0])
        for number in dropped & set(range(len(drivers))):
            drivers[number][1].drop()
        job = await scene.job()
        created_at = datetime.fromisoformat(job["created_at"])
        for number in free:
            driver = drivers[number][0]
            (offer,) = await driver.inbox.until(lambda driver=driver: heard(driver, job))
            assert 0 <= (offer.at - created_at).total_seconds() <= 10
        assert await scene.offered(job) <= {drivers[number][0].provider_id for number in free}
