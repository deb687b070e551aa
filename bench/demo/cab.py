"""One cab: its driver's phone on a socket, its way through the city, and what he does with offers."""

import asyncio
import time
from enum import StrEnum
from typing import Any
from uuid import UUID

from bench.demo.account import Account
from bench.demo.books import Told
from bench.demo.city import City
from bench.demo.motion import Drive, drive, rejoin
from bench.demo.people import Driver, Phone
from bench.demo.recording import Fare, Place, Trace
from bench.demo.tally import Applied
from dispatch.kit.geo import distance_m, toward
from protocol.client import Client, Http
from protocol.errors import Denied, ErrorCode
from protocol.frames import ErrorObject, Event, Snapshot
from protocol.lifecycle import Stage

# What the phone reports is the road, not the line: about the detour that the market assumes. The server's bound is
# 1.3 of its own trail and 500 m more.
REPORTED_DETOUR = 1.25
FIX_APART_S = 0.1
# In the warm-up each cab waits where its fare began; an offer from farther away is somebody else's, unless he is busy.
STANDS_THERE_M = 20
NOT_MINE_S = 0.6
ADVANCE_TRIES = 10


class Phase(StrEnum):
    """What a cab is doing. OFF: not online, or silent in the recording."""

    OFF = "off"
    FREE = "free"
    TO_PICKUP = "to_pickup"
    BOARDING = "boarding"
    RIDING = "riding"


