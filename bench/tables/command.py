"""`python -m bench tables`: its options, the sizes, what is measured at each, and the tables that it prints."""

import argparse
import math
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

import dispatch
from bench.candidates import sizes
from bench.demo.command import at_least_one
from bench.demo.stage import StageError, Wanted, environment_of, run_command
from bench.figures import Row, complete, full, keep_text, ms, options, parsed, perform, point, show, spread, verdict
from bench.peers.judge import OFFERED
from bench.progress import say
from bench.tables.history import (
    EVERY,
    PEOPLE,
    TABLES,
    People,
    UntoldError,
    completed,
    fresh,
    grow,
    over,
    people_of,
    sized,
)
from bench.tables.plans import blocks, drawn_all, explained, rows_read, shortened, whole
from dispatch.kit.embedded import stores
from dispatch.kit.errors import Overloaded
from dispatch.kit.paging import read_cursor
from dispatch.kit.postgres import SESSION, Actor, Postgres, Tx
from dispatch.kit.sql import Queries
from protocol.lifecycle import JobStatus

SLICES: Final = Path(dispatch.__file__).parent
ACCEPT: Final = Queries(SLICES / "claims" / "queries.sql")["accept_job"]
LISTS: Final = Queries(SLICES / "jobs" / "queries.sql")
ROUNDS: Final = Queries(SLICES / "matching" / "queries.sql")
SIZES: Final = (10_000, 1_000_000, 5_000_000)
SHARES: Final = (0.5, 0.99)
GROWTH_MAX: Final = 1.3
"""The largest history to the smallest: flat, but for what a machine does by itself."""
PAGE: Final = 51
"""What a list asks for: fifty, and one that tells whether there are more."""
WARM: Final = 40
READ_WHOLE_BELOW: Final = 10_000
"""Jobs: of a smaller table a plan that reads all is a good one."""
STEPS: Final = 200
"""What a loop takes at a time."""
LIST_WITHIN_S: Final = 15.0
"""Of all asks of one list at one size: one that reads millions of rows is known after a few."""
SLOW_S: Final = 0.1
"""An ask that takes longer counts although it was one of the first: no plan takes that long to make."""
GIVEN_UP: Final = (TimeoutError, Overloaded, asyncpg.QueryCanceledError)
DISK_BYTES_PER_JOB: Final = 8_000
"""Rows, indexes and the log of writing them, rounded up; the run prints what the rows and indexes took."""
SPARE_BYTES: Final = 4 * 2**30


def parser() -> argparse.ArgumentParser:
    found = options("tables", "Accepts and lists beside a long history of jobs.")
    found.add_argument(
        "--sizes",
        type=sizes,
        default=None,
        metavar="N[,N…]",
        help="jobs in the table, smallest first (default: 10000,1000000,5000000; without the last if the disk is too small)",
    )
    found.add_argument("--providers", type=at_least_one, default=1_000, help="who took them (default: 1000)")
    found.add_argument("--accepts", type=at_least_one, default=800, help="measured at each size (default: 800)")
    found.add_argument("--asks", type=at_least_one, default=400, help="of each list at each size (default: 400)")
    found.add_argument(
        "--plans", action="store_true", help="print the plans of all sizes; the report has those of the largest"
    )
    return found


SHORT: Final = {"sizes": [2_000, 20_000], "providers": 200, "accepts": 150, "asks": 100}


@dataclass(frozen=True, slots=True)
class Asked:
    """One list as somebody asks for it, or what a loop of the server's asks again and again: then nobody is its actor, and what it wrote is
    undone.
    """

    name: str
    actor: Actor | None
    query: str
    arguments: tuple[Any, ...]


def fitting(wanted: Sequence[int] | None, free_bytes: int) -> list[int]:
    """The sizes to measure: those that were named, or those of ours that the disk holds. Raises StageError when one that was named does
    not fit, or none. Pure.
    """
    room = (free_bytes - SPARE_BYTES) // DISK_BYTES_PER_JOB
    found = [size for size in wanted or SIZES if size <= room]
    if not found or (wanted and len(found) < len(wanted)):
        size = max(wanted or SIZES[:1])
        raise StageError(
            f"{size:,} jobs need about {(size * DISK_BYTES_PER_JOB + SPARE_BYTES) / 2**30:.0f} GiB in {tempfile.gettempdir()},"
            f" and {free_bytes / 2**30:.0f} are free: set TMPDIR to a larger disk, or name smaller --sizes"
        )
    return found


