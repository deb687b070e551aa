"""Use cases of matching: search, offer, lapse, decline, settle."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import structlog

from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, State, facts_of
from dispatch.jobs import cancelled_and_told, locked
from dispatch.kit.clock import Clock, monotonic_ns
from dispatch.kit.errors import Overloaded
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Actor, Postgres
from dispatch.kit.tasks import Nursery, each
from dispatch.markets import Market, Markets, PolicyName
from dispatch.matching.batching import Batching
from dispatch.matching.errors import JobNotAvailable, OfferMissing
from dispatch.matching.model import Decision, Question, Search, Terms, terms_of
from dispatch.matching.policies import decide, policy_named
from dispatch.matching.store import Q
from dispatch.matching.unfit import Unfit
from dispatch.matching.why import Why
from dispatch.presence import Candidate, Live, LocationRequired, Near, Offline, Presence
from dispatch.providers import ProviderMissing, Providers, check_may_work
from protocol.errors import NO_PROVIDER
from protocol.lifecycle import Actor as Role

log = structlog.get_logger("matching")

LEASE_S = 2.0
"""A search takes milliseconds; a worker that dies with one loses it after this."""
_AT_ONCE = 6
"""Searches of one worker at the same time: fewer than its connections, so that accepts never wait for them."""
_DUE_MAX = 200
HOLD_WITHIN_S = 0.15
"""Of the holds of a window: a hold spares others a search, and no offer waits for it for longer."""
BEHIND = 10
"""Where rounds are explained, each tells of so many who were free and not asked, and of so many whom other jobs held: who complains that a job
went to somebody else was one of the next few. Each costs a search some microseconds; all of them would cost it a city."""
_TRIES = 10  # how often one search asks for further candidates when the judge takes none of those it found


@dataclass(frozen=True, slots=True)
class _Made:
    """What the judge made of a decision: the round, or 0; who got an offer; who was chosen if he wanted none of them (a cash job and all
    of them at their debt limit, say): the next nearest then; and whether the job needed nobody any more.
    """

    round: int
    offered: frozenset[UUID]
    unfit: Sequence[UUID]
    closed: bool


class Matching:
    """One per worker."""

    def __init__(
        self,
        pg: Postgres,
        inbox: Inbox,
        presence: Presence,
        providers: Providers,
        markets: Markets,
        idempotency: Idempotency,
        nursery: Nursery,
        clock: Clock,
        *,
        stamp: Callable[[Sequence[UUID], int], None] | None = None,
        why: Why | None = None,
    ) -> None:
        self._pg = pg
        self._inbox = inbox
        self._presence = presence
        self._providers = providers
        self._markets = markets
        self._once = idempotency.once
        self._nursery = nursery
        self._clock = clock
        self._stamp = stamp
        self._why = why
        self._unfit = Unfit(clock)
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._batching = Batching(pg, presence, markets, clock, self._gate)
        self._boards = [market.code for market in markets if market.open_board]
        self._cooldowns = ([market.code for market in markets], [market.lapse_cooldown_s for market in markets])
        self._freed: dict[str, tuple[set[str], int]] = {}
        self.on_round: list[Callable[[UUID, int, int], None]] = []
        """Told (job_id, round, how many were offered) of each round made here."""
        self.on_decision: list[Callable[[Question, Decision], None]] = []
        """Told of each decision made here, and of all that it rests on."""
        self.offered = 0
        self.rounds = 0
        self.lapsed = 0
        self.fell_back = 0
        """Windows that were not decided together in time."""

    # --- searching

    def search(self, job_id: UUID) -> None:
        """Look for a provider for this job now, unless a search of it is under way. Returns at once; the loop would find the job anyway, a second
        later, or when the lease of a search that died is over.
        """
        self._nursery.start(self._search_one(job_id), "search")

    async def _search_one(self, job_id: UUID) -> None:
        for search in await self._take(job_id):
            if (market := self._windowed(search)) is not None:
                await self._give(market, search, (), (), again_s=self._batching.wait_s(market))
            else:
                await self._turn(search)

    async def turn(self) -> None:
        """One turn of the loop: every job whose next action is due, a few at a time, and those of a window together."""
        while searches := await self._take(None):
            works: list[tuple[Search, Callable[[], Coroutine[Any, Any, None]]]] = []
            windows: dict[tuple[str, str], list[Search]] = {}
            for search in searches:
                if self._windowed(search) is None:
                    works.append((search, partial(self._turn, search)))
                else:
                    windows.setdefault((search.market, search.service_type), []).append(search)
            works += [(window[0], partial(self._offer_together, window)) for window in windows.values()]
            await each(works, self._guarded)
            if len(searches) < _DUE_MAX:
                return

    async def _guarded(self, task: tuple[Search, Callable[[], Coroutine[Any, Any, None]]]) -> None:
        search, work = task
        try:
            await work()
        except Overloaded as refusal:
            log.warning("search put off", job_id=str(search.job_id), error=str(refusal))
        except Exception:
            # One job's trouble must not cancel its neighbours' searches; its lease runs out and it is tried again.
            log.exception("search failed", job_id=str(search.job_id))

    def _windowed(self, search: Search) -> Market | None:
        """The job's market, if this job is to be decided about with the others of a window."""
        if search.expired or search.lapsed or search.waiting:
            return None
        market = self._markets.get(search.market)
        return market if market is not None and market.policy == "batch" else None

    async def _take(self, job_id: UUID | None) -> list[Search]:
        async with self._gate, self._pg.system() as conn:
            rows = await conn.fetch(Q["jobs_due"], job_id, _DUE_MAX, LEASE_S, *self._cooldowns)
        return [
            Search(
                row["job_id"],
                row["market"],
                row["service_type"],
                row["round"],
                row["pickup_lat"],
                row["pickup_lng"],
                row["expired"],
                row["lapsed"],
                row["waiting"],
                tuple(row["excluded"]),
                silent=tuple(row["silent"]),
            )
            for row in rows
        ]

    async def _turn(self, search: Search) -> None:
        if search.expired:
            await self._give_up(search)
        elif search.lapsed:
            async with self._gate, self._pg.system() as conn:
                facts = facts_of(await conn.fetchval(Q["offers_lapse"], search.job_id))
            self.lapsed += len(facts)
            self._inbox.deliver(facts)
            await self._search_one(search.job_id)
        elif not search.waiting:
            await self._offer(search)

    async def _offer(self, search: Search, unfit: Sequence[UUID] = (), policy: PolicyName | None = None) -> None:
        """One job by itself. `unfit` were chosen for it just now, and not taken. `policy` takes the place of the market's own."""
        market = self._markets.get(search.market)
        if market is None:
            log.error("job of a market that is not configured", job_id=str(search.job_id), market=search.market)
            return
        if await self._had_all_rounds(market, search):
            return
        terms = terms_of(market, policy)
        before = self._unfit.of(search.job_id)
        passed = [*before, *(one for one in unfit if one not in before)]
        for _ in range(_TRIES):
            near, radius_m = await self._found(market, search, terms, passed)
            if not near.found and before:
                # Nobody else is left: perhaps they fit by now.
                self._unfit.forget(search.job_id)
                before, passed = (), list(unfit)
                near, radius_m = await self._found(market, search, terms, passed)
            free = [*near.found, *near.behind]
            question = Question(self._clock.now_ms(), terms, (search,), {search.job_id: free} if free else {})
            decision = decide(question)
            self._decided(question, decision)
            chosen = list(decision.offers.get(search.job_id, ()))
            # Those behind are not ours to let go: another search may hold them by now.
            made = await self._give(market, search, chosen, near.found, again_s=market.research_s)
            self._note(question, decision, search, radius_m, made, held=near.passed, unfit=passed)
            if not made.unfit:
                return
            passed += made.unfit
        # The judge was asked often enough for one search; the next one begins behind all these.
        self._unfit.keep(search.job_id, passed)
        await self._give(market, search, (), (), again_s=market.research_s)

    async def _found(self, market: Market, search: Search, terms: Terms, passed: Sequence[UUID]) -> tuple[Near, float]:
        """Who is free near a job, and how far it was looked: as far as the policy reaches, then as far as the market does; each time first
        among those who have not let an offer of it lapse.
        """
        reach = policy_named(terms.policy).reach(market, search.round)
        left_out = [*search.excluded, *passed]
        for radius_m in dict.fromkeys((reach.radius_m, market.radius_max_m)):
            near = await self._near(market, search, reach.wanted, radius_m, [*left_out, *search.silent])
            if search.silent and not near.found:
                near = await self._near(market, search, reach.wanted, radius_m, left_out)
            if near.found:
                break
        return near, radius_m

    async def _offer_together(self, window: Sequence[Search]) -> None:
        """All jobs of one window, market and service type."""
        market = self._markets[window[0].market]
        searches = [search for search in window if not await self._had_all_rounds(market, search)]
        if not searches:
            return
        made = await self._batching.decide(market, searches)
        if made is None:
            self.fell_back += 1
            await each([(search, partial(self._offer, search, policy="waves")) for search in searches], self._guarded)
            return
        question, decision = made
        self._decided(question, decision)
        chosen = [candidate for some in decision.offers.values() for candidate in some]
        others: frozenset[UUID] = frozenset()
        if market.offers_at_once == 1 and chosen:
            # Before the offers: a hold written later could land after the release of the offer that it was for.
            with suppress(TimeoutError):
                async with asyncio.timeout(HOLD_WITHIN_S):
                    others = await self._presence.hold(market, [one.provider_id for one in chosen], market.offer_ttl_s)

        async def give(search: Search) -> None:
            some = decision.offers.get(search.job_id, ())
            ours = [candidate for candidate in some if candidate.provider_id not in others]
            made = _Made(0, frozenset(), [], False)
            if ours or not some:
                made = await self._give(market, search, ours, ours, again_s=self._batching.wait_s(market))
            reach = policy_named("batch").reach(market, search.round, search.waited_s)
            theirs = [candidate for candidate in some if candidate.provider_id in others]
            self._note(question, decision, search, reach.radius_m, made, held=theirs)
            if some and not made.offered and not made.closed:
                # The next window would choose him again: this job goes on by itself.
                await self._offer(search, made.unfit, policy="waves")

        # As the question has them: it knows how long each has waited.
        await each([(search, partial(give, search)) for search in question.searches], self._guarded)

    async def _had_all_rounds(self, market: Market, search: Search) -> bool:
        if not market.rounds or search.round < market.rounds:
            return False
        async with self._gate, self._pg.system() as conn:
            await conn.execute(Q["jobs_rest"], search.job_id)
        return True

    def _decided(self, question: Question, decision: Decision) -> None:
        for listener in self.on_decision:
            listener(question, decision)

    async def _give(
        self,
        market: Market,
        search: Search,
        chosen: Sequence[Candidate],
        found: Sequence[Candidate],
        *,
        again_s: float,
    ) -> "_Made":
        """Make a round of offers to `chosen`; the holds on others of `found`, all of whom this search holds, end. Nobody `chosen`: this
        search is over, and the next comes after `again_s`.
        """
        offers = [new_id() for _ in chosen]
        try:
            async with self._gate, self._pg.system() as conn:
                made = await conn.fetchrow(
                    Q["offers_create"],
                    search.job_id,
                    search.round,
                    offers,
                    [candidate.provider_id for candidate in chosen],
                    [candidate.distance_m for candidate in chosen],
                    market.offer_ttl_s,
                    market.offers_at_once,
                    again_s,
                    market.lapse_cooldown_s,
                )
                at_ns = monotonic_ns()
        except BaseException:
            # Offered or not, nobody knows. A hold that stays would hide them from every other search for as long as an offer lives.
            await self._let_go(market, found)
            raise
        assert made is not None
        self._inbox.deliver(facts_of(made["facts"]))
        if self._stamp is not None and made["offered"]:
            self._stamp(made["offered"], at_ns)
        if made["word"] == "offered":
            self.rounds += 1
            self.offered += len(made["offered"])
            for listener in self.on_round:
                listener(search.job_id, made["round"], len(made["offered"]))
            log.info("job offered", job_id=str(search.job_id), round=made["round"], providers=len(made["offered"]))
        taken = frozenset(made["offered_to"])
        await self._let_go(market, [candidate for candidate in found if candidate.provider_id not in taken])
        if made["woken"]:
            self.search(search.job_id)
        unfit = [candidate.provider_id for candidate in chosen] if made["word"] == "nobody" else []
        return _Made(made["round"] if taken else 0, taken, unfit, made["word"] == "closed")

    def _note(
        self,
        question: Question,
        decision: Decision,
        search: Search,
        radius_m: float,
        made: "_Made",
        *,
        held: Sequence[Candidate] = (),
        unfit: Sequence[UUID] = (),
    ) -> None:
        if self._why is not None and not made.closed:
            self._why.note(
                question,
                decision,
                search,
                radius_m=radius_m,
                round=made.round,
                offered=made.offered,
                held=held,
                unfit=unfit,
            )

    async def _near(
        self, market: Market, search: Search, wanted: int, radius_m: float, left_out: Sequence[UUID]
    ) -> Near:
        return await self._presence.near(
            market,
            search.service_type,
            search.lat,
            search.lng,
            wanted=wanted,
            radius_max_m=radius_m,
            excluded=left_out,
            hold_s=market.offer_ttl_s if market.offers_at_once == 1 else 0,
            also=0 if self._why is None else BEHIND,
        )

    async def _let_go(self, market: Market, found: Sequence[Candidate]) -> None:
        """End the holds of a search on those who got no offer."""
        if market.offers_at_once == 1 and found:
            await self._presence.let_go(market, [candidate.provider_id for candidate in found])

    async def _give_up(self, search: Search) -> None:
        """Nobody took it within the market's job TTL: the system cancels it, and the customer is told why."""
        async with self._gate, self._pg.system_tx() as tx:
            job = await locked(tx, search.job_id)
            if job is None or job.provider_id is not None or job.status in ("completed", "cancelled"):
                return
            facts = await cancelled_and_told(
                tx, job.id, by="system", actor_id=None, role=Role.SYSTEM, reason=NO_PROVIDER
            )
        self._inbox.deliver(facts)
        log.info("job given up", job_id=str(search.job_id), rounds=search.round)

    def freed(self, live: Live) -> None:
        """A provider became a candidate: jobs that wait for one near him are searched in the next turn of `wake`, or at the end of their
        window.
        """
        if live.listed is not None and live.listed[0].policy != "batch":
            market, kinds = live.listed
            known, count = self._freed.get(market.code, (set(), 0))
            self._freed[market.code] = (known | set(kinds), count + 1)

    async def wake(self) -> None:
        """Bring forward the searches of jobs that somebody could take now, and see to windows that end. Runs a few times a second."""
        freed, self._freed = self._freed, {}
        woken = int(self._batching.has_ended())
        for market, (kinds, count) in freed.items():
            async with self._gate, self._pg.system() as conn:
                # The longest waiting first, and a few for each who is free: a search for everybody would find them all taken.
                woken += int(await conn.fetchval(Q["jobs_wake"], market, sorted(kinds), min(50, 3 * count)))
        if woken:
            await self.turn()

    # --- settling

    async def close(self, job_id: UUID) -> None:
        """Tell the losers of a job that has its provider or its end, and withdraw what else was offered to the winner; the jobs that this
        leaves without an offer are searched again at once.
        """
        async with self._pg.system() as conn:
            row = await conn.fetchrow(Q["offers_close"], job_id)
        assert row is not None
        self._inbox.deliver(facts_of(row["facts"]))
        for waiting in row["wake"]:
            self.search(waiting)

    async def settle(self) -> None:
        """What dead workers left half done: losers not told, winners still on offer elsewhere."""
        async with self._pg.system() as conn:
            jobs = [row["job_id"] for row in await conn.fetch(Q["offers_left_open"], _DUE_MAX)]
        for job_id in jobs:
            await self.close(job_id)

    # --- the provider's side

    async def decline(self, actor: Actor, offer_id: UUID, reason: str | None, key: str | None) -> Answer:
        """Say no to an offer. Again is fine. Raises: OfferMissing, JobNotAvailable."""
        async with self._once(
            actor, key, fingerprint_of("offers.decline", {"offer_id": offer_id, "reason": reason})
        ) as turn:
            if turn.replay is not None:
                return turn.replay
            row = await turn.tx.fetchrow(Q["offers_decline"], actor.user_id, offer_id, reason)
            assert row is not None
            match row["word"]:
                case "no_offer":
                    raise OfferMissing(f"no offer {offer_id}")
                case "taken":
                    raise JobNotAvailable("accepted")
                case "cancelled" | "expired" as word:
                    raise JobNotAvailable(word)
            answer = turn.keep(Answer(b"{}"))
        self._inbox.deliver(facts_of(row["facts"]))
        log.info("offer declined", offer_id=str(offer_id), job_id=str(row["job_id"]))
        if row["exhausted"]:
            self.search(row["job_id"])
        return answer

    async def available(self, actor: Actor, *, max_distance_m: float | None, limit: int) -> bytes:
        """What he may take now, nearest first: live offers, and where a market's open board is on, unassigned jobs in his radius.

        Raises: ProviderMissing, NotApproved, Suspended, Offline, LocationRequired.
        """
        state = await self._providers.state(actor.user_id)
        if state is None:
            raise ProviderMissing("this user is no provider")
        check_may_work(state.status)
        if not state.online:
            raise Offline("switch on first")
        place = await self._presence.place_of(state) or await self._providers.last_place(actor.user_id)
        if place is None:
            raise LocationRequired("no position is known")
        radius_m = min(state.radius_m, max_distance_m) if max_distance_m is not None else state.radius_m
        rows: list[tuple[int, bytes]] = []
        async with self._pg.acting(actor) as tx:
            if state.active_job is None:
                for row in await tx.fetch(Q["offers_board"], actor.user_id, list(state.service_types), limit):
                    if row["distance_m"] <= radius_m:
                        rows.append((row["distance_m"], row["offer"]))
                if self._boards:
                    for row in await tx.fetch(Q["jobs_board"], actor.user_id, self._boards, *place, radius_m, limit):
                        rows.append((row["distance_m"], _board_row(row)))
        rows.sort(key=lambda row: row[0])
        return b'{"items":[' + b",".join(row[1] for row in rows[:limit]) + b"]}"

    async def state_of(self, user_id: UUID) -> State:
        """The whole live state of a user: what a snapshot holds."""
        async with self._pg.system() as conn:
            row = await conn.fetchrow(Q["live_state"], user_id)
        assert row is not None
        return State(row["seq"], row["provider"], row["jobs"], row["offers"])


def _board_row(row: Any) -> bytes:
    return b'{"job":%b,"pickup_distance_m":%b,"round":%b}' % (
        row["glance"],
        orjson.dumps(row["distance_m"]),
        orjson.dumps(row["round"]),
    )
