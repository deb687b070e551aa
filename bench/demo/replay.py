"""One run: everybody connects, the trips under way get going, the clock runs, and then it is counted.

One process, one loop, one ticker for all cabs. What has to wait (a driver's look, a trip's leg, a customer's
patience) waits in the loop's own heap of timers.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import aiohttp
import asyncpg

from bench.demo.account import Account
from bench.demo.books import Books, books
from bench.demo.cab import Cab, Phase
from bench.demo.city import City, CityClock
from bench.demo.recording import Fare, Place, Recording, Request
from bench.demo.rider import WAITING, Rider
from bench.demo.screen import REFRESH_S, Screen
from bench.demo.stage import Stage, cpu_s
from bench.demo.stamps import Stamps
from bench.demo.tally import Tally, lost_events, offer_latencies_ms, percentile
from bench.demo.warm import warm_fares, warm_request
from dispatch.markets import Market
from protocol.client import Client, Http

T = TypeVar("T")

# Each cab has its turn once a second; between two turns of the ticker pass 50 ms, so a turn is short.
TICKS_PER_S = 20
# Sockets opened, jobs created, shifts begun at a time before the clock runs: a server that has just started answers
# some hundreds of handshakes a second.
AT_A_TIME = 40
# Trips that have not got where they were by then drive on from where they are.
WARM_TIMEOUT_S = 8.0
WARM_ENOUGH = 0.9
WARM_AT_A_TIME = 3
WARM_YES_S = 0.5
# How long clients get after the end for what is still on its way to them.
SETTLE_S = 20.0
# The live latency is that of the newest this many offers; one unseen for longer than this counts as infinite in it.
LIVE_OFFERS = 1000
LIVE_UNSEEN_S = 2.0
STREET_POINTS = 12_000


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has shown. Latencies in ms; `server_cpu_s` None where it cannot be read."""

    tally: Tally
    offer_ms: list[float]
    lost_events: int
    seconds: float
    server_cpu_s: float | None
    warm_trips: int
    interrupted: bool
    books: Books


