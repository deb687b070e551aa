"""What the server does around the batch policy: windows, what is known of candidates, and a decision beside the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

import structlog

from dispatch.kit.clock import Clock
from dispatch.kit.errors import Overloaded
from dispatch.kit.postgres import LOST, STUCK, Postgres
from dispatch.kit.tasks import each
from dispatch.markets import Market, Markets
from dispatch.matching.batch import acceptance_of, load_solver, window_end_ms
from dispatch.matching.model import Decision, Question, Search, Standing, terms_of
from dispatch.matching.policies import decide, policy_named
from dispatch.matching.store import Q
from dispatch.presence import Candidate, Presence

log = structlog.get_logger("batching")

BUDGET_S = 0.15
"""From the end of a window to its decision: what takes longer is decided by `waves`, each job for itself."""
_LOOKS_AT_ONCE = 16
_SLACK_MS = 20
"""A job is put off to the end of a window by Postgres' clock, a moment after ours was read."""

DecideFunction = Callable[[Question], Decision]


class Batching:
    """One per worker. It keeps nothing that a job needs: a window is a moment on the clock to which its jobs are put off in Postgres,
    and whichever worker looks first after it takes them all.
    """

    def __init__(
        self,
        pg: Postgres,
        presence: Presence,
        markets: Markets,
        clock: Clock,
        gate: asyncio.Semaphore,
        *,
        brain: DecideFunction = decide,
    ) -> None:
        """`gate` bounds this worker's searches on Postgres."""
        self._pg = pg
        self._presence = presence
        self._clock = clock
        self._gate = gate
        self._brain = brain
        self._markets = [market for market in markets if market.policy == "batch"]
        self._ended = {market.code: self._window(market) for market in self._markets}
        self._overrun: dict[str, set[asyncio.Future[Decision]]] = {}
        self._warned: set[str] = set()
        if self._markets:
            load_solver()

    def _window(self, market: Market) -> int:
        return window_end_ms(self._clock.now_ms() - _SLACK_MS, market.batch_window_s)

    def has_ended(self) -> bool:
        """Whether a window of any market has ended since this was last asked: then its jobs are due."""
        ended = False
        for market in self._markets:
            window = self._window(market)
            if window != self._ended[market.code]:
                self._ended[market.code], ended = window, True
        return ended

    def wait_s(self, market: Market) -> float:
        """Until the window that is open in a market ends."""
        now_ms = self._clock.now_ms()
        return (window_end_ms(now_ms, market.batch_window_s) - now_ms) / 1000

    async def decide(self, market: Market, searches: Sequence[Search]) -> tuple[Question, Decision] | None:
        """Decide about the jobs of a window, all of one service type. None: it took longer than BUDGET_S, a store is away or it failed, and each
        job is to be searched for by itself.

        The decision is made in a thread; one that overruns is left to end there, and until it has no other begins.
        """
        if self._overrun.get(market.code):
            if market.code not in self._warned:
                # Once and not for each window: a solver that hangs would say nothing else.
                self._warned.add(market.code)
                log.warning("windows not decided together until an earlier one is solved", market=market.code)
            return None
        self._warned.discard(market.code)
        try:
            async with asyncio.timeout(BUDGET_S):
                question = await self._question(market, searches)
                return question, await self._solve(market.code, question)
        except (TimeoutError, Overloaded, *LOST, *STUCK) as error:
            log.warning("window not decided together", market=market.code, jobs=len(searches), error=repr(error))
            return None
        except Exception:
            # What this window asks would be asked again: its jobs go on without it, and somebody reads of it.
            log.exception("window that cannot be decided together", market=market.code, jobs=len(searches))
            return None

    async def _solve(self, code: str, question: Question) -> Decision:
        work = asyncio.get_running_loop().run_in_executor(None, self._brain, question)
        try:
            return await asyncio.shield(work)
        finally:
            if not work.done():
                left = self._overrun.setdefault(code, set())
                left.add(work)
                work.add_done_callback(left.discard)

    async def _question(self, market: Market, searches: Sequence[Search]) -> Question:
        async with self._gate, self._pg.system() as conn:
            waits = {
                row["id"]: row["waited_s"] for row in await conn.fetch(Q["waits"], [one.job_id for one in searches])
            }
        known = [replace(search, waited_s=waits.get(search.job_id, 0.0)) for search in searches]
        found: dict[UUID, Sequence[Candidate]] = {}
        at_once = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(search: Search) -> None:
            reach = policy_named("batch").reach(market, search.round, search.waited_s)
            near = partial(
                self._presence.near,
                market,
                search.service_type,
                search.lat,
                search.lng,
                wanted=reach.wanted,
                radius_max_m=reach.radius_m,
                # Nobody is held before it is decided who gets whom; those held for offers under way are passed over.
                hold_s=-market.offer_ttl_s if market.offers_at_once == 1 else 0,
            )
            async with at_once:
                some = (await near(excluded=[*search.excluded, *search.silent])).found
                if not some and search.silent:
                    some = (await near(excluded=search.excluded)).found
            found[search.job_id] = some

        await each(known, look)
        providers = sorted({candidate.provider_id for near in found.values() for candidate in near})
        async with self._gate, self._pg.system() as conn:
            standings = {
                row["provider_id"]: Standing(row["idle_s"], acceptance_of(row["offered"], row["accepted"]))
                for row in await conn.fetch(Q["standings"], providers)
            }
        return Question(self._clock.now_ms(), terms_of(market), known, found, standings)
