"""A day of one city on a virtual clock: the body that the simulator gives to the server's policies.

It does what the server does around a decision: finds who is near, makes rounds of offers, lets them lapse, gives the job to the first
yes, wakes waiting jobs when somebody becomes free, and collects the jobs of a window for `batch`. The server's loops are its grid: what
is due is seen every half second, who became free five times a second (dispatch/duties.py). Some things are simpler than in life. Searches
take no time, so that no window runs out of its own and falls back to `waves`; nobody is passed over because his row is locked at that moment;
what `batch` knows of a provider is of this moment, where the server's share of accepted offers is some minutes old. And where a provider may
hold many offers at once (`broadcast`) a no is noted only when its round ends.
"""

import bisect
import hashlib
import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from bench.matching.behaviour import Behaviour, draw
from bench.matching.city import SLOT_MS, City, Trip
from bench.matching.ground import TICK_MS, Ground
from dispatch.markets import Market, fare, net_minor
from dispatch.matching import (
    Decision,
    Policy,
    Question,
    Search,
    Standing,
    acceptance_of,
    decide,
    policy_named,
    terms_of,
    window_end_ms,
)
from dispatch.presence import Candidate

_TURN_MS = 500
_WAKE_MS = 200
_WAKE_MAX = 50
WINDOW_MAX = 200
"""So many jobs a worker takes at a time; who asked first is among the first."""
_JOBS_FROM = 1 << 96
_CABS_FROM = 2 << 96


@dataclass(slots=True, eq=False)
class Job:
    """A trip that somebody wants."""

    number: int
    trip: Trip
    id: UUID
    lat: float
    lng: float
    round: int = 0
    live: dict[int, int] = field(default_factory=dict)
    """Cab → metres that his live offer says."""
    out_until: dict[int, float] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    """Cabs that let an offer of it lapse."""
    """Cab → when he may be asked again; never, after a no."""
    open: bool = True
    next_at: int = 0
    offered: int = 0
    taken_at: int | None = None
    pickup_m: int = 0
    way_ms: int = 0


@dataclass(slots=True, eq=False)
class Cab:
    """A driver and his car."""

    number: int
    id: UUID
    on_since: int | None = None
    leaving: bool = False
    busy: bool = False
    idle_since: int = 0
    live: set[int] = field(default_factory=set)
    """Jobs whose offer he looks at."""
    offered: int = 0
    accepted: int = 0
    earned_minor: int = 0
    on_ms: int = 0
    busy_ms: int = 0
    """Of `on_ms`, with a customer or on the way to one."""


@dataclass(slots=True)
class Outcome:
    """What a day came to."""

    jobs: list[Job]
    cabs: list[Cab]
    offers: int
    decisions: int
    deciding_s: float
    took_s: float
    """Of processor time, as all that is timed here: other work on the machine does not count."""
    span_s: float
    cruised_m: float
    windows: list[int]
    """Jobs of each decision of `batch`."""
    solves_s: list[float]
    log_hash: str


