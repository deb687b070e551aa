"""Customers: they ask over HTTP, watch over a socket, and give up when nobody comes."""

import asyncio
from collections import deque
from uuid import UUID

import aiohttp

from bench.demo.city import City
from bench.demo.people import Phone, patience_s
from bench.demo.recording import Place, Request
from bench.demo.stage import Person
from bench.demo.tally import Applied
from dispatch.markets import Market
from protocol.client import Client, Http
from protocol.errors import Denied, ErrorCode
from protocol.frames import Event, Position, Snapshot
from protocol.lifecycle import ServiceType

FINAL = ("completed", "cancelled")
WAITING = ("pending", "offered")


class Rider:
    """One customer account: one job at a time, one socket all the time."""

    def __init__(self, city: City, number: int, person: Person, session: aiohttp.ClientSession, market: Market) -> None:
        self.person = person
        self.applied = city.tally.applied.setdefault(person.user_id, Applied())
        self.phone = Phone(city.seed, f"customer {number}")
        self.job: str | None = None
        self.pickup: Place | None = None
        self.client = Client(
            city.url,
            person.token,
            device=f"customer-{number}",
            on_event=self._heard,
            on_snapshot=self._replaced,
            on_position=self._saw,
        )
        self._city = city
        self._market = market
        self._http = Http(city.url, person.token, session=session, locale="en")
        self._free: deque[Rider] | None = None

    @property
    def status(self) -> str | None:
        """Of his job, as he last heard it; None without one."""
        return None if self.job is None else self._city.tally.jobs.get(self.job)

    def _address(self, place: Place) -> str:
        zone = self._market.zone_of(*place)
        return f"{zone}, {self._market.name}" if zone else f"{place[0]:.5f}, {place[1]:.5f}"

    async def ask(self, request: Request, number: int, free: deque["Rider"] | None = None) -> None:
        """Ask for a cab, and be counted among the `free` customers again when the job is over."""
        tally = self._city.tally
        self._free = free
        self.pickup = request.pickup
        places = [
            {"lat": place[0], "lng": place[1], "address": self._address(place)}
            for place in (request.pickup, request.dropoff)
            if place is not None
        ]
        try:
            job = await self._http.create_job(ServiceType.RIDE, *places)
        except Denied as no:
            if no.code == ErrorCode.OUTSIDE_MARKET:
                tally.outside += 1
            else:
                tally.requests_failed += 1
                tally.count(tally.errors, no.code)
            self._done()
            return
        # The event may have been faster than this answer, and be further.
        self.job = str(job["id"])
        if tally.jobs.setdefault(self.job, "pending") in FINAL:
            self._done()
        elif free is not None:
            asyncio.get_running_loop().call_later(patience_s(self._city.seed, number), self._lose_patience, self.job)

    def _lose_patience(self, job: str) -> None:
        if not self._city.closing and self.job == job and self.status in WAITING:
            self._city.spawn(self._cancel(job))

    async def _cancel(self, job: str) -> None:
        try:
            await self._http.cancel(UUID(job), "nobody came")
        except Denied as no:
            # Somebody accepted in the last moment, and that may not be undone from here: he comes after all.
            self._city.tally.count(self._city.tally.errors, no.code)

    async def _track(self, job: str) -> None:
        try:
            await self.client.track(UUID(job))
        except Denied as no:
            # Over before we could look.
            self._city.tally.count(self._city.tally.errors, no.code)

    def _heard(self, event: Event) -> None:
        tally = self._city.tally
        if self.applied.event(event.seq):
            tally.events += 1
        job = event.data.get("job")
        if not event.name.startswith("job.") or not isinstance(job, dict):
            return
        job_id, status = str(job["id"]), str(job["status"])
        tally.jobs[job_id] = status
        if event.name == "job.accepted" and not self._city.closing:
            self._city.spawn(self._track(job_id))
        elif status in FINAL:
            if event.name == "job.cancelled" and event.data.get("reason") == "no_provider":
                tally.no_provider += 1
            if job_id == self.job:
                self._done()

    def _replaced(self, snapshot: Snapshot) -> None:
        self.applied.snapshot(snapshot.seq)
        for job in snapshot.jobs:
            self._city.tally.jobs[str(job["id"])] = str(job["status"])

    def _saw(self, _: Position) -> None:
        self._city.tally.tracked += 1

    def _done(self) -> None:
        self.job = self.pickup = None
        if self._free is not None:
            self._free.append(self)
            self._free = None