async def accept(tx: Tx, taker: UUID, job: UUID, offer: UUID) -> None:
    """As the claims call it. Raises RuntimeError when it is told no."""
    row = await tx.fetchrow(
        ACCEPT, taker, job, offer, 1, uuid4(), str(uuid4()), "bench", False, None, 100, None, None, None
    )
    if row is None or row["word"] != "accepted":
        raise RuntimeError(f"an accept that nobody contested was told {row and row['word']}")


async def accepts(pg: Postgres, judge: "asyncpg.Connection[Any]", people: "People", count: int) -> list[float]:
    """Milliseconds of each accept on a fresh job; those of the first, which make plans, are left out."""
    took: list[float] = []
    while len(took) < count + WARM:
        takers = people.takers[: count + WARM - len(took)]
        made = await fresh(judge, takers, people.buyers)
        async with pg.app() as tx:
            for taker, (job, offer) in zip(takers, made, strict=True):
                start = time.perf_counter()
                await accept(tx, taker, job, offer)
                took.append((time.perf_counter() - start) * 1000)
        await over(judge, [job for job, _ in made])
    # Index entries of what was live are there until somebody tidies up: autovacuum does, but leaves those of few rows in a large table to whoever
    # meets them first.
    for table in ("jobs", "offers"):
        await judge.execute(f"VACUUM (INDEX_CLEANUP ON) {table}")
    return took[WARM:]


def lists(people: People, dice: random.Random) -> Iterator[Asked]:
    """Each list once, asked by somebody, and what loops ask."""
    start = read_cursor(None)
    for name, user in (
        ("customer's jobs", dice.choice(people.buyers)),
        ("provider's jobs", dice.choice(people.takers)),
        ("jobs of a customer without any", people.newcomer),
    ):
        yield Asked(name, Actor(user), LISTS["jobs_of"], (user, None, *start, PAGE))
    admin = Actor(people.newcomer, frozenset({"admin"}))
    for name, statuses in (("office's newest", list(JobStatus)), ("office's newest open", [JobStatus.PENDING])):
        yield Asked(name, admin, LISTS["jobs_all"], ([str(one) for one in statuses], *start, PAGE))
    yield Asked("loop: due searches", None, ROUNDS["jobs_due"], (None, STEPS, 2.0, ["bkk"], [60.0]))
    yield Asked("loop: offers left open", None, ROUNDS["offers_left_open"], (STEPS,))
    yield Asked("loop: offers unheard", None, ROUNDS["offers_unheard"], (6.0, STEPS))
    yield Asked("loop: stuck jobs", None, LISTS["jobs_stuck"], (STEPS,))
    yield Asked("loop: steps to be told", None, LISTS["job_events_next"], ("notices", STEPS))


@asynccontextmanager
async def acting(pg: Postgres, actor: Actor | None) -> AsyncIterator[Tx]:
    """A transaction of his; of a loop, one whose writes are undone, so that each ask finds what the first one found."""
    if actor is not None:
        async with pg.acting(actor) as tx:
            yield tx
        return
    async with pg.system_tx() as tx:
        await tx.execute("SAVEPOINT before")
        yield tx
        await tx.execute("ROLLBACK TO SAVEPOINT before")


async def asked(pg: Postgres, people: People, times: int) -> dict[str, list[float]]:
    """Milliseconds of each ask of each list, the lists by turns. One that has had its time is asked no more; what the server would have given
    up is infinite.
    """
    dice = random.Random(times)
    took: dict[str, list[float]] = {}
    spent_s: dict[str, float] = {}
    for number in range(times + WARM):
        for one in lists(people, dice):
            if spent_s.get(one.name, 0.0) > LIST_WITHIN_S:
                continue
            start = time.perf_counter()
            answered = True
            try:
                async with acting(pg, one.actor) as tx:
                    await tx.fetch(one.query, *one.arguments)
            except GIVEN_UP:
                answered = False
            each_s = time.perf_counter() - start
            spent_s[one.name] = spent_s.get(one.name, 0.0) + each_s
            if number >= WARM or each_s > SLOW_S:
                took.setdefault(one.name, []).append(each_s * 1000 if answered else math.inf)
    return took


