"""One run: start, load, faults, heal, rest, read, judge."""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec

from bench.chaos import figures
from bench.chaos.asking import Asker
from bench.chaos.blows import BLOWS
from bench.chaos.city import City, Habits
from bench.chaos.cluster import MARKET, Cluster, Prepare, cluster, nothing
from bench.chaos.logs import judged
from bench.chaos.money import bank_accounts
from bench.chaos.nemesis import CLAIM, COMMITS, Marks, Nemesis, stricken
from bench.chaos.phones import Phone, tend
from bench.chaos.plan import Planned
from bench.chaos.recorder import Recorder
from bench.chaos.stores import Build, Say
from bench.demo.stage import Person, StageError
from bench.faults import reads
from bench.faults.checkers import Violation, judge
from bench.faults.history import Final, History, read
from bench.faults.tables import judge_tables
from bench.fleet import cloud
from dispatch.accounts import mint
from dispatch.kit.clock import SystemClock
from dispatch.markets import Markets
from dispatch.settings import load

TOKEN_TTL_S = 48 * 3600
FLUSH_S = 1.0
ONLINE_WITHIN_S = 90.0
DRAIN_WITHIN_S = 60.0
REST_WITHIN_S = 60.0
RICH = 60
"""Providers with a bank account."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run."""

    seed: int
    seconds: float
    """Of load and faults; the plan's length in the short form."""
    plan: Sequence[Planned]
    standing: Sequence[str]
    """Of `plan.STANDING`."""
    habits: Habits
    build: Build
    providers: int = 500
    customers: int = 100
    workers: int = 4
    rest_s: float = 10.0
    drop_rate: float = 0.01
    launch: Sequence[str] = (sys.executable, "-m", "dispatch")
    prepare: Prepare = nothing


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    history: History
    violations: list[Violation]
    figures: dict[str, Any]
    skipped: dict[str, str] = field(default_factory=dict)


def token_of(user: UUID, roles: Sequence[str]) -> str:
    """A token of the server's own."""
    s = load(environ={})
    return mint(
        user,
        roles,
        secret=s.jwt_secrets[0].get_secret_value(),
        issuer=s.jwt_issuer,
        audience=s.jwt_audience,
        roles_claim=s.jwt_roles_claim,
        # Made some hours ago: a worker whose clock is an hour behind takes it too.
        at=SystemClock().now() - figures.CLOCK_SHIFT * 2,
        ttl_s=TOKEN_TTL_S,
    )


def _person(person: Person, *roles: str) -> Person:
    return Person(person.user_id, token_of(UUID(person.user_id), roles or ("customer",)))


async def run(wanted: Wanted, folder: Path, say: Say) -> Outcome:
    """The whole of it. `folder` keeps history and logs. Raises StageError, EmbeddedError."""
    record = folder / "history"
    record.mkdir()
    (folder / "plan.json").write_bytes(msgspec.json.format(msgspec.json.encode(list(wanted.plan))))
    recorder, marks = Recorder(record), Marks()
    began = time.monotonic()
    async with cluster(
        folder,
        stores=folder / "stores",
        build=wanted.build,
        workers=wanted.workers,
        providers=wanted.providers,
        customers=wanted.customers,
        seed=wanted.seed,
        say=say,
        struck=stricken(recorder, marks),
        launch=wanted.launch,
        prepare=wanted.prepare,
    ) as made:
        say(f"{wanted.workers} workers ready after {time.monotonic() - began:.1f} s")
        final, found = await _loaded(wanted, made, recorder, marks, say)
        ended = [*made.ended]
        (record / "final.json").write_bytes(msgspec.json.encode(final))
        versions = {"postgres": made.judge.version, "redis": wanted.build.version}
    say("judging")
    # All of them: also what workers said as they stopped.
    logs = await asyncio.to_thread(judged, [node.worker for node in made.nodes], ended)
    found["unexpected"] += logs.unexpected
    # A fault leaves a store as it found it, so none of them ends but in its turn.
    found["unexpected"] += [f"{name} ended by itself" for name in ended if not name.startswith("worker")]
    history = await asyncio.to_thread(read, record)
    history.clock_error = figures.clock_error(history)
    history.silences = figures.silences(history)
    looked: Counter[str] = Counter()
    violations = await asyncio.to_thread(lambda: judge(history, looked) + judge_tables(history))
    measured = (
        figures.measured(history, marks, violations)
        | found
        | {
            "versions": versions,
            "looked": dict(sorted(looked.items())),
            "ended_by_themselves": dict(Counter(ended)),
            "worker_deaths": dict(logs.deaths),
            "excused_lines": dict(logs.excused),
            "seconds": round(time.monotonic() - began, 1),
        }
    )
    return Outcome(history, violations, measured)


