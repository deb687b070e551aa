"""Ordinary business beside a storm: pairs of a customer and a driver who ride without end, with the reference clients.

Each ride has its moment, whatever became of those before: while the server stands still, rides come due, and count from when they were.
"""

import asyncio
import math
import time
from contextlib import AsyncExitStack
from typing import Any, Final, Self
from uuid import UUID

import asyncpg

from bench.demo.stage import Person
from bench.server import Target
from protocol.client import Client, Http
from protocol.errors import Denied
from protocol.frames import Event
from protocol.lifecycle import ServiceType, Stage

OFFERED_WITHIN_S: Final = 20.0
TOLD_WITHIN_S: Final = 30.0
EVERY_S: Final = 2.0
"""A ride of each pair is due as often. Thirty pairs ask for fifteen rides a second: what two slow cores carry beside nothing else, so that what is late
beside a storm is late because of it."""
REACH_M: Final = 1_000


class Pair:
    """One driver and his customer. Their places are apart from all others', so his jobs are offered to him."""

    def __init__(self, running: Target, driver: Person, rider: Person, place: tuple[float, float]) -> None:
        self.running, self.driver, self.rider, self.place = running, driver, rider, place
        self.accepts: list[tuple[float, float]] = []
        """(monotonic second of asking, ms until the yes)."""
        self.asking: float | None = None
        """Since when an accept of his waits for its answer."""
        self.took: list[tuple[float, float]] = []
        """(monotonic second at which a ride was due, ms until its yes), in order; infinite: no offer came, or a no."""
        self.first = math.inf
        """When the first of them is due."""
        self.over = False
        self.failed: list[str] = []
        self.not_offered = 0
        self.rides = 0
        self.seqs: dict[str, list[int]] = {driver.user_id: [], rider.user_id: []}
        self.gaps = 0
        self._offers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.clients: list[Client] = []

    def told(self, user: str, event: Event) -> None:
        """An event as the client applied it."""
        seqs = self.seqs[user]
        if seqs and event.seq != seqs[-1] + 1:
            self.gaps += 1
        seqs.append(event.seq)
        if event.name == "offer.created" and user == self.driver.user_id:
            self._offers.put_nowait(event.data)

    async def join(self, stack: AsyncExitStack) -> None:
        """Both connect, and the driver takes offers."""
        for person in (self.driver, self.rider):
            client = Client(
                self.running.url, person.token, device="trade",
                on_event=lambda event, user=person.user_id: self.told(user, event),  # type: ignore[misc]
            )  # fmt: skip
            self.clients.append(await stack.enter_async_context(client))
        # So small that nobody is offered his neighbour's job, and holds it while he ignores it.
        driver = Http(self.running.url, self.driver.token, session=self.running.http)
        await driver.patch_provider(service_radius_m=REACH_M)
        await self.clients[0].online(*self.place)

    async def ride(self, stop: asyncio.Event, first: float) -> None:
        """From that moment on, one after the other, each at its own or late, until told to stop; a ride that has begun is finished.
        Raises what is no answer to an accept or an advance.
        """
        self.first = first
        http = Http(self.running.url, self.rider.token, session=self.running.http)
        number = 0
        try:
            while await _comes(due := first + number * EVERY_S, stop):
                await self._one(http, due)
                number += 1
        finally:
            self.over = True

    async def _one(self, http: Http, due: float) -> None:
        phone = self.clients[0]
        phone.locate(*self.place)
        place = {"lat": self.place[0], "lng": self.place[1], "address": "1 Trade Road"}
        job = await http.create_job(ServiceType.RIDE, place)
        offer = await self._offer(job["id"], phone)
        if offer is None:
            self.not_offered += 1
            self.took.append((due, math.inf))
            await http.cancel(UUID(job["id"]))
            return
        self.asking = began = time.monotonic()
        try:
            await phone.accept(UUID(job["id"]), UUID(offer["offer_id"]), offer["round"])
            yes = time.monotonic()
            self.asking = None
            self.accepts.append((began, (yes - began) * 1e3))
            self.took.append((due, (yes - due) * 1e3))
            for stage in (Stage.ARRIVED, Stage.IN_PROGRESS, Stage.COMPLETED):
                await phone.advance(UUID(job["id"]), stage)
            self.rides += 1
        except Denied as refusal:
            if self.asking is not None:
                self.asking = None
                self.took.append((due, math.inf))
            self.failed.append(f"{refusal} {refusal.details}"[:200])

    def ride_ms(self, since: float, until: float, now: float) -> list[float]:
        """From due to yes, of the rides that were due in that time. One that still waits counts as long as it has waited; when the pair has
        come to its end, it never comes.
        """
        found = [ms for due, ms in self.took if since <= due < until]
        number = len(self.took)
        while (due := self.first + number * EVERY_S) < min(until, now):
            if due >= since:
                found.append(math.inf if self.over else (now - due) * 1e3)
            number += 1
        return found

    async def _offer(self, job_id: str, phone: Client) -> dict[str, Any] | None:
        """The offer of this job; a fix every second keeps him a candidate."""
        until = time.monotonic() + OFFERED_WITHIN_S
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(1.0):
                    offer = await self._offers.get()
            except TimeoutError:
                phone.locate(*self.place)
                continue
            if offer["job"]["id"] == job_id:
                return offer
        return None


