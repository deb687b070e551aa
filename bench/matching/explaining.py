"""What explanations cost: the same jobs at two servers that differ by the setting EXPLAIN, in turns.

Both stand beside each other with stores and people of their own. A pair is a stretch of jobs at the one and the same jobs at the other, who
goes first alternates. What is counted is processor time of server, Redis and Postgres for each job that was offered, from just before its stretch
until the last explanation of it is written. Each job is created over HTTP, offered, and cancelled a moment later: no accept and no
trip is in it, and only as many positions as keep the providers on the map, so the share of explanations is larger here than in life.
"""

import argparse
import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench.demo.stage import Person
from bench.figures import complete, show
from bench.fleet import FleetError, cloud, fleet, lost, open_all
from bench.matching.intervals import Found, median_of
from bench.offers import MARKET, Seen, one_job
from bench.pace import Drive, arrivals, at_moments
from bench.server import Running, Usage, server
from dispatch.markets import Markets
from protocol.http import Http

TARGET = 0.05
OFFERED_LEAST = 0.8
"""Of the jobs of a stretch. `batch` sends nobody far at first: it wants twice the providers that `waves` does."""
FIX_EVERY_S = 5.0
SETTLE_S = 2.5
"""After the last job: explanations are written once a second."""
_WARM_UP_S = 5.0


@dataclass(slots=True)
class Side:
    """One of the two servers."""

    running: Running
    https: list[Http]
    seen: Seen

    async def stretch(self, jobs: list[tuple[float, tuple[float, float]]], hold_s: float) -> tuple[Usage, int]:
        """All of these (moment, pickup), and what they used; how many of them were offered."""
        offered, before = len(self.seen.first_of_job), self.running.usage()

        def job(number: int, due_ns: int) -> Coroutine[Any, Any, None]:
            http = self.https[number % len(self.https)]
            return one_job(http, jobs[number][1], self.seen, asked_ns=due_ns, hold_s=hold_s, measured=False)

        await at_moments([moment for moment, _ in jobs], job)
        await asyncio.sleep(SETTLE_S)
        return self.running.usage().since(before), len(self.seen.first_of_job) - offered


@asynccontextmanager
async def _side(shown: argparse.Namespace, explain: bool) -> AsyncIterator[Side]:
    seen = Seen()
    market = {"open_board": False, "policy": shown.policy, "batch_window_s": 2.0}
    async with (
        server(
            market=MARKET,
            providers=shown.providers,
            customers=shown.customers,
            workers=1,
            market_overrides=market,
            say=print,
            settings={"DISPATCH_EXPLAIN": str(explain).lower()},
        ) as running,
    ):
        places = cloud(Markets.load()[MARKET], shown.providers, seed=1)
        phones = fleet(running.stage.url, running.stage.providers, places, seen.event)
        await open_all(phones)
        try:
            async with Drive(phones, len(phones) / FIX_EVERY_S):
                yield Side(running, [_http(running, person) for person in running.stage.customers], seen)
        finally:
            if gone := lost(phones):
                print(f"{gone} lines lost")
            for phone in phones:
                phone.close()


def _http(running: Running, person: Person) -> Http:
    return Http(running.stage.url, person.token, session=running.http, patience_s=0.0)


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    # With windows a job is offered up to 2 s after it was asked for.
    hold_s = 3.0 if shown.policy == "batch" else 1.0
    async with AsyncExitStack() as stack:
        sides = {explain: await stack.enter_async_context(_side(shown, explain)) for explain in (False, True)}
        gc.collect()
        gc.freeze()
        for side in sides.values():
            await side.stretch(_jobs(shown.rate, min(_WARM_UP_S, shown.run_s), 0), hold_s)
        pairs: list[dict[str, Any]] = []
        for number in range(shown.pairs):
            jobs = _jobs(shown.rate, shown.run_s, number + 1)
            used = {}
            for explain in (False, True) if number % 2 else (True, False):
                usage, offered = await sides[explain].stretch(jobs, hold_s)
                enough(offered, len(jobs))
                used[explain] = {**usage.per(offered), "offered": offered, "others": usage.others_share()}
            pairs.append(
                {
                    "with": used[True],
                    "without": used[False],
                }
            )
            print(f"pair {number + 1}: {_said(used[True])} with, {_said(used[False])} without", flush=True)
        rounds, none = await _written(sides[True]), await _written(sides[False])
        versions = sides[True].running.stage.versions
        failed = {code: count for side in sides.values() for code, count in side.seen.failed.items()}
    found, others = overhead(pairs), others_of(pairs)
    figures = {
        "policy": shown.policy,
        "pairs": pairs,
        "overhead_p50": round(found.value - 1, 4),
        "overhead_low": None if found.low is None else round(found.low - 1, 4),
        "overhead_high": None if found.high is None else round(found.high - 1, 4),
        "others_cores_min": others[0],
        "others_cores_max": others[1],
        "rounds_written": rounds,
        "rounds_written_without": none,
        "requests_failed": failed,
    }
    _show(figures)
    return complete(figures, shown, versions), 0


def _jobs(rate: float, run_s: float, seed: int) -> list[tuple[float, tuple[float, float]]]:
    moments = arrivals(rate, run_s, seed=seed)
    return list(zip(moments, cloud(Markets.load()[MARKET], len(moments), seed=seed + 100), strict=True))


def enough(offered: int, jobs: int) -> None:
    """Raises FleetError where so few of the jobs were offered that it is searches in vain that would be measured."""
    if not offered or offered < OFFERED_LEAST * jobs:
        raise FleetError(f"{offered} of {jobs} jobs were offered: give more --providers, or a longer --run-s")


def _dispatch(used: dict[str, Any]) -> float:
    return float(used["server"] + used["redis"] + used["postgres"])


def overhead(pairs: Sequence[Mapping[str, Any]]) -> Found:
    """What a job costs with explanations beside one without: the median of the pairs."""
    return median_of([_dispatch(pair["with"]) / _dispatch(pair["without"]) for pair in pairs])


def others_of(pairs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Cores that somebody else kept busy meanwhile, the least and the most of all stretches."""
    all_of = [pair[side]["others"] for pair in pairs for side in ("with", "without")]
    return min(all_of), max(all_of)


def _said(used: dict[str, Any]) -> str:
    return f"{_dispatch(used) / 1000:.2f} ms a job ({used['offered']} offered)"


async def _written(side: Side) -> int:
    import asyncpg

    connection = await asyncpg.connect(side.running.stage.database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM dispatch.match_rounds"))
    finally:
        await connection.close()


def _show(figures: dict[str, Any]) -> None:
    found = overhead(figures["pairs"])
    low, high = ("?" if bound is None else f"{100 * (bound - 1):+.1f} %" for bound in (found.low, found.high))
    words = {True: "met", False: "missed", None: "unsure"}[found.below(1 + TARGET)]
    show(
        f"explanations under {figures['policy']}, {len(figures['pairs'])} pairs",
        [
            (
                "more CPU per job offered, median",
                f"{100 * (found.value - 1):+.1f} % [{low}, {high}]",
                f"at most {100 * TARGET:g} %: {words}",
            ),
            ("cores busy with others", f"{figures['others_cores_min']:.2f}-{figures['others_cores_max']:.2f}", ""),
            ("rounds written", f"{figures['rounds_written']:,}", ""),
            ("requests failed", f"{figures['requests_failed'] or 'none'}", ""),
        ],
    )
