"""The accept, step by step as reliability.md §3 has it."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog

from dispatch.accounts import fingerprint_of
from dispatch.claims import live
from dispatch.claims.model import Accepted, Ask
from dispatch.inbox import Fact, Inbox, facts_of
from dispatch.jobs import JobMissing
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Busy, DispatchError, KeyReused, Overloaded
from dispatch.kit.geo import distance_m
from dispatch.kit.ids import derived_id, new_id
from dispatch.kit.postgres import LOST, STUCK, Actor, Postgres
from dispatch.kit.redis import Redis
from dispatch.kit.sql import Queries
from dispatch.kit.tasks import Nursery
from dispatch.ledger import DebtLimit
from dispatch.markets import Markets
from dispatch.matching import JobNotAvailable, Matching, OfferMissing, ServiceMismatch
from dispatch.presence import LocationRequired, Offline, Presence
from dispatch.providers import (
    AlreadyBusy,
    DocumentsIncomplete,
    NotApproved,
    ProviderMissing,
    Providers,
    ProviderState,
    Suspended,
    VehicleRequired,
)

log = structlog.get_logger("claims")

Q = Queries(Path(__file__).with_name("queries.sql"))

_ROUNDS_KNOWN = 20_000
_ROUND_MAX = 2**31 - 1
_WAITING_MAX = 8
"""Accepts of one provider that wait for each other: as many as requests of one socket may be under way."""
_AFTERMATH_S = 0.1
_PENDING_TURNS, _PENDING_S = 3, 0.04
"""While somebody else is being decided on, which takes milliseconds: so often, and so long apart, the claim is asked again before
the phone is told to come back. A phone that is sent away for 250 ms finds the job without a taker for as long.
"""


class _Place(msgspec.Struct, gc=False):
    lat: float
    lng: float


class _Pickup(msgspec.Struct):
    pickup: _Place


_PICKUP = msgspec.json.Decoder(_Pickup)


class Claims:
    """One per worker."""

    def __init__(
        self,
        pg: Postgres,
        redis: Redis,
        inbox: Inbox,
        presence: Presence,
        providers: Providers,
        matching: Matching,
        markets: Markets,
        nursery: Nursery,
        clock: Clock,
        *,
        filter: bool,
    ) -> None:
        self._pg = pg
        self._clock = clock
        self._redis = redis
        self._inbox = inbox
        self._presence = presence
        self._providers = providers
        self._matching = matching
        self._markets = markets
        self._nursery = nursery
        self._filter = filter
        self._asking: dict[UUID, OrderedDict[tuple[UUID, str], asyncio.Task[Accepted]]] = {}
        self._rounds: OrderedDict[UUID, tuple[int, int]] = OrderedDict()
        self.outcomes: dict[str, int] = {}
        matching.on_round.append(self.note_round)

    def note_round(self, job_id: UUID, round: int, offered: int) -> None:
        """Remember how many a round was offered to: a job offered to one needs no claim."""
        self._rounds[job_id] = (round, offered)
        if len(self._rounds) > _ROUNDS_KNOWN:
            self._rounds.popitem(last=False)

    async def accept(self, actor: Actor, job_id: UUID, offer_id: UUID | None, round: int | None, key: str) -> Accepted:
        """Take a job. `key` names the request: sent again, it gets the same answer. Without an offer: from the open board.

        The work is shielded: whoever asked may go away, the accept ends as it must. Raises: Busy (no answer yet, it may already
        be his), JobNotAvailable, OfferMissing, JobMissing, AlreadyBusy, NotApproved, Suspended, Offline, ServiceMismatch,
        DocumentsIncomplete, VehicleRequired, DebtLimit, LocationRequired,
        ProviderMissing, KeyReused.
        """
        # A round beyond all rounds is like any other that does not stand; the judge's column is an int4.
        round = None if round is None else min(round, _ROUND_MAX)
        fingerprint = fingerprint_of("claims.accept", {"job_id": job_id, "offer_id": offer_id, "round": round})
        ask = Ask(actor.user_id, job_id, offer_id, round, derived_id(actor.user_id, key), key, fingerprint)
        waiting = self._asking.setdefault(actor.user_id, OrderedDict())
        # The same request sent again waits for the same answer; its id with another body is another request, and the judge's to refuse.
        same = (ask.accept_id, ask.fingerprint)
        task = waiting.get(same)
        if task is None:
            if len(waiting) >= _WAITING_MAX or self._nursery.full:
                raise Busy(f"{len(waiting)} accepts of this provider are under way")
            before = next(reversed(waiting.values()), None)
            task = waiting[same] = self._nursery.start(self._in_turn(before, ask), "accept")
            task.add_done_callback(lambda _: self._done(ask))
        return await asyncio.shield(task)

    async def _in_turn(self, before: "asyncio.Task[Accepted] | None", ask: Ask) -> Accepted:
        """One accept of a provider at a time: he can win one job, and his others would only hold up those who can have them."""
        if before is not None:
            await asyncio.wait([before])
        return await self._counted(ask)

    def _done(self, ask: Ask) -> None:
        waiting = self._asking[ask.user_id]
        del waiting[ask.accept_id, ask.fingerprint]
        if not waiting:
            del self._asking[ask.user_id]

    async def _counted(self, ask: Ask) -> Accepted:
        try:
            accepted = await self._accept(ask)
        except DispatchError as refusal:
            self.outcomes[refusal.code] = self.outcomes.get(refusal.code, 0) + 1
            raise
        outcome = "duplicate" if accepted.duplicate else "accepted"
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        return accepted

    async def _accept(self, ask: Ask) -> Accepted:
        board, distance = (False, 0)
        round = ask.round
        if ask.offer_id is None:
            round, board, distance = await self._from_board(ask)
        elif round is None and self._filter:
            round = await self._round_of(ask.job_id)
        held = await self._claim(ask, round)
        for _ in range(_PENDING_TURNS):
            if held != "pending":
                break
            await self._clock.sleep(_PENDING_S)
            held = await self._claim(ask, round)
        if held == "pending":
            raise Busy("somebody else is being decided on")
        # If the judge's answer is lost, the claim stays: it lapses in 3 s, and a re-sending of the same request owns it.
        row = await self._judge(ask, board, distance)
        word = row["word"]
        if word != "accepted":
            if held in ("first", "yours") and round is not None:
                # A stored answer is a yes that was committed; a claim left pending would hold up everybody else for 3 s.
                await live.settle(self._redis, ask, round, committed=word == "replay")
            if word == "unjudged":
                await self._providers.judge_again(ask.user_id)
                raise Busy("his papers had to be judged again; ask again")
            return self._refuse(ask, row, board)
        facts = facts_of(row["facts"])
        if facts:
            self._won(ask, facts, row["round"])
        if held in ("first", "yours") and round is not None:
            # Behind the yes, which need not wait for it.
            self._nursery.start(live.settle(self._redis, ask, round, committed=True), "claim")
        return Accepted(row["job"], _navigation(row["job"]), duplicate=not facts)

    async def _from_board(self, ask: Ask) -> tuple[int | None, bool, int]:
        """(round, whether the board may give him this job, metres to it)."""
        # Before the job is looked up: to somebody who is no provider, one that exists must look like one that does not.
        state = await self._providers.state(ask.user_id)
        if state is None:
            raise ProviderMissing("this user is no provider")
        async with self._pg.system() as conn:
            facts = await conn.fetchrow(Q["job_facts"], ask.job_id)
        if facts is None:
            raise JobMissing(f"no job {ask.job_id}")
        market = self._markets.get(facts["market"])
        if market is None or not market.open_board:
            return facts["round"], False, 0
        place = await self._place_of(state)
        if place is None and not facts["open"]:
            return facts["round"], False, 0  # it is on no board any more: a place would change nothing
        if place is None:
            raise LocationRequired("no position is known")
        away_m = distance_m(*place, facts["pickup_lat"], facts["pickup_lng"])
        return facts["round"], away_m <= state.radius_m, round_m(away_m)

    async def _place_of(self, state: ProviderState) -> tuple[float, float] | None:
        return await self._presence.place_of(state) or await self._providers.last_place(state.user_id)

    async def _round_of(self, job_id: UUID) -> int | None:
        async with self._pg.system() as conn:
            facts = await conn.fetchrow(Q["job_facts"], job_id)
        return None if facts is None else int(facts["round"])

    async def _claim(self, ask: Ask, round: int | None) -> live.Word:
        if not self._filter or not self._redis.reachable or round is None:
            return "unknown"
        if self._rounds.get(ask.job_id) == (round, 1):
            return "unknown"  # offered to him alone: nobody to filter
        at = self._presence.of(ask.user_id)
        if at is not None and at.busy not in (None, ask.job_id):
            return "unknown"  # on another job, as far as is known here: somebody who can take this one is not to wait for his no
        return await live.claim(self._redis, ask, round)

    async def _judge(self, ask: Ask, board: bool, distance: int) -> Any:
        at = self._presence.of(ask.user_id)
        known = at is not None and at.at_ms > 0
        try:
            async with self._pg.app() as conn:
                row = await conn.fetchrow(
                    Q["accept_job"],
                    ask.user_id,
                    ask.job_id,
                    ask.offer_id,
                    ask.round,
                    ask.accept_id,
                    ask.key,
                    ask.fingerprint,
                    board,
                    new_id() if board else None,
                    distance,
                    at.lat if known and at else None,
                    at.lng if known and at else None,
                    datetime.fromtimestamp(at.at_ms / 1000, UTC) if known and at else None,
                )
        except asyncpg.UniqueViolationError as error:
            # An index has judged: a refusal like any other, after which the claim is free for the next.
            word = "busy_provider" if error.constraint_name == "jobs_one_active" else "reused"
            return {"word": word, "status": None, "round": None, "job": None, "facts": []}
        except (*STUCK, Overloaded) as error:
            raise Busy(f"the judge is held up: {type(error).__name__}") from error
        except LOST as error:
            log.warning("accept reply lost; asking whose job it is", job_id=str(ask.job_id), error=repr(error))
            return await self._settle_unknown(ask)
        assert row is not None
        return row

    async def _settle_unknown(self, ask: Ask) -> Any:
        """The line broke under the judge: committed or not? The row says, once the doubtful backend has let go of it."""
        try:
            async with self._pg.system() as conn:
                row = await conn.fetchrow(Q["accept_known"], ask.job_id)
                job = await conn.fetchval(Q["accept_kept"], ask.user_id, ask.key, ask.fingerprint)
        except (*LOST, *STUCK, Overloaded, asyncpg.PostgresError) as error:
            raise Busy("Postgres cannot be asked; it may already be yours") from error
        his = row is not None and row["accept_id"] == ask.accept_id and row["provider_user_id"] == ask.user_id
        if row is not None and his and job is not None:
            # His, and its facts are committed beside it; the relay brings them. The answer is the kept one, as for every repeat: the
            # job itself may have moved on since.
            return {"word": "accepted", "status": None, "round": row["round"], "job": job, "facts": []}
        raise Busy("nothing was decided; ask again")

    def _refuse(self, ask: Ask, row: Any, board: bool) -> Accepted:
        match row["word"]:
            case "replay":
                return Accepted(row["job"], _navigation(row["job"]), duplicate=True)
            case "reused":
                raise KeyReused(f"request id {ask.key} was used with another body")
            case "no_provider":
                raise ProviderMissing("this user is no provider")
            case "closed" if row["status"] == "suspended":
                raise Suspended("suspended", status="suspended")
            case "closed":
                raise NotApproved(f"status is {row['status']}", status=row["status"])
            case "offline":
                raise Offline("switch on first")
            case "no_job":
                raise JobMissing(f"no job {ask.job_id}")
            case "no_offer":
                raise OfferMissing(f"no offer of job {ask.job_id} to this provider")
            case "mismatch":
                raise ServiceMismatch("not among the provider's service types")
            case "documents":
                raise DocumentsIncomplete("a paper that this service type needs is missing or has run out")
            case "vehicle":
                raise VehicleRequired("this service type needs an approved vehicle that is in use")
            case "debt":
                raise DebtLimit(
                    "a cash job's fee would take his debt beyond its limit; what he earns next is paid off first"
                )
            case "busy_provider":
                raise AlreadyBusy("has an active job")
            case "taken":
                raise JobNotAvailable("accepted")
            case word:
                raise JobNotAvailable(word)

    def _won(self, ask: Ask, facts: Sequence[Fact], round: int) -> None:
        self._presence.set_busy(ask.user_id, ask.job_id)
        self._inbox.deliver(facts)
        log.info("job accepted", job_id=str(ask.job_id), user_id=str(ask.user_id), round=round)
        self._nursery.start(self._aftermath(ask.job_id), "losers")

    async def _aftermath(self, job_id: UUID) -> None:
        """Losers' offers and the winner's others, in a transaction of their own. A worker that dies here leaves them to `settle`.

        A moment later, within the 200 ms that reliability.md gives: when many jobs fall into one instant, yes goes before no.
        """
        await self._clock.sleep(_AFTERMATH_S)
        await self._matching.close(job_id)


def round_m(metres: float) -> int:
    """Whole metres."""
    return int(metres + 0.5)


def _navigation(job: bytes) -> str:
    pickup = _PICKUP.decode(job).pickup
    return f"geo:{pickup.lat},{pickup.lng}?q={pickup.lat},{pickup.lng}"
