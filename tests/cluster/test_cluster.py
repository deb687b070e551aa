"""Redis as a cluster of three primaries: commands find their nodes, slots may move, a node may die, and a job goes its way over two workers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from bench.cluster import Nodes, cluster
from dispatch.kit.clock import SystemClock
from dispatch.kit.cluster import Shard, key_of, shards_of, slot_of
from dispatch.kit.ears import Ears, ear_on
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery
from dispatch.start import redis_trouble
from tests.support.server import WITHIN_S, serving


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with cluster(tmp_path / "cluster") as running:
        yield running


@pytest.fixture
async def redis(nodes: Nodes) -> AsyncIterator[Redis]:
    async with Redis.open(nodes.url) as client:
        await client.watch()
        assert client.reachable
        yield client


def tags(redis: Redis, shards: tuple[Shard, ...]) -> list[str]:
    """One tag for each shard, in their order."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < len(shards):
        tag = f"{{t{number}}}"
        found.setdefault(next(at for at, shard in enumerate(shards) if shard.has(slot_of(tag))), tag)
        number += 1
    return [found[at] for at in range(len(shards))]


async def owner(nodes: Nodes, shards: tuple[Shard, ...], slot: int) -> int:
    """The number of the node that has this slot."""
    (shard,) = [shard for shard in shards if shard.has(slot)]
    return nodes.url.split(",").index(shard.address)


def test_a_command_belongs_where_its_first_key_is() -> None:
    assert key_of(("FCALL", "claim", 1, "{j:1}:claim", "x")) == "{j:1}:claim"
    assert key_of(("SPUBLISH", "{w:1}:do", "x")) == "{w:1}:do"
    assert slot_of("{j:1}:claim") == slot_of("{j:1}:fix") != slot_of("{j:2}:claim")
    with pytest.raises(ValueError, match="FCALL f names no key"):
        key_of(("FCALL", "f", 0))


def test_a_node_that_does_not_know_its_name_is_reached_as_it_was_asked() -> None:
    rows = [
        [0, 99, [b"", 7001, b"id"]],
        [200, 299, [b"", 7001, b"id"]],
        [100, 199, [b"10.0.0.2", 7002, b"id"], [b"10.0.0.3", 7003, b"id"]],
    ]
    assert shards_of(rows, "rediss://u:p@h:6379/0") == (
        Shard("rediss://u:p@10.0.0.2:7002/0", ((100, 199),)),
        Shard("rediss://u:p@h:7001/0", ((0, 99), (200, 299))),
    )


async def test_commands_and_pipelines_find_their_nodes(redis: Redis) -> None:
    shards = await redis.shards()
    some = tags(redis, shards)
    async with redis.plain.pipeline(transaction=False) as pipe:
        for number, tag in enumerate(some):
            pipe.execute_command("SET", f"{tag}:a", number)
            pipe.execute_command("INCR", f"{tag}:a")
        assert await pipe.execute() == [True, 1, True, 2, True, 3]
    for number, tag in enumerate(some):
        assert await redis.once.get(f"{tag}:a") == str(number + 1).encode()
        assert await redis.call("claim", [f"{tag}:claim"], [1, "p", "a", 1000], once=True) == b"first"
    async with redis.plain.pipeline(transaction=False) as pipe:
        for tag in some:
            pipe.execute_command("SET", f"{tag}:b", "x")
        pipe.execute_command("INCR", f"{some[0]}:b")
        with pytest.raises(ResponseError, match="not an integer"):
            await pipe.execute()
    assert [await redis.plain.get(f"{tag}:b") for tag in some] == [b"x"] * 3, "a refusal hinders nobody else"


async def test_a_slot_that_has_moved_is_followed(redis: Redis, nodes: Nodes) -> None:
    shards = await redis.shards()
    first, second, _ = tags(redis, shards)
    for tag in (first, second):
        home = await owner(nodes, shards, slot_of(tag))
        await nodes.move(slot_of(tag), home, (home + 1) % 3)
    before = redis.shards_version
    assert await redis.call("claim", [f"{first}:claim"], [1, "p", "a", 1000], once=True) == b"first"
    assert redis.shards_version > before
    async with redis.plain.pipeline(transaction=False) as pipe:
        pipe.execute_command("SET", f"{first}:a", 1)
        pipe.execute_command("SET", f"{second}:a", 2)
        assert await pipe.execute() == [True, True]


async def test_a_node_that_lost_its_functions_gets_them_again(redis: Redis, nodes: Nodes) -> None:
    tag = tags(redis, await redis.shards())[0]
    await redis.load()
    for client in nodes.clients:
        await client.execute_command("FUNCTION", "FLUSH")
    assert await redis.call("claim", [f"{tag}:claim"], [1, "p", "a", 1000]) == b"first"


async def test_ears_hear_on_every_shard_and_go_where_the_slot_goes(redis: Redis, nodes: Nodes) -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    shards = await redis.shards()
    some = tags(redis, shards)
    nursery = Nursery()
    ears = ear_on(redis, SystemClock(), nursery, own="{w:1}:do", hear=lambda *word: heard.put_nowait(word))
    assert isinstance(ears, Ears)  # nobody here asks for a key in a moved slot: they look by themselves
    for tag in some:
        ears.follow(f"{tag}:ev")
    listening = asyncio.create_task(ears.listen())
    try:
        async with asyncio.timeout(WITHIN_S):
            for tag in (*some, "{w:1}"):
                channel = f"{tag}:do" if tag == "{w:1}" else f"{tag}:ev"
                await published(redis, ears, channel, heard)
            home = await owner(nodes, shards, slot_of(some[0]))
            await nodes.move(slot_of(some[0]), home, (home + 1) % 3)
            await published(redis, ears, f"{some[0]}:ev", heard)
        assert ears.unheard_s < 3
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await nursery.close(0)


