"""Ways to break the server on purpose. Each mutant is a mistake that a reader of this code might make, or that others have made;
the harness must catch every one. Nothing of this can be switched on in the server itself: it is patched from here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

import orjson

from dispatch.admin.service import Admin
from dispatch.claims import keys
from dispatch.claims.model import Accepted, Ask
from dispatch.claims.service import Claims, Q, _navigation
from dispatch.inbox import Inbox
from dispatch.jobs import Jobs
from dispatch.kit.redis import DOWN
from dispatch.matching import JobNotAvailable
from protocol.session import Verdict

Patch = Callable[[], Any]
"""A context manager: the mistake is there while it lasts."""


@contextmanager
def ack_before_commit() -> Iterator[None]:
    """Who holds the claim is told yes at once; the judge is asked afterwards."""
    judged = Claims._accept

    async def accept(self: Claims, ask: Ask) -> Accepted:
        if await self._claim(ask, ask.round) not in ("first", "yours"):
            return await judged(self, ask)
        async with self._pg.system() as conn:
            row = await conn.fetchrow(Q["job_facts"], ask.job_id)
        if row is None:
            return await judged(self, ask)
        self._nursery.start(judged(self, ask), "judge later")
        place = {"lat": row["pickup_lat"], "lng": row["pickup_lng"]}
        job = orjson.dumps(
            {"id": str(ask.job_id), "status": "accepted", "round": row["round"], "version": 0, "pickup": place}
        )
        return Accepted(job, _navigation(job), duplicate=False)

    with patch.object(Claims, "_accept", accept):
        yield


@contextmanager
def set_nx_with_retries() -> Iterator[None]:
    """The claim is a plain SET NX through a client that sends again what was not answered, and its no is told as «taken»."""

    async def claim(self: Claims, ask: Ask, round: int | None) -> str:
        if not self._redis.reachable or round is None:
            return "unknown"
        args = [round, str(ask.user_id), str(ask.accept_id), keys.PENDING_MS]
        for _ in range(10):
            try:
                said = await self._redis.call("claim", [keys.claim(ask.job_id)], args, once=True)
            except DOWN:
                continue
            # SET NX knows no owner: his own key is somebody's.
            if said != b"first":
                raise JobNotAvailable("accepted")
            return "first"
        return "unknown"

    with patch.object(Claims, "_claim", claim):
        yield


@contextmanager
def taken_from_a_pending_claim() -> Iterator[None]:
    """Somebody else is being decided on: told as if he had been."""
    asked = Claims._claim

    async def claim(self: Claims, ask: Ask, round: int | None) -> str:
        held = await asked(self, ask, round)
        if held == "pending":
            raise JobNotAvailable("accepted")
        return held

    with patch.object(Claims, "_claim", claim):
        yield


_SPEAKING: ContextVar[Inbox | None] = ContextVar("speaking", default=None)


@contextmanager
def published_before_commit() -> Iterator[None]:
    """Events go out when they are numbered, not when they are committed."""
    from dispatch.admin import service as admin
    from dispatch.jobs import service as jobs

    stored = jobs.append

    async def append(tx: Any, facts: Any) -> Any:
        numbered = await stored(tx, facts)
        if (inbox := _SPEAKING.get()) is not None:
            inbox.deliver(numbered)
        return numbered

    def speaking(method: Any) -> Any:
        async def run(self: Any, *args: Any, **given: Any) -> Any:
            before = _SPEAKING.set(self._inbox)
            try:
                return await method(self, *args, **given)
            finally:
                _SPEAKING.reset(before)

        return run

    with (
        patch.object(jobs, "append", append),
        patch.object(admin, "append", append),
        patch.object(Jobs, "create", speaking(Jobs.create)),
        patch.object(Jobs, "advance", speaking(Jobs.advance)),
        patch.object(Jobs, "cancel", speaking(Jobs.cancel)),
        patch.object(Admin, "act", speaking(Admin.act)),
    ):
        yield


@contextmanager
def outbox_skipped() -> Iterator[None]:
    """Nobody asks how far the histories are: what no hint brings never comes."""

    async def poll_heads(self: Inbox) -> None:
        return None

    with patch.object(Inbox, "poll_heads", poll_heads):
        yield


@contextmanager
def seat_by_index() -> Iterator[None]:
    """A seat is found by the place it took, and those behind move up when somebody leaves."""
    sat, left = Inbox._sit, Inbox.leave
    rows: dict[int, list[Any]] = {}
    places: dict[Any, int] = {}

    def sit(self: Inbox, seat: Any) -> None:
        sat(self, seat)
        row = rows.setdefault(id(self), [])
        places[seat] = len(row)
        row.append(seat)

    def leave(self: Inbox, seat: Any) -> None:
        left(self, seat)
        if seat in (row := rows.get(id(self), [])):
            row.remove(seat)

    def arrive(self: Inbox, user_id: Any, seq: int, frame: bytes, name: Any = None, body: Any = None) -> None:
        row = rows.get(id(self), [])
        for seat in tuple(self._seats.get(user_id, ())):
            there = row[places[seat]] if places[seat] < len(row) else seat
            match seat.session.event(seq, self._clock.monotonic()):
                case Verdict.SEND:
                    there.line.send(frame, there.line.user_id)
                case Verdict.GAP:
                    self._catch_up(user_id)

    with (
        patch.object(Inbox, "_sit", sit),
        patch.object(Inbox, "leave", leave),
        patch.object(Inbox, "_arrive", arrive),
    ):
        yield
