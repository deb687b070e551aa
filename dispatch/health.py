"""What operators and balancers ask: alive, ready, how much."""

import ipaddress
from collections.abc import Sequence

import orjson
from aiohttp import web

from dispatch.gateway import Door
from dispatch.kit.clock import Clock
from dispatch.kit.ear import Ear
from dispatch.kit.ears import Ears
from dispatch.kit.metrics import CONTENT_TYPE, Metrics
from dispatch.kit.redis import Redis
from dispatch.settings import Settings

UNREACHABLE_S = 3.0


class Health:
    """One per worker. `contract.md` §2 says when a worker is ready."""

    def __init__(
        self, settings: Settings, redis: Redis, ears: Sequence[Ear | Ears], door: Door, metrics: Metrics, clock: Clock
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._ears = ears
        self._door = door
        self._metrics = metrics
        self._clock = clock
        self.postgres_at = clock.monotonic()
        """When Postgres last answered this worker's beat."""

    def state(self) -> tuple[int, dict[str, object]]:
        """(HTTP status, why)."""
        now = self._clock.monotonic()
        why: dict[str, object] = {"status": "ready"}
        if not self._redis.reachable:
            why["degraded"] = True
        problems = []
        if self._door.draining:
            problems.append("draining")
        if now - self.postgres_at >= UNREACHABLE_S:
            problems.append("postgres")
        if any(ear.unheard_s >= UNREACHABLE_S for ear in self._ears):
            problems.append("deaf")
        if problems:
            why |= {"status": "unready", "problems": problems}
        return (503 if problems else 200), why

    def add_to(self, app: web.Application) -> None:
        """/healthz, /readyz, /metrics."""
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(body=b'{"status":"alive"}', content_type="application/json")

    async def _readyz(self, request: web.Request) -> web.Response:
        status, why = self.state()
        return web.Response(body=orjson.dumps(why), status=status, content_type="application/json")

    async def _scrape(self, request: web.Request) -> web.Response:
        token = self._settings.metrics_token
        if token is not None:
            allowed = request.headers.get("Authorization") == f"Bearer {token.get_secret_value()}"
        else:
            allowed = ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback
        if not allowed:
            raise web.HTTPNotFound
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
