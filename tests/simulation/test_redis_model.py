"""The model of Redis beside a real Valkey: the same calls of functions and commands, the same answers."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench.simulation.hurry import FUNCTIONS
from bench.simulation.hurry.data import Data
from bench.simulation.hurry.functions import called
from dispatch.claims import keys as claim_keys
from dispatch.inbox import keys as inbox_keys
from dispatch.kit.lua import scripts
from dispatch.kit.redis import Redis
from dispatch.presence import keys as presence_keys
from dispatch.presence.live import geohash
from tests.machines.stage import MACHINE

MARKET = "bkk"
NOW_MS = 1_000_000
KINDS = ("ride", "moving")
PEOPLE = [str(UUID(int=number)) for number in range(1, 8)]


def test_every_function_of_the_server_has_a_model() -> None:
    assert {script.name for script in scripts()} == set(FUNCTIONS)


class Pair:
    """Real and modelled, asked the same."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.redis: Redis = self.runner.run(self._stack.enter_async_context(Redis.open(url)))
        self.published: list[tuple[str, bytes]] = []
        self.data = Data(lambda: 0.0, self._publish)
        self.called: set[str] = set()

    def _publish(self, channel: str, message: bytes) -> int:
        self.published.append((channel, message))
        return 0

    def empty(self) -> None:
        self.runner.run(self.redis.plain.flushall())
        self.data.flush()

    def call(self, name: str, keys: list[str], *args: Any) -> Any:
        self.called.add(name)
        real = self.runner.run(self.redis.call(name, keys, list(args)))
        model = called(self.data, ("FCALL", name, len(keys), *keys, *args), FUNCTIONS)
        assert _near(model, real), f"{name}{args}: the model says {model}, Valkey {real}"
        return real

    def command(self, *words: Any) -> None:
        real = self.runner.run(self.redis.plain.execute_command(*words))
        model = self.data.run(words)
        assert _near(model, real), f"{words}: the model says {model}, Valkey {real}"

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()


def _near(model: Any, real: Any) -> bool:
    """Equal; places and metres within what a geohash rounds."""
    if isinstance(real, list | tuple) and isinstance(model, list | tuple):
        return len(model) == len(real) and all(_near(one, other) for one, other in zip(model, real, strict=True))
    if isinstance(real, float) and isinstance(model, float):
        return abs(model - real) < 1e-4
    if isinstance(real, int) and isinstance(model, int) and not isinstance(real, bool):
        return abs(model - real) <= 1
    return bool(model == real)


@pytest.fixture
def pair(redis_url: str) -> Iterator[Pair]:
    made = Pair(redis_url)
    yield made
    made.close()


def claims(pair: Pair, who: int, which: int, how: int) -> None:
    pair.call(
        "claim", [claim_keys.claim(UUID(int=which))], 1 + how % 3, PEOPLE[who], f"a{how % 2}", claim_keys.PENDING_MS
    )


def settles(pair: Pair, who: int, which: int, how: int) -> None:
    args = (1 + how % 3, PEOPLE[who], f"a{how % 2}", (0, claim_keys.COMMITTED_MS)[how % 4 > 1])
    pair.call("claim_settle", [claim_keys.claim(UUID(int=which))], *args)


def breaks_a_claim(pair: Pair, who: int, which: int, how: int) -> None:
    key = claim_keys.claim(UUID(int=which))
    pair.command("SET", key, (b"nonsense", b"", b":::", b"9", b"x:1:2:C", b"2:7:8:C")[how % 6])
    pair.command("GET", key)


def sets_the_clock_back(pair: Pair, who: int, which: int, how: int) -> None:
    """A pending claim that stands for longer than one does; «for ever» too."""
    lapse = () if how % 2 else ("PX", 10 * claim_keys.PENDING_MS)
    pair.command("SET", claim_keys.claim(UUID(int=which)), f"{1 + how % 3}:{PEOPLE[who]}:a0", *lapse)


def loses_a_key(pair: Pair, who: int, which: int, how: int) -> None:
    pair.command("DEL", claim_keys.claim(UUID(int=which)), inbox_keys.copy(UUID(int=who)))


def _inbox(user: int) -> list[str]:
    name = UUID(int=user)
    return [inbox_keys.copy(name), inbox_keys.meta(name), inbox_keys.wake(name)]


def pushes(pair: Pair, who: int, which: int, how: int) -> None:
    first = 1 + which + 2 * (how % 5)
    frames = [f"f{first + step}" for step in range(1 + how % 3)]
    pair.call(
        "inbox_push", _inbox(who % 2), ("e1", "e1", "e1", "e2")[how % 4], first, ("", "w1")[how % 2], 86400, *frames
    )


def reads(pair: Pair, who: int, which: int, how: int) -> None:
    top = pair.data.table(_inbox(who % 2)[1]).get(b"top", b"0")
    newest = int(top) if how % 3 else how
    pair.call("inbox_read", _inbox(who % 2)[:2], "e1", min(which, newest), newest)


def _owners() -> list[str]:
    return [
        presence_keys.owners(MARKET),
        presence_keys.seen(MARKET),
        presence_keys.reserved(MARKET),
        presence_keys.radii(MARKET),
    ]


