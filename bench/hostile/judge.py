"""What a run of attackers is judged by, besides their own answers and the server's log: its memory, and a bystander."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID, uuid4

from bench.demo.stage import Person
from bench.figures import spread
from bench.server import Running, rss_kib, total
from protocol.client import Client, Http
from protocol.errors import Denied, ErrorCode
from protocol.frames import Event
from protocol.lifecycle import ServiceType, Stage

ASK_EVERY_S: Final = 0.25
RIDE_EVERY_S: Final = 3.0
OFFERED_WITHIN_S: Final = 15.0


class Bystander:
    """A well-behaved provider and a customer beside the attackers. They ask, and they ride; each wait is kept."""

    def __init__(self, url: str, driver: Person, rider: Person, place: tuple[float, float]) -> None:
        self._url, self._driver, self._rider, self._place = url, driver, rider, place
        self.socket_ms: list[float] = []
        self.http_ms: list[float] = []
        self.rides = 0
        self.rides_not_offered = 0
        self.failed: list[str] = []
        self.frames_sent = 0
        """An upper bound of the text frames that went out: for subtracting, never for adding."""
        self._offers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self.welcomes = 0
        self._client: Client

    def _event(self, event: Event) -> None:
        self.frames_sent += 1  # its ack, or a share of one
        if event.name == "offer.created":
            self._offers.put_nowait(event.data)

    async def __aenter__(self) -> Self:
        self._client = await self._stack.enter_async_context(
            Client(self._url, self._driver.token, device="bystander", on_event=self._event)
        )
        self._http = await self._stack.enter_async_context(Http(self._url, self._rider.token))
        self.frames_sent += 1
        await self._client.online(*self._place)
        self.frames_sent += 1
        self._tasks = [asyncio.create_task(self._ask()), asyncio.create_task(self._ride())]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                self.failed.append(repr(ended))
        self.welcomes = self._client.welcomes
        await self._stack.aclose()

    async def _ask(self) -> None:
        """A question on the socket and one over HTTP, again and again."""
        while True:
            for kept, ask in ((self.socket_ms, self._untrack), (self.http_ms, self._http.me)):
                began = time.monotonic()
                try:
                    await ask()
                except Denied as refusal:
                    self.failed.append(str(refusal)[:200])
                kept.append((time.monotonic() - began) * 1e3)
            self.frames_sent += 1
            self._client.locate(*self._place)
            self.frames_sent += 1
            await asyncio.sleep(ASK_EVERY_S)

    async def _untrack(self) -> None:
        await self._client.untrack(uuid4())

    async def _ride(self) -> None:
        """From request to completion, every few seconds."""
        while True:
            try:
                await self._one_ride()
            except Denied as refusal:
                self.failed.append(f"ride: {refusal}"[:200])
            await asyncio.sleep(RIDE_EVERY_S)

    async def _one_ride(self) -> None:
        place = {"lat": self._place[0], "lng": self._place[1], "address": "1 Quiet Road"}
        job = await self._http.create_job(ServiceType.RIDE, place)
        try:
            async with asyncio.timeout(OFFERED_WITHIN_S):
                while (offer := await self._offers.get())["job"]["id"] != job["id"]:
                    pass
        except TimeoutError:
            # An attacker may have come near and taken it: his right, if he is a provider. He may be driving it already.
            self.rides_not_offered += 1
            try:
                await self._http.cancel(UUID(job["id"]))
            except Denied as refusal:
                if refusal.code != ErrorCode.INVALID_STATUS_TRANSITION:
                    raise
            return
        self.frames_sent += 5
        try:
            await self._client.accept(UUID(job["id"]), UUID(offer["offer_id"]), offer["round"])
        except Denied as refusal:
            if refusal.code != ErrorCode.JOB_NOT_AVAILABLE:
                raise
            self.rides_not_offered += 1  # somebody was quicker
            return
        for stage in (Stage.ARRIVED, Stage.IN_PROGRESS, Stage.COMPLETED):
            await self._client.advance(UUID(job["id"]), stage)
        self.rides += 1

    def figures(self) -> dict[str, Any]:
        """Counts and waits."""
        return {
            "asked": len(self.socket_ms) + len(self.http_ms),
            **spread(self.socket_ms, "socket_ms"),
            **spread(self.http_ms, "http_ms"),
            "rides": self.rides,
            "rides_not_offered": self.rides_not_offered,
            "failed": len(self.failed),
            "failures": self.failed[:10],
            "sockets_needed": self.welcomes,
        }


class Memory:
    """Resident memory of the workers over a run."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self.series: list[tuple[float, int]] = []
        self._began = time.monotonic()

    def look(self) -> int:
        """KiB of all workers now; kept."""
        kib = sum(rss_kib(Path(f"/proc/{pid}/status").read_text()) for pid in self._pids)
        self.series.append((round(time.monotonic() - self._began, 1), kib))
        return kib

    def around(self, share: float, width: float = 0.05) -> int:
        """The median of the looks about this share of the run: one look catches a garbage collection or none."""
        count = len(self.series)
        low, high = int(max(0.0, share - width) * count), int(min(1.0, share + width) * count)
        values = sorted(kib for _, kib in self.series[low : max(high, low + 1)])
        return values[len(values) // 2]


async def frames_of(running: Running) -> tuple[int, int]:
    """(read, of these dropped unread) by all workers so far."""
    async with running.http.get(f"{running.stage.url}/metrics") as response:
        text = await response.text()
    counts = []
    for name in ("dispatch_frames_in_total", "dispatch_frames_limited_total"):
        try:
            counts.append(int(total(text, name)))
        except KeyError:
            counts.append(0)
    return counts[0], counts[1]
