"""The faults, one function each: strike, wait, heal; (whom, how many calls were met). All heal also when they are cancelled.

A fault counts by what it did to a call or to state, never by having been done: each function says what it calls met.
"""

import asyncio
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from bench.chaos.asking import now_ns
from bench.chaos.clocks import clock_postgres, clock_redis, clock_worker
from bench.chaos.links import link_blackhole, link_delay, link_half_open, link_reset, link_throttle
from bench.chaos.nemesis import AIM_WITHIN_S, CLAIM, WORDS, Blow, Nemesis, Resume, Skipped, name_of
from bench.chaos.phones import Phone
from bench.chaos.plan import Planned
from bench.chaos.stores import Hurry, send
from bench.demo.stage import end_with_us

if TYPE_CHECKING:
    import redis.asyncio as aioredis

REVIVED_WITHIN_S = 30.0


# --- workers


async def worker_kill(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the requests of clients and the statements of its own that were under way."""
    node = nemesis.node(dice)
    async with nemesis.lock(name_of(node)):
        met = await nemesis.aim(lambda: nemesis.city.in_flight(node.worker.number))
        met = max(met, nemesis.calls_at(node))
        clients = nemesis.clients_of(node)
        old = node.worker.kill()
        if old is None:
            return name_of(node), 0
        _watch_resumes(nemesis, clients)
        began = time.monotonic()
        while node.worker.pid in (None, old) and time.monotonic() - began < REVIVED_WITHIN_S:
            await asyncio.sleep(0.05)
        return name_of(node), met


def _watch_resumes(nemesis: Nemesis, clients: list[Phone]) -> None:
    at = now_ns()
    for phone in clients:
        resume = Resume(at, phone.device)
        nemesis.marks.resumes.append(resume)

        def back(_: Phone, resume: Resume = resume) -> None:
            resume.done_at = now_ns()

        # Its line is lost a moment from now; until then it is live all the same.
        phone.live_at = None
        phone.caught_up.append(back)


async def worker_stop(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the requests and statements that waited for it, at its beginning or its end."""
    node = nemesis.node(dice)
    async with nemesis.lock(name_of(node)):
        await nemesis.aim(lambda: nemesis.calls_at(node))
        pid = node.worker.pid
        if pid is None:
            return name_of(node), 0
        send([pid], signal.SIGSTOP)
        met = nemesis.calls_at(node)
        try:
            await asyncio.sleep(planned.length_s)
            met = max(met, nemesis.calls_at(node))
        finally:
            send([pid], signal.SIGCONT)
        return name_of(node), met


# --- redis


async def redis_kill(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the statements under way when it died, and the connections that found nobody."""
    return "redis", await _redis_away(nemesis, planned.length_s, lambda: None)


async def redis_empty(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met is whom the kill met, and only if there was something to lose."""
    hurry = nemesis.cluster.hurry
    lost = 0

    def empty() -> None:
        nonlocal lost
        lost = hurry.size()
        hurry.empty()

    met = await _redis_away(nemesis, planned.length_s, empty)
    return "redis", met if lost else 0


async def redis_stale(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met is whom the kill met, and only if something had been written since the copy."""
    hurry = nemesis.cluster.hurry
    lost = 0

    def restore() -> None:
        nonlocal lost
        lost = hurry.size() - copied
        hurry.restore_copy()

    async with nemesis.lock("redis copy"):
        copied = hurry.keep_copy()
        await asyncio.sleep(planned.length_s)
        met = await _redis_away(nemesis, 0.2, restore)
        return "redis", met if lost else 0


async def _redis_away(nemesis: Nemesis, for_s: float, meanwhile: Callable[[], None]) -> int:
    hurry = nemesis.cluster.hurry
    async with nemesis.lock("redis"):
        met = await nemesis.aim(lambda: nemesis.store_calls("redis"))
        before = nemesis.refused("redis")
        at = now_ns()
        try:
            await hurry.kill()
            meanwhile()
            await asyncio.sleep(for_s)
            met += nemesis.refused("redis") - before
        finally:
            await hurry.start()
            nemesis.marks.redis_dead.append((at, now_ns()))
        return met


async def redis_split(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """A second, empty master takes half of the workers; both are written to. Met are the keys of which there are two versions when one
    of the two is forgotten; it lasts a little longer, until there are any.
    """
    made = nemesis.cluster
    half = dice.sample(made.nodes, max(1, len(made.nodes) // 2))
    nemesis.splits += 1
    name = f"redis-other-{nemesis.splits}"
    async with nemesis.lock("split"):
        # Not before: the one before it takes their folder with it.
        other = Hurry(made.hurry.folder / "other", made.folder, made.hurry.build, made.say, name)
        try:
            await other.start()
            for node in half:
                node.redis.turn_to(other.url)
            await asyncio.sleep(planned.length_s)
            began = time.monotonic()
            while not (met := await _two_versions(made.hurry, other)) and time.monotonic() - began < AIM_WITHIN_S:
                await asyncio.sleep(0.05)
        finally:
            for node in half:
                node.redis.turn_to(made.hurry.url)
            await other.leave()
            shutil.rmtree(other.folder, ignore_errors=True)
    return ", ".join(name_of(node) for node in half), met


async def _keys(client: "aioredis.Redis") -> set[bytes]:
    return {key async for key in client.scan_iter(count=1_000)}


async def _two_versions(one: Hurry, other: Hurry) -> int:
    """Keys that both have, and each with another value. Nobody, where one of them does not answer just now."""
    first, second = one.client(), other.client()
    try:
        both = await _keys(first) & await _keys(second)
        return sum([await first.dump(key) != await second.dump(key) for key in both])
    except (RedisError, OSError):
        return 0
    finally:
        await first.aclose()
        await second.aclose()


async def redis_stop(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the statements that stood before it."""
    async with nemesis.lock("redis"):
        nemesis.cluster.hurry.stop()
        try:
            return "redis", await _standing(nemesis, "redis", planned.length_s)
        finally:
            nemesis.cluster.hurry.go_on()


async def _standing(nemesis: Nemesis, store: str, for_s: float) -> int:
    """Most statements that stood before a stopped store at any look: at its end they may all have given up."""
    met, until = nemesis.store_calls(store), time.monotonic() + for_s
    while time.monotonic() < until:
        await asyncio.sleep(0.02)
        met = max(met, nemesis.store_calls(store))
    return met


async def flushall(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the statements that were under way, and the keys that were there and had to be restored: positions, marks, streams. Where
    there was no key, it met nobody. It lasts a little longer, until something has been restored.
    """
    async with nemesis.lock("redis"):
        client = nemesis.cluster.hurry.client()
        try:
            there = await _keys(client)
            met = nemesis.store_calls("redis") if there else 0
            await client.flushall()
            began = time.monotonic()
            await asyncio.sleep(1.0)
            while not (restored := there & await _keys(client)) and time.monotonic() - began < AIM_WITHIN_S:
                await asyncio.sleep(0.05)
            return "redis", met + len(restored)
        finally:
            await client.aclose()


async def function_flush(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are those who are told that there is no such function: Redis counts them."""
    async with nemesis.lock("redis"):
        client = nemesis.cluster.hurry.client()
        try:
            before = _errors(await client.info("errorstats"))
            await client.execute_command("FUNCTION", "FLUSH", "SYNC")
            await asyncio.sleep(1.0)
            return "redis", _errors(await client.info("errorstats")) - before
        finally:
            await client.aclose()


def _errors(stats: dict[str, object]) -> int:
    found = stats.get("errorstat_ERR")
    return int(found["count"]) if isinstance(found, dict) else 0


async def redis_lies(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the claims that were lied to."""
    before = nemesis.marks.lies
    answers = [b"$%d\r\n%b\r\n" % (len(word), word) for word in WORDS]
    standing = [(node.redis, node.redis.lie([CLAIM], answers)) for node in nemesis.cluster.nodes]
    try:
        await asyncio.sleep(planned.length_s)
        return "redis", nemesis.marks.lies - before
    finally:
        for proxy, lie in standing:
            proxy.end(lie)


# --- postgres


async def postgres_kill(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the statements under way when it died, and the connections that found nobody."""
    return "postgres", await _postgres_away(nemesis, planned.length_s, immediate=False)


async def postgres_immediate(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """As `postgres_kill`."""
    return "postgres", await _postgres_away(nemesis, planned.length_s, immediate=True)


async def _postgres_away(nemesis: Nemesis, for_s: float, *, immediate: bool) -> int:
    judge = nemesis.cluster.judge
    async with nemesis.lock("postgres"):
        met = await nemesis.aim(lambda: nemesis.store_calls("postgres"))
        before = nemesis.refused("postgres")
        try:
            await (judge.quit() if immediate else judge.kill())
            await asyncio.sleep(for_s)
            met += nemesis.refused("postgres") - before
        finally:
            await judge.start()
            nemesis.marks.postgres_up.append(now_ns())
        return met


async def postgres_stop(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the statements that stood before it."""
    async with nemesis.lock("postgres"):
        nemesis.cluster.judge.stop()
        try:
            return "postgres", await _standing(nemesis, "postgres", planned.length_s)
        finally:
            nemesis.cluster.judge.go_on()


TERMINATE = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid) AND at_work) FROM (
  SELECT pid, state <> 'idle' AS at_work FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle')
  ORDER BY state <> 'idle' DESC, random() LIMIT $1) victims
"""


async def backends(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Some backends, those at work first, when there are any; only these count."""
    async with nemesis.lock("postgres"):
        conn = await nemesis.cluster.judge.connect()
        try:
            began = time.monotonic()
            while not (met := await conn.fetchval(TERMINATE, dice.randint(1, 4))):
                if time.monotonic() - began > AIM_WITHIN_S:
                    break
            return "postgres", met
        finally:
            await conn.close()


BLOCKED = """
SELECT pid::text || ' ' || query_start AS call FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND $1 = ANY (pg_blocking_pids(pid))
"""
HELD = {
    "jobs": "SELECT id FROM jobs WHERE status IN ('offered', 'accepted', 'arrived') ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED",
    "gates": "SELECT provider_id FROM provider_gate WHERE online ORDER BY random() LIMIT 60 FOR UPDATE SKIP LOCKED",
}


async def row_lock(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the statements that Postgres names as waiting for our session; it stays a little longer, and takes more rows, until there
    are any: those there were in the first moment may be nobody's concern, or none.
    """
    what = dice.choice(sorted(HELD))
    # Postgres lives meanwhile: who kills it lets go of the rows.
    async with nemesis.lock("postgres"):
        holder = await nemesis.cluster.judge.connect()
        looker = await nemesis.cluster.judge.connect()
        waiting: set[str] = set()
        try:
            pid = await holder.fetchval("SELECT pg_backend_pid()")
            async with holder.transaction():
                await holder.fetch(HELD[what])
                until = time.monotonic() + planned.length_s
                while (now := time.monotonic()) < until or (not waiting and now < until + AIM_WITHIN_S):
                    waiting.update(row["call"] for row in await looker.fetch(BLOCKED, pid))
                    await asyncio.sleep(0.05)
                    if not waiting:
                        await holder.fetch(HELD[what])
        finally:
            holder.terminate()
            looker.terminate()
        return what, len(waiting)


# --- people and machine


async def client_abort(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the requests whose line was lost."""

    def asking() -> list[Phone]:
        return [
            phone for phone in nemesis.city.phones if phone.live and any(one.waiting for one in phone.waiting.values())
        ]

    await nemesis.aim(lambda: len(asking()))
    victims = asking()[:20]
    met = sum(len(phone.waiting) for phone in victims)
    for phone in victims:
        phone.drop(0.0)
    return f"{len(victims)} phones", met


HOGS_MAX = 16
SHARED_S, LOOK_S = 0.02, 0.1
"""A worker that waited so much longer than before for a CPU, within a look, was slowed by the hogs."""


async def cpu_hog(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the most calls that were under way, at any look, at workers which the hogs kept waiting for a CPU. More and more of them, and
    a little longer, until there are any: who wakes for a moment is let in before a few.
    """
    pids = [node.worker.pid for node in nemesis.cluster.nodes]
    usual = await _waits(pids)
    hogs: list[asyncio.subprocess.Process] = []
    met = 0
    try:
        until = time.monotonic() + planned.length_s
        while (now := time.monotonic()) < until or (not met and now < until + AIM_WITHIN_S):
            if len(hogs) < 2 or (not met and len(hogs) < HOGS_MAX):
                hogs.append(
                    await asyncio.create_subprocess_exec(
                        sys.executable, "-c", "while True: pass", start_new_session=True, preexec_fn=end_with_us
                    )
                )
            looked = zip(nemesis.cluster.nodes, await _waits(pids), usual, strict=True)
            met = max(met, sum(nemesis.calls_at(node) for node, waited, was in looked if waited > was + SHARED_S))
    finally:
        for hog in hogs:
            with suppress(ProcessLookupError):
                hog.kill()
            await hog.wait()
    return "machine", met


async def _waits(pids: Sequence[int | None]) -> list[float]:
    """Seconds that each of these processes waited for a CPU during one look."""
    before = [_waited_s(pid) for pid in pids]
    await asyncio.sleep(LOOK_S)
    return [_waited_s(pid) - waited for pid, waited in zip(pids, before, strict=True)]


def _waited_s(pid: int | None) -> float:
    """Seconds that a process has been ready to run and did not, by the kernel's count; 0 for one that is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


# --- disk


async def disk_full(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the writes that Postgres and Redis say they could not do. Neither may need a hand afterwards but its service manager's:
    it lasts until both answer again, so that the next fault meets a Postgres and not the remains of one.
    """
    made = nemesis.cluster
    if made.disk is None:
        raise Skipped(made.no_disk)
    async with nemesis.lock("postgres"), nemesis.lock("redis"):
        before = _refusals(made.folder)
        try:
            made.disk.fill()
            await asyncio.sleep(planned.length_s)
        finally:
            made.disk.free()
            await made.judge.back()
            await made.hurry.back()
        return "postgres and redis", _refusals(made.folder) - before


def _refusals(logs: Path) -> int:
    """Writes that found no room so far; the logs lie on another disk."""
    stores = (*logs.glob("postgres-*.log"), *logs.glob("redis-*.log"))
    return sum(log.read_bytes().count(b"No space left on device") for log in stores)


BLOWS: dict[str, Blow] = {
    "worker-kill": worker_kill,
    "worker-stop": worker_stop,
    "worker-block": worker_stop,
    "redis-kill": redis_kill,
    "redis-stop": redis_stop,
    "flushall": flushall,
    "function-flush": function_flush,
    "redis-stale": redis_stale,
    "redis-split": redis_split,
    "redis-empty": redis_empty,
    "redis-lies": redis_lies,
    "postgres-kill": postgres_kill,
    "postgres-immediate": postgres_immediate,
    "postgres-stop": postgres_stop,
    "backends": backends,
    "row-lock": row_lock,
    "link-reset": link_reset,
    "link-half-open": link_half_open,
    "link-blackhole": link_blackhole,
    "link-delay": link_delay,
    "link-throttle": link_throttle,
    "disk-full": disk_full,
    "clock-worker": clock_worker,
    "clock-redis": clock_redis,
    "clock-postgres": clock_postgres,
    "client-abort": client_abort,
    "cpu-hog": cpu_hog,
}
