"""Peer (c)'s gateway: sockets and HTTP before the functions of `design.sql`, and LISTEN behind them.

A program of its own, on the libraries that ours stands on, so that a ratio tells the design and
not the language. Settings come by the environment: PEER_PORT, PEER_SECRET, PEER_DATABASE, PEER_SCHEMA, PEER_VARIANT, PEER_WORKERS.
`usual` calls a function for each position; `best` keeps the newest of each provider and carries them together, without waiting for
the disk.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from typing import Any, Final
from uuid import UUID

import asyncpg
import jwt
import orjson
import uvloop
from aiohttp import WSMsgType, web

TICK_S: Final = 0.2
"""As often as ours carries positions to Redis."""
CONNECTIONS: Final = 10
"""Of each process; asyncpg's own default."""
HEARTBEAT_S: Final = 25.0


class Seat:
    """One socket: whose it is, and what he is on."""

    __slots__ = ("job", "user", "ws")

    def __init__(self, user: UUID, ws: web.WebSocketResponse) -> None:
        self.user = user
        self.ws = ws
        self.job: UUID | None = None


class Gateway:
    """One process."""

    def __init__(self, pool: "asyncpg.Pool[Any]", secret: str, *, best: bool) -> None:
        self._pool = pool
        self._secret = secret
        self._best = best
        self._seats: dict[str, Seat] = {}
        self._places: dict[UUID, tuple[float, float]] = {}
        self._ways: dict[UUID, tuple[float, float, str]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/socket", self.socket),
            web.post("/jobs", self.create),
            web.post("/jobs/{id}/cancel", self.cancel),
        ]

    def _user(self, request: web.Request) -> UUID:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            return UUID(jwt.decode(token, self._secret, algorithms=["HS256"])["sub"])
        except jwt.InvalidTokenError:
            raise web.HTTPUnauthorized from None

    # --- sockets

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """One connection, until it ends."""
        user = self._user(request)
        ws = web.WebSocketResponse(heartbeat=HEARTBEAT_S, compress=False)
        await ws.prepare(request)
        seat = self._seats[str(user)] = Seat(user, ws)
        await ws.send_str('{"type":"welcome"}')
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await self._said(seat, orjson.loads(message.data))
        finally:
            if self._seats.get(str(user)) is seat:
                del self._seats[str(user)]
        return ws

    async def _said(self, seat: Seat, frame: dict[str, Any]) -> None:
        if frame["type"] == "location":
            await self._located(seat, float(frame["lat"]), float(frame["lng"]), frame["at"])
        elif frame["type"] == "accept":
            # Beside the reading: he may have several offers, and answers to one must not wait for another.
            task = asyncio.ensure_future(self._accept(seat, frame))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _located(self, seat: Seat, lat: float, lng: float, at: str) -> None:
        if self._best:
            if seat.job is None:
                self._places[seat.user] = (lat, lng)
            else:
                self._ways[seat.job] = (lat, lng, at)
        elif seat.job is None:
            await self._pool.execute("SELECT update_provider_location($1, point($2, $3))", seat.user, lng, lat)
        else:
            await self._pool.execute("SELECT update_job_location($1, point($2, $3), $4)", seat.job, lng, lat, at)

    async def tick(self) -> None:
        """Carry what is newest, for ever. Only `best` does."""
        while True:
            await asyncio.sleep(TICK_S)
            places, self._places = self._places, {}
            ways, self._ways = self._ways, {}
            if not places and not ways:
                continue
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("SET LOCAL synchronous_commit = off")
                if places:
                    lats, lngs = zip(*places.values(), strict=True)
                    await connection.execute("SELECT update_provider_locations($1, $2, $3)", list(places), lats, lngs)
                if ways:
                    lats, lngs, ats = zip(*ways.values(), strict=True)
                    await connection.execute("SELECT update_job_locations($1, $2, $3, $4)", list(ways), lats, lngs, ats)

    async def _accept(self, seat: Seat, frame: dict[str, Any]) -> None:
        job = UUID(frame["job_id"])
        said = orjson.loads(await self._pool.fetchval("SELECT accept_job($1, $2)", job, seat.user))
        if said["success"]:
            seat.job = job
        reply = {"type": "reply", "data": {"id": frame["id"], "ok": said["success"]}}
        if not seat.ws.closed:
            await seat.ws.send_str(orjson.dumps(reply).decode())

    def heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        """A NOTIFY: to whoever of those meant sits here."""
        assert isinstance(payload, str)
        told = orjson.loads(payload)
        text = orjson.dumps(told["frame"]).decode()
        for user in told["to"]:
            seat = self._seats.get(user)
            if seat is None:
                continue
            if told["frame"]["type"] == "job.cancelled":
                seat.job = None
            if not seat.ws.closed:
                task = asyncio.ensure_future(seat.ws.send_str(text))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    # --- HTTP

    async def create(self, request: web.Request) -> web.Response:
        """A job, offered to the nearest. The stamp is taken when the COMMIT has returned."""
        customer = self._user(request)
        asked = orjson.loads(await request.read())
        pickup = asked["pickup"]
        row = await self._pool.fetchrow(
            "SELECT job_id, offer_id, offered FROM create_job($1, point($2, $3), $4, $5, $6)",
            *(customer, pickup["lng"], pickup["lat"], pickup["address"], asked["wave"], self._best),
        )
        stamp = time.monotonic_ns()
        assert row is not None
        told = {
            "id": str(row["job_id"]),
            "offer_id": str(row["offer_id"]),
            "providers": [str(provider) for provider in row["offered"]],
            "stamp": str(stamp),
        }
        return web.Response(body=orjson.dumps(told), status=201, content_type="application/json")

    async def cancel(self, request: web.Request) -> web.Response:
        """It is over."""
        self._user(request)
        await self._pool.execute("SELECT cancel_job($1)", UUID(request.match_info["id"]))
        return web.Response(body=b"{}", content_type="application/json")


