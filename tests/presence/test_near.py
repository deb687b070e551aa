"""The search in Redis against a plain reading of its rules, on a real store."""

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from bench.faults.proxy import Proxy
from dispatch.kit.clock import ManualClock
from dispatch.kit.geo import distance_m
from dispatch.kit.redis import DOWN, Redis
from dispatch.markets import Markets
from dispatch.presence import Presence, live
from dispatch.presence.model import Candidate, Hold, Live, Near, Unlisting

MARKETS = Markets.load()
BKK = MARKETS["bkk"]
CENTRE = (13.7563, 100.5018)
NOW = 1_700_000_000_000


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.open(redis_url) as client:
        await client.load()
        yield client


def provider(lat: float, lng: float, *, seen_ms: int = NOW, radius_m: int = 10_000) -> Live:
    return Live(
        uuid4(),
        uuid4(),
        uuid4(),
        ("ride",),
        radius_m,
        True,
        market=BKK,
        lat=lat,
        lng=lng,
        at_ms=seen_ms,
        seen_ms=seen_ms,
    )


def off(one: Live) -> Unlisting:
    return Unlisting(one.key, str(one.conn_id), BKK, ("ride",))


async def listed(redis: Redis, providers: list[Live]) -> None:
    await live.write(redis, [], providers, [])


def names(some: Sequence[Candidate]) -> list[UUID]:
    return [candidate.provider_id for candidate in some]


async def search(redis: Redis, wanted: int, **how: Any) -> list[UUID]:
    return names((await look(redis, wanted, **how)).found)


async def look(
    redis: Redis,
    wanted: int,
    *,
    excluded: tuple[UUID, ...] = (),
    hold: bool = False,
    radius_max_m: float = 10_000,
    now_ms: int = NOW,
    name: str | None = None,
    also: int = 0,
) -> Near:
    near = await live.near(
        redis,
        BKK,
        "ride",
        *CENTRE,
        wanted=wanted,
        radius_max_m=radius_max_m,
        now_ms=now_ms,
        fresh_ms=30_000,
        excluded=excluded,
        hold_ms=2_000 if hold else 0,
        search=name or str(uuid4()),
        also=also,
    )
    for some in (near.found, near.behind, near.passed):
        assert list(some) == sorted(some, key=lambda candidate: candidate.distance_m), "nearest first"
    return near


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [3, 40, 600])
async def test_the_search_finds_exactly_the_nearest_who_qualify(redis: Redis, seed: int, size: int) -> None:
    chance = random.Random(seed * 1_000 + size)
    crowd = [
        provider(
            CENTRE[0] + chance.gauss(0, 0.03),
            CENTRE[1] + chance.gauss(0, 0.03),
            seen_ms=NOW - chance.choice([0, 29_000, 31_000, 90_000]),
            radius_m=chance.choice([1_000, 3_000, 50_000]),
        )
        for _ in range(size)
    ]
    await listed(redis, crowd)
    excluded = tuple(one.provider_id for one in chance.sample(crowd, min(3, size)))

    def away(one: Live) -> float:
        return distance_m(*CENTRE, one.lat, one.lng)

    qualify = sorted(
        (
            one
            for one in crowd
            if one.provider_id not in excluded
            and one.seen_ms >= NOW - 30_000
            and away(one) <= min(10_000, one.radius_m) - 2
        ),
        key=away,
    )
    for wanted in (1, 5, 20):
        found = await search(redis, wanted, excluded=excluded)
        assert set(found) >= {one.provider_id for one in qualify[:wanted]} or len(found) == wanted
        assert len(found) >= min(wanted, len(qualify))
        nearest = {one.provider_id: away(one) for one in crowd}
        if found and len(qualify) >= wanted:
            assert max(nearest[one] for one in found) <= away(qualify[wanted - 1]) + 2, "nobody nearer was passed over"
        assert not set(found) & set(excluded)