class Replay:
    """The people of one run and the course of it."""

    def __init__(
        self,
        stage: Stage,
        drivers: Sequence[Account],
        recording: Recording,
        market: Market,
        vehicles: Sequence[str],
        *,
        speed: float,
        seed: int,
        run_s: float,
        session: aiohttp.ClientSession,
        title: str,
    ) -> None:
        speed_max_mps = market.speed_max_mps * speed
        self.city = City(
            url=stage.url,
            clock=CityClock(recording.start, speed),
            tally=Tally(),
            seed=seed,
            drive_mps=market.speed_mps / market.detour_factor * speed,
            warm_mps=speed_max_mps * 0.9,
        )
        self._stage = stage
        self._recording = recording
        self._market = market
        self._run_s = run_s
        self._title = title
        self._anyone = Http(stage.url, "", session=session, locale="en")
        self._stamps = Stamps(stage.stamp_file)
        self._live: deque[tuple[str, int]] = deque(maxlen=LIVE_OFFERS)
        self._phase = "connect"
        self._shown = (time.monotonic(), 0, 0)
        self.vehicles = list(vehicles)
        self.cabs = [
            Cab(self.city, number, driver, recording.traces[vehicle])
            for number, (driver, vehicle) in enumerate(zip(drivers, self.vehicles, strict=True))
        ]
        self.riders = [
            Rider(self.city, number, person, session, market) for number, person in enumerate(stage.customers)
        ]
        corners = sorted(request.pickup[0] for request in recording.requests)
        sides = sorted(request.pickup[1] for request in recording.requests)
        # The busy part of the city: all but the outermost fortieth of the requests on each side.
        edge = len(corners) // 40
        self._box = [corners[edge], sides[edge], corners[-1 - edge], sides[-1 - edge]]

    def _streets(self) -> list[Place]:
        """Where cabs have reported from: that draws the city better than any map of ours."""
        south, west, north, east = self._box
        places = [
            place
            for trace in self._recording.traces.values()
            for place in trace.places
            if south - 0.05 < place[0] < north + 0.05 and west - 0.05 < place[1] < east + 0.05
        ]
        return places[:: max(1, len(places) // STREET_POINTS)]

    def _clients(self) -> list[Client]:
        return [*(cab.client for cab in self.cabs), *(rider.client for rider in self.riders)]

    async def run(self, stop: asyncio.Event, screen: Screen) -> Result:
        """All of it. Once the city's clock runs, `stop` ends it in good order; before, there is nothing to tell yet:
        cancel. Raises what went wrong in any of its tasks.
        """
        screen.draw_streets(self._streets())
        reporter = self.city.spawn(self._report(screen))
        opened: list[Client] = []
        try:
            await self._guarded(self._open(opened))
            for cab in self.cabs:
                self.city.spawn(cab.stay_signed_in(self._anyone))
            self._phase = "warm-up"
            fares = warm_fares(self._recording, self.vehicles)
            self.city.spawn(self._tick())
            await self._guarded(self._warm_up(fares))
            self._phase = "running"
            cpu_before = cpu_s(self._stage.server_pid)
            self._begin()
            interrupted = await self._guarded(self._until_end(stop))
            seconds = self.city.clock.elapsed_s()
            cpu_after = cpu_s(self._stage.server_pid)
            offers_until_ns = time.monotonic_ns()
            self._phase = "settling"
            lost = await self._guarded(self._settle())
            told = await self._guarded(books(self._stage.database_url, self.city.tally.wallets))
            self._stamps.read_on()
            began_ns = offers_until_ns - round(seconds * 1e9)
            stamped = {
                offer: stamp for offer, stamp in self._stamps.by_offer.items() if began_ns <= stamp <= offers_until_ns
            }
            return Result(
                tally=self.city.tally,
                offer_ms=offer_latencies_ms(stamped, self.city.tally.offer_seen_ns),
                lost_events=lost,
                seconds=seconds,
                server_cpu_s=None if cpu_before is None or cpu_after is None else cpu_after - cpu_before,
                warm_trips=len(fares),
                interrupted=interrupted,
                books=told,
            )
        finally:
            reporter.cancel()
            await self.city.end()
            await asyncio.gather(*(client.__aexit__(None, None, None) for client in opened), return_exceptions=True)

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, unless one of the people's tasks fails first: then raise what it raised."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.city.failure), return_when=asyncio.FIRST_COMPLETED)
            if self.city.failure.done():
                self.city.failure.result()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    async def _open(self, opened: list[Client]) -> None:
        """Open everybody's socket. Those that are up are in `opened`, also when one fails."""

        async def open_one(client: Client) -> None:
            await client.__aenter__()
            opened.append(client)

        await self._together(open_one(client) for client in self._clients())

    async def _together(self, works: Iterable[Coroutine[Any, Any, None]], at_a_time: int = AT_A_TIME) -> None:
        """Do all of it, so many at a time."""
        places = asyncio.Semaphore(at_a_time)

        async def one(work: Coroutine[Any, Any, None]) -> None:
            async with places:
                await work

        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(one(work))

    async def _warm_up(self, fares: dict[str, Fare]) -> None:
        """Bring everybody to where he was when the recording starts; the clock stands meanwhile.

        First only the cabs that had a fare are online, each where that began, and their customers ask, a few at a
        time: so nearly each is taken by its own cab. Who is left without one asks on like anybody else.
        """
        loop = asyncio.get_running_loop()
        with_fare = [
            (cab, fares[vehicle]) for cab, vehicle in zip(self.cabs, self.vehicles, strict=True) if vehicle in fares
        ]
        requests = [warm_request(fare, self._recording.traces[fare.vehicle]) for _, fare in with_fare]
        for (cab, _), request in zip(with_fare, requests, strict=True):
            cab.park(request.pickup)
        await self._together(
            cab.go_online(request.pickup) for (cab, _), request in zip(with_fare, requests, strict=True)
        )
        for rider, (_, fare) in zip(self.riders, with_fare, strict=False):
            self.city.warm[rider.person.user_id] = fare
        asking = (self._ask_warm(rider, request) for rider, request in zip(self.riders, requests, strict=False))
        await self._together(asking, WARM_AT_A_TIME)
        deadline = loop.time() + WARM_TIMEOUT_S
        while loop.time() < deadline and sum(cab.warm_trip_ready for cab in self.cabs) < WARM_ENOUGH * len(with_fare):
            await asyncio.sleep(0.1)
        others = [(cab, place) for cab in self.cabs if not cab.on_duty and (place := cab.place()) is not None]
        await self._together(cab.go_online(place) for cab, place in others)

    async def _ask_warm(self, rider: Rider, request: Request) -> None:
        """Ask, and wait a moment for the yes: the next one then finds the other cabs free."""
        await rider.ask(request, -1)
        deadline = time.monotonic() + WARM_YES_S
        while rider.status in WAITING and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def _begin(self) -> None:
        """The clock runs: cabs without a job follow their traces, customers come as recorded, phones lose lines."""
        self._stamps.read_on()
        self._live.clear()
        self.city.clock.begin()
        for cab in self.cabs:
            cab.begin()
        everybody: list[Cab | Rider] = [*self.cabs, *self.riders]
        for someone in everybody:
            self._next_loss(someone)
        self.city.spawn(self._requests())

    async def _requests(self) -> None:
        """Everybody asks at the recorded moment; free customers take turns."""
        free = deque(rider for rider in self.riders if rider.person.user_id not in self.city.warm)
        for number, request in enumerate(self._recording.requests):
            await asyncio.sleep(self.city.clock.wall_s(request.at))
            if self.city.closing:
                return
            if free:
                self.city.spawn(free.popleft().ask(request, number, free))
            else:
                self.city.tally.requests_failed += 1

    def _next_loss(self, someone: Cab | Rider) -> None:
        after_s, away_s = someone.phone.next_loss()
        asyncio.get_running_loop().call_later(after_s, self._lose_line, someone, away_s)

    def _lose_line(self, someone: Cab | Rider, away_s: float) -> None:
        if not self.city.closing:
            self.city.tally.lines_lost += 1
            someone.client.drop(away_s)
            self._next_loss(someone)

    async def _tick(self) -> None:
        """Every cab once a second, a twentieth of them at a time."""
        loop = asyncio.get_running_loop()
        turn = 0
        next_at = loop.time()
        while True:
            for cab in self.cabs[turn % TICKS_PER_S :: TICKS_PER_S]:
                cab.tick()
            turn += 1
            next_at += 1 / TICKS_PER_S
            await asyncio.sleep(max(0.0, next_at - loop.time()))

    async def _until_end(self, stop: asyncio.Event) -> bool:
        """Until the time is up or somebody stops it; whether it was stopped."""
        try:
            async with asyncio.timeout(self._run_s):
                await stop.wait()
        except TimeoutError:
            return False
        return True

    async def _settle(self) -> int:
        """Nobody does anything new; what is under way arrives. The events that then are missing are lost."""
        self.city.closing = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_S
        while loop.time() < deadline and (
            self.city.asking or not all(client.live.is_set() for client in self._clients())
        ):
            await asyncio.sleep(0.05)
        written = await written_events(self._stage.database_url)
        while (lost := lost_events(written, self.city.tally.applied)) and loop.time() < deadline:
            await asyncio.sleep(0.05)
        return lost

    async def _report(self, screen: Screen) -> None:
        while True:
            screen.show(self._state())
            await asyncio.sleep(REFRESH_S)

    def _state(self) -> dict[str, Any]:
        """What the picture shows."""
        tally, clock = self.city.tally, self.city.clock
        self._live.extend(self._stamps.read_on().items())
        now_s, now_ns = time.monotonic(), time.monotonic_ns()
        shown_at, events, positions = self._shown
        since_s = max(1e-3, now_s - shown_at)
        self._shown = (now_s, tally.events, tally.positions)
        latencies = [
            (tally.offer_seen_ns[offer] - stamp) / 1e6 if offer in tally.offer_seen_ns else math.inf
            for offer, stamp in self._live
            if offer in tally.offer_seen_ns or now_ns - stamp > LIVE_UNSEEN_S * 1e9
        ]
        marks: dict[str, list[Any]] = {"free": [], "to_pickup": [], "riding": [], "waiting": []}
        for cab in self.cabs:
            if cab.online and (place := cab.place()) is not None:
                layer = {Phase.TO_PICKUP: "to_pickup", Phase.BOARDING: "riding", Phase.RIDING: "riding"}.get(cab.phase)
                marks[layer or "free"].append(place)
        marks["waiting"] = [rider.pickup for rider in self.riders if rider.pickup and rider.status in WAITING]
        local = datetime.fromtimestamp(clock.now(), self._market.timezone)
        return {
            "phase": self._phase,
            "title": self._title,
            "city_time": local.strftime("%H:%M:%S"),
            "speed": clock.speed,
            "seconds": clock.elapsed_s(),
            "of_s": self._run_s,
            "box": self._box,
            "map": marks,
            "cabs": len(self.cabs),
            "online": sum(cab.online for cab in self.cabs),
            "busy": len(marks["to_pickup"]) + len(marks["riding"]),
            "jobs": tally.by_status(),
            "offer_p50_ms": finite(percentile(latencies, 0.5)),
            "offer_p99_ms": finite(percentile(latencies, 0.99)),
            "accepts": tally.answers.get("ok", 0),
            "double_assignments": tally.assignments.doubles(),
            "events_per_s": (tally.events - events) / since_s,
            "positions_per_s": (tally.positions - positions) / since_s,
            "lines_lost": tally.lines_lost,
        }


def finite(value: float) -> float | None:
    """The value, or None for infinite and for no number: JSON has words for neither."""
    return value if math.isfinite(value) else None


async def written_events(database_url: str) -> dict[str, list[int]]:
    """Every event that the server has written, by user: what each client must have."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT user_id::text AS user_id, array_agg(seq ORDER BY seq) AS seqs FROM dispatch.events GROUP BY user_id"
        )
    finally:
        await connection.close()
    return {row["user_id"]: list(row["seqs"]) for row in rows}
