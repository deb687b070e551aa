"""`python -m bench tracking`: customers who watch their providers come.

Each pair is a provider on an accepted job and its customer, who tracks it. Providers send their positions evenly, open loop; the age
of a position at the customer's phone counts from the moment that was its, which the frame tells. Each customer is due a frame for each
turn of the cadence but one; what was due and had not come a moment after the end is infinite. CPU per frame is that of all processes: the
positions of those who are tracked, and everything that runs anyway.
"""

import argparse
import asyncio
import gc
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from bench.accepts import PATIENCE_S, all_free
from bench.demo.command import at_least_one
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
    seconds,
    show,
    spread,
    us,
    verdict,
    void,
)
from bench.fleet import FleetError, Phone, complaints, fleet, hang_up, lost, open_all
from bench.meter import Meter, rows_of
from bench.offers import Customer, customers_of
from bench.pace import Drive
from bench.progress import bar, say, wait
from bench.server import until
from dispatch.settings import load
from protocol.errors import Denied
from protocol.frames import Accept, Event, Track
from protocol.lifecycle import ServiceType

TOLD_WITHIN_S: Final = 10.0
FREE_AGAIN_S: Final = 0.5
"""Two ticks of a worker, and a little: until then searches may pass over somebody."""
LATE_S: Final = 1.5
"""How long after its time a tracked position still counts."""
TARGET_MS, PAIRS = 1_000.0, 200
"""A position is news for a second: the next one is here then. For so many pairs and more."""
EVERY_S: Final = 1.0


def parser() -> argparse.ArgumentParser:
    found = options("tracking", "Customers watching providers on jobs: age of what they see.", anywhere=True)
    found.add_argument("--pairs", type=at_least_one, default=PAIRS, help="on jobs (default: 200)")
    found.add_argument("--fixes", type=seconds, default=1.0, help="positions a second and provider (default: 1)")
    found.add_argument(
        "--every",
        type=seconds,
        default=None,
        metavar="S",
        help="cadence to a customer, of a server of ours (default: 1); with --url what DISPATCH_TRACK_EVERY_S says",
    )
    found.add_argument("--for", dest="run_s", type=seconds, default=20.0, metavar="S", help="measured (default: 20)")
    found.add_argument("--warm-up", type=seconds, default=3.0, metavar="S", help="not measured (default: 3)")
    return found


SHORT: Final = {"pairs": 40, "run_s": 5.0, "warm_up": 1.0}


class Following:
    """What customers see of their providers: for each position, by the moment that it tells of, how old it was when it came."""

    def __init__(self) -> None:
        self.seen_ms: list[tuple[datetime, float]] = []
        self.by_rider: dict[Phone, list[tuple[datetime, float]]] = {}
        """The same, where it is told who saw it."""
        self.offers: dict[tuple[str, Phone], Event] = {}
        """By job and who was offered it."""
        self.jobs: dict[Customer, UUID] = {}
        """Those that are not over."""
        self.live: set[str] = set()
        """Offers that nobody has answered or taken back."""

    def seen(self, at: datetime, _now_ns: int, *, rider: Phone | None = None) -> None:
        """A frame with a position of that moment. The wire's time has whole milliseconds."""
        one = at, (datetime.now(UTC) - at).total_seconds() * 1000
        self.seen_ms.append(one)
        if rider is not None:
            self.by_rider.setdefault(rider, []).append(one)

    def event(self, phone: Phone, event: Event, now_ns: int) -> None:
        """Peers' frames, and ours for providers."""
        if event.name == "offer.created":
            self.offers[event.data["job"]["id"], phone] = event
            self.live.add(event.data["offer_id"])
        elif event.name == "offer.withdrawn":
            self.live.discard(event.data["offer_id"])
        elif event.name == "location":
            self.seen(datetime.fromisoformat(event.data["at"]), now_ns)


@dataclass(frozen=True, slots=True)
class Pair:
    """A provider and his customer, at a place."""

    driver: Phone
    rider: Phone
    customer: Customer
    place: tuple[float, float]


