"""What is measured on every side, in turns: positions, offers, idle sockets and tracking. Races are in `races`.

A work adds to samples: one dict for each run and side, as soon as it is measured, so that it outlives what fails after it; with the
CPU of the server's processes and of its stores for each operation.
Before each turn the side's places and jobs are forgotten and its phones connect; after it they hang up, so that whoever is not
measured is as quiet as he can be.
"""

import argparse
import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from bench.accepts import PATIENCE_S
from bench.figures import spread
from bench.fleet import HANDSHAKES_PER_S, FleetError, Phone, cloud, complaints, lost, open_all
from bench.offers import Seen, all_jobs, figures_of
from bench.pace import Drive
from bench.peers.sides import Ours, Side
from bench.positions import misplaced
from bench.server import Usage, rss_of, until
from bench.tracking import LATE_S, Following, Pair, apart, cleared, meet
from dispatch.markets import Markets
from protocol.frames import Event

MARKET: Final = "bkk"
WAVE: Final = 5
PEER_HANDSHAKES_PER_S: Final = 1_500.0
"""Peers let in whoever comes; ours keeps a rate."""
SEARCHABLE_WITHIN_S: Final = 15.0
QUIET_S: Final = 0.3
"""Between two turns: what a hang-up costs a server belongs to nobody's figures."""