@pytest.mark.parametrize("seed", range(5))
async def test_the_search_is_exact_at_the_edge_of_a_crowd_with_many_held(redis: Redis, seed: int) -> None:
    """How far it looks first is a guess by how many stand around: here it is wrong in both directions."""
    chance = random.Random(seed)
    crowd = [
        provider(CENTRE[0] + chance.gauss(0, spread), CENTRE[1] + chance.gauss(0, spread))
        for spread in (0.001, 0.05)
        for _ in range(500)
    ]
    await listed(redis, crowd)
    held = chance.sample(crowd, 600)
    await live.hold(redis, BKK, [one.provider_id for one in held], now_ms=NOW, hold_ms=15_000, search="others")
    free = {one.provider_id for one in crowd} - {one.provider_id for one in held}
    for _ in range(10):
        place = (CENTRE[0] + chance.uniform(-0.006, 0.006), CENTRE[1] + chance.uniform(-0.006, 0.006))
        away = {one.provider_id: distance_m(*place, one.lat, one.lng) for one in crowd}
        for hold_ms, there in ((-1, free), (0, set(away))):
            for wanted in (1, 5, 50):
                near = await live.near(
                    redis, BKK, "ride", *place,
                    wanted=wanted, radius_max_m=20_000, now_ms=NOW, fresh_ms=30_000, hold_ms=hold_ms, search="", also=10,
                )  # fmt: skip
                told = [*near.found, *near.behind]
                assert {one.provider_id for one in told} <= there
                assert len(near.found) == wanted
                plain = sorted(away[one] for one in there)[: wanted + 10]
                assert [one.distance_m for one in told] == pytest.approx(plain[: len(told)], abs=2)
                # Where nobody is passed over all of them stand where it tells of others; and else some of those held do.
                assert len(told) == wanted + 10 or hold_ms < 0
                passed = {one.provider_id for one in near.passed}
                assert passed <= {one.provider_id for one in held} and bool(passed) == (hold_ms < 0)
                assert len(near.passed) <= 10


async def test_somebody_free_behind_thousands_who_are_held_is_found(redis: Redis) -> None:
    """They were 2,000 at most."""
    front = [provider(CENTRE[0] + n / 10_000_000, CENTRE[1]) for n in range(4_000)]
    behind = provider(CENTRE[0] + 0.01, CENTRE[1])
    await listed(redis, [*front, behind])
    await live.hold(redis, BKK, [one.provider_id for one in front], now_ms=NOW, hold_ms=15_000, search="others")
    assert await search(redis, 3, hold=True) == [behind.provider_id]


async def test_a_place_is_scored_as_a_geo_set_scores_it(redis: Redis) -> None:
    chance = random.Random(1)
    for n in range(50):
        lat, lng = chance.uniform(-85, 85), chance.uniform(-180, 180)
        await redis.plain.execute_command("GEOADD", "{places}", lng, lat, n)
        assert await redis.plain.zscore("{places}", n) == live.geohash(lat, lng)


async def test_a_search_that_holds_nobody_leaves_nothing_behind(redis: Redis) -> None:
    await listed(redis, [provider(*CENTRE)])
    before = set(await redis.plain.keys())
    await search(redis, 5)
    assert set(await redis.plain.keys()) == before


async def test_jobs_of_one_instant_do_not_pick_the_same(redis: Redis) -> None:
    await listed(redis, [provider(CENTRE[0] + n / 10_000, CENTRE[1]) for n in range(10)])
    picked = [await search(redis, 5, hold=True) for _ in range(3)]
    assert len(picked[0]) == len(picked[1]) == 5
    assert not set(picked[0]) & set(picked[1])
    assert picked[2] == []
    assert len(await search(redis, 5, hold=True, now_ms=NOW + 2_001)) == 5, "a hold lapses by itself"


async def test_a_hold_by_a_clock_that_ran_ahead_hides_nobody(redis: Redis) -> None:
    """A worker's clock was an hour ahead for a while, and whom it had found was found by nobody for that hour."""
    one = provider(*CENTRE)
    await listed(redis, [one])
    ahead = NOW + 3_600_000
    one.listed, one.seen_ms = (BKK, ("ride",)), ahead
    assert await live.write(redis, [one], [], []) == []
    assert await search(redis, 5, hold=True, now_ms=ahead) == [one.provider_id]
    assert await search(redis, 5, hold=True) == [one.provider_id]
    assert await search(redis, 5, hold=True) == [], "and this hold stands"