async def run(sock: socket.socket, environment: dict[str, str], ready: int) -> None:
    """Serve until SIGTERM. A byte goes into the pipe `ready` once it does."""
    schema, best = environment["PEER_SCHEMA"], environment["PEER_VARIANT"] == "best"
    settings = {"search_path": schema}
    database = environment["PEER_DATABASE"]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ear = await asyncpg.connect(database, server_settings=settings)
    async with asyncpg.create_pool(
        database, min_size=CONNECTIONS, max_size=CONNECTIONS, server_settings=settings
    ) as pool:
        gateway = Gateway(pool, environment["PEER_SECRET"], best=best)
        await ear.add_listener(schema, gateway.heard)
        app = web.Application()
        app.add_routes(gateway.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        ticking = asyncio.ensure_future(gateway.tick()) if best else None
        os.write(ready, b".")
        await stop.wait()
        if ticking is not None:
            ticking.cancel()
        await runner.cleanup()
        await ear.close()
        pool.terminate()


def listening(port: int) -> socket.socket:
    """A socket that other processes can listen beside; the kernel spreads connections among them."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(1024)
    return sock


def main() -> int:
    """The processes: this one only watches over them, as a supervisor does."""
    environment = dict(os.environ)
    first = listening(int(environment["PEER_PORT"]))
    port = first.getsockname()[1]
    socks = [first, *(listening(port) for _ in range(int(environment["PEER_WORKERS"]) - 1))]
    pids = []
    heard, ready = os.pipe()
    for sock in socks:
        pid = os.fork()
        if pid == 0:
            for other in socks:
                if other is not sock:
                    other.close()
            uvloop.run(run(sock, environment, ready))
            os._exit(0)
        pids.append(pid)
    for sock in socks:
        sock.close()

    def stop(*_: object) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    os.close(ready)
    told = b""
    while len(told) < len(pids) and (more := os.read(heard, 64)):  # nothing more: they have ended
        told += more
    if len(told) == len(pids):
        print(f"ready: http://127.0.0.1:{port}", flush=True)
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    return 0 if not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main())