class Cab:
    """A provider's socket with a driver behind it. `tick` sends the fixes; everything else follows from events."""

    def __init__(self, city: City, number: int, account: Account, trace: Trace) -> None:
        self.phase = Phase.OFF
        self.account = account
        self.online = False
        self.on_duty = False
        self.warm_trip_ready = False
        self.applied = city.tally.applied.setdefault(account.user_id, Applied())
        self.phone = Phone(city.seed, f"cab {number}")
        self.client = Client(
            city.url,
            account.token,
            device=f"cab-{number}",
            on_event=self._heard,
            on_snapshot=self._replaced,
            on_error=self._complained,
        )
        self._city = city
        self._driver = Driver(city.seed, number)
        self._trace = trace
        self._drive: Drive | None = None  # in wall time; None: on the trace
        self._offers: dict[str, tuple[str, int]] = {}  # live offer → (job, round)
        self._job: str | None = None
        self._trip: asyncio.Task[None] | None = None
        self._over: set[str] = set()  # jobs that were taken from us, also before we knew that we had them
        self._switching = False
        self._driven_m = 0.0
        self._seen: Place | None = None  # where it was last
        self._sent_at = 0.0

    # --- the road

    def place(self) -> Place | None:
        """Where it is now; None while the recording does not know and nothing else moves it."""
        here = self._place()
        self._seen = here or self._seen
        return here

    def _place(self) -> Place | None:
        if self._drive is not None:
            now = time.monotonic()
            # Driven back to its trace: from there on it follows it.
            if self._job is not None or now < self._drive.end:
                return self._drive.at(now)
            self._drive = None
        return self._trace.at(self._city.clock.now())

    def park(self, place: Place) -> None:
        """Stand there until told otherwise."""
        self._drive = Drive(place, place, 0.0, float("inf"))

    def back_to_trace(self) -> None:
        """Drive to where the own trace will be; a trace that is over leaves the cab parked."""
        here = self.place()
        if here is None:
            return
        clock = self._city.clock
        city_now, wall_now = clock.now(), time.monotonic()
        way = rejoin(here, self._trace, city_now, self._city.drive_mps / clock.speed)
        if way is None:
            self.park(here)
        else:
            self._drive = Drive(way.a, way.b, wall_now, wall_now + (way.end - city_now) / clock.speed)

    async def _drive_to(self, goal: Place, speed_mps: float, at_least_s: float = 0.0) -> None:
        """Drive there and return on arrival; not before `at_least_s`."""
        # An offer may be accepted in the second in which the recording falls silent.
        here = self.place() or self._seen or goal
        now = time.monotonic()
        way = drive(here, goal, now, speed_mps)
        self._drive = Drive(here, goal, now, max(way.end, now + at_least_s))
        self._driven_m += distance_m(*here, *goal)
        await asyncio.sleep(self._drive.end - now)

    # --- the phone

    def begin(self) -> None:
        """The clock runs now: on duty, and along the own trace unless there is a trip to finish."""
        self.on_duty = True
        if self._job is None:
            self.back_to_trace()

    def tick(self) -> None:
        """Send where the cab is, or follow the recording into and out of a silence. About once a second."""
        if not self.on_duty:
            return
        here = self.place()
        if here is None:
            if self.online:
                self._switch(on_at=None)
        elif not self.online:
            self._switch(on_at=here)
        else:
            self._send(here)

    def _send(self, here: Place) -> None:
        """A fix, unless there was one just now: phones do not send two in a moment."""
        now = time.monotonic()
        if now - self._sent_at >= FIX_APART_S and self.client.locate(*here):
            self._sent_at = now
            self._city.tally.positions += 1

    def _switch(self, on_at: Place | None) -> None:
        if not self._switching:
            self._switching = True
            self._city.spawn(self.go_online(on_at) if on_at is not None else self._go_offline())

    async def go_online(self, place: Place) -> None:
        """Take offers, from that place on."""
        self.on_duty = True
        self._switching = True
        try:
            await self.client.online(*place)
            self.online = True
            if self._job is None:
                self.phase = Phase.FREE
        except Denied as no:
            self._city.tally.count(self._city.tally.errors, no.code)
        finally:
            self._switching = False

    async def _go_offline(self) -> None:
        try:
            await self.client.offline()
            self.online = False
            if self._job is None:
                self.phase = Phase.OFF
        except Denied as no:
            self._city.tally.count(self._city.tally.errors, no.code)
        finally:
            self._switching = False

    async def stay_signed_in(self, anyone: Http) -> None:
        """Get the next token before the old one is over, and show it to the socket; for ever."""
        while True:
            try:
                await self.account.renew(anyone)
                await self.client.auth(self.account.token())
            except Denied as no:
                # A line that ends with its token comes back by itself, with the next one.
                self._city.tally.count(self._city.tally.errors, no.code)

    def _complained(self, error: ErrorObject) -> None:
        why = (error.details or {}).get("why")
        self._city.tally.count(self._city.tally.errors, f"{error.code} {why}" if why else error.code)

    def _replaced(self, snapshot: Snapshot) -> None:
        now_ns = time.monotonic_ns()
        self.applied.snapshot(snapshot.seq)
        live = {str(offer["offer_id"]) for offer in snapshot.offers}
        for offer in [offer for offer in self._offers if offer not in live]:
            del self._offers[offer]
        for offered in snapshot.offers:
            if str(offered["offer_id"]) not in self._offers:
                self._offered(offered, now_ns)
        if self._job is not None and self._job not in {job["id"] for job in snapshot.jobs}:
            self._lose(self._job)

    def _heard(self, event: Event) -> None:
        now_ns = time.monotonic_ns()
        tally = self._city.tally
        if self.applied.event(event.seq):
            tally.events += 1
        data = event.data
        if event.name == "offer.created":
            self._offered(data, now_ns)
        elif event.name == "offer.withdrawn":
            known = self._offers.pop(str(data["offer_id"]), None)
            if data["reason"] == "accepted" and known is not None:
                tally.assignments.told_yes(*known, self.account.user_id)
        elif event.name == "wallet.updated":
            wallet = data["wallet"]
            told = Told(event.seq, int(wallet["available_minor"]))
            tally.wallets[self.account.user_id, str(wallet["currency"])] = told
        elif event.name == "job.cancelled":
            job = str(data["job"]["id"])
            tally.assignments.told_released(job, self.account.user_id)
            self._lose(job)

    # --- offers

    def _offered(self, offered: dict[str, Any], now_ns: int) -> None:
        """Look at an offer, and do after a while what this driver does with this one."""
        offer = str(offered["offer_id"])
        self._city.tally.saw_offer(offer, now_ns)
        self._offers[offer] = (str(offered["job"]["id"]), int(offered["round"]))
        reply = self._driver.reply()
        if not self._city.clock.started.is_set():
            # The trips that are under way at the start were accepted long ago, each by the cab that stands there.
            mine = int(offered["pickup_distance_m"]) <= STANDS_THERE_M
            asyncio.get_running_loop().call_later(0 if mine else NOT_MINE_S, self._answer, offer, "accept")
        else:
            asyncio.get_running_loop().call_later(reply.after_s, self._answer, offer, reply.answer)

    def _answer(self, offer: str, answer: str) -> None:
        if self._city.closing or offer not in self._offers:
            return
        if answer == "accept":
            self._city.spawn(self._accept(offer, *self._offers[offer]))
        elif answer == "decline":
            self._city.tally.declined += 1
            self._city.spawn(self._decline(offer))
        else:
            self._city.tally.ignored += 1

    async def _decline(self, offer: str) -> None:
        try:
            await self.client.decline(UUID(offer), "not this one")
        except Denied as no:
            self._city.tally.count(self._city.tally.errors, no.code)

    async def _accept(self, offer: str, job_id: str, round_: int) -> None:
        tally = self._city.tally
        asked_at = time.monotonic()
        self._city.asking += 1
        try:
            answer = await self.client.accept(UUID(job_id), UUID(offer), round_)
        except Denied as no:
            tally.count(tally.answers, str(no.details.get("status", no.code)))
            return
        finally:
            self._city.asking -= 1
        if self._city.clock.started.is_set():
            tally.accept_ms.append((time.monotonic() - asked_at) * 1000)
        job = answer["job"]
        tally.count(tally.answers, "ok")
        tally.assignments.told_yes(job_id, int(job["round"]), self.account.user_id)
        if job_id not in self._over:
            self._job = job_id
            self._trip = self._city.spawn(self._serve(job))

    # --- a trip

    async def _serve(self, job: dict[str, Any]) -> None:
        """From the yes to the end of the trip, and back to the own trace."""
        pickup = (float(job["pickup"]["lat"]), float(job["pickup"]["lng"]))
        dropoff = (float(job["dropoff"]["lat"]), float(job["dropoff"]["lng"])) if "dropoff" in job else pickup
        fare = self._city.warm.get(str(job["customer_id"]))
        job_id = UUID(job["id"])
        try:
            self.phase = Phase.TO_PICKUP
            await self._drive_to(pickup, self._city.warm_mps if fare else self._city.drive_mps)
            await self._advance(job_id, Stage.ARRIVED)
            if fare is None:
                self.phase = Phase.BOARDING
                await asyncio.sleep(self._driver.boarding_s())
            await self._advance(job_id, Stage.IN_PROGRESS)
            self.phase = Phase.RIDING
            # The meter runs from here, on both sides.
            self._driven_m, began = 0.0, time.monotonic()
            self._sent_at = 0.0
            self.tick()
            if fare is None:
                await self._drive_to(dropoff, self._city.drive_mps)
            else:
                await self._ride_on(pickup, dropoff, fare)
            measures = {"distance_m": self._driven_m * REPORTED_DETOUR, "duration_s": time.monotonic() - began}
            await self._advance(job_id, Stage.COMPLETED, **measures)
        except Denied as no:
            # The job was taken from us while we asked; the event that says so comes or came.
            self._city.tally.count(self._city.tally.errors, no.code)
        self._free()

    async def _advance(self, job_id: UUID, to: Stage, **measures: float) -> None:
        if (here := self.place()) is not None:
            self._send(here)
        for tries in range(1, ADVANCE_TRIES + 1):
            try:
                await self.client.advance(job_id, to, **measures)
                return
            except Denied as no:
                # "Not now" decided nothing; a driver taps again. Any other no is one.
                if no.code not in (ErrorCode.OVERLOADED, ErrorCode.BUSY) or tries == ADVANCE_TRIES:
                    raise
                self._city.tally.count(self._city.tally.errors, no.code)
                await asyncio.sleep(1)

    async def _ride_on(self, pickup: Place, dropoff: Place, fare: Fare) -> None:
        """A recorded trip that began before the clock: to where it is at the start, then on, to end when it ended."""
        clock = self._city.clock
        if not clock.started.is_set():
            share = (clock.now() - fare.pickup_at) / (fare.dropoff_at - fare.pickup_at)
            await self._drive_to(toward(pickup, dropoff, distance_m(*pickup, *dropoff) * share), self._city.warm_mps)
        self.warm_trip_ready = True
        await clock.started.wait()
        await self._drive_to(dropoff, self._city.warm_mps, clock.wall_s(fare.dropoff_at))

    def _lose(self, job: str) -> None:
        """The job is not ours any more, whoever ended it."""
        self._over.add(job)
        if job == self._job:
            if self._trip is not None:
                self._trip.cancel()
            self._free()

    def _free(self) -> None:
        here = self.place()
        self._job = self._trip = None
        self.phase = Phase.FREE if self.online else Phase.OFF
        if here is not None:
            self.park(here)
        self.back_to_trace()