async def _loaded(
    wanted: Wanted, made: Cluster, recorder: Recorder, marks: Marks, say: Say
) -> tuple[Final, dict[str, Any]]:
    """Load and faults, healing and rest; what the judge holds then."""
    links = [node.clients for node in made.nodes]
    admin = Person(str(uuid4()), "")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        asker = Asker(http, links, random.Random(f"asker {wanted.seed}"))
        city = City(links, asker, recorder, wanted.habits, _person(admin, "admin"), wanted.seed)
        accounts = await bank_accounts(made.judge, made.providers[:RICH])
        places = cloud(Markets.load()[MARKET], wanted.providers, seed=wanted.seed, sigma_m=1_500.0)
        city.populate(
            [_person(one) for one in made.providers], [_person(one) for one in made.customers], places, accounts
        )
        nemesis = Nemesis(made, city, recorder, marks, BLOWS)
        background = [
            asyncio.create_task(tend(city.phones, every_s=wanted.habits.locate_s, moves=city.moves, busy=city.busy))
        ]
        background.append(asyncio.create_task(_flushing(recorder)))
        try:
            await _all_online(city, say)
            took_s = await _storm(wanted, made, city, nemesis, recorder, say)
            say("healed; nobody orders any more")
            await _drained(city, say)
            await _rested(wanted, made, city, say)
            await city.end()
            applied, lineless = at_the_end(city.phones)
            books = await _books(made)
            conn = await made.judge.connect()
            try:
                final = await reads.final(conn)
            finally:
                await conn.close()
            final.applied, final.books = applied, books
            final.stuck += lineless
        finally:
            await city.end()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, *(phone.leave() for phone in city.phones), return_exceptions=True)
            recorder.flush()
        for task in background:
            if not task.cancelled() and (error := task.exception()) is not None:
                city.counts.unexpected.append(f"the harness itself failed: {error!r}")
    counts = city.counts
    counts.unexpected += made.broken
    if asker.statuses[500]:
        counts.unexpected.append(
            f"{asker.statuses[500]} requests were answered with 500, which the server says of its own bugs"
        )
    return final, {
        "load_s": round(took_s, 1),
        "skipped": nemesis.skipped,
        "unexpected": counts.unexpected,
        "not_done": nemesis.failures,
        "welcomes": counts.welcomes,
        "resumed": counts.resumed,
        "closes": dict(counts.closes),
        "handshakes_refused": {str(status): count for status, count in counts.refused.items()},
        "complaints": dict(counts.complaints),
        "http_statuses": {str(status): count for status, count in asker.statuses.items()},
    }


def at_the_end(phones: Sequence[Phone]) -> tuple[dict[str, int], list[str]]:
    """(device → what it has applied, those without a line): nothing is wrong any more, so nobody has a reason to be without."""
    applied = {phone.device: phone.session.seq for phone in phones if phone.live}
    return applied, [f"{phone.device} has no line" for phone in phones if not phone.live]


