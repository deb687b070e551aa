"""Use cases of tracking: follow a job, send where its provider is, keep the trail."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from dispatch.inbox import Line
from dispatch.jobs import JobMissing, JobNotActive, NotYourJob, Trail, add_trails
from dispatch.kit.clock import Clock
from dispatch.kit.ears import ear_on
from dispatch.kit.geo import distance_m
from dispatch.kit.ids import new_word
from dispatch.kit.postgres import Actor, Postgres
from dispatch.kit.redis import DOWN, Redis
from dispatch.kit.sql import Queries
from dispatch.kit.tasks import Nursery
from dispatch.markets import Markets, StraightLine
from dispatch.presence import Move
from dispatch.tracking import keys
from dispatch.tracking.model import Fix, Watch, Watched, Way
from protocol import codec
from protocol.lifecycle import ACTIVE, JobStatus

_Q = Queries(Path(__file__).with_name("queries.sql"))
_STEP_M_MIN = 8.0
"""Shorter steps are noise of a phone that stands: they wait until they add up."""
_PUBLISH_S = 0.9
_EARLY = 0.2
"""Share of the cadence by which a turn may come early: the contract's second of five."""
_EARLY_S_MIN = 0.3
"""More than a tick: a turn that could come early by less would not come earlier at all."""
WATCHES_PER_LINE = 8


class _Job(msgspec.Struct, gc=False):
    id: UUID
    status: JobStatus | None = None


class _Facts(msgspec.Struct):
    job: _Job | None = None


_DECODER = msgspec.json.Decoder(_Facts)
_FIX = msgspec.json.Decoder(tuple[float, float, int, float | None, str])