class World:
    """One city, one market, one seed. `run` may be called once."""

    def __init__(
        self,
        city: City,
        market: Market,
        *,
        seed: int = 1,
        behaviour: Behaviour | None = None,
        listener: Callable[[Question, Decision], None] | None = None,
        brain: Policy | None = None,
    ) -> None:
        """`listener` is told of each decision, as the server's is. `brain` takes the place of the market's policy, of the same name."""
        self._city, self._market, self._seed = city, market, seed
        self._behaviour = behaviour or Behaviour()
        self._listener = listener
        self._brain = brain.decide if brain is not None else decide
        self._policy, self._terms = brain or policy_named(market.policy), terms_of(market)
        self._batch = market.policy == "batch"
        self._alone = market.offers_at_once == 1
        self._ttl_ms = round(market.offer_ttl_s * 1000)
        self._now = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self._jobs: list[Job] = []
        self._cabs = [Cab(number, UUID(int=_CABS_FROM + number)) for number in range(max(city.out))]
        self._straight_mps = market.speed_mps / market.detour_factor
        self._ground = Ground(len(self._cabs), self._straight_mps * TICK_MS / 1000)
        self._waiting: list[int] = []
        """Jobs without a live offer, by number: who asked first is first."""
        self._places: dict[int, tuple[float, float]] = {}
        """Where a cab stands that cannot be found, because he looks at an offer."""
        self._freed = 0
        self._wake_set = False
        self._window: list[Job] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._offers = self._decisions = 0
        self._deciding_s = 0.0
        self._windows: list[int] = []
        self._solves: list[float] = []

    def run(self) -> Outcome:
        """The whole day, and until the last job of it has its end."""
        began = time.process_time()
        trips = self._city.trips
        for slot in range(len(self._city.out)):
            self._at(slot * SLOT_MS, self._shift, slot)
        self._at(TICK_MS, self._tick)
        if trips:
            self._at(trips[0].at_ms, self._ask, 0)
        events = self._events
        while events:
            self._now, _, act, args = heapq.heappop(events)
            act(*args)
        for cab in self._cabs:
            if cab.on_since is not None:
                cab.on_ms += max(0, min(self._now, self._city.end_ms) - cab.on_since)
        return Outcome(
            self._jobs,
            self._cabs,
            self._offers,
            self._decisions,
            self._deciding_s,
            time.process_time() - began,
            self._now / 1000,
            self._ground.cruised_m,
            self._windows,
            self._solves,
            self._hash.hexdigest(),
        )

    def _at(self, at_ms: int, act: Callable[..., None], *args: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_ms, self._count, act, args))

    # --- shifts

    def _shift(self, slot: int) -> None:
        """Bring the fleet to what the half hour wants: who has been out longest goes home first, and nobody leaves a customer."""
        out = [cab for cab in self._cabs if cab.on_since is not None and not cab.leaving]
        wanted = self._city.out[slot]
        if len(out) > wanted:
            for cab in sorted(out, key=lambda one: (one.on_since, one.number))[: len(out) - wanted]:
                cab.leaving = True
                self._settle(cab)
        else:
            home = [cab for cab in self._cabs if cab.on_since is None]
            for cab in home[: wanted - len(out)]:
                cab.on_since = cab.idle_since = self._now
                if slot == 0 and cab.number < self._city.under_way:
                    self._begin_under_way(cab)
                    continue
                self._ground.put(cab.number, *self._haunt(cab.number), self._now)
                self._became_free()

    def _begin_under_way(self, cab: Cab) -> None:
        """He has a customer already when the day begins, on some trip of it, anywhere along it."""
        trips = self._city.trips
        trip = trips[int(draw(self._seed, 6, cab.number) * len(trips))]
        cab.busy = True
        left_ms = round(1000 * draw(self._seed, 7, cab.number) * trip.length_m / self._straight_mps)
        cab.busy_ms += min(left_ms, self._city.end_ms)
        self._at(left_ms, self._done, cab, trip)

    def _settle(self, cab: Cab) -> None:
        """Who is leaving goes as soon as nothing holds him."""
        if cab.leaving and not cab.busy and not cab.live:
            if cab.number in self._ground:
                self._ground.take(cab.number)
            assert cab.on_since is not None
            cab.on_ms += max(0, min(self._now, self._city.end_ms) - cab.on_since)
            cab.on_since, cab.leaving = None, False

    def _haunt(self, cab: int) -> tuple[float, float]:
        places = self._city.haunts[min(self._now // SLOT_MS, len(self._city.haunts) - 1)]
        return places[int(draw(self._seed, 5, cab, self._now) * len(places))]

    def _tick(self) -> None:
        self._ground.tick(self._now, self._haunt)
        if self._now < self._city.end_ms:
            self._at(self._now + TICK_MS, self._tick)

    # --- searching

    def _ask(self, number: int) -> None:
        trip = self._city.trips[number]
        job = Job(number, trip, UUID(int=_JOBS_FROM + number), *self._city.plane.degrees(trip.x, trip.y))
        self._jobs.append(job)
        if number + 1 < len(self._city.trips):
            self._at(self._city.trips[number + 1].at_ms, self._ask, number + 1)
        self._at(_up(self._now + round(self._market.job_ttl_s * 1000), _TURN_MS), self._expire, job)
        self._search(job)

    def _search(self, job: Job) -> None:
        """A job wants somebody now; in a market of windows it waits for the end of the one that is open."""
        if not self._batch:
            self._offer([job])
            return
        self._put_off(job, window_end_ms(self._now, self._market.batch_window_s))

    def _put_off(self, job: Job, at_ms: int) -> None:
        """Nobody now: again at `at_ms`, or sooner if somebody becomes free."""
        job.next_at = at_ms
        if self._batch:
            if not self._window:
                self._at(at_ms, self._close_window)
            self._window.append(job)
            return
        at = bisect.bisect_left(self._waiting, job.number)
        if at == len(self._waiting) or self._waiting[at] != job.number:
            self._waiting.insert(at, job.number)
        self._at(_up(at_ms, _TURN_MS), self._due, job, at_ms)

    def _due(self, job: Job, at_ms: int) -> None:
        if job.open and not job.live and job.next_at == at_ms:
            self._offer([job])

    def _close_window(self) -> None:
        jobs, self._window = self._window, []
        jobs = sorted((job for job in jobs if job.open and not job.live), key=lambda job: job.number)
        for start in range(0, len(jobs), WINDOW_MAX):
            self._windows.append(len(jobs[start : start + WINDOW_MAX]))
            self._offer(jobs[start : start + WINDOW_MAX])

    def _became_free(self) -> None:
        self._freed += 1
        if not self._wake_set and not self._batch:
            self._wake_set = True
            self._at(_up(self._now + 1, _WAKE_MS), self._wake)

    def _wake(self) -> None:
        """Those who wait longest look again, a few for each who is free: dispatch/matching/service.py does the same."""
        count, self._freed, self._wake_set = self._freed, 0, False
        for number in self._waiting[: min(_WAKE_MAX, 3 * count)]:
            self._offer([self._jobs[number]])

    def _offer(self, jobs: Sequence[Job]) -> None:
        """One decision: whom to offer these jobs."""
        found: dict[UUID, Sequence[Candidate]] = {}
        seen: set[int] = set()
        for job in jobs:
            near = self._near(job) if len(self._ground) else []
            if near:
                found[job.id] = [Candidate(self._cabs[cab].id, metres) for cab, metres in near]
                if self._batch:
                    seen.update(cab for cab, _ in near)
        offers = self._decided(jobs, found, seen) if found else {}
        for job in jobs:
            chosen = offers.get(job.id) if offers else None
            if chosen:
                self._make(job, [(one.provider_id.int - _CABS_FROM, one.distance_m) for one in chosen])
            elif self._batch:
                self._put_off(job, window_end_ms(self._now, self._market.batch_window_s))
            else:
                self._put_off(job, self._now + round(self._market.research_s * 1000))

    def _near(self, job: Job) -> list[tuple[int, int]]:
        reach = self._policy.reach(self._market, job.round, (self._now - job.trip.at_ms) / 1000)
        out = [cab for cab, until in job.out_until.items() if until > self._now] if job.out_until else []
        x, y, wanted = job.trip.x, job.trip.y, reach.wanted
        near = self._others_first(job, x, y, wanted, reach.radius_m, out)
        if not near and reach.radius_m < self._market.radius_max_m and not self._batch:
            near = self._others_first(job, x, y, wanted, self._market.radius_max_m, out)
        return near

    def _others_first(
        self, job: Job, x: float, y: float, wanted: int, radius_m: float, out: list[int]
    ) -> list[tuple[int, int]]:
        """As the server searches: who let an offer of the job lapse is found where nobody else is."""
        if job.silent and (near := self._ground.near(x, y, wanted, radius_m, [*out, *job.silent])):
            return near
        return self._ground.near(x, y, wanted, radius_m, out)

    def _decided(
        self, jobs: Sequence[Job], found: dict[UUID, Sequence[Candidate]], seen: set[int]
    ) -> dict[UUID, Sequence[Candidate]]:
        """Ask the brain, write down what it said. `seen`: the cabs whose standing it weighs."""
        searches = [self._as_search(job) for job in jobs]
        standings = {}
        for number in sorted(seen):
            cab = self._cabs[number]
            standings[cab.id] = Standing((self._now - cab.idle_since) / 1000, acceptance_of(cab.offered, cab.accepted))
        question = Question(self._now, self._terms, searches, found, standings)
        began = time.process_time()
        decision = self._brain(question)
        took = time.process_time() - began
        self._deciding_s += took
        self._decisions += 1
        if self._batch:
            self._solves.append(took)
        word = self._hash.update
        word(b"%d" % self._now)
        for search in searches:
            chosen = decision.offers.get(search.job_id, ())
            word(b" %x %s" % (search.job_id.int, decision.reasons[search.job_id].encode()))
            for one in chosen:
                word(b" %x %d" % (one.provider_id.int, one.distance_m))
        if self._listener is not None:
            self._listener(question, decision)
        return dict(decision.offers)

    def _as_search(self, job: Job) -> Search:
        waited_s = (self._now - job.trip.at_ms) / 1000
        return Search(job.id, self._market.code, "ride", job.round, job.lat, job.lng, False, False, False, (), waited_s)

    # --- offers

    def _make(self, job: Job, chosen: Sequence[tuple[int, int]]) -> None:
        """One round: they all look at it at once."""
        job.round += 1
        self._no_longer_waits(job)
        answers = []
        for cab, metres in chosen:
            job.live[cab] = metres
            self._cabs[cab].live.add(job.number)
            if self._alone:
                x, y = self._ground.take(cab)
                self._places[cab] = x, y
            yes = self._behaviour.takes(self._seed, cab, job.number, metres)
            if yes or self._alone:
                delay_ms = self._behaviour.delay_ms(self._seed, cab, job.number, job.round, self._ttl_ms)
                if delay_ms is not None:
                    answers.append((self._now + delay_ms, cab, yes))
        self._offers += len(chosen)
        job.offered += len(chosen)
        if answers:
            # One answer after the other: after the first yes the others are none. Their places among what is due at the same moment are
            # taken now.
            answers.sort(reverse=True)
            self._count += len(answers)
            self._next_answer(job, job.round, answers, self._count)
        self._at(_up(self._now + self._ttl_ms, _TURN_MS), self._lapse, job, job.round)

    def _next_answer(self, job: Job, round: int, answers: list[tuple[int, int, bool]], last: int) -> None:
        """The first of those that are left, which end the list, is due. `last`: the place of the last of all."""
        at_ms, cab, yes = answers.pop()
        heapq.heappush(
            self._events, (at_ms, last - len(answers), self._answered, (job, round, cab, yes, answers, last))
        )

    def _answered(
        self, job: Job, round: int, cab: int, yes: bool, answers: list[tuple[int, int, bool]], last: int
    ) -> None:
        if answers and job.open and job.round == round:
            self._next_answer(job, round, answers, last)
        self._answer(job, round, cab, yes)

    def _answer(self, job: Job, round: int, cab: int, yes: bool) -> None:
        """A driver says yes or no. A yes that comes too late is refused, as the judge would."""
        if not job.open or job.round != round or cab not in job.live:
            return
        driver = self._cabs[cab]
        driver.offered += 1
        if yes:
            driver.accepted += 1
            self._win(job, driver)
            return
        job.out_until[cab] = math.inf
        self._release(job, cab)
        if not job.live:
            self._search(job)

    def _lapse(self, job: Job, round: int) -> None:
        """The time of a round is up: who has not answered may be asked again after a while."""
        if not job.open or job.round != round or not job.live:
            return
        again_at = self._now + self._market.lapse_cooldown_s * 1000
        for cab, metres in list(job.live.items()):
            job.out_until[cab] = again_at
            job.silent.add(cab)
            if not self._alone:
                delay_ms = self._behaviour.delay_ms(self._seed, cab, job.number, round, self._ttl_ms)
                if delay_ms is not None and not self._behaviour.takes(self._seed, cab, job.number, metres):
                    job.out_until[cab] = math.inf
            self._cabs[cab].offered += 1
            self._release(job, cab)
        self._search(job)

    def _expire(self, job: Job) -> None:
        """Nobody took it within the market's time: the customer has gone."""
        if not job.open:
            return
        job.open = False
        for cab in list(job.live):
            self._release(job, cab)
        self._no_longer_waits(job)

    def _win(self, job: Job, cab: Cab) -> None:
        """The first yes: he drives to the pickup, takes the customer where he wants to go, and is free there."""
        trip = job.trip
        job.open, job.taken_at, job.pickup_m = False, self._now, job.live[cab.number]
        del job.live[cab.number]
        cab.live.discard(job.number)
        if cab.number in self._ground:
            self._ground.take(cab.number)
        self._places.pop(cab.number, None)
        cab.busy = True
        for loser in list(job.live):
            self._release(job, loser)
        self._no_longer_waits(job)
        for number in sorted(cab.live):
            other = self._jobs[number]
            del other.live[cab.number]
            if other.open and not other.live:
                self._search(other)
        cab.live.clear()
        job.way_ms = round(1000 * job.pickup_m / self._straight_mps)
        trip_s = trip.length_m / self._straight_mps
        road_m = round(trip.length_m * self._market.detour_factor)
        total = fare(self._market.tariff, road_m, round(trip_s), self._market.surge_pct).total_minor
        cab.earned_minor += net_minor(total, self._market.platform_fee_percent)
        done_ms = self._now + job.way_ms + round(1000 * trip_s)
        cab.busy_ms += max(0, min(done_ms, self._city.end_ms) - self._now)
        self._at(done_ms, self._done, cab, trip)

    def _done(self, cab: Cab, trip: Trip) -> None:
        cab.busy = False
        cab.idle_since = self._now
        self._ground.put(cab.number, trip.to_x, trip.to_y, self._now)
        self._became_free()
        self._settle(cab)

    def _release(self, job: Job, cab: int) -> None:
        """An offer ended without a yes of his: where offers come one at a time he can be found again."""
        del job.live[cab]
        driver = self._cabs[cab]
        driver.live.discard(job.number)
        if self._alone:
            self._ground.put(cab, *self._places.pop(cab), self._now)
        if not driver.busy:
            self._became_free()
            self._settle(driver)

    def _no_longer_waits(self, job: Job) -> None:
        at = bisect.bisect_left(self._waiting, job.number)
        if at < len(self._waiting) and self._waiting[at] == job.number:
            del self._waiting[at]


def _up(at_ms: int, grid_ms: int) -> int:
    """The next turn of a loop that runs every `grid_ms`."""
    return -(-at_ms // grid_ms) * grid_ms
