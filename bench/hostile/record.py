"""`python -m bench hostile --record PATH`: a corpus out of real traffic. The reference clients do a provider's and a
customer's day against a real server, and a tap in the line keeps each text frame that they send.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import orjson

from bench.fleet import FleetError
from bench.hostile.corpus import distinct
from bench.server import server
from dispatch.markets import Markets
from protocol.client import Client, Http
from protocol.errors import WithdrawnReason
from protocol.frames import AppInfo, ClientFrame, Event
from protocol.lifecycle import ServiceType, Stage

MARKET = "bkk"
EVENT_WITHIN_S = 20.0


class Tap:
    """A TCP relay that keeps the text frames of whoever connects to it. Raises nothing: what it cannot read it passes on."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self.frames: list[bytes] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Its address, as a URL."""
        tasks: set[asyncio.Task[None]] = set()

        async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._relay(reader, there_writer, Frames(self.frames)))
                    group.create_task(self._relay(there_reader, writer, None))
            except* ConnectionError:
                pass
            finally:
                writer.close()
                there_writer.close()
                tasks.discard(task)

        listening = await asyncio.start_server(joined, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        finally:
            listening.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: "Frames | None") -> None:
        while data := await reader.read(65536):
            if frames is not None:
                frames.feed(data)
            writer.write(data)
            await writer.drain()
        writer.close()


class Frames:
    """Text frames out of a client's bytes: the upgrade request, then masked frames. What is no upgrade is passed over."""

    def __init__(self, into: list[bytes]) -> None:
        self._into = into
        self._rest = b""
        self._upgraded = False
        self._http = False

    def feed(self, data: bytes) -> None:
        if self._http:
            return
        self._rest += data
        if not self._upgraded:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            if b"upgrade: websocket" not in head.lower():
                self._http = True
                return
            self._upgraded, self._rest = True, rest
        while (frame := self._next()) is not None:
            opcode, payload = frame
            if opcode == 0x1:
                self._into.append(payload)

    def _next(self) -> tuple[int, bytes] | None:
        data = self._rest
        if len(data) < 2:
            return None
        size, head = data[1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        if len(data) < head + 4 + size:
            return None
        mask = data[head : head + 4]
        body = data[head + 4 : head + 4 + size]
        self._rest = data[head + 4 + size :]
        return data[0] & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))


class Told:
    """The events of one client, to wait in."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._came = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self._events.append(event)
        self._came.set()

    async def first(self, name: str, **fields: Any) -> Event:
        """The first event of this name and these fields, top-level or of its job. Raises TimeoutError."""
        async with asyncio.timeout(EVENT_WITHIN_S):
            while True:
                self._came.clear()
                for event in self._events:
                    inner = event.data.get("job", {})
                    if event.name == name and all(
                        event.data.get(key) == value or inner.get(key) == value for key, value in fields.items()
                    ):
                        return event
                await self._came.wait()


async def record(path: Path) -> int:
    """Write a corpus there; how many lines. Raises FleetError when a kind of frame was never sent."""
    async with server(market=MARKET, providers=1, customers=1, workers=1, market_overrides={}, say=print) as running:
        host, _, port = running.stage.url.removeprefix("http://").partition(":")
        tap = Tap(host, int(port))
        async with tap.open() as url:
            driver, rider = running.stage.providers[0], running.stage.customers[0]
            async with Http(url, rider.token) as http:
                await _a_day(url, driver.token, rider.token, http)
        lines = distinct(tap.frames)
    sent = {orjson.loads(line)["type"] for line in lines}
    every = {kind.__struct_config__.tag for kind in get_args(ClientFrame)}
    if missing := every - sent:
        raise FleetError(f"the recording lacks {', '.join(sorted(map(str, missing)))}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


async def _a_day(url: str, driver_token: str, rider_token: str, http: Http) -> None:
    lat, lng = Markets.load()[MARKET].centre()
    told, heard = Told(), Told()
    app = AppInfo("recorder", "1.0")
    async with (
        Client(url, rider_token, device="recorder", on_event=heard) as rider,
        Client(url, driver_token, device="recorder", on_event=told, app=app, jitter=lambda _: 0.0) as driver,
    ):
        await driver.online(lat, lng, [ServiceType.RIDE])
        await driver.online(lat, lng)
        driver.locate(lat, lng)

        async def asked() -> dict[str, Any]:
            place = {"lat": lat, "lng": lng, "address": "1 Recorded Road"}
            job = await http.create_job(ServiceType.RIDE, place, place | {"lat": lat + 0.01})
            offer = await told.first("offer.created", id=job["id"])
            return offer.data

        offer = await asked()
        await driver.decline(UUID(offer["offer_id"]), "too far")
        await rider.cancel(UUID(offer["job"]["id"]))
        offer = await asked()
        await driver.decline(UUID(offer["offer_id"]))
        await rider.cancel(UUID(offer["job"]["id"]), "found another")

        offer = await asked()
        job = UUID(offer["job"]["id"])
        await driver.accept(job, UUID(offer["offer_id"]), offer["round"])
        await rider.track(job)
        driver.locate(lat + 1e-4, lng, accuracy_m=5.0, heading_deg=12.5, speed_mps=7.0)
        await driver.advance(job, Stage.ARRIVED)
        driver.drop(0.2)
        await _until_down(driver)
        driver.locate(lat + 2e-4, lng)
        driver.locate(lat + 3e-4, lng, accuracy_m=5.0, heading_deg=12.5, speed_mps=7.0)
        await driver.advance(job, Stage.IN_PROGRESS)
        await rider.untrack(job)
        await driver.advance(job, Stage.COMPLETED, distance_m=1_200.0, duration_s=300.0)
        await heard.first("job.completed", id=str(job))

        offer = await asked()
        job = UUID(offer["job"]["id"])
        await driver.accept(job, UUID(offer["offer_id"]))
        await driver.cancel(job, "flat tyre")
        await told.first("offer.withdrawn", offer_id=offer["offer_id"], reason=WithdrawnReason.ACCEPTED)
        await driver.auth(driver_token)
        await driver.offline()


async def _until_down(client: Client) -> None:
    async with asyncio.timeout(EVENT_WITHIN_S):
        while client.live.is_set():
            await asyncio.sleep(0.01)