class Tracking:
    """One per worker."""

    def __init__(
        self,
        pg: Postgres,
        redis: Redis,
        markets: Markets,
        clock: Clock,
        nursery: Nursery,
        *,
        every_s: float,
        stale_after_s: float,
    ) -> None:
        self._pg = pg
        self._redis = redis
        self._markets = markets
        self._clock = clock
        self._every_s = every_s
        self._stale_after_s = stale_after_s
        self._watched: dict[UUID, Watched] = {}
        self._lines: dict[UUID, list[Watch]] = {}  # by conn_id
        self._ways: dict[UUID, Way] = {}
        self._outgoing: dict[UUID, bytes] = {}
        self.ear = ear_on(redis, clock, nursery, own=keys.own(new_word()), hear=self._heard)
        """Fixes from other workers."""
        self.sent = 0

    # --- the customer's side

    async def track(self, actor: Actor, line: Line, job_id: UUID) -> None:
        """Send where the provider of this job is to `line`, until the job ends or the line does. The first at once if one is known.

        Raises: JobMissing, NotYourJob (only its customer may), JobNotActive.
        """
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["watched"], job_id)
        if row is None:
            raise JobMissing(f"no job {job_id}")
        if row["customer_id"] != actor.user_id:
            raise NotYourJob("only the customer of a job watches it")
        if row["status"] not in ACTIVE:
            raise JobNotActive(f"the job is {row['status']}", status=row["status"])
        mine = self._lines.setdefault(line.conn_id, [])
        watch = next((w for w in mine if w.job_id == job_id), None)
        if watch is None:
            if len(mine) >= WATCHES_PER_LINE:
                self._drop(mine[0])
            drop = None if row["dropoff_lat"] is None else (row["dropoff_lat"], row["dropoff_lng"])
            watch = Watch(
                line, job_id, (row["pickup_lat"], row["pickup_lng"]), drop, row["market"], JobStatus(row["status"])
            )
            mine.append(watch)
            watched = self._watched.get(job_id)
            if watched is None:
                watched = self._watched[job_id] = Watched()
                self.ear.follow(keys.channel(job_id))
            watched.watches.append(watch)
        watched = self._watched[job_id]
        if watched.fix is None:
            watched.fix = await self._last_known(
                job_id, row["provider_user_id"], row["provider_lat"], row["provider_lng"], row["provider_located_at"]
            )
        if watched.fix is not None:
            self._send(watch, watched.fix)

    async def _last_known(
        self, job_id: UUID, provider: UUID, lat: float | None, lng: float | None, at: datetime | None
    ) -> Fix | None:
        now = self._clock.monotonic()
        try:
            raw = await self._redis.plain.get(keys.fix(job_id))
        except DOWN:
            raw = None
        if raw is not None:
            seen_lat, seen_lng, at_ms, heading, driver = _FIX.decode(raw)
            if driver == str(provider):  # else the copy is of one who had this job before
                return Fix(seen_lat, seen_lng, at_ms, heading, now)
        if lat is None or lng is None or at is None:
            return None
        return Fix(lat, lng, int(at.timestamp() * 1000), None, now)

    def untrack(self, line: Line, job_id: UUID) -> None:
        """Stop. Not following it is fine too."""
        for watch in [w for w in self._lines.get(line.conn_id, ()) if w.job_id == job_id]:
            self._drop(watch)

    def leave(self, line: Line) -> None:
        """A line has closed: it follows nothing any more."""
        for watch in tuple(self._lines.get(line.conn_id, ())):
            self._drop(watch)

    def _drop(self, watch: Watch) -> None:
        mine = self._lines.get(watch.line.conn_id)
        if mine is not None and watch in mine:
            mine.remove(watch)
            if not mine:
                del self._lines[watch.line.conn_id]
        watched = self._watched.get(watch.job_id)
        if watched is not None and watch in watched.watches:
            watched.watches.remove(watch)
            if not watched.watches:
                del self._watched[watch.job_id]
                self.ear.unfollow(keys.channel(watch.job_id))

    def hear(self, user_id: UUID, name: str, body: bytes) -> None:
        """A fact reached this user's device: jobs he follows may have moved on or ended."""
        if not name.startswith("job."):
            return
        job = _DECODER.decode(body).job
        watched = None if job is None else self._watched.get(job.id)
        if job is None or watched is None:
            return
        for watch in tuple(watched.watches):
            if watch.line.user_id == user_id and job.status is not None:
                watch.status = job.status
                if job.status not in ACTIVE:
                    self._drop(watch)

    # --- the provider's side

    def move(self, move: Move) -> None:
        """A good fix of a provider with an active job. Nothing awaits here."""
        job_id = move.live.busy
        if job_id is None:
            return
        now = self._clock.monotonic()
        way = self._ways.get(job_id)
        if way is None:
            way = self._ways[job_id] = Way(move.lat, move.lng, move.at_ms)
        self._walk(way, move.lat, move.lng, move.at_ms)
        if job_id in self._watched:
            self._seen(self._watched[job_id], Fix(move.lat, move.lng, move.at_ms, move.heading_deg, now))
        if now - way.published_at >= _PUBLISH_S:
            way.published_at = now
            self._outgoing[job_id] = msgspec.json.encode(
                (move.lat, move.lng, move.at_ms, move.heading_deg, str(move.live.user_id))
            )

    def walk(self, job_id: UUID, points: Sequence[tuple[float, float, int]]) -> None:
        """Fixes of the same way that were buffered while the phone had no line, oldest first: for the trail alone."""
        for lat, lng, at_ms in points:
            way = self._ways.get(job_id)
            if way is None:
                way = self._ways[job_id] = Way(lat, lng, at_ms)
            self._walk(way, lat, lng, at_ms)

    def _walk(self, way: Way, lat: float, lng: float, at_ms: int) -> None:
        if at_ms < way.at_ms:
            return
        way.at_ms = at_ms
        way.fixes += 1
        step_m = distance_m(way.lat, way.lng, lat, lng)
        if step_m >= _STEP_M_MIN:
            way.distance_m += step_m
            way.lat, way.lng = lat, lng

    # --- the trail book (jobs asks it upwards)

    def peek(self, job_id: UUID) -> Trail:
        """What has been seen of this job here and is not yet written down."""
        way = self._ways.get(job_id)
        if way is None:
            return Trail()
        return Trail(way.distance_m, way.fixes, way.lat, way.lng, datetime.fromtimestamp(way.at_ms / 1000, UTC))

    def taken(self, job_id: UUID, trail: Trail) -> None:
        """That much of it has been committed."""
        way = self._ways.get(job_id)
        if way is not None:
            way.distance_m = max(0.0, way.distance_m - trail.distance_m)
            way.fixes = max(0, way.fixes - trail.fixes)

    async def flush(self, active: set[UUID]) -> None:
        """Write the trails down; forget ways of jobs that none of our providers is on any more (`active`: those that they are)."""
        peeked = [(job_id, self.peek(job_id)) for job_id, way in self._ways.items() if way.fixes]
        if peeked:
            async with self._pg.system() as conn:
                await add_trails(conn, peeked)
            for job_id, trail in peeked:
                self.taken(job_id, trail)
        for job_id in [job_id for job_id in self._ways if job_id not in active]:
            del self._ways[job_id]

    # --- the cadence

    async def tick(self) -> None:
        """Send what is due to the watchers here, and what is new to the other workers."""
        now = self._clock.monotonic()
        for watched in tuple(self._watched.values()):
            fix = watched.fix
            if fix is None:
                continue
            for watch in tuple(watched.watches):
                if now >= watch.due_at and fix.at_ms > watch.sent_at_ms:
                    self._send(watch, fix)
                elif not watch.stale and watch.sent_at_ms and now - fix.heard_at >= self._stale_after_s:
                    watch.stale = True
                    self._emit(watch, fix, stale=True)
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, {}
            if not self._redis.reachable:
                return
            async with self._redis.plain.pipeline(transaction=False) as pipe:
                for job_id, body in outgoing.items():
                    pipe.execute_command("SET", keys.fix(job_id), body, "EX", keys.FIX_TTL_S)
                    pipe.execute_command("SPUBLISH", keys.channel(job_id), body)
                await pipe.execute()

    def _seen(self, watched: Watched, fix: Fix) -> None:
        """A new fix: at once to those whose turn it is, to the others when it comes."""
        watched.fix = fix
        for watch in tuple(watched.watches):
            if fix.heard_at >= watch.due_at and fix.at_ms > watch.sent_at_ms:
                self._send(watch, fix)

    def _send(self, watch: Watch, fix: Fix) -> None:
        now = self._clock.monotonic()
        # From the due time, not from now: a cadence that adds its own lateness drifts past its second of tolerance.
        late = now - watch.due_at
        began = now - (late if 0 < late < 1.0 else 0.0)
        # Where fixes come as often as turns, one that had to wait for its turn would make all others wait: the turns move towards them.
        aligned = min(began, fix.heard_at) + self._every_s
        watch.due_at = max(aligned, now + self._every_s - max(_EARLY * self._every_s, _EARLY_S_MIN))
        watch.sent_at_ms = fix.at_ms
        watch.stale = False
        self._emit(watch, fix, stale=False)

    def _emit(self, watch: Watch, fix: Fix, *, stale: bool) -> None:
        self.sent += 1
        at = datetime.fromtimestamp(fix.at_ms / 1000, UTC)
        frame = codec.position(
            watch.job_id, fix.lat, fix.lng, at, heading_deg=fix.heading_deg, eta_s=self._eta_s(watch, fix), stale=stale
        )
        watch.line.send(frame, watch.line.user_id)

    def _eta_s(self, watch: Watch, fix: Fix) -> int | None:
        goal = {JobStatus.ACCEPTED: watch.pickup, JobStatus.IN_PROGRESS: watch.dropoff}.get(watch.status)
        market = self._markets.get(watch.market)
        if goal is None or market is None:
            return None
        return StraightLine(market.speed_mps, market.detour_factor).estimate((fix.lat, fix.lng), goal).duration_s

    # --- other workers' providers

    def _heard(self, channel: str, raw: bytes) -> None:
        watched = self._watched.get(keys.job_of(channel))
        if watched is None:
            return
        lat, lng, at_ms, heading, _ = _FIX.decode(raw)
        if watched.fix is None or at_ms > watched.fix.at_ms:
            self._seen(watched, Fix(lat, lng, at_ms, heading, self._clock.monotonic()))
