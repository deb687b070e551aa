"""Presence in Redis: batched writes, one search."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, cast
from uuid import UUID

from dispatch.kit.redis import Argument, Redis
from dispatch.markets import Market
from dispatch.presence import keys
from dispatch.presence.model import Candidate, Hold, Live, Near, Unlisting
from protocol.lifecycle import ServiceType

_CHUNK = 500


async def write(
    redis: Redis,
    moved: Sequence[Live],
    listing: Sequence[Live],
    unlisting: Sequence[Unlisting],
    released: Sequence[Live] = (),
    unheard: Sequence[Hold] = (),
) -> list[Live]:
    """One tick: new places of the listed, newly listed, taken off, no longer held by an offer or by a search that was not heard of.
    One pipeline, variadic, chunks of 500.

    Moves use GEOADD XX: whoever became busy has been removed by somebody else, and a plain GEOADD would put him back. Returns those of
    `moved` who are on the map no more.
    Whoever is newly listed is held by nothing. The offer that held him may have ended while this worker had him on no map, so that
    its end freed nobody; if it still lives, the judge counts it.
    """
    together: dict[tuple[str, tuple[str, ...]], list[Live]] = defaultdict(list)
    for live in moved:
        if live.listed is not None:
            market, kinds = live.listed
            together[(market.code, kinds)].append(live)
    fixes: list[tuple[int, str, list[Live]]] = []
    async with redis.plain.pipeline(transaction=False) as pipe:
        for gone in unlisting:
            names = _names(gone.market, gone.service_types)
            pipe.execute_command("FCALL", "unlist", len(names), *names, gone.provider, gone.connection)
        for hold in unheard:
            names = [keys.reserved(hold.market.code), keys.search(hold.market.code, hold.search)]
            pipe.execute_command("FCALL", "near_undo", len(names), *names, hold.ttl_ms)
        for live in released:
            if live.listed is not None:
                pipe.execute_command("ZREM", keys.reserved(live.listed[0].code), live.key)
        for live in listing:
            assert live.market is not None
            code = live.market.code
            pipe.execute_command("ZREM", keys.reserved(code), live.key)
            for kind in live.service_types:
                pipe.execute_command("GEOADD", keys.free(code, kind), live.lng, live.lat, live.key)
            pipe.execute_command("ZADD", keys.seen(code), live.seen_ms, live.key)
            pipe.execute_command("HSET", keys.radii(code), live.key, live.radius_m)
            pipe.execute_command("HSET", keys.owners(code), live.key, str(live.conn_id))
        for (code, kinds), lives in together.items():
            for start in range(0, len(lives), _CHUNK):
                some = lives[start : start + _CHUNK]
                places = [word for live in some for word in (live.lng, live.lat, live.key)]
                for kind in kinds:
                    pipe.execute_command("GEOADD", keys.free(code, kind), "XX", *places)
                fixes.append((len(pipe.command_stack), code, some))
                times = [word for live in some for word in (live.seen_ms, live.key)]
                pipe.execute_command("ZADD", keys.seen(code), "XX", "CH", *times)
        answers = await pipe.execute() if pipe.command_stack else []
    missing = []
    for at, code, some in fixes:
        # Fewer have changed than were written: one is not there, or his last fix was written already.
        if int(answers[at]) < len(some):
            scores = await cast(
                "Any", redis.plain.execute_command("ZMSCORE", keys.seen(code), *(live.key for live in some))
            )
            missing += [live for live, score in zip(some, scores, strict=True) if score is None]
    return missing


def _names(market: Market, kinds: Iterable[str]) -> list[str]:
    code = market.code
    return [
        keys.owners(code),
        keys.seen(code),
        keys.reserved(code),
        keys.radii(code),
        *(keys.free(code, kind) for kind in kinds),
    ]


def geohash(lat: float, lng: float) -> int:
    """The score that a geo set gives to a place: 26 bits of the latitude between ±85.05112878° and 26 of the longitude in turns, the
    longitude's first. Pure.
    """
    up, right = int((lat + 85.05112878) / 170.10225756 * 2**26), int((lng + 180) / 360 * 2**26)
    # Bits read as digits to the base of four leave room for the other's between them.
    return int(f"{up:b}", 4) + 2 * int(f"{right:b}", 4)


async def near(
    redis: Redis,
    market: Market,
    service_type: str,
    lat: float,
    lng: float,
    *,
    wanted: int,
    radius_max_m: float,
    now_ms: int,
    fresh_ms: int,
    excluded: Sequence[UUID] = (),
    hold_ms: int,
    search: str,
    also: int = 0,
) -> Near:
    """The nearest free providers, at most `wanted`; and of each other kind of `Near` at most `also`, of the nearest on the map.

    With `hold_ms` those wanted are held for so long, by the same call that found them: a hold written later could land after the
    release of the offer that it was for. `search` is the name of this one: redis-py asks again when a reply is lost, and by its name
    the second run knows whom the first holds.
    """
    code = market.code
    names = [
        keys.free(code, service_type),
        keys.seen(code),
        keys.reserved(code),
        keys.radii(code),
        keys.search(code, search),
    ]
    args: list[Argument] = [
        lng,
        lat,
        wanted,
        radius_max_m,
        now_ms,
        fresh_ms,
        hold_ms,
        geohash(lat, lng),
        also,
    ]
    answer = await redis.call("near", names, [*args, *(str(provider) for provider in excluded)])
    return Near(
        *([Candidate(UUID(flat[i].decode()), int(flat[i + 1])) for i in range(0, len(flat), 2)] for flat in answer)
    )


async def unlist_silent(redis: Redis, market: Market, oldest_ms: int) -> int:
    """Take off whoever has sent no fix since `oldest_ms`, 500 at most. Returns how many."""
    code = market.code
    names = [keys.seen(code), keys.reserved(code), keys.radii(code), keys.owners(code)]
    names += [keys.free(code, kind) for kind in ServiceType]
    return int(await redis.call("unlist_silent", names, [oldest_ms, 500]))


async def hold(
    redis: Redis, market: Market, providers: Sequence[UUID], *, now_ms: int, hold_ms: int, search: str
) -> frozenset[UUID]:
    """Hold providers who will be offered something, as a search that holds does. Returns those whom another search holds. `search` is the
    name of this one, as in `near`.
    """
    words: list[Argument] = [now_ms, hold_ms, *(str(one) for one in providers)]
    others = await redis.call("hold", [keys.reserved(market.code), keys.search(market.code, search)], words)
    return frozenset(UUID(one.decode()) for one in others)


async def let_go(redis: Redis, market: Market, providers: Sequence[UUID]) -> None:
    """End the holds on providers who were found and then not offered."""
    await cast("Any", redis.plain.execute_command("ZREM", keys.reserved(market.code), *(str(one) for one in providers)))


async def place_of(
    redis: Redis, markets: Iterable[Market], kinds: Sequence[str], provider_id: UUID
) -> tuple[float, float] | None:
    """(lat, lng) of a listed provider whose socket is on another worker; None: nowhere listed."""
    async with redis.plain.pipeline(transaction=False) as pipe:
        for market in markets:
            for kind in kinds[:1]:
                pipe.execute_command("GEOPOS", keys.free(market.code, kind), str(provider_id))
        for found in await pipe.execute():
            if found and found[0] is not None:
                return float(found[0][1]), float(found[0][0])
    return None