async def test_a_busy_provider_is_not_put_back_by_his_next_fix(redis: Redis) -> None:
    one = provider(*CENTRE)
    await listed(redis, [one])
    one.listed = (BKK, ("ride",))
    await live.write(redis, [], [], [off(one)])
    await live.write(redis, [one], [], [])
    assert await search(redis, 5) == []


async def test_whoever_sends_and_is_on_the_map_no_more_is_noticed(redis: Redis) -> None:
    """A worker whose clock ran ahead took everybody off for silent, and nobody found them until they switched off and on."""
    taken, there = provider(*CENTRE), provider(*CENTRE)
    await listed(redis, [taken, there])
    await live.unlist_silent(redis, BKK, NOW + 1)
    await listed(redis, [there])
    for one in (taken, there):
        one.listed, one.seen_ms = (BKK, ("ride",)), NOW + 1_000
    assert await live.write(redis, [taken, there], [], []) == [taken]
    assert await live.write(redis, [taken, there], [], []) == [taken], "also when nothing is new"
    assert await live.write(redis, [there], [], []) == []


async def test_only_the_connection_that_listed_him_takes_him_off(redis: Redis) -> None:
    one = provider(*CENTRE)
    await listed(redis, [one])
    old = Live(one.provider_id, one.user_id, uuid4(), ("ride",), 10_000, True, market=BKK)
    await live.write(redis, [], [], [off(old)])
    assert await search(redis, 5) == [one.provider_id]
    await live.write(redis, [], [], [off(one)])
    assert await search(redis, 5) == []


async def test_a_settled_offer_lets_its_provider_be_found_again(redis: Redis) -> None:
    one = provider(*CENTRE)
    await listed(redis, [one])
    one.listed = (BKK, ("ride",))
    assert await search(redis, 5, hold=True) == [one.provider_id]
    assert await search(redis, 5, hold=True) == []
    await live.write(redis, [], [], [], [one])
    assert await search(redis, 5, hold=True) == [one.provider_id]


async def test_who_was_found_and_not_offered_is_let_go(redis: Redis) -> None:
    one = provider(*CENTRE)
    await listed(redis, [one])
    assert await search(redis, 5, hold=True) == [one.provider_id]
    await live.let_go(redis, BKK, [one.provider_id])
    assert await search(redis, 5, hold=True) == [one.provider_id]


async def test_who_is_listed_anew_is_held_by_nothing(redis: Redis) -> None:
    """Another worker listed him, and he was offered something; what became of that offer found him on no map of the new worker's."""
    one = provider(*CENTRE)
    await listed(redis, [one])
    assert await search(redis, 5, hold=True) == [one.provider_id]
    back = Live(one.provider_id, one.user_id, uuid4(), ("ride",), 10_000, True, market=BKK, lat=one.lat, lng=one.lng)
    back.seen_ms = NOW
    await listed(redis, [back])
    await live.write(redis, [], [], [off(one)])
    assert await search(redis, 5, hold=True) == [one.provider_id]


async def test_a_search_whose_reply_was_lost_is_answered_again_and_holds_nobody_else(
    redis_url: str, redis: Redis
) -> None:
    """redis-py sends it a second time. Without a name that search passed over its own holds, and the first five stayed held for nobody."""
    crowd = [provider(CENTRE[0] + n / 10_000, CENTRE[1]) for n in range(12)]
    await listed(redis, crowd)
    async with Proxy(redis_url) as proxy, Redis.open(proxy.url) as client:
        await client.load()
        trap = proxy.drop_next_reply(b"near")
        found = await search(client, 5, hold=True)
        assert trap.reached.is_set()
    assert found == [one.provider_id for one in crowd[:5]]
    assert await search(redis, 20, hold=True) == [one.provider_id for one in crowd[5:]], "held for nothing"