Sample = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each. Seconds, counts, per second. As it stands all of it takes some forty minutes on a machine with nothing else to
    do: positions 11, offers 6, accepts 11, tracking 7 and sockets 5.
    """

    runs: int = 5
    sockets: int = 2_000
    rates: tuple[float, ...] = (2_000.0, 400.0, 4_000.0)
    """Positions a second of all sockets; the first is the headline."""
    warm_s: float = 1.0
    run_s: float = 4.5
    jobs_per_s: float = 50.0
    offers_s: float = 5.0
    hold_s: float = 1.0
    grace_s: float = 3.0
    """At most, after the last job: an offer that has not come by then counts as never."""
    customers: int = 300
    crowd: int = 100
    racers: int = 50
    races: int = 5
    """Of the racers, in each run."""
    idle_first: int = 300
    settle_s: float = 1.5
    quiet_s: float = 2.0
    """How long it is looked at what a side uses anyway."""
    pairs: int = 200
    judged: int = 30_000
    """Jobs for which each function alone is called, in each run: two seconds and more of them, since a checkpoint of Postgres is a tenth
    of a shorter stretch.
    """


SHORT: Final = Scale(
    runs=2, sockets=200, rates=(200.0,), warm_s=0.5, run_s=2.0, jobs_per_s=20.0, offers_s=2.0, hold_s=0.5, customers=60,
    crowd=20, racers=10, races=2, idle_first=50, settle_s=1.0, quiet_s=1.0, pairs=20, judged=200,
)  # fmt: skip


def turns(sides: Sequence[Side], runs: int) -> Iterator[tuple[int, Side]]:
    """(run, side): every side once a run, there and back again, so that a drift of the machine falls on all. Pure."""
    for run in range(runs):
        for side in sides if run % 2 == 0 else reversed(sides):
            yield run, side


def cpu(used: Usage, count: float) -> dict[str, float]:
    """Microseconds of each process for one of `count`, and `all`: the server with its stores."""
    each = used.per(max(1.0, count))
    return {**each, "all": round(each["server"] + each["redis"] + each["postgres"], 1)}


@asynccontextmanager
async def connected(side: Side, phones: Sequence[Phone]) -> AsyncIterator[None]:
    """Everybody of them online and searchable, until the block ends. Raises FleetError."""
    await side.fresh(len(phones))
    try:
        await arrive(side, phones)
        if not await searchable(side, phones):
            raise FleetError(f"{side.name}: some of {len(phones)} providers were not found by searches")
        # A full collection among so many phones would stop the load for longer than what is measured takes.
        gc.collect()
        gc.freeze()
        yield
    finally:
        await hang_up(phones)


async def hang_up(phones: Sequence[Phone]) -> None:
    """All lines down, and known to be: else the end of an old line would be taken for that of the next one."""
    for phone in phones:
        phone.close()
    await asyncio.sleep(QUIET_S)


async def arrive(side: Side, phones: Sequence[Phone], *, online: bool = True) -> None:
    """Connect, as fast as the side lets them in. Raises FleetError, which says whose door it was."""
    per_s = HANDSHAKES_PER_S if isinstance(side, Ours) else PEER_HANDSHAKES_PER_S
    try:
        await open_all(phones, online=online, per_s=per_s)
    except ExceptionGroup as group:
        refused, other = group.split((FleetError, ConnectionError))
        if refused is None or other is not None:
            raise
        raise FleetError(f"{side.name}: {refused.exceptions[0]}") from group


async def searchable(side: Side, phones: Sequence[Phone]) -> bool:
    """Wait until searches know a place of everybody. False: not within SEARCHABLE_WITHIN_S."""
    ends = time.monotonic() + SEARCHABLE_WITHIN_S
    while None in await side.places(phones):
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(0.1)
    return True


async def wrong_places(side: Side, phones: Sequence[Phone]) -> int:
    """How many are not found where they last said they are, once what was under way has had its time."""
    ends = time.monotonic() + SEARCHABLE_WITHIN_S
    while (wrong := misplaced(phones, await side.places(phones))) and time.monotonic() < ends:
        await asyncio.sleep(0.1)
    return wrong


class Fleets:
    """The phones of each side: made once, since a device that comes back counts its attempts."""

    def __init__(self, count: int) -> None:
        self._places = cloud(Markets.load()[MARKET], count, seed=1)
        self._phones: dict[str, list[Phone]] = {}
        self.seen: dict[str, Seen] = {}

    def of(self, side: Side) -> list[Phone]:
        if side.name not in self._phones:

            def heard(phone: Phone, event: Event, now_ns: int) -> None:
                if (seen := self.seen.get(side.name)) is not None:
                    seen.event(phone, event, now_ns)

            self._phones[side.name] = side.phones(self._places, heard)
        return self._phones[side.name]


async def positions(sides: Sequence[Side], scale: Scale, samples: list[Sample]) -> None:
    """Evenly spread, open loop; in the end each provider must be found where his phone last was."""
    fleets = Fleets(scale.sockets)
    for run, side in turns(sides, scale.runs):
        phones = fleets.of(side)
        async with connected(side, phones):
            for rate in scale.rates:
                async with Drive(phones, rate) as drive:
                    await asyncio.sleep(scale.warm_s)
                    before, sent_before = side.usage(), drive.sent
                    await asyncio.sleep(scale.run_s)
                    used, sent = side.usage().since(before), drive.sent - sent_before
                samples.append(
                    {
                        "work": "positions",
                        "run": run,
                        "side": side.name,
                        "rate": rate,
                        "positions": sent,
                        "cpu_us": cpu(used, sent),
                        "misplaced": await wrong_places(side, phones),
                        "others_cores": used.others_share(),
                        "sent_late_ms_max": round(drive.pace.late_s_max * 1000, 1),
                        "lines_lost": lost(phones),
                        "errors": complaints(phones),
                    }
                )
                _say(samples[-1], f"{rate:,.0f}/s, {samples[-1]['cpu_us']['all']:.1f} µs a position")


async def offers(sides: Sequence[Side], scale: Scale, samples: list[Sample]) -> None:
    """Jobs as a Poisson process, each offered to five, while everybody sends a position a second."""
    fleets = Fleets(scale.sockets)
    shown = argparse.Namespace(
        rate=scale.jobs_per_s, at_once=1, warm_up=scale.warm_s, run_s=scale.offers_s, hold=scale.hold_s
    )
    for run, side in turns(sides, scale.runs):
        phones = fleets.of(side)
        async with connected(side, phones):
            seen = fleets.seen[side.name] = Seen()
            customers = side.customers(scale.customers, WAVE, 0.0)
            async with Drive(phones, float(len(phones))) as drive:
                began_ns, ended_ns, used = await all_jobs(customers, side.usage, seen, shown)
                await until(partial(all_seen, side, seen), within_s=scale.grace_s, every_s=0.1)
            samples.append(
                {
                    "work": "offers",
                    "run": run,
                    "side": side.name,
                    **without_curves(figures_of(seen, side.stamps(), began_ns, ended_ns)),
                    "cpu_us": cpu(used, len(seen.asked)),
                    "others_cores": used.others_share(),
                    "sent_late_ms_max": round(drive.pace.late_s_max * 1000, 1),
                    "lines_lost": lost(phones),
                }
            )
            _say(samples[-1], f"offer to frame p99 {samples[-1]['commit_to_frame_ms_p99']} ms")


def without_curves(figures: Sample) -> Sample:
    """A sample is one of many: its figures are enough."""
    return {name: value for name, value in figures.items() if name != "latency"}


def all_seen(side: Side, seen: Seen) -> bool:
    """Every offer that was stamped has come."""
    return side.stamps().keys() <= seen.offers.keys()


async def weigh(run: int, side: Side, scale: Scale) -> Sample:
    """Resident memory for each idle provider, on a server that has just started."""
    everybody = scale.idle_first + scale.sockets
    phones = side.phones(cloud(Markets.load()[MARKET], everybody, seed=1))
    workers = side.worker_pids()
    await side.fresh(everybody)
    first, counted = phones[: scale.idle_first], phones[scale.idle_first :]
    await arrive(side, first)
    await asyncio.sleep(scale.settle_s)
    before = rss_of(workers)
    await arrive(side, counted)
    await asyncio.sleep(scale.settle_s)
    after = rss_of(workers)
    quiet = side.usage()
    await asyncio.sleep(scale.settle_s)
    idle = side.usage().since(quiet)
    sample: Sample = {
        "work": "sockets",
        "run": run,
        "side": side.name,
        "rss_kib_per_socket": round((after - before) / len(counted), 2),
        "rss_kib_all": after,
        "idle_cores": round((idle.server + idle.redis + idle.postgres) / scale.settle_s, 4),
        "others_cores": idle.others_share(),
        "lines_lost": lost(phones),
    }
    for phone in phones:
        phone.close()
    _say(sample, f"{sample['rss_kib_per_socket']} KiB a socket")
    return sample


async def tracking(sides: Sequence[Side], scale: Scale, samples: list[Sample]) -> None:
    """Pairs of a provider on a job and its customer; each position, one a second, is to reach the customer's phone."""
    following = Following()
    places = apart(scale.pairs)
    fleets: dict[str, tuple[list[Phone], list[Phone]]] = {}
    for run, side in turns(sides, scale.runs):
        if side.name not in fleets:
            fleets[side.name] = (side.phones(places, following.event), side.watchers(scale.pairs, following.event))
        drivers, riders = fleets[side.name]
        following.offers.clear()
        async with connected(side, drivers):
            await arrive(side, riders, online=False)
            customers = side.customers(scale.pairs, 1, PATIENCE_S)
            async with cleared(following, customers):
                for driver, rider, customer, place in zip(drivers, riders, customers, places, strict=True):
                    pair = Pair(driver, rider, customer, place)
                    await meet(pair, following, side.name, track=isinstance(side, Ours))
                async with Drive(drivers, float(len(drivers))) as drive:
                    await asyncio.sleep(scale.warm_s)
                    following.seen_ms.clear()
                    before, sent_before, began = side.usage(), drive.sent, datetime.now(UTC)
                    await asyncio.sleep(scale.offers_s)
                    used, sent, ended = side.usage().since(before), drive.sent - sent_before, datetime.now(UTC)
                    # What was sent in this time may come later: on a busy machine, or where it waits for its turn.
                    await asyncio.sleep(LATE_S)
            ages_ms = [age for at, age in following.seen_ms if began <= at < ended]
            frames = len(ages_ms)
            await hang_up(riders)
            samples.append(
                {
                    "work": "tracking",
                    "run": run,
                    "side": side.name,
                    "pairs": scale.pairs,
                    "positions": sent,
                    "frames": frames,
                    "cpu_us": cpu(used, frames),
                    **spread(ages_ms, "age_ms", (0.5, 0.99)),
                    "others_cores": used.others_share(),
                    "lines_lost": lost(drivers) + lost(riders),
                }
            )
            _say(samples[-1], f"{samples[-1]['cpu_us']['all']:.1f} µs a frame, {frames} of {sent}")


def _say(sample: Sample, what: str) -> None:
    print(f"{sample['work']}, run {sample['run'] + 1}, {sample['side']}: {what}", flush=True)