async def _flushing(recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        recorder.flush()


async def _all_online(city: City, say: Say) -> None:
    """Everybody connects, no faster than the workers let them in, and the providers switch on. Raises StageError."""
    began = time.monotonic()
    for number, phone in enumerate(city.phones):
        phone.start()
        if number % 20 == 19:
            await asyncio.sleep(0.1)
    while not (all(phone.live for phone in city.phones) and all(one.online for one in city.providers)):
        if time.monotonic() - began > ONLINE_WITHIN_S:
            live, online = sum(phone.live for phone in city.phones), sum(one.online for one in city.providers)
            raise StageError(f"after {ONLINE_WITHIN_S:.0f} s {live} phones are live and {online} providers online")
        await asyncio.sleep(0.1)
    say(f"{len(city.phones)} phones live after {time.monotonic() - began:.1f} s")


async def _storm(wanted: Wanted, made: Cluster, city: City, nemesis: Nemesis, recorder: Recorder, say: Say) -> float:
    """The load with all its faults; its seconds."""
    began = time.monotonic()
    habits = [city.orders(), city.office(), city.spending()]
    people = [asyncio.create_task(work) for work in habits]
    tunnels = asyncio.create_task(city.tunnels())
    progress = asyncio.create_task(_progress(wanted, city, nemesis, recorder, say))
    standing = [
        (link, link.drop_some(matches, wanted.drop_rate))
        for node in made.nodes
        for name, link, matches in (
            ("dropped-commit", node.postgres, COMMITS),
            ("dropped-claim", node.redis, (CLAIM,)),
        )
        if name in wanted.standing
    ]
    try:
        await nemesis.run(wanted.plan)
        await asyncio.sleep(max(0.0, began + wanted.seconds - time.monotonic()))
    finally:
        city.closing = True
        tunnels.cancel()
        progress.cancel()
        for link, one in standing:
            link.end(one)
        for link in made.links:
            link.heal()
        await asyncio.gather(tunnels, progress, return_exceptions=True)
        for task in people:
            task.cancel()
        for result in await asyncio.gather(*people, return_exceptions=True):
            if isinstance(result, Exception):
                city.counts.unexpected.append(f"the harness itself failed: {result!r}")
    return time.monotonic() - began


async def _progress(wanted: Wanted, city: City, nemesis: Nemesis, recorder: Recorder, say: Say) -> None:
    began, before, seen = time.monotonic(), 0, 0
    while True:
        await asyncio.sleep(5.0)
        accepts = sum(op.kind == "accept" for op in recorder.ops[seen:])
        seen = len(recorder.ops)
        before += accepts
        now = ", ".join(kind for kind, count in nemesis.under_way.items() if count)
        struck = sum(fault.met > 0 for fault in recorder.faults)
        live = sum(phone.live for phone in city.phones)
        say(
            f"{time.monotonic() - began:5.0f} of {wanted.seconds:.0f} s: {before:,} accepts ({accepts / 5:.0f}/s), {city.live} jobs, "
            f"{live} phones live, {struck} faults met somebody{f'; now: {now}' if now else ''}"
        )


async def _drained(city: City, say: Say) -> None:
    """What is under way is finished, or stays as it is after a while."""
    began = time.monotonic()
    while not city.quiet:
        if time.monotonic() - began > DRAIN_WITHIN_S:
            say(f"after {DRAIN_WITHIN_S:.0f} s these go on: {city.doing()}")
            return
        await asyncio.sleep(0.1)


async def _rested(wanted: Wanted, made: Cluster, city: City, say: Say) -> None:
    """`rest_s` of silence, and until every phone is live and has applied its head; bounded."""
    began = time.monotonic()
    await asyncio.sleep(wanted.rest_s)
    conn = await made.judge.connect()
    try:
        while time.monotonic() - began < REST_WITHIN_S:
            heads = {str(row["user_id"]): row["seq"] for row in await conn.fetch("SELECT user_id, seq FROM inbox_head")}
            behind = sum(
                not phone.live or phone.session.seq < heads.get(phone.person.user_id, 0) for phone in city.phones
            )
            if not behind:
                return
            await asyncio.sleep(0.5)
        say(f"{behind} phones have not caught up after {REST_WITHIN_S:.0f} s")
    finally:
        await conn.close()


async def _books(made: Cluster) -> list[str]:
    """What `dispatch ledger reconcile` finds wrong. Raises StageError when it could not run."""
    process = await asyncio.create_subprocess_exec(
        *(*made.launch, "ledger", "reconcile"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=made.environment,
    )
    out, err = await process.communicate()
    lines = [line for line in out.decode().splitlines() if line.strip()]
    if process.returncode not in (0, 1):
        raise StageError(f"ledger reconcile ended with exit code {process.returncode}:\n{err.decode()[-2000:]}")
    return [line for line in lines if '"summary"' not in line]