def lists(pair: Pair, who: int, which: int, how: int) -> None:
    owners, seen, _, radii = _owners()
    for kind in KINDS[: 1 + how % 2]:
        pair.command(
            "GEOADD", presence_keys.free(MARKET, kind), 100.5 + who * 0.003, 13.75 + which * 0.002, PEOPLE[who]
        )
    pair.command("ZADD", seen, NOW_MS - 10_000 * (how % 5), PEOPLE[who])
    pair.command("HSET", radii, PEOPLE[who], (10_000, 500)[how % 3 == 2])
    pair.command("HSET", owners, PEOPLE[who], f"c{which}")


def moves(pair: Pair, who: int, which: int, how: int) -> None:
    pair.command("GEOADD", presence_keys.free(MARKET, "ride"), "XX", 100.51, 13.751 + how * 0.001, PEOPLE[who])
    pair.command("ZADD", presence_keys.seen(MARKET), "XX", "CH", NOW_MS + how % 2, PEOPLE[who], NOW_MS, PEOPLE[who - 1])
    pair.command("ZMSCORE", presence_keys.seen(MARKET), PEOPLE[who], PEOPLE[who - 1])
    pair.command("GEOPOS", presence_keys.free(MARKET, "ride"), PEOPLE[who])


def searches(pair: Pair, who: int, which: int, how: int) -> None:
    _, seen, reserved, radii = _owners()
    search = presence_keys.search(MARKET, f"s{how % 5}")
    names = [presence_keys.free(MARKET, "ride"), seen, reserved, radii, search]
    hold = (0, 5_000, -1, 5_000)[how % 4]
    # A geohash of somewhere else is a wrong guess at how far to look, and the answer is the same.
    place = geohash(13.75 + how % 3 * 0.01, 100.5)
    args = (100.5, 13.75, 1 + which, (1_000.0, 8_000.0)[how % 3 > 0], NOW_MS, 30_000, hold, place)
    pair.call("near", names, *args, (0, 1, 10)[how % 3], *PEOPLE[: how % 4])


def undoes(pair: Pair, who: int, which: int, how: int) -> None:
    names = [presence_keys.reserved(MARKET), presence_keys.search(MARKET, f"s{how % 5}")]
    pair.call("near_undo", names, 5_000)


def holds(pair: Pair, who: int, which: int, how: int) -> None:
    now_ms = NOW_MS + (0, 1, 10_000)[how % 3]
    names = [presence_keys.reserved(MARKET), presence_keys.search(MARKET, f"h{how % 5}")]
    pair.call("hold", names, now_ms, (5_000, 15_000)[how % 2], PEOPLE[who], PEOPLE[which])


def lets_go(pair: Pair, who: int, which: int, how: int) -> None:
    pair.command("ZREM", presence_keys.reserved(MARKET), PEOPLE[who], PEOPLE[which])


def unlists(pair: Pair, who: int, which: int, how: int) -> None:
    names = [*_owners(), *(presence_keys.free(MARKET, kind) for kind in KINDS)]
    pair.call("unlist", names, PEOPLE[who], f"c{which}")


def sweeps(pair: Pair, who: int, which: int, how: int) -> None:
    owners, seen, reserved, radii = _owners()
    names = [seen, reserved, radii, owners, *(presence_keys.free(MARKET, kind) for kind in KINDS)]
    pair.call("unlist_silent", names, NOW_MS - 25_000, 500)


Act = Callable[[Pair, int, int, int], None]
ACTS: list[Act] = [
    claims, settles, breaks_a_claim, sets_the_clock_back, loses_a_key, pushes, reads, lists, moves, searches, undoes, holds, lets_go, unlists, sweeps, claims, pushes, lists, searches,
]  # fmt: skip
acts = st.tuples(st.sampled_from(ACTS), st.integers(0, 6), st.integers(0, 3), st.integers(0, 11))


def test_the_model_of_redis_answers_as_valkey(pair: Pair) -> None:
    """First every function once, then whatever comes; at the end both hold the same claims and copies."""
    for act in ACTS:
        act(pair, 1, 1, 1)
    assert pair.called == set(FUNCTIONS), "functions that were never compared"

    @hypothesis_settings(MACHINE, max_examples=80)
    @given(st.lists(acts, min_size=10, max_size=50))
    def histories(history: list[tuple[Act, int, int, int]]) -> None:
        pair.empty()
        for act, who, which, how in history:
            act(pair, who, which, how)

    histories()


def test_a_pushed_frame_is_handed_over_as_the_model_says(pair: Pair) -> None:
    """The words on the channel, which another worker reads: sent also when the copy had them already."""
    copy, meta, wake = _inbox(1)

    async def hear() -> list[bytes]:
        subscriber = pair.redis.subscriber("{u}:ev")
        await subscriber.ssubscribe(wake)
        await subscriber.get_message(timeout=1.0)
        for _ in range(2):
            await pair.redis.call("inbox_push", [copy, meta, wake], ["e1", 1, "w1", 60, "one", "two"])
        heard: list[bytes] = []
        async with asyncio.timeout(10):
            while len(heard) < 4:
                message = await subscriber.get_message(timeout=1.0)
                if message is not None and message["type"] == "smessage":
                    heard.append(message["data"])
        await subscriber.aclose()
        return heard

    real = pair.runner.run(hear())
    for _ in range(2):
        called(pair.data, ("FCALL", "inbox_push", 3, copy, meta, wake, "e1", 1, "w1", 60, "one", "two"), FUNCTIONS)
    assert [message for channel, message in pair.published if channel == wake] == real