async def test_a_search_that_was_never_answered_lets_go_of_whom_it_holds(redis_url: str, redis: Redis) -> None:
    """Both replies lost: the worker searches by hand, and its next tick undoes what Redis did for nobody."""
    crowd = [provider(CENTRE[0] + n / 10_000, CENTRE[1]) for n in range(4)]
    clock = ManualClock()
    now_ms = int(clock.now().timestamp() * 1000)
    for one in crowd:
        one.seen_ms = now_ms
    await listed(redis, crowd)
    async with Proxy(redis_url) as proxy, Redis.open(proxy.url) as client:
        await client.load()
        presence = Presence(client, MARKETS, clock, fresh_s=30.0)
        lost = proxy.drop_some([b"near"], 1.0)
        near = await presence.near(BKK, "ride", *CENTRE, wanted=3, radius_max_m=10_000, hold_s=15.0)
        assert near.found == []
        assert len(await search(redis, 5, hold=True, now_ms=now_ms)) == 1, "the other three are held"
        proxy.end(lost)
        lost = proxy.cut_some([b"near_undo"], 1.0)
        with pytest.raises(DOWN):
            await presence.tick()
        proxy.end(lost)
        await presence.tick()
        assert len(await search(redis, 5, hold=True, now_ms=now_ms)) == 3, "three let go; another's hold stays"


async def test_who_is_behind_is_told_of_and_not_held(redis: Redis) -> None:
    crowd = [provider(CENTRE[0] + n / 10_000, CENTRE[1]) for n in range(8)]
    ids = [one.provider_id for one in crowd]
    await listed(redis, crowd)
    first = await look(redis, 2, hold=True, also=3)
    assert (names(first.found), names(first.behind), names(first.passed)) == (ids[:2], ids[2:5], [])
    second = await look(redis, 2, hold=True, also=3, excluded=(ids[2],))
    assert (names(second.found), names(second.behind), names(second.passed)) == (ids[3:5], ids[5:8], ids[:2])
    plain = await look(redis, 1, hold=True)
    assert (names(plain.found), plain.behind, plain.passed) == ([ids[2]], [], []), (
        "it tells of others only when asked to"
    )


async def test_who_is_too_far_or_silent_is_not_told_of(redis: Redis) -> None:
    """Neither among those behind nor among those held: no job could be offered to him anyway."""
    one = provider(*CENTRE)
    silent, far = (
        provider(CENTRE[0] + 0.001, CENTRE[1], seen_ms=NOW - 31_000),
        provider(CENTRE[0] + 0.02, CENTRE[1], radius_m=1_000),
    )
    await listed(redis, [one, silent, far])
    for _ in range(2):
        near = await look(redis, 1, also=10)
        assert (names(near.found), near.behind, near.passed) == ([one.provider_id], [], [])
        await live.hold(redis, BKK, names([Candidate(silent.provider_id, 0)]), now_ms=NOW, hold_ms=15_000, search="s")
        await live.hold(redis, BKK, [far.provider_id], now_ms=NOW, hold_ms=15_000, search="f")
    near = await look(redis, 1, also=10, hold=True)
    assert (names(near.found), near.behind, near.passed) == ([one.provider_id], [], [])


async def test_of_others_than_the_wanted_it_tells_among_the_nearest_only(redis: Redis) -> None:
    """The wanted are looked for behind all who are held, and nobody looks further for the sake of an explanation."""
    front = [provider(CENTRE[0] + n / 100_000, CENTRE[1]) for n in range(300)]
    free = [provider(CENTRE[0] + 0.01 + n / 1_000, CENTRE[1]) for n in range(3)]
    await listed(redis, [*front, *free])
    await live.hold(redis, BKK, [one.provider_id for one in front], now_ms=NOW, hold_ms=15_000, search="others")
    near = await look(redis, 1, hold=True, also=10)
    assert (names(near.found), near.behind) == ([free[0].provider_id], [])
    assert names(near.passed) == [one.provider_id for one in front[:10]]
    await live.let_go(redis, BKK, [one.provider_id for one in front[:4]])
    near = await look(redis, 1, hold=True, also=10)
    assert [*names(near.found), *names(near.behind)] == [one.provider_id for one in front[:4]]
    assert names(near.passed) == [one.provider_id for one in front[4:13]], "of the nearest thirteen"