async def at_size(
    url: str, judge: "asyncpg.Connection[Any]", people: People, shown: argparse.Namespace
) -> list[dict[str, Any]]:
    """Everything at the size that the history has now: {what, ms_p50, ms_p99, rows_read, blocks, whole, plans}."""
    rows = {table: await judge.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    async with Postgres.open(url, size=2) as pg:
        took = {"accept": await accepts(pg, judge, people, shown.accepts), **await asked(pg, people, shown.asks)}
    ((job, offer), *_) = made = await fresh(judge, people.takers[:OFFERED], people.buyers)
    calls: dict[str, tuple[Actor | None, str, Sequence[Any]]] = {
        "accept": (
            Actor(people.takers[0]),
            ACCEPT,
            (people.takers[0], job, offer, 1, uuid4(), "plan", "bench", False, None, 100, None, None, None),
        )
    } | {one.name: (one.actor, one.query, one.arguments) for one in lists(people, random.Random(0))}
    found = []
    for what, (actor, query, arguments) in calls.items():
        plans = await explained(judge, actor, query, arguments)
        read = rows_read(plans)
        found.append(
            {
                "what": what,
                **spread(took[what], "ms", SHARES),
                "rows_read": read,
                "blocks": blocks(plans),
                "whole": whole(read, rows),
                "plans": plans,
            }
        )
    await over(judge, [job for job, _ in made])
    return found


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError."""
    free_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    wanted, shown.sizes = shown.sizes or SIZES, fitting(shown.sizes, free_bytes)
    left_out = sorted(set(wanted) - set(shown.sizes))
    if largest := max(shown.sizes, default=0):
        say(
            f"{largest:,} jobs: up to {largest * DISK_BYTES_PER_JOB / 2**30:.1f} GiB in {tempfile.gettempdir()}, removed at the end"
        )
    measured: list[dict[str, Any]] = []
    untold = ""
    async with stores(None, echo=say) as started:
        with tempfile.TemporaryDirectory(prefix="dispatch-tables-") as name:
            folder = Path(name)
            environment = environment_of(
                Wanted("bkk", shown.providers, 0, 1, {}), started.database_url, started.redis_url, folder / "stamps"
            )
            await run_command(["migrate"], environment, folder)
            seeding = ["seed", "--market", "bkk", "--providers", str(shown.providers), "--customers", "0"]
            await run_command([*seeding, "--tokens", str(folder / "tokens")], environment, folder)
        # Making millions of rows is no request: it may take its time, and one who makes them all need not be checked row by row.
        making = {"statement_timeout": "0", "synchronous_commit": "off", "session_replication_role": "replica"}
        maker = await asyncpg.connect(started.database_url, server_settings={"search_path": "dispatch"} | making)
        judge = await asyncpg.connect(started.database_url, server_settings=SESSION | {"statement_timeout": "0"})
        try:
            await maker.execute(PEOPLE)
            have, began = 0, datetime.now(UTC) - EVERY * max(shown.sizes)
            for size in shown.sizes:
                took_s = await grow(maker, have, size, shown.providers, began)
                bytes_of = await sized(maker)
                found = await at_size(started.database_url, judge, await people_of(judge), shown)
                measured.append({"jobs": size, "written_s": round(took_s, 1), "bytes": bytes_of, "of": found})
                have = size
            try:
                with_pay, notices = await completed(started, maker, await people_of(judge))
            except UntoldError as error:
                # What was measured until then took half an hour.
                with_pay, notices, untold = {}, None, str(error)
        finally:
            await judge.close()
            await maker.close()
        versions = {str(kind): version for kind, version in started.versions.items()}
    figures = summed(measured) | {"bytes_per_completion_elsewhere": with_pay, "notices_per_completion": notices}
    figures |= {"left_out": left_out, "untold": untold}
    _show(measured, figures, shown)
    if left_out:
        show("sizes that are not there", [too_large(size, free_bytes) for size in left_out])
    if untold:
        show("bytes elsewhere, for each completion", [("every completion", untold, "all told: MISSED")])
    return complete(figures, shown, versions), 1 if figures["reading_all"] or untold else 0


def times(small: float | None, large: float | None) -> float | None:
    """The large one to the small one; None, as for ever, when one of them never came. Pure."""
    if small is None or large is None:
        return None
    return round(large / small, 2) if small else 1.0 if not large else None


def summed(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all sizes: growth from the smallest to the largest (None: it never came), bytes a job, who reads all of it, and curves. Pure."""
    first, last = measured[0], measured[-1]
    growth = {}
    for small, large in zip(first["of"], last["of"], strict=True) if len(measured) > 1 else ():
        growth[small["what"]] = {key: times(small[key], large[key]) for key in ("ms_p50", "ms_p99", "blocks")}
    return {
        "sizes": measured,
        "growth": growth,
        "bytes_per_job": {table: round(size / last["jobs"]) for table, size in last["bytes"].items()},
        "reading_all": [
            f"{one['what']} reads all of {', '.join(one['whole'])} at {size['jobs']:,} jobs"
            for size in measured
            for one in size["of"]
            if one["whole"] and size["jobs"] >= READ_WHOLE_BELOW
        ],
        "scaling": [
            point(f"{one['what']}, {share}", "ms", "jobs in the table", size["jobs"], one[f"ms_{share}"])
            for size in measured
            for one in size["of"]
            for share in ("p50", "p99")
        ],
    }


def too_large(size: int, free_bytes: int) -> Row:
    """For the table. Pure."""
    need = (size * DISK_BYTES_PER_JOB + SPARE_BYTES) / 2**30
    return f"{size:,} jobs", f"need {need:.0f} GiB of disk, {free_bytes / 2**30:.0f} are free", "every size: MISSED"


def grown(figures: Mapping[str, Any], shown: argparse.Namespace) -> list[Row]:
    """The largest history to the smallest; judged where these are as small and as large as the aim's. Pure."""
    limit = GROWTH_MAX if full(shown, (SIZES[0], min(shown.sizes)), (max(shown.sizes), SIZES[-1])) else None
    return [
        (
            f"{what}, {key.removeprefix('ms_')}",
            "never" if many is None else f"{many:.2f}",
            verdict(many, limit, "times"),
        )
        for what, ratios in figures["growth"].items()
        for key, many in ratios.items()
    ]


def _show(measured: Sequence[dict[str, Any]], figures: dict[str, Any], shown: argparse.Namespace) -> None:
    for size in measured:
        rows = [
            (f"{one['what']} p50, p99", f"{ms(one['ms_p50'])}, {ms(one['ms_p99'])}", f"{one['blocks']:,} blocks")
            for one in size["of"]
        ]
        gib = sum(size["bytes"].values()) / 2**30
        show(f"{size['jobs']:,} jobs, written in {size['written_s']:.0f} s, {gib:.2f} GiB", rows)
        for one in size["of"] if shown.plans else ():
            say(f"\n{one['what']}, {size['jobs']:,} jobs")
            say("\n".join(drawn_all(one["plans"])))
    largest = measured[-1]
    plans = [line for one in largest["of"] for line in (one["what"], *shortened(drawn_all(one["plans"])))]
    keep_text(f"the plans, {largest['jobs']:,} jobs", plans)
    reading = [
        ("plans that read all of it", f"{len(figures['reading_all'])}", verdict(len(figures["reading_all"]), 0, ""))
    ]
    show("the largest history to the smallest", grown(figures, shown) + reading)
    per_job = figures["bytes_per_job"]
    show(
        "bytes for each job",
        [(table, f"{size:,}", "") for table, size in per_job.items()]
        + [("together", f"{sum(per_job.values()):,}", "")],
    )
    if elsewhere := figures["bytes_per_completion_elsewhere"]:
        show("bytes elsewhere, for each completion", [(table, f"{size:,}", "") for table, size in elsewhere.items()])
    for complaint in figures["reading_all"]:
        say(f"MISSED: {complaint}")


def main(args: list[str]) -> int:
    """Run it; 1 when a plan reads all of the history."""
    return perform(scenario, parsed(parser(), args, SHORT))