def due(run_s: float, every_s: float, fixes: float) -> int:
    """How many frames each customer is to see at least: one a turn, as long as there is something new. A turn that moves from just before
    a fix to just after one has passed over a fix, and nobody has waited longer for that: one may be missing. Pure.
    """
    return max(0, int(run_s / max(every_s, 1 / fixes) + 1e-9) - 1)


def ages_of(
    seen: Iterable[Sequence[tuple[datetime, float]]], began: datetime, ended: datetime, wanted: int
) -> list[list[float]]:
    """Of each customer the ages in ms of the positions of [began, ended); infinite for each of `wanted` that did not come. Pure."""
    found = [[age for at, age in one if began <= at < ended] for one in seen]
    return [one + [math.inf] * (wanted - len(one)) for one in found]


def apart(count: int) -> list[tuple[float, float]]:
    """Places some 400 m from each other: a job beside one is offered to who stands there. Pure."""
    return [
        (round(13.70 + 0.004 * (number % 25), 6), round(100.45 + 0.004 * (number // 25), 6)) for number in range(count)
    ]


async def meet(pair: Pair, following: Following, who: str, *, track: bool) -> UUID:
    """A job of this customer, offered to this driver and accepted; with `track` he asks to watch. Raises FleetError, which says `who`."""
    pickup = {"lat": pair.place[0], "lng": pair.place[1], "address": "1 Bench Road"}
    try:
        job = str((await pair.customer.create_job(ServiceType.RIDE, pickup))["id"])
    except Denied as denied:
        raise FleetError(f"{who}: no job: {denied}") from denied
    following.jobs[pair.customer] = UUID(job)
    if not await until(lambda: (job, pair.driver) in following.offers, within_s=TOLD_WITHIN_S, every_s=0.002):
        raise FleetError(
            f"{who}: a job beside a provider was not offered to him within {TOLD_WITHIN_S:.0f} s; are there other jobs?"
        )
    offer = following.offers[job, pair.driver].data
    answered = await pair.driver.ask(
        Accept(id=uuid4(), job_id=UUID(job), offer_id=UUID(offer["offer_id"]), round=offer["round"])
    )
    if not answered.reply.ok:
        raise FleetError(f"{who}: the only one who wanted a job was told no: {answered.reply.error}")
    following.live.discard(offer["offer_id"])
    if track:
        pair.rider.on_position = partial(following.seen, rider=pair.rider)
        tracked = await pair.rider.ask(Track(id=uuid4(), job_id=UUID(job)))
        if not tracked.reply.ok:
            raise FleetError(f"{who}: the customer may not watch: {tracked.reply.error}")
    return UUID(job)


async def all_meet(pairs: Sequence[Pair], following: Following, who: str) -> None:
    """One pair after the other: whoever is just being offered something is passed over by the next search."""
    with bar("pairs meeting", len(pairs)) as advance:
        for pair in pairs:
            await meet(pair, following, who, track=True)
            if following.live:
                # A server that offers to several, by settings that are not ours: the others are free again first.
                await until(lambda: not following.live, within_s=TOLD_WITHIN_S)
                await asyncio.sleep(FREE_AGAIN_S)
            advance(1)


@asynccontextmanager
async def cleared(following: Following, customers: Sequence[Customer]) -> AsyncIterator[None]:
    """Cancel all jobs afterwards, however it ends: a job that waits is offered to whoever comes next, for minutes."""
    try:
        yield
    finally:
        left = [(customer, job) for customer in customers if (job := following.jobs.pop(customer, None)) is not None]
        await asyncio.gather(*(customer.cancel(job) for customer, job in left), return_exceptions=True)


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError, Unreachable."""
    places = apart(shown.pairs)
    following = Following()
    every_s = shown.every or (EVERY_S if shown.url is None else load().track_every_s)
    async with target(
        shown,
        providers=shown.pairs,
        customers=shown.pairs,
        market_overrides={"open_board": False, "wave_size": 1},
        settings={"DISPATCH_TRACK_EVERY_S": f"{every_s:g}"},
    ) as running:
        drivers = fleet(running.url, running.providers, places, following.event)
        riders = fleet(running.url, running.customers, places, following.event)
        await open_all(drivers)
        await open_all(riders, online=False)
        gc.collect()
        gc.freeze()
        customers = customers_of(running, PATIENCE_S)
        pairs = [Pair(*four) for four in zip(drivers, riders, customers, places, strict=True)]
        async with cleared(following, customers), Drive(drivers, shown.fixes * len(drivers)) as drive:
            # Whoever is not on the map yet when the job beside him is searched for loses it to his neighbour.
            await all_free(running, len(pairs))
            await all_meet(pairs, following, running.url)
            say(f"{len(pairs)} customers watch their providers")
            await wait("warming up", shown.warm_up)
            following.by_rider.clear()
            began, sent_before = datetime.now(UTC), drive.sent
            async with Meter(running) as meter:
                await wait("watching", shown.run_s)
                ended, sent = datetime.now(UTC), drive.sent - sent_before
            # What was sent in this time may come later: on a busy machine, or where it waits for its turn.
            await asyncio.sleep(LATE_S)
        assert meter.used is not None
        seen = [following.by_rider.get(rider, []) for rider in riders]
        each_ms = ages_of(seen, began, ended, due(shown.run_s, every_s, shown.fixes))
        ages_ms = [age for one in each_ms for age in one]
        frames = sum(map(math.isfinite, ages_ms))
        cpu = meter.used.per(max(1, frames))
        figures = {
            "pairs": len(pairs),
            "positions": sent,
            "every_s": every_s,
            "frames": frames,
            "frames_missing": len(ages_ms) - frames,
            "customers_who_saw_nothing": sum(not any(map(math.isfinite, one)) for one in each_ms if one),
            **spread(ages_ms, "age_ms"),
            "cpu_us_per_frame": cpu,
            "sent_late_ms_max": round(drive.pace.late_s_max * 1000, 1),
            "lines_lost": lost(drivers) + lost(riders),
            "errors": complaints([*drivers, *riders]),
            "processes": meter.figures,
            "latency": {"age of a position at the customer": curve(ages_ms)},
            "scaling": [point("server CPU per frame to a customer", "µs", "pairs", len(pairs), cpu["server"])],
        }
        await hang_up([*drivers, *riders], offline=shown.url is not None)
        for reason in broken(figures):
            void(reason)
        _show(figures, TARGET_MS if full(shown, (len(pairs), PAIRS)) else None)
        good = frames > 0 and not figures["customers_who_saw_nothing"]
        return complete(figures, shown, running.versions), 0 if good else 1


def _show(figures: dict[str, Any], limit_ms: float | None) -> None:
    cpu = figures["cpu_us_per_frame"]
    show(
        f"{figures['pairs']:,} customers watching",
        [
            ("positions sent, frames", f"{figures['positions']:,}, {figures['frames']:,}", ""),
            *latencies(figures, "age_ms", "age at the customer", limit_ms),
            ("frames that never came", f"{figures['frames_missing']:,}", ""),
            (
                "customers who saw nothing",
                f"{figures['customers_who_saw_nothing']:,}",
                verdict(figures["customers_who_saw_nothing"], 0, ""),
            ),
            ("server CPU per frame", us(cpu["server"]), ""),
            ("Redis, Postgres CPU per frame", f"{us(cpu['redis'])}, {us(cpu['postgres'])}", ""),
            ("load generator sent late at most", f"{figures['sent_late_ms_max']:.1f} ms", ""),
            *rows_of(figures["processes"]),
            ("lines lost", f"{figures['lines_lost']}", verdict(figures["lines_lost"], 0, "")),
        ],
    )


def main(args: list[str]) -> int:
    """Run it; 1 when somebody saw nothing."""
    return perform(scenario, parsed(parser(), args, SHORT))
