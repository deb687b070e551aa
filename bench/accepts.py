"""`python -m bench accepts`: many providers after few jobs, all answering at once. One winner each, and how fast?

Two races, several rounds each. **Crowd**: providers stand on a circle, one job waits beside each of them and is offered to
the five nearest, so every provider has five offers and every job five takers. At one instant all providers accept all
they were offered; whoever loses, accepts whatever he is offered next. A round ends when every job has its
provider. **Racers**: one job is offered to everybody, and everybody accepts at one instant.

A winner's latency runs from the moment at which he was to accept (the instant, or when a finger of his was free again) to the yes,
asking again after BUSY included. A loser's runs to the final no. Double assignments are counted at the phones: jobs for which two of them were told yes.
"""

import argparse
import asyncio
import gc
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import orjson

from bench.demo.command import at_least_one
from bench.demo.tally import Assignments
from bench.elsewhere import target
from bench.figures import (
    broken,
    complete,
    curve,
    full,
    latencies,
    options,
    parsed,
    perform,
    point,
    show,
    spread,
    void,
)
from bench.fleet import METRES_PER_DEGREE, FleetError, Phone, fleet, hang_up, lost, open_all
from bench.meter import Meter, rows_of
from bench.offers import Customer, customers_of
from bench.pace import Drive
from bench.progress import bar, say
from bench.server import Target, Usage, until
from dispatch.markets import Markets
from protocol.frames import Accept, Event
from protocol.lifecycle import ServiceType

MARKET, SERVICE = "bkk", "ride"
TARGET_MS, JOBS, RACERS = 100.0, 100, 50
"""The winner's yes, p99, of so many jobs in one instant and of so many racers on one."""
WAVE = 5
APART_M = 190.0
"""Neighbours on the circle: the five nearest are well within the first search radius of 800 m."""
PATIENCE_S = 30.0
"""Of customers: a race needs all its jobs."""
FREE_UNSEEN_S: Final = 1.0
"""Several ticks of a worker."""
OFFERED_WITHIN_S, SETTLED_WITHIN_S, FREE_WITHIN_S = 2.0, 30.0, 20.0


def parser() -> argparse.ArgumentParser:
    found = options("accepts", "Races for jobs: one winner each, and how fast he knows.", anywhere=True)
    found.add_argument("--jobs", type=at_least_one, default=100, help="and providers, in the crowd (default: 100)")
    found.add_argument("--racers", type=at_least_one, default=50, help="on one job, at most 50 (default: 50)")
    found.add_argument("--rounds", type=at_least_one, default=5, help="of the crowd (default: 5)")
    found.add_argument("--races", type=at_least_one, default=20, help="of the racers (default: 20)")
    found.add_argument(
        "--fingers",
        type=at_least_one,
        default=WAVE,
        help="offers that one provider accepts at once; 1 takes the next after a no (default: all)",
    )
    return found


SHORT: Final = {"jobs": 40, "racers": 25, "rounds": 2, "races": 3}


def circle(count: int, radius_m: float, centre: tuple[float, float]) -> list[tuple[float, float]]:
    """Places on a circle, evenly; neighbours in the list are neighbours there."""
    wide = METRES_PER_DEGREE * math.cos(math.radians(centre[0]))
    turns = [2 * math.pi * number / count for number in range(count)]
    return [
        (
            round(centre[0] + radius_m * math.sin(turn) / METRES_PER_DEGREE, 6),
            round(centre[1] + radius_m * math.cos(turn) / wide, 6),
        )
        for turn in turns
    ]


@dataclass(slots=True)
class Score:
    """What all rounds of one race came to."""

    winners_ms: list[float] = field(default_factory=list)
    losers_ms: list[float] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    asked_again: int = 0
    """Winners who were told BUSY first."""
    jobs: int = 0
    not_offered: int = 0
    offers: int = 0
    rounds_s: list[float] = field(default_factory=list)
    """From the instant to the last final answer."""
    assignments: Assignments = field(default_factory=Assignments)