async def lines(nodes: Nodes) -> list[set[str]]:
    """The subscriptions that each node has."""
    found = []
    for client in nodes.clients:
        rows = (await client.execute_command("CLIENT", "LIST", "TYPE", "PUBSUB")).decode().splitlines()
        found.append({row.split()[0] for row in rows})
    return found


async def one_line_each(nodes: Nodes) -> list[set[str]]:
    """Once every node has one and no more: a line that is left behind would be heard twice, and forever."""
    while True:
        found = await lines(nodes)
        if [len(some) for some in found] == [1] * len(found):
            return found
        await asyncio.sleep(0.02)


async def test_a_moved_slot_opens_one_line_anew_and_leaves_none_behind(redis: Redis, nodes: Nodes) -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    shards = await redis.shards()
    some = tags(redis, shards)
    nursery = Nursery()
    ears = ear_on(redis, SystemClock(), nursery, own="{w:1}:do", hear=lambda *word: heard.put_nowait(word))
    assert isinstance(ears, Ears)
    for tag in some:
        ears.follow(f"{tag}:ev")
    listening = asyncio.create_task(ears.listen())
    homes = [await owner(nodes, shards, slot_of(tag)) for tag in some]
    try:
        async with asyncio.timeout(WITHIN_S):
            for tag in some:
                await published(redis, ears, f"{tag}:ev", heard)
            at_first = await one_line_each(nodes)
            unheard = next(
                tag for number in range(1_000)
                if shards[0].has(slot_of(tag := f"{{u{number}}}")) and slot_of(tag) != slot_of(some[0])
            )  # fmt: skip
            await nodes.move(slot_of(unheard), homes[0], homes[1])
            for tag in some:
                await published(redis, ears, f"{tag}:ev", heard)
            assert await lines(nodes) == at_first, "nothing that is heard has moved"
            await nodes.move(slot_of(some[0]), homes[0], homes[1])
            for tag in some:
                await published(redis, ears, f"{tag}:ev", heard)
            after = await one_line_each(nodes)
            changed = {at for at in range(3) if after[at] != at_first[at]}
            assert changed == {homes[0]}, "where it came to, it was followed on the line that was there"
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await nursery.close(0)
        await ears.close()


async def published(redis: Redis, ears: Ears, channel: str, heard: "asyncio.Queue[tuple[str, bytes]]") -> None:
    """Say something on it until it is heard: whoever listens may still be on his way there. A worker's ears speak every second."""
    while True:
        await ears.speak()
        await redis.once.execute_command("SPUBLISH", channel, "x")
        try:
            async with asyncio.timeout(0.1):
                assert await heard.get() == (channel, b"x")
                return
        except TimeoutError:
            continue


async def test_a_job_goes_its_way_over_two_workers(database_url: str, nodes: Nodes) -> None:
    async with serving(database_url, nodes.url, workers=2) as server:
        customer = await server.person()
        async with server.working(worker=1) as (driver, phone), customer.connected(worker=0) as rider:
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            await phone.accept(job["id"], made["offer_id"], made["round"])
            await customer.inbox.named("job.accepted")
            await rider.track(job["id"])
            phone.locate(13.7550, 100.5010)
            await customer.inbox.until(lambda: customer.inbox.positions)
        async with customer.connected(worker=1, device="d2"):
            await customer.inbox.until(lambda: customer.inbox.snapshots)


async def test_a_dead_node_loses_no_job(database_url: str, nodes: Nodes) -> None:
    """Postgres judges: whatever a third of Redis held is gone, and who is offered a job can have it."""
    async with serving(database_url, nodes.url, workers=2) as server:
        customer = await server.person()
        async with server.working() as (driver, phone), customer.connected(worker=1):
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            os.kill(
                nodes.children[await owner(nodes, await server.app.redis.shards(), slot_of(f"{{j:{job['id']}}}"))].pid,
                signal.SIGKILL,
            )
            await phone.accept(job["id"], made["offer_id"], made["round"])
            await customer.inbox.named("job.accepted")


async def test_what_is_wrong_with_an_address_is_told(nodes: Nodes, redis_url: str) -> None:
    first, *_ = nodes.url.split(",")
    assert await redis_trouble(nodes.url) is None
    assert await redis_trouble(f"{first},") is None
    assert await redis_trouble(f"redis://127.0.0.1:1,{first}") is None, "one that answers is enough"
    assert "is a node of a cluster: name some of its nodes" in (await redis_trouble(first) or "")
    assert "is no node of a cluster" in (await redis_trouble(f"{redis_url},") or "")
    nobody = await redis_trouble("redis://:hush@127.0.0.1:1,redis://127.0.0.1:2") or ""
    assert nobody.count("cannot be reached") == 2 and "hush" not in nobody


async def test_a_cluster_of_which_one_node_is_named_is_one(nodes: Nodes) -> None:
    async with Redis.open(nodes.url.split(",")[0] + ",") as client:
        await client.watch()
        assert client.reachable and len(await client.shards()) == 3