async def _comes(due: float, stop: asyncio.Event) -> bool:
    """Wait for a moment; False when told to stop."""
    try:
        async with asyncio.timeout(max(0.0, due - time.monotonic())):
            await stop.wait()
    except TimeoutError:
        pass
    return not stop.is_set()


class Trade:
    """All pairs, at work while the block lasts."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs
        self._stack = AsyncExitStack()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(pair.join(self._stack) for pair in self.pairs))
        # Evenly between each other: pairs that ride all at once are a storm of their own.
        first, step_s = time.monotonic(), EVERY_S / max(1, len(self.pairs))
        self._tasks = [
            asyncio.create_task(pair.ride(self._stop, first + number * step_s))
            for number, pair in enumerate(self.pairs)
        ]
        return self

    async def finish(self) -> None:
        """Let rides that have begun end; what a pair died of is among the failed."""
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aexit__(self, *exc: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def accept_ms(self, since: float, until: float) -> list[float]:
        """Of the accepts that were asked for in that time. One without an answer yet counts as long as it has waited: it is slow."""
        now = time.monotonic()
        found = [ms for pair in self.pairs for at, ms in pair.accepts if since <= at < until]
        waiting = [pair.asking for pair in self.pairs if pair.asking is not None and since <= pair.asking < until]
        return found + [(now - at) * 1e3 for at in waiting]

    def ride_ms(self, since: float, until: float) -> list[float]:
        """Of the rides that were due in that time, of all pairs."""
        now = time.monotonic()
        return [ms for pair in self.pairs for ms in pair.ride_ms(since, until, now)]

    def failed(self) -> list[str]:
        """Accepts and advances that were refused, and what ended a pair: its accepts are missing from then on."""
        refused = [problem for pair in self.pairs for problem in pair.failed]
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        died = [f"a pair ended: {error!r}"[:200] for task in ended if (error := task.exception()) is not None]
        return refused + died

    async def lost_events(self, url: str) -> dict[str, int]:
        """Once quiet: events that a client never applied, though its inbox has them; and gaps that it saw."""
        heads: dict[str, int] = {}
        lasts = {user: seqs[-1] if seqs else 0 for pair in self.pairs for user, seqs in pair.seqs.items()}
        conn = await asyncpg.connect(url, server_settings={"search_path": "dispatch"})
        try:
            async with asyncio.timeout(TOLD_WITHIN_S):
                while True:
                    rows = await conn.fetch(
                        "SELECT user_id, seq FROM inbox_head WHERE user_id = ANY($1::uuid[])", list(lasts)
                    )
                    heads = {str(row["user_id"]): row["seq"] for row in rows}
                    lasts = {user: seqs[-1] if seqs else 0 for pair in self.pairs for user, seqs in pair.seqs.items()}
                    if all(lasts[user] >= head for user, head in heads.items()):
                        break
                    await asyncio.sleep(0.2)
        except TimeoutError:
            pass
        finally:
            await conn.close()
        return {
            "events": sum(len(seqs) for pair in self.pairs for seqs in pair.seqs.values()),
            "events_lost": sum(max(0, head - lasts[user]) for user, head in heads.items()),
            "events_out_of_order": sum(pair.gaps for pair in self.pairs),
        }
