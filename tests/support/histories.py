"""Histories of offers and what became of them, written as rows; and what a person with a pencil would count of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
from hypothesis import strategies as st

from dispatch.performance import Aggregates
from tests.support.server import WITHIN_S, Person

Answer = Literal["accepted", "declined", "expired", "withdrawn", "live"]
End = Literal["completed", "cancelled", "released", "under_way"]

_STAGES = ["accepted", "arrived", "in_progress"]


@dataclass(frozen=True)
class Deal:
    """One offer. `end`, `by` and `stage` are of accepted ones: what became of it, by whose doing, and how far he had come.
    `rival`: another provider's offer of the same job, and what he made of it after a release.
    """

    answer: Answer
    end: End = "under_way"
    by: Literal["provider", "customer", "admin", "system"] = "provider"
    stage: int = 0
    rival: Literal["none", "completed", "cancelled"] = "none"
    service_type: str = "ride"
    market: str = "bkk"
    ago: timedelta = timedelta(0)
    round: int = 1


def counted(deals: Sequence[Deal]) -> tuple[int, int, int, int]:
    """(offered, accepted, completed, cancelled) of one provider's deals."""
    his = [deal for deal in deals if deal.answer in ("accepted", "declined", "expired")]
    taken = [deal for deal in his if deal.answer == "accepted"]
    done = [deal for deal in taken if deal.end == "completed"]
    given_up = [deal for deal in taken if deal.end in ("cancelled", "released") and deal.by == "provider"]
    return len(his), len(taken), len(done), len(given_up)


_ends = st.one_of(
    st.builds(lambda: ("completed", "provider", 2)),
    st.tuples(
        st.just("cancelled"),
        st.sampled_from(["provider", "provider", "customer", "admin", "system"]),
        st.integers(0, 2),
    ),
    st.tuples(st.just("released"), st.sampled_from(["provider", "provider", "admin", "system"]), st.integers(0, 1)),
)


@st.composite
def deal(
    draw: Any,
    service_types: Sequence[str] = ("ride",),
    markets: Sequence[str] = ("bkk",),
    within: timedelta = timedelta(0),
) -> Deal:
    """A deal that is over, or an offer that is live; not older than `within`."""
    answer = draw(st.sampled_from(["accepted", "accepted", "declined", "expired", "withdrawn", "live"]))
    given: dict[str, Any] = {}
    if answer == "accepted":
        given["end"], given["by"], given["stage"] = draw(_ends)
    return Deal(
        answer,
        rival=draw(st.sampled_from(["none", "completed", "cancelled"])),
        service_type=draw(st.sampled_from(list(service_types))),
        market=draw(st.sampled_from(list(markets))),
        ago=timedelta(minutes=draw(st.integers(0, int(within.total_seconds()) // 60))),
        round=draw(st.integers(1, 3)),
        **given,
    )


@dataclass
class Book:
    """Rows to be written at once."""

    jobs: list[tuple[Any, ...]] = field(default_factory=list)
    offers: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)


async def write(
    judge: "asyncpg.Connection[Any]",
    customer: Person,
    provider: Person,
    rival: Person,
    deals: Sequence[Deal],
) -> None:
    """The rows that the server would have after these deals, the first one the oldest of those that are equally old."""
    now: datetime = await judge.fetchval("SELECT clock_timestamp()")
    book = Book()
    for number, one in enumerate(deals):
        at = now - one.ago - timedelta(milliseconds=len(deals) - number)
        _enter(book, customer, provider, rival, one, at)
    await judge.executemany(
        """INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, provider_id, provider_user_id, pickup_lat, pickup_lng,
             pickup_address, coarse, passenger_name, currency, surge_pct, base_minor, distance_minor, time_minor, surge_minor,
             estimated_earnings_minor, ttl_s, created_at, next_search_at, expires_at, completed_at, cancelled_at)
           VALUES ($1, $2, $3, $4::text, $5, $6, $7, $8, $9, 13.75, 100.5, 'x', '{}', 'x', 'THB', 100, 3500, 0, 0, 0, 2800, 600, $10::timestamptz,
             clock_timestamp() + interval '1 day', clock_timestamp() + interval '1 day',
             CASE WHEN $4 = 'completed' THEN $10 END, CASE WHEN $4 = 'cancelled' THEN $10 END)""",
        book.jobs,
    )
    await judge.executemany(
        """INSERT INTO offers (offer_id, job_id, round, provider_id, provider_user_id, status, pickup_distance_m, offered_at, expires_at)
           VALUES ($1, $2, $3, $4, $5, $6, 100, $7::timestamptz, clock_timestamp() + interval '1 day')""",
        book.offers,
    )
    await judge.executemany(
        "INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_role, at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        book.events,
    )


def _enter(book: Book, customer: Person, provider: Person, rival: Person, one: Deal, at: datetime) -> None:
    job_id, events = uuid4(), []
    round, holder = one.round, None
    status = "pending"

    def move(to: str, role: str) -> None:
        nonlocal status
        events.append((job_id, len(events) + 1, None if not events else status, to, round, role, at))
        status = to

    def offer(person: Person, answer: str) -> None:
        book.offers.append((uuid4(), job_id, round, UUID(person.provider_id), person.user_id, answer, at))

    def ride(stage: int) -> None:
        for name in _STAGES[: stage + 1]:
            move(name, "provider")

    move("pending", "customer")
    move("offered", "system")
    offer(provider, one.answer)
    if one.answer == "accepted":
        offer(rival, "withdrawn")
        holder = provider
        ride(one.stage)
        if one.end in ("completed", "cancelled"):
            move(one.end, one.by)
        elif one.end == "released":
            round, holder = round + 1, None
            move("offered", one.by)
            if one.rival != "none":
                offer(rival, "accepted")
                holder = rival
                ride(2)
                move(one.rival, "provider")
    elif one.answer != "live" and one.rival != "none":
        offer(rival, "accepted")
        holder = rival
        ride(2)
        move(one.rival, "provider")
    if holder is None and one.answer != "live":
        move("cancelled", "system")
    holding = (None, None) if holder is None else (UUID(holder.provider_id), holder.user_id)
    book.jobs.append((job_id, one.market, one.service_type, status, round, len(events), customer.user_id, *holding, at))
    book.events += events


async def counted_days(
    judge: "asyncpg.Connection[Any]", aggregates: Aggregates, *, since: datetime | None = None
) -> None:
    """Until a run has ended that began from now on, and has looked at offers from `since` on, if told. The server's own loop may be at it too."""
    async with asyncio.timeout(WITHIN_S):
        while since is not None:
            done = await judge.execute(
                "UPDATE performance_run SET upto = $1 WHERE began_at IS NOT DISTINCT FROM calculated_at", since
            )
            if done == "UPDATE 1":
                break
            await aggregates.run(rest_s=0)
        now: datetime = await judge.fetchval("SELECT clock_timestamp()")
        while not await judge.fetchval("SELECT coalesce(calculated_at >= $1, false) FROM performance_run", now):
            await aggregates.run(rest_s=0)
