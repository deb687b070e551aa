"""Use cases of presence: arrive, move, become free or busy, go; and who is near."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from uuid import UUID

import msgspec
import structlog

from dispatch.kit.clock import Clock
from dispatch.kit.geo import distance_m
from dispatch.kit.ids import new_word
from dispatch.kit.redis import DOWN, Redis
from dispatch.markets import Market, Markets
from dispatch.presence import keys, live
from dispatch.presence.errors import ClockSkew, PositionRejected
from dispatch.presence.model import Candidate, Hold, Live, Move, Near, Unlisting
from dispatch.presence.rules import FUTURE_MS_MAX, believable, judge
from dispatch.providers import ProviderState
from protocol.errors import WhyRejected
from protocol.frames import Fix
from protocol.lifecycle import ACTIVE, MAY_WORK, JobStatus, ProviderStatus

log = structlog.get_logger("presence")

_PLACED_DEG = 0.0005
SILENT_MS = 45_000
AWAY_S = 5.0
"""A provider without a socket for so long is no candidate (contract.md §4)."""


class _Card(msgspec.Struct, gc=False):
    id: UUID


class _Job(msgspec.Struct, gc=False):
    id: UUID
    status: JobStatus | None = None
    provider: _Card | None = None


class _Provider(msgspec.Struct, gc=False):
    status: ProviderStatus
    is_online: bool


class _Facts(msgspec.Struct):
    job: _Job | None = None
    provider: _Provider | None = None


_DECODER = msgspec.json.Decoder(_Facts)


class Presence:
    """One per worker: the providers whose sockets are here."""

    def __init__(self, redis: Redis, markets: Markets, clock: Clock, *, fresh_s: float) -> None:
        self._redis = redis
        self._markets = markets
        self._clock = clock
        self._fresh_ms = int(fresh_s * 1000)
        self._by_user: dict[UUID, Live] = {}
        self._dirty: dict[UUID, Live] = {}
        self._lost: dict[UUID, Live] = {}
        """Whose socket has closed, the first to close first: a tick looks at these and not at everybody."""
        self._unlisting: list[Unlisting] = []
        self._released: dict[UUID, Live] = {}
        self._unheard: list[Hold] = []
        self._epoch = ""
        self._movers: list[Callable[[Move], None]] = []
        self._freed: list[Callable[[Live], None]] = []
        self._revisions: dict[UUID, int] = {}
        self._stale: set[UUID] = set()
        self._kinds: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Each choice of service types once, and not once for each provider."""
        self.positions = 0
        self.refused: dict[str, int] = {}

    def on_move(self, listener: Callable[[Move], None]) -> None:
        """Call `listener` with each good fix of a provider who has an active job."""
        self._movers.append(listener)

    def on_free(self, listener: Callable[[Live], None]) -> None:
        """Call `listener` when a provider has become a candidate."""
        self._freed.append(listener)

    def __iter__(self) -> Iterator[Live]:
        return iter(tuple(self._by_user.values()))

    def __len__(self) -> int:
        return len(self._by_user)

    def of(self, user_id: UUID) -> Live | None:
        return self._by_user.get(user_id)

    # --- coming and going

    def revision(self, user_id: UUID) -> int:
        """A number that grows with each fact about this user: read before and after asking Postgres, it tells a stale answer."""
        return self._revisions.get(user_id, 0)

    def arrive(self, state: ProviderState, conn_id: UUID) -> Live:
        """A provider's socket was greeted here; `state` is what Postgres says of him now."""
        known = self._by_user.get(state.user_id)
        if known is None:
            known = self._by_user[state.user_id] = Live(
                state.id, state.user_id, conn_id, (), state.radius_m, state.open, state.active_job
            )
        elif known.conn_id != conn_id:
            self._unlist(known)
            known.conn_id = conn_id
        known.lost_at = None
        self._lost.pop(known.user_id, None)
        # What ended a hold may have been told while no device listened: the judge counts his offers, not the hold.
        self._released[state.user_id] = known
        self.learn(known, state)
        return known

    def learn(self, known: Live, state: ProviderState) -> None:
        """Take over what Postgres says."""
        known.service_types = self._kinds.setdefault(state.service_types, state.service_types)
        known.radius_m = state.radius_m
        known.open, known.busy = state.open, state.active_job
        if state.place is not None and state.place[2] > known.at_ms:
            # Said over HTTP, to whichever worker: a fix like any other if it is still fresh.
            lat, lng, at_ms = state.place
            if at_ms > self._clock.now_ms() - self._fresh_ms:
                self._place(known, lat, lng, at_ms, at_ms, None)
        self.touch(known)

    def forget(self, user_id: UUID) -> None:
        """Nobody of this user is connected here any more."""
        if user_id not in self._by_user:
            self._revisions.pop(user_id, None)

    async def refresh(self, states_of: Callable[[list[UUID]], Awaitable[Sequence[ProviderState]]]) -> None:
        """Ask Postgres again about providers whose record changed. An answer that a newer fact has overtaken is asked for again."""
        stale, self._stale = self._stale, set()
        if not stale:
            return
        before = {user_id: self.revision(user_id) for user_id in stale}
        try:
            states = await states_of(list(stale))
        except BaseException:
            self._stale |= stale
            raise
        for state in states:
            known = self._by_user.get(state.user_id)
            if known is None:
                continue
            if self.revision(state.user_id) == before[state.user_id]:
                self.learn(known, state)
            else:
                self._stale.add(state.user_id)

    def depart(self, user_id: UUID, conn_id: UUID) -> None:
        """A provider's socket closed. He stays listed for 5 s, in case the line was only weak."""
        known = self._by_user.get(user_id)
        if known is not None and known.conn_id == conn_id:
            known.lost_at = self._clock.monotonic()
            self._lost.pop(user_id, None)
            self._lost[user_id] = known

    # --- positions

    def locate(self, known: Live, fix: Fix) -> None:
        """Take one fix. No await, no store: the tick carries it out. Raises: ClockSkew, PositionRejected."""
        now_ms = self._clock.now_ms()
        at_ms = int(fix.at.timestamp() * 1000)
        try:
            judge(known, fix.lat, fix.lng, at_ms, now_ms, stale_ms=self._fresh_ms, speed_max_mps=self._speed_max(known))
        except (ClockSkew, PositionRejected) as refusal:
            why = refusal.why if isinstance(refusal, PositionRejected) else "future"
            self.refused[why] = self.refused.get(why, 0) + 1
            raise
        self.positions += 1
        self._place(known, fix.lat, fix.lng, at_ms, min(now_ms, at_ms), fix.heading_deg)

    def way(self, known: Live, fixes: Sequence[Fix]) -> tuple[list[tuple[float, float, int]], PositionRejected | None]:
        """The believable part of buffered fixes, oldest first, as (lat, lng, at_ms), and the refusal of the first that is not.

        Each is judged against the one before it: in order, after the last good fix, not ahead of our clock, not too fast.
        """
        now_ms = self._clock.now_ms()
        bound = self._speed_max(known)
        before = (known.lat, known.lng, known.at_ms)
        taken: list[tuple[float, float, int]] = []
        refusal: PositionRejected | None = None
        for fix in fixes:
            here = (fix.lat, fix.lng, int(fix.at.timestamp() * 1000))
            why = None
            if here[2] <= before[2] or here[2] > now_ms + FUTURE_MS_MAX:
                why = WhyRejected.OUT_OF_ORDER
            elif before[2] and not believable(*before, *here, bound):
                why = WhyRejected.IMPOSSIBLE
            if why is None:
                taken.append(here)
                before = here
            else:
                self.refused[why] = self.refused.get(why, 0) + 1
                refusal = refusal or PositionRejected(why)
        return taken, refusal

    def put(self, known: Live, lat: float, lng: float) -> None:
        """A place given with `online`: counts as a fix of this moment, and starts a new track."""
        now_ms = self._clock.now_ms()
        self._place(known, lat, lng, now_ms, now_ms, None)

    def _place(self, known: Live, lat: float, lng: float, at_ms: int, seen_ms: int, heading_deg: float | None) -> None:
        if known.listed is not None and seen_ms - known.seen_ms > SILENT_MS - 5_000:
            # Silent for so long, he may have been swept: GEOADD XX alone would not bring him back.
            self._unlist(known)
        known.lat, known.lng, known.at_ms, known.seen_ms, known.heading_deg = lat, lng, at_ms, seen_ms, heading_deg
        # A polygon costs as much as the rest of this function: it is asked again after some 50 m only.
        if known.market is None or abs(lat - known.placed_lat) + abs(lng - known.placed_lng) > _PLACED_DEG:
            known.placed_lat, known.placed_lng = lat, lng
            if known.market is None or not known.market.holds(lat, lng):
                known.last_market = known.market or known.last_market
                known.market = self._markets.at(lat, lng)
        self._dirty[known.user_id] = known
        if known.busy is not None:
            move = Move(known, lat, lng, at_ms, heading_deg)
            for listener in self._movers:
                listener(move)

    def _speed_max(self, known: Live) -> float:
        return (known.market or known.last_market or self._markets.default).speed_max_mps

    # --- facts

    def hear(self, user_id: UUID, name: str, body: bytes) -> None:
        """A fact reached this user's device: what does it change for searches?"""
        known = self._by_user.get(user_id)
        if name == "offer.withdrawn":
            # Whatever became of it, this offer holds him no longer: other jobs may find him.
            if known is not None:
                self._released[user_id] = known
            return
        if name not in ("provider.updated", "job.updated", "job.cancelled"):
            return
        self._revisions[user_id] = self._revisions.get(user_id, 0) + 1
        if known is None:
            return
        fact = _DECODER.decode(body)
        if fact.provider is not None and name == "provider.updated":
            known.open = fact.provider.is_online and fact.provider.status in MAY_WORK
            # The view says less than the gate (a narrowed shift): the rest is read again, see `refresh`.
            self._stale.add(user_id)
        elif fact.job is not None:
            if name == "job.updated" and fact.job.provider is not None and fact.job.provider.id == known.provider_id:
                if fact.job.status in ACTIVE:
                    known.busy = fact.job.id
                elif known.busy == fact.job.id:
                    known.busy = None
            elif name == "job.cancelled" and known.busy == fact.job.id:
                known.busy = None
        self.touch(known)

    def set_busy(self, user_id: UUID, job_id: UUID | None) -> None:
        """The same at once, for what this worker has just committed itself."""
        if (known := self._by_user.get(user_id)) is not None:
            known.busy = job_id
            self.touch(known)

    def touch(self, known: Live) -> None:
        """Something about this provider changed: the next tick carries it out."""
        self._dirty[known.user_id] = known
        if known.listed is not None and not self._wanted(known):
            self._unlist(known)

    def _wanted(self, known: Live) -> bool:
        return known.open and known.busy is None and known.at_ms > 0 and known.market is not None

    def _unlist(self, known: Live) -> None:
        if known.listed is not None:
            market, kinds = known.listed
            self._unlisting.append(Unlisting(known.key, str(known.conn_id), market, kinds))
            known.listed = None

    # --- the tick

    async def tick(self) -> None:
        """Carry everything since the last tick to Redis, in one round trip. When Redis is away the dirty stay dirty."""
        now = self._clock.monotonic()
        for gone in tuple(self._lost.values()):
            if gone.lost_at is None or now - gone.lost_at < AWAY_S:
                break
            self._unlist(gone)
            del self._by_user[gone.user_id]
            del self._lost[gone.user_id]
            self._dirty.pop(gone.user_id, None)
            self._revisions.pop(gone.user_id, None)
        self._unheard = [hold for hold in self._unheard if hold.lapses_at > now]
        if not (self._dirty or self._unlisting or self._released or self._unheard):
            return
        dirty, self._dirty = self._dirty, {}
        released, self._released = self._released, {}
        moved: list[Live] = []
        listing: list[Live] = []
        for known in dirty.values():
            if not self._wanted(known):
                self._unlist(known)
                continue
            assert known.market is not None
            place = (known.market, known.service_types)
            if known.listed == place and known.listed_radius_m == known.radius_m:
                moved.append(known)
            else:
                self._unlist(known)
                known.listed, known.listed_radius_m = place, known.radius_m
                listing.append(known)
        unlisting, self._unlisting = self._unlisting, []
        unheard, self._unheard = self._unheard, []
        try:
            missing = await live.write(self._redis, moved, listing, unlisting, list(released.values()), unheard)
        except DOWN:
            for known in listing:
                self._unlist(known)  # it may have been executed all the same
            self._dirty = {**dirty, **self._dirty}
            self._released = {**released, **self._released}
            self._unheard = unheard + self._unheard
            self._unlisting = unlisting + self._unlisting
            if len(self._unlisting) > 10_000:  # Redis was away for long: it will have been rebuilt by then
                del self._unlisting[:-10_000]
            raise
        for known in missing:
            # Somebody else took him off, for silent or with an older state of Redis, and he sends: the next tick lists him again.
            known.listed = None
            self._dirty[known.user_id] = known
        for known in (*listing, *released.values()):
            for listener in self._freed:
                listener(known)

    async def watch_epoch(self) -> None:
        """Notice that Redis lost its data, and list everybody again in the next tick."""
        word = new_word(16)
        await self._redis.once.set(keys.EPOCH, word, nx=True)
        found = await self._redis.once.get(keys.EPOCH)
        epoch = found.decode() if isinstance(found, bytes) else str(found)
        if epoch != self._epoch:
            if self._epoch:
                log.warning("Redis lost its data; listing again", providers=len(self._by_user))
            self._epoch = epoch
            await self._redis.load()
            for known in self._by_user.values():
                known.listed = None
                self._dirty[known.user_id] = known

    async def sweep_silent(self) -> None:
        """Take providers off the map who have been silent for 45 s: their worker died, or their phone only thinks it is there."""
        oldest_ms = self._clock.now_ms() - SILENT_MS
        down: BaseException | None = None
        for market in self._markets:
            try:
                swept = await live.unlist_silent(self._redis, market, oldest_ms)
            except DOWN as error:
                down = error  # of a cluster, the node of this market alone
                continue
            if swept:
                log.info("silent providers taken off", market=market.code, providers=swept)
        if down is not None:
            raise down

    # --- questions

    async def near(
        self,
        market: Market,
        service_type: str,
        lat: float,
        lng: float,
        *,
        wanted: int,
        radius_max_m: float,
        excluded: Sequence[UUID] = (),
        hold_s: float,
        also: int = 0,
    ) -> Near:
        """Free providers near a place, nearest first. `hold_s`: hold those wanted for so long, so that other
        searches pass them over; 0 looks only, past the holds of others (needs Redis); below 0 looks only, and passes over whom others hold
        for about so long. `also`: of so many free ones behind the wanted, and of so many whom others hold, it tells too, and holds none of them.

        Without Redis only the sockets of this worker are known, and they are searched by hand. A search that Redis may have run all the
        same is undone by a later tick: whom it holds, nobody has been told.
        """
        now_ms, hold_ms = self._clock.now_ms(), round(hold_s * 1000)
        search = new_word(16) if hold_ms > 0 else ""
        try:
            return await live.near(
                self._redis,
                market,
                service_type,
                lat,
                lng,
                wanted=wanted,
                radius_max_m=radius_max_m,
                now_ms=now_ms,
                fresh_ms=self._fresh_ms,
                excluded=excluded,
                hold_ms=hold_ms,
                search=search,
                also=also,
            )
        except DOWN:
            if hold_ms > 0:
                self._unheard.append(Hold(market, search, hold_ms, self._clock.monotonic() + hold_s))
            return self._near_here(market, service_type, lat, lng, wanted, radius_max_m, now_ms, set(excluded), also)

    def _near_here(
        self,
        market: Market,
        service_type: str,
        lat: float,
        lng: float,
        wanted: int,
        radius_max_m: float,
        now_ms: int,
        excluded: set[UUID],
        also: int,
    ) -> Near:
        found = []
        for known in self._by_user.values():
            if (
                not self._wanted(known)
                or known.market is not market
                or service_type not in known.service_types
                or known.seen_ms < now_ms - self._fresh_ms
                or known.provider_id in excluded
            ):
                continue
            away_m = distance_m(lat, lng, known.lat, known.lng)
            if away_m <= min(radius_max_m, known.radius_m):
                found.append(Candidate(known.provider_id, int(away_m + 0.5)))
        found.sort(key=lambda candidate: candidate.distance_m)
        return Near(found[:wanted], found[wanted : wanted + also])

    async def hold(self, market: Market, providers: Sequence[UUID], hold_s: float) -> frozenset[UUID]:
        """Before a round: other searches pass these over for so long. Returns those whom another search holds meanwhile: they are not
        ours to offer, nor to let go. A failure costs accuracy only: the judge counts offers.
        """
        now_ms = self._clock.now_ms()
        try:
            return await live.hold(
                self._redis, market, providers, now_ms=now_ms, hold_ms=round(hold_s * 1000), search=new_word(16)
            )
        except DOWN:
            log.debug("nobody held", providers=len(providers))
            return frozenset()

    async def let_go(self, market: Market, providers: Sequence[UUID]) -> None:
        """After a round: no longer hold those who were found and not offered. A failure costs accuracy only: holds lapse."""
        try:
            await live.let_go(self._redis, market, providers)
        except DOWN:
            log.debug("holds not ended", providers=len(providers))

    async def place_of(self, state: ProviderState) -> tuple[float, float] | None:
        """Where a provider is, (lat, lng): from this worker's memory, else from Redis. None: not known there."""
        known = self._by_user.get(state.user_id)
        if known is not None and known.at_ms:
            return known.lat, known.lng
        try:
            return await live.place_of(self._redis, self._markets, state.service_types, state.id)
        except DOWN:
            return None