class Race:
    """Phones and what they were offered. Before the start they wait; after it they accept."""

    def __init__(self, fingers: int, score: Score) -> None:
        self.score = score
        self.started = False
        self.offers: dict[str, dict[str, Phone]] = defaultdict(dict)
        """Job → the phones that were offered it, by provider."""
        self.won: dict[str, str] = {}
        self.ended_ns = 0
        self._fingers = fingers
        self._queues: dict[Phone, list[dict[str, Any]]] = defaultdict(list)
        self._busy: dict[Phone, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()

    def offered_to(self, job: str, providers: int) -> bool:
        """Whether so many phones were offered it."""
        return len(self.offers[job]) >= providers

    @property
    def quiet(self) -> bool:
        """No accept waits for its answer."""
        return not self._tasks

    def event(self, phone: Phone, event: Event, now_ns: int) -> None:
        """One event at one phone."""
        if event.name == "offer.created":
            self.score.offers += 1
            self.offers[event.data["job"]["id"]][str(phone.provider_id)] = phone
            self._queues[phone].append(event.data)
            if self.started:
                self._turn(phone, now_ns)
        elif event.name == "offer.withdrawn":
            # Who reads that it is over does not try any more.
            offer_id = event.data["offer_id"]
            self._queues[phone] = [offer for offer in self._queues[phone] if offer["offer_id"] != offer_id]

    def start(self, dice: random.Random) -> None:
        """Everybody accepts, in one turn of the loop: whom first is chance, else neighbours would never want the same."""
        self.started = True
        now_ns = time.monotonic_ns()
        phones = list(self._queues)
        dice.shuffle(phones)
        for phone in phones:
            dice.shuffle(self._queues[phone])
            self._turn(phone, now_ns)

    def _turn(self, phone: Phone, due_ns: int) -> None:
        queue = self._queues[phone]
        while queue and self._busy[phone] < self._fingers:
            self._busy[phone] += 1
            task = asyncio.ensure_future(self._accept(phone, queue.pop(0), due_ns))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _accept(self, phone: Phone, offer: dict[str, Any], began_ns: int) -> None:
        job_id = offer["job"]["id"]
        frame = Accept(id=uuid4(), job_id=UUID(job_id), offer_id=UUID(offer["offer_id"]), round=offer["round"])
        answered = await phone.ask(frame)
        self.ended_ns = max(self.ended_ns, answered.at_ns)
        latency_ms = (answered.at_ns - began_ns) / 1e6
        if answered.reply.ok:
            word = "ok"
            self.won[job_id] = str(phone.provider_id)
            self.score.assignments.told_yes(job_id, offer["round"], str(phone.provider_id))
            self.score.winners_ms.append(latency_ms)
            self.score.asked_again += answered.asked > 1
        else:
            word = answered.reply.error.code if answered.reply.error is not None else "?"
            self.score.losers_ms.append(latency_ms)
        self.score.answers[word] = self.score.answers.get(word, 0) + 1
        self._busy[phone] -= 1
        self._turn(phone, answered.at_ns)


@dataclass(frozen=True, slots=True)
class Contest:
    """One kind of race."""

    providers: int
    jobs: int
    wave: int
    rounds: int
    fingers: int
    settled_within_s: float = SETTLED_WITHIN_S
    """How long a round waits for jobs that nobody has; short where those are not offered again."""
    aftermath_s: float = 0.0
    """Counts still as the race's, after the last answer: what a win leaves to be done."""

    def radius_m(self) -> float:
        """Of the circle that its providers stand on."""
        return self.providers * APART_M / (2 * math.pi)

    def overrides(self) -> dict[str, object]:
        """Of the market: so that each job is offered to `wave`, at once, and stays so."""
        return {
            "wave_size": self.wave,
            "offers_at_once": 0,
            "open_board": False,
            "offer_ttl_s": 60,
            "radius_first_m": 2 * self.radius_m() if self.jobs == 1 else 800,
            "research_s": 0.5,
        }


async def contest(
    kind: Contest, shown: argparse.Namespace, what: str
) -> tuple[Score, Usage, int, dict[str, str], dict[str, Any]]:
    """All rounds of one kind, on a server of its own; (score, CPU, lines lost, versions, what processes used)."""
    score = Score()
    dice = random.Random(1)
    race = Race(kind.fingers, score)
    centre = Markets.load()[MARKET].centre()
    places = circle(kind.providers, kind.radius_m(), centre)
    overrides = kind.overrides()
    if shown.url is not None:
        wanted = orjson.dumps({MARKET: overrides}).decode()
        say(
            f"offers go out by the server's own settings; for this race as it is here start it with DISPATCH_MARKETS='{wanted}'"
        )
    async with target(shown, providers=kind.providers, customers=kind.jobs, market_overrides=overrides) as running:
        phones = fleet(running.url, running.providers, places, lambda phone, event, at: race.event(phone, event, at))
        await open_all(phones)
        gc.collect()
        gc.freeze()
        customers = customers_of(running, PATIENCE_S)
        async with Drive(phones, len(phones) / 5), Meter(running) as meter:
            with bar(what, kind.rounds) as advance:
                for _ in range(kind.rounds):
                    await all_free(running, len(phones))
                    race = Race(kind.fingers, score)
                    await play(race, customers, centre if kind.jobs == 1 else None, places, kind, dice, running.usage)
                    advance(1)
        lines = lost(phones)
        await hang_up(phones, offline=shown.url is not None)
        assert meter.used is not None
        return score, meter.used, lines, running.versions, meter.figures


async def all_free(running: Target, count: int) -> None:
    """Wait until searches see everybody; as long as that may take where Redis cannot be asked."""
    if running.redis is None:
        await asyncio.sleep(FREE_UNSEEN_S)
        return
    async with asyncio.timeout(FREE_WITHIN_S):
        while await running.redis.zcard(f"{{{MARKET}}}:geo:{SERVICE}") < count:
            await asyncio.sleep(0.05)


async def play(
    race: Race,
    customers: Sequence[Customer],
    one_place: tuple[float, float] | None,
    places: Sequence[tuple[float, float]],
    kind: Contest,
    dice: random.Random,
    usage: Callable[[], Usage],
) -> Usage:
    """One round: the jobs are made and offered, everybody accepts at once, and all is cancelled again. What was used from the
    instant until no answer was awaited any more and every job had its provider, or its time was up, and `aftermath_s` beyond the
    last answer.
    """
    pickups = [one_place] if one_place is not None else list(places)
    wanted = min(kind.wave, kind.providers)
    jobs: list[str] = []
    # One after the other: a search passes over a provider who is just being offered something else.
    for customer, pickup in zip(customers, pickups, strict=True):
        job = await _create(customer, pickup)
        jobs.append(job)
        # A job that fewer take part in is a race all the same; it is counted.
        if not await until(partial(race.offered_to, job, wanted), within_s=OFFERED_WITHIN_S, every_s=0.001):
            race.score.not_offered += 1
    race.score.jobs += len(jobs)
    before, began_ns = usage(), time.monotonic_ns()
    race.start(dice)
    await until(lambda: race.quiet and len(race.won) == len(jobs), within_s=kind.settled_within_s)
    await until(lambda: race.quiet, within_s=SETTLED_WITHIN_S)
    await asyncio.sleep(kind.aftermath_s - (time.monotonic_ns() - max(race.ended_ns, began_ns)) / 1e9)
    used = usage().since(before)
    race.score.rounds_s.append((race.ended_ns - began_ns) / 1e9)
    await asyncio.gather(*(customer.cancel(UUID(job)) for customer, job in zip(customers, jobs, strict=True)))
    return used


async def _create(customer: Customer, pickup: tuple[float, float]) -> str:
    job = await customer.create_job(ServiceType.RIDE, {"lat": pickup[0], "lng": pickup[1], "address": "1 Bench Road"})
    return str(job["id"])


def figures_of(score: Score) -> dict[str, Any]:
    """What all rounds came to. Pure."""
    return {
        "jobs": score.jobs,
        "jobs_accepted": len(score.assignments),
        "double_assignments": score.assignments.doubles(),
        "jobs_short_of_offers": score.not_offered,
        **spread(score.winners_ms, "accept_ms"),
        **spread(score.losers_ms, "loser_ms"),
        "winners_told_busy_first": score.asked_again,
        "offers": score.offers,
        "answers": dict(sorted(score.answers.items())),
        "round_s_max": round(max(score.rounds_s, default=0.0), 3),
        "curves": {"winner's yes": curve(score.winners_ms), "loser's final no": curve(score.losers_ms)},
    }


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    if shown.racers > 50:
        raise FleetError("a wave has at most 50 providers")
    crowd = Contest(shown.jobs, shown.jobs, WAVE, shown.rounds, shown.fingers)
    score, used, lines, versions, processes = await contest(crowd, shown, "rounds of the crowd")
    figures = figures_of(score)
    figures["processes"] = processes
    figures["cpu_us_per_accepted_job"] = used.per(max(1, len(score.assignments)))
    figures["others_cores"] = used.others_share()
    racers = Contest(shown.racers, 1, shown.racers, shown.races, shown.fingers)
    score, used, more_lines, _, processes = await contest(racers, shown, "races on one job")
    figures["racers"] = figures_of(score) | {
        "processes": processes,
        "cpu_us_per_race": used.per(max(1, len(score.assignments))),
        "others_cores": used.others_share(),
    }
    figures["double_assignments"] += figures["racers"]["double_assignments"]
    figures["lines_lost"] = lines + more_lines
    crowd_curves, racer_curves = figures.pop("curves"), figures["racers"].pop("curves")
    figures["latency"] = {f"{name}, crowd": found for name, found in crowd_curves.items()} | {
        f"{name}, racers": found for name, found in racer_curves.items()
    }
    figures["scaling"] = [
        point(
            "server CPU per accepted job, crowd",
            "µs",
            "jobs and providers",
            shown.jobs,
            figures["cpu_us_per_accepted_job"]["server"],
        )
    ]
    for reason in broken(figures):
        void(reason)
    _show(
        f"{shown.jobs} jobs, each offered to {WAVE} of {shown.jobs} providers, {shown.rounds} rounds", figures,
        TARGET_MS if full(shown, (shown.jobs, JOBS)) else None,
    )  # fmt: skip
    _show(
        f"{shown.racers} racers on one job, {shown.races} races", figures["racers"],
        TARGET_MS if full(shown, (shown.racers, RACERS)) else None,
    )  # fmt: skip
    won = all(found["jobs_accepted"] == found["jobs"] for found in (figures, figures["racers"]))
    code = 0 if won and not figures["double_assignments"] else 1
    return complete(figures, shown, versions), code


def _show(title: str, figures: dict[str, Any], limit_ms: float | None) -> None:
    every = "met" if figures["jobs_accepted"] == figures["jobs"] else "MISSED"
    doubles = "met" if figures["double_assignments"] == 0 else "MISSED"
    show(
        title,
        [
            ("jobs accepted", f"{figures['jobs_accepted']:,} of {figures['jobs']:,}", f"all: {every}"),
            ("double assignments", f"{figures['double_assignments']}", f"0: {doubles}"),
            ("jobs short of offers", f"{figures['jobs_short_of_offers']:,}", ""),
            *latencies(figures, "accept_ms", "winner's yes", limit_ms),
            ("winners told BUSY first", f"{figures['winners_told_busy_first']:,}", ""),
            *latencies(figures, "loser_ms", "loser's final no"),
            ("longest round", f"{figures['round_s_max']:.2f} s", ""),
            *rows_of(figures["processes"]),
            ("final answers", ", ".join(f"{word} {count:,}" for word, count in figures["answers"].items()), ""),
        ],
    )


def main(args: list[str]) -> int:
    """Run it; 1 when a job had two winners or none."""
    return perform(scenario, parsed(parser(), args, SHORT))
