"""`python -m bench ledger`: what the books cost.

**Postings**: 32 clients post what a job comes to (a fare in, the net to one of 1,000 wallets, the fee to the platform, whose accounts are
hot), and by turns do the same work barely: two rows updated and two inserted, one of the updated ones as hot. Ratio of the two, and
deadlocks. **Completions**: jobs completed by the server's own use case, with its payroll and with one that pays nothing, by turns: CPU of
this process and of Postgres. **Reconcile** over a million entries, and how long writers wait meanwhile. What Postgres gave up is counted
and nobody's end: of it there are so many, and the rest is measured.
"""

import argparse
import asyncio
import math
import random
import statistics
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson

from bench.demo.command import at_least_one
from bench.figures import (
    Row,
    at_least,
    complete,
    curve,
    full,
    known,
    latencies,
    ms,
    none,
    options,
    parsed,
    perform,
    seconds,
    show,
    spread,
    verdict,
    void,
)
from bench.meter import Meter, rows_of
from bench.progress import bar, say, wait
from bench.server import Running, Usage, server
from dispatch.app import App, build
from dispatch.books import reconciled
from dispatch.jobs import Completed
from dispatch.kit import log
from dispatch.kit.errors import Overloaded
from dispatch.kit.postgres import LOST, STUCK, Actor, Postgres, Tx
from dispatch.ledger import Account, Kind, Leg, configure, post
from dispatch.settings import load
from protocol.lifecycle import Stage

MARKET = "bkk"
CLIENTS = 32
WALLETS = 1_000
RATIO_MIN, CPU_RATIO_MAX, RECONCILE_S_MAX = 0.3, 2.0, 10.0
ENTRIES: Final = 1_000_000
"""That are to be reconciled within that time."""
GIVEN_UP: Final = (Overloaded, *STUCK)
"""What a caller of the server would be told to ask again for."""

BARE = """
CREATE TABLE bare_account (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE bare_entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id int NOT NULL, amount bigint NOT NULL);
INSERT INTO bare_account SELECT i FROM generate_series(0, 1015) i;
"""
BARE_POST = """
WITH a AS (UPDATE bare_account SET balance = balance + 60 WHERE id = $1), b AS (UPDATE bare_account SET balance = balance - 60 WHERE id = 1000 + pg_backend_pid() % 16)
INSERT INTO bare_entry (account_id, amount) VALUES ($1, 60), (1000 + pg_backend_pid() % 16, -60)
"""
MILLION = """
INSERT INTO ledger_account (kind, owner_id, asset, min_balance) SELECT 'wallet', gen_random_uuid(), 'XTS', 0 FROM generate_series(1, 1000);
INSERT INTO ledger_account (kind, asset, shard) SELECT k, 'XTS', s FROM generate_series(0, 15) s, unnest(ARRAY['ride_clearing', 'platform_fee']) k;
CREATE TEMP TABLE made AS SELECT nextval(pg_get_serial_sequence('dispatch.ledger_txn', 'id')) AS txn, i FROM generate_series(1, $TXNS) i;
INSERT INTO ledger_txn (id, kind, idem_key, req_hash, ref) OVERRIDING SYSTEM VALUE SELECT txn, 'bench', 'bench:' || txn, '', 'bench:' || txn FROM made;
CREATE TEMP TABLE owned AS SELECT id, owner_id, row_number() OVER (ORDER BY id) - 1 AS n FROM ledger_account WHERE kind = 'wallet' AND asset = 'XTS';
CREATE TEMP TABLE moves AS
  SELECT m.txn, l.leg, l.account, l.owner_id, l.amount FROM made m JOIN owned o ON o.n = m.i % 1000
  JOIN ledger_account c ON c.asset = 'XTS' AND c.kind = 'ride_clearing' AND c.shard = m.i % 16
  JOIN ledger_account f ON f.asset = 'XTS' AND f.kind = 'platform_fee' AND f.shard = m.i % 16
  CROSS JOIN LATERAL (VALUES (1::smallint, c.id, NULL::uuid, -60::bigint), (1, o.id, o.owner_id, 60), (2, c.id, NULL, -15), (2, f.id, NULL, 15)) l(leg, account, owner_id, amount);
INSERT INTO ledger_entry (account_id, seq, txn_id, leg, owner_id, amount, balance_before, balance_after, at)
  SELECT account, row_number() OVER w, txn, leg, owner_id, amount, sum(amount) OVER w - amount, sum(amount) OVER w, clock_timestamp()
  FROM moves WINDOW w AS (PARTITION BY account ORDER BY txn, leg);
UPDATE ledger_account a SET balance = t.total, version = t.n FROM (SELECT account, sum(amount)::bigint AS total, count(*) AS n FROM moves GROUP BY account) t WHERE a.id = t.account;
ANALYZE;
"""
RIDING = """
INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, provider_id, provider_user_id, pickup_lat, pickup_lng, pickup_address, coarse,
  passenger_name, currency, surge_pct, base_minor, distance_minor, time_minor, surge_minor, estimated_earnings_minor, trail_m, ttl_s, expires_at, accepted_at, arrived_at, started_at)
SELECT gen_random_uuid(), 'bkk', 'ride', 'in_progress', 1, 5, ($1::uuid[])[row_number() OVER ()], p.id, p.user_id, 13.75, 100.5, 'bench', '{"pickup": {"lat": 13.75, "lng": 100.5, "address": "bench"}}', 'bench', 'THB', 100,
  3500, 2500, 1500, 0, 6000, 5000, 600, clock_timestamp() + interval '1 h', clock_timestamp(), clock_timestamp(), clock_timestamp() - interval '15 min' FROM providers p
RETURNING id, provider_user_id
"""
UNPAID = "UPDATE jobs SET status = 'cancelled', completed_at = NULL, cancelled_at = clock_timestamp(), cancelled_by = 'system' WHERE id = ANY ($1::uuid[])"
"""A completed job without an earning is what reconcile would complain of."""
ABANDONED = "UPDATE jobs SET status = 'cancelled', cancelled_at = clock_timestamp(), cancelled_by = 'system' WHERE id = ANY ($1::uuid[]) AND status = 'in_progress'"
"""Whose completion was given up: his provider can have no other job before this one has ended."""