async def test_a_search_that_tells_of_others_answers_the_same_again(redis_url: str, redis: Redis) -> None:
    """Its reply was lost: the second answer has the same three parts, and undoing it ends its own holds, not another's of the same moment."""
    crowd = [provider(CENTRE[0] + n / 10_000, CENTRE[1]) for n in range(6)]
    ids = [one.provider_id for one in crowd]
    await listed(redis, crowd)
    assert await search(redis, 1, hold=True) == ids[:1]
    async with Proxy(redis_url) as proxy, Redis.open(proxy.url) as client:
        await client.load()
        trap = proxy.drop_next_reply(b"near")
        near = await look(client, 2, hold=True, also=2, name="lost")
        assert trap.reached.is_set()
    assert (names(near.found), names(near.behind), names(near.passed)) == (ids[1:3], ids[3:5], ids[:1])
    assert near == await look(redis, 2, hold=True, also=2, name="lost")
    assert await search(redis, 2, hold=True) == ids[3:5], "held for as long as the lost one, by another"
    await live.write(redis, [], [], [], [], [Hold(BKK, "lost", 2_000, 0.0)])
    assert await search(redis, 6, hold=True) == [ids[1], ids[2], ids[5]]


async def test_by_hand_it_tells_of_those_behind_too(redis_url: str) -> None:
    clock = ManualClock()
    now_ms = int(clock.now().timestamp() * 1000)
    async with Proxy(redis_url) as proxy, Redis.open(proxy.url) as client:
        await client.load()
        presence = Presence(client, MARKETS, clock, fresh_s=30.0)
        crowd = [provider(CENTRE[0] + n / 10_000, CENTRE[1], seen_ms=now_ms) for n in range(4)]
        presence._by_user.update({one.user_id: one for one in crowd})
        lost = proxy.cut_some([b"near"], 1.0)
        near = await presence.near(BKK, "ride", *CENTRE, wanted=1, radius_max_m=10_000, hold_s=15.0, also=2)
        proxy.end(lost)
    ids = [one.provider_id for one in crowd]
    assert (names(near.found), names(near.behind), names(near.passed)) == (ids[:1], ids[1:3], [])


async def test_an_undone_search_that_comes_late_holds_nobody(redis: Redis) -> None:
    one = provider(*CENTRE)
    await listed(redis, [one])
    await live.write(redis, [], [], [], [], [Hold(BKK, "late", 2_000, 0.0)])
    assert await search(redis, 5, hold=True, name="late") == []
    assert await search(redis, 5, hold=True) == [one.provider_id]


async def test_undoing_leaves_alone_whom_another_search_holds_by_now(redis: Redis) -> None:
    one = provider(*CENTRE)
    await listed(redis, [one])
    one.listed = (BKK, ("ride",))
    assert await search(redis, 5, hold=True, name="first") == [one.provider_id]
    await live.write(redis, [], [], [], [one])
    assert await search(redis, 5, hold=True, now_ms=NOW + 1) == [one.provider_id]
    await live.write(redis, [], [], [], [], [Hold(BKK, "first", 2_000, 0.0)])
    assert await search(redis, 5, hold=True, now_ms=NOW + 2) == []


async def test_a_hold_passes_over_whom_another_search_holds(redis: Redis) -> None:
    """Also one that is as old to the millisecond. Asked again, for its reply was lost, it answers the same. When the other's hold is over, or
    was made by a clock far ahead, it holds him.
    """
    near_one, far_one = provider(*CENTRE), provider(CENTRE[0] + 0.01, CENTRE[1])
    await listed(redis, [near_one, far_one])
    both = [near_one.provider_id, far_one.provider_id]
    assert await search(redis, 1, hold=True) == [near_one.provider_id]
    for _ in range(2):
        assert await live.hold(redis, BKK, both, now_ms=NOW, hold_ms=15_000, search="a") == {near_one.provider_id}
    assert await live.hold(redis, BKK, both, now_ms=NOW, hold_ms=15_000, search="b") == set(both)
    assert await search(redis, 5, hold=True, now_ms=NOW + 1) == []
    assert await live.hold(redis, BKK, both, now_ms=NOW + 600_000, hold_ms=2_000, search="c") == frozenset()
    assert await live.hold(redis, BKK, both, now_ms=NOW, hold_ms=2_000, search="d") == frozenset(), (
        "held by a clock far ahead"
    )


async def test_whoever_holds_without_redis_holds_nobody(redis_url: str) -> None:
    async with Proxy(redis_url) as proxy, Redis.open(proxy.url) as client:
        await client.load()
        presence = Presence(client, MARKETS, ManualClock(), fresh_s=30.0)
        lost = proxy.cut_some([b"hold"], 1.0)
        assert await presence.hold(BKK, [uuid4()], 15.0) == frozenset()
        proxy.end(lost)