def parser() -> argparse.ArgumentParser:
    found = options(
        "ledger",
        "What the books cost. Always on a database of its own: it writes a million entries, and no server that is in use may be given them.",
    )
    found.add_argument("--for", type=seconds, default=5.0, dest="seconds", help="of each run of postings (default: 5)")
    found.add_argument(
        "--runs", type=at_least_one, default=5, help="of postings, each paired with a bare one (default: 5)"
    )
    found.add_argument("--entries", type=at_least_one, default=ENTRIES, help="to reconcile (default: 1000000)")
    found.add_argument("--completions", type=at_least_one, default=1_000, help="of each kind (default: 1000)")
    return found


SHORT: Final = {"seconds": 0.5, "runs": 2, "entries": 20_000, "completions": 100}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of some work."""

    done: int
    given_up: int
    took_s: float
    took_ms: list[float]
    """Infinite for each that was given up."""
    used: Usage

    @property
    def per_s(self) -> float:
        return self.done / self.took_s

    @property
    def postgres_us(self) -> float:
        return self.used.postgres / max(1, self.done) * 1e6


async def together(work: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Wait for all of it. The first that fails cancels the others, which would go on beside what is measured next, and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def hammer(running: Running, work: Callable[[int, int], Coroutine[Any, Any, object]], seconds: float) -> Run:
    """`work(client, turn)` by CLIENTS clients for so long, each as fast as it can. Who is given up goes on with his next."""
    took: list[float] = []
    given_up = 0
    before, began = running.usage(), time.perf_counter()
    until = began + seconds

    async def client(number: int) -> None:
        nonlocal given_up
        turn = 0
        while (start := time.perf_counter()) < until:
            try:
                await work(number, turn)
                took.append((time.perf_counter() - start) * 1000)
            except GIVEN_UP:
                given_up += 1
                # What gives up at once must not keep those from their turn who do not.
                await asyncio.sleep(0)
            turn += 1

    await together(client(number) for number in range(CLIENTS))
    took_s, used = time.perf_counter() - began, running.usage().since(before)
    return Run(len(took), given_up, took_s, took + [math.inf] * given_up, used)


async def postings(running: Running, shown: argparse.Namespace) -> dict[str, Any]:
    """Postings and bare work by turns."""
    url = running.stage.database_url
    judge = await asyncpg.connect(url, server_settings={"search_path": "dispatch"})
    bare = await asyncpg.create_pool(
        url, min_size=CLIENTS, max_size=CLIENTS, server_settings={"search_path": "dispatch"}
    )
    dice = random.Random(1)
    people = [UUID(int=dice.getrandbits(128)) for _ in range(WALLETS)]
    ours: list[Run] = []
    theirs: list[Run] = []
    try:
        await judge.execute(BARE)
        async with Postgres.open(url, size=CLIENTS) as pg:
            async with pg.system() as conn:
                await configure(conn, debt_limit_minor=50_000)

            async def ours_once(run: int, client: int, turn: int) -> None:
                owner = dice.choice(people)
                legs = [
                    Leg(Account(Kind.RIDE_CLEARING), Account(Kind.WALLET, owner), 6_000),
                    Leg(Account(Kind.RIDE_CLEARING), Account(Kind.PLATFORM_FEE), 1_500),
                ]
                async with pg.system() as conn:
                    await post(conn, "bench", f"{run}:{client}:{turn}", "THB", legs, ref=f"{run}:{client}:{turn}")

            async def bare_once(client: int, turn: int) -> None:
                async with bare.acquire() as conn:
                    await conn.execute(BARE_POST, dice.randrange(WALLETS))

            await hammer(running, partial(ours_once, -1), min(1.0, shown.seconds))  # the first of all is cold
            await hammer(running, bare_once, min(1.0, shown.seconds))
            # Drawn between the runs: both of them share their core with whatever this process does beside them.
            with bar("postings and bare work, s", round(2 * shown.runs * shown.seconds, 1)) as advance:
                for run in range(shown.runs):
                    ours.append(await hammer(running, partial(ours_once, run), shown.seconds))
                    advance(shown.seconds)
                    theirs.append(await hammer(running, bare_once, shown.seconds))
                    advance(shown.seconds)
                    say(
                        f"postings, run {run + 1} of {shown.runs}: {ours[-1].per_s:,.0f}/s, bare {theirs[-1].per_s:,.0f}/s"
                    )
        deadlocks = await judge.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    finally:
        await bare.close()
        await judge.close()
    ratios = [mine.per_s / other.per_s for mine, other in zip(ours, theirs, strict=True) if other.done]
    return {
        "postings_per_s": round(statistics.median(run.per_s for run in ours)),
        "bare_per_s": round(statistics.median(run.per_s for run in theirs)),
        "postings_vs_bare": _spread(ratios),
        "postgres_cpu_us_per_posting": round(statistics.median(run.postgres_us for run in ours), 1),
        "postgres_cpu_us_per_bare": round(statistics.median(run.postgres_us for run in theirs), 1),
        **spread([one for run in ours for one in run.took_ms], "posting_ms"),
        "latency": {"posting": curve([one for run in ours for one in run.took_ms])},
        "postings_given_up": sum(run.given_up for run in ours),
        "bare_given_up": sum(run.given_up for run in theirs),
        "deadlocks": deadlocks,
        "others_cores": ours[-1].used.others_share(),
    }


class Unpaid:
    """A payroll that pays nothing: what a completion costs without one."""

    async def pay(self, tx: Tx, done: Completed) -> Sequence[tuple[UUID, str, bytes]]:
        return ()


async def completions(running: Running, shown: argparse.Namespace) -> dict[str, Any]:
    """The server's own use case, in this process; CPU of this process and of Postgres for each."""
    log.configure("error")
    settings = load(
        database_url=running.stage.database_url, redis_url=running.stage.redis_url, mail_by="off", log_level="error"
    )
    judge = await asyncpg.connect(running.stage.database_url, server_settings={"search_path": "dispatch"})
    used: dict[str, list[float]] = {"paid": [], "unpaid": []}
    given_up = 0
    try:
        customers = [UUID(one.user_id) for one in running.stage.customers]
        batch = len(running.stage.providers)
        turns = max(1, shown.completions // batch)
        async with build(settings) as app:
            payrolls = {"paid": app.jobs._payroll, "unpaid": Unpaid()}
            # Drawn between the batches: this process' CPU is part of the figure.
            with bar("completions", 2 * batch * (turns + 1)) as advance:
                for turn in range(-1, turns):
                    for name, payroll in payrolls.items():
                        app.jobs._payroll = payroll
                        jobs = await judge.fetch(RIDING, customers)
                        each, refused = await completed(running, app, jobs)
                        await judge.execute(ABANDONED, refused)
                        if name == "unpaid":
                            await judge.execute(UNPAID, [row["id"] for row in jobs])
                        given_up += len(refused)
                        if turn >= 0:
                            used[name].append(each)
                        advance(batch)
    finally:
        await judge.close()
    pairs = zip(used["paid"], used["unpaid"], strict=True)
    return {
        "completion_cpu_us": _median(used["paid"]),
        "unpaid_completion_cpu_us": _median(used["unpaid"]),
        "completion_cpu_ratio": _spread([paid / unpaid for paid, unpaid in pairs if unpaid > 0 and paid > 0]),
        "completions_given_up": given_up,
    }


async def completed(running: Running, app: App, jobs: Sequence[Any]) -> tuple[float, list[UUID]]:
    """Complete them all, eight at once; (CPU microseconds of each that was, NaN when none was; those that were given up)."""
    gate = asyncio.Semaphore(8)
    given_up: list[UUID] = []

    async def one(row: Any) -> None:
        async with gate:
            try:
                await app.jobs.advance(
                    Actor(row["provider_user_id"]), row["id"], Stage.COMPLETED, distance_m=5_000, key=str(uuid4())
                )
            except GIVEN_UP:
                given_up.append(row["id"])

    before = running.usage()
    await together(one(row) for row in jobs)
    spent = running.usage().since(before)
    done = len(jobs) - len(given_up)
    return (spent.load + spent.postgres) / done * 1e6 if done else math.nan, given_up


async def reconciling(running: Running, shown: argparse.Namespace) -> dict[str, Any]:
    """The whole command over so many entries, and a writer beside it."""
    url = running.stage.database_url
    judge = await asyncpg.connect(url, server_settings={"search_path": "dispatch"})
    try:
        say(f"writing {shown.entries:,} entries")
        await judge.execute(MILLION.replace("$TXNS", str(-(-shown.entries // 4))))
    finally:
        await judge.close()
    owner = uuid4()
    waits: dict[str, list[float]] = {"alone": [], "beside": []}
    phase = "alone"

    async def write(pg: Postgres) -> None:
        turn = 0
        while True:
            start = time.perf_counter()
            legs = [Leg(Account(Kind.RIDE_CLEARING), Account(Kind.WALLET, owner), 1)]
            # Those who wait where this one does: a posting that was given up has waited for ever.
            took = math.inf
            try:
                async with pg.system() as conn:
                    await post(conn, "bench", f"beside:{turn}", "THB", legs)
                took = (time.perf_counter() - start) * 1000
            except GIVEN_UP:
                pass
            waits[phase].append(took)
            turn += 1
            await asyncio.sleep(0.005)

    lines: list[str] = []
    async with Postgres.open(url, size=2) as pg:
        writer = asyncio.create_task(write(pg))
        try:
            await wait("a writer alone", min(3.0, shown.seconds))
            phase = "beside"
            say("reconciling")
            code = await reconciled(url, lines.append)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
    summary = orjson.loads(lines[-1])["summary"]
    return {
        "reconcile_s": summary["seconds"],
        "reconciled_entries": summary["entries"],
        "differences": summary["differences"],
        "reconcile_exit": code,
        **spread(waits["alone"], "writer_alone_ms"),
        **spread(waits["beside"], "writer_beside_ms"),
    }


def _median(values: Sequence[float]) -> float:
    """NaN, as unknown, of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return round(statistics.median(known)) if known else math.nan


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    """NaN, as unknown, where there was nothing to compare."""
    if not ratios:
        return dict.fromkeys(("median", "min", "max"), math.nan)
    return {"median": round(statistics.median(ratios), 3), "min": round(min(ratios), 3), "max": round(max(ratios), 3)}


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError."""
    async with server(
        market=MARKET, providers=100, customers=100, workers=1, market_overrides={}, say=print
    ) as running:
        figures: dict[str, Any] = {}
        async with Meter(running) as meter:
            for part in (completions, postings, reconciling):
                try:
                    figures |= await part(running, shown)
                except (*GIVEN_UP, *LOST) as error:
                    # What the others found is kept: a run takes minutes.
                    void(f"{part.__name__} ended: {error!r}")
        figures["processes"] = meter.figures
        figures["lines_lost"] = 0
        differences, code = figures.get("differences"), figures.get("reconcile_exit")
        if differences or code:
            void(f"the books do not add up: {differences} differences, exit code {code}")
        _show(figures, shown)
        clean = figures.get("deadlocks") == 0 and differences == 0
        return complete(figures, shown, running.stage.versions), 0 if clean else 1


def _show(figures: dict[str, Any], shown: argparse.Namespace) -> None:
    """One table, of the parts that came to their end."""
    show(
        f"the books: {CLIENTS} clients, {WALLETS:,} wallets",
        [
            *(_postings_rows(figures, shown) if "postings_per_s" in figures else ()),
            *(_completions_rows(figures, shown) if "completion_cpu_us" in figures else ()),
            *(_reconcile_rows(figures, shown) if "reconcile_s" in figures else ()),
            *rows_of(figures["processes"]),
        ],
    )


def _postings_rows(figures: dict[str, Any], shown: argparse.Namespace) -> list[Row]:
    ratio = figures["postings_vs_bare"]
    return [
        ("postings", f"{figures['postings_per_s']:,}/s", ""),
        ("two updates and two inserts, bare", f"{figures['bare_per_s']:,}/s", ""),
        (
            "postings / bare",
            f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})",
            at_least(ratio["median"], RATIO_MIN if full(shown) else None, ""),
        ),
        ("Postgres CPU per posting", f"{figures['postgres_cpu_us_per_posting']:,.0f} µs", ""),
        ("Postgres CPU per bare work", f"{figures['postgres_cpu_us_per_bare']:,.0f} µs", ""),
        *latencies(figures, "posting_ms", "posting"),
        ("postings given up", f"{figures['postings_given_up']:,}", none(figures["postings_given_up"])),
        ("bare work given up", f"{figures['bare_given_up']:,}", ""),
        ("deadlocks", f"{figures['deadlocks']}", none(figures["deadlocks"])),
    ]


def _completions_rows(figures: dict[str, Any], shown: argparse.Namespace) -> list[Row]:
    cpu = figures["completion_cpu_ratio"]
    return [
        ("CPU of a completion, paid", f"{known(figures['completion_cpu_us'], ',')} µs", ""),
        ("CPU of a completion, unpaid", f"{known(figures['unpaid_completion_cpu_us'], ',')} µs", ""),
        (
            "paid / unpaid",
            f"{cpu['median']:.2f} ({cpu['min']:.2f} to {cpu['max']:.2f})",
            verdict(cpu["median"], CPU_RATIO_MAX if full(shown) else None, ""),
        ),
        ("completions given up", f"{figures['completions_given_up']:,}", none(figures["completions_given_up"])),
    ]


def _reconcile_rows(figures: dict[str, Any], shown: argparse.Namespace) -> list[Row]:
    within_s = RECONCILE_S_MAX if full(shown, (shown.entries, ENTRIES)) else None
    return [
        (
            f"reconcile {figures['reconciled_entries']:,} entries",
            f"{figures['reconcile_s']:.2f} s",
            verdict(figures["reconcile_s"], within_s, "s"),
        ),
        ("writer p99 alone", ms(figures["writer_alone_ms_p99"]), ""),
        ("writer p99 beside it", ms(figures["writer_beside_ms_p99"]), ""),
    ]


def main(args: list[str]) -> int:
    """Run it; 1 when there was a deadlock or the books did not add up."""
    return perform(scenario, parsed(parser(), args, SHORT))
