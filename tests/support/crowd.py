"""Many approved providers at once, online and believed connected, without a socket each: for races on the services."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Actor
from dispatch.matching.service import Q as MATCHING
from dispatch.providers import seed
from dispatch.providers.model import ProviderState
from protocol.lifecycle import ServiceType
from protocol.resources import JobRequest, Place
from tests.support.server import BANGKOK, Server


@dataclass(frozen=True)
class Racer:
    """A provider as the services see him."""

    actor: Actor
    state: ProviderState

    @property
    def id(self) -> UUID:
        return self.state.id


async def crowd(server: Server, size: int) -> list[Racer]:
    """`size` new approved providers, switched on, with a living connection in Postgres' eyes. Their places are unknown."""
    people = await seed(server.settings, providers=size, customers=0)
    users = [user for _, user in people]
    # A worker of their own that never dies: ours would notice that it does not hold these sockets.
    await server.sql(
        "INSERT INTO workers (id, beat_at) VALUES ('crowd', clock_timestamp() + interval '1 day') ON CONFLICT DO NOTHING"
    )
    await server.sql(
        "INSERT INTO sockets (user_id, device, attempt, worker_id, conn_id) "
        "SELECT u, 'racer', 1, 'crowd', gen_random_uuid() FROM unnest($1::uuid[]) u",
        users,
    )
    await server.sql("UPDATE provider_gate SET online = true WHERE user_id = ANY ($1::uuid[])", users)
    states = {state.user_id: state for state in await server.app.providers.states(users)}
    return [Racer(Actor(user, frozenset({"customer"}), "en"), states[user]) for user in users]


async def lone_job(server: Server, customer: UUID | None = None, *, at: tuple[float, float] = BANGKOK) -> UUID:
    """A job that no search finds by itself: its next search lies far ahead, so the test makes its offers."""
    user = customer or uuid4()
    async with server.app.pg.app() as conn:
        await conn.fetch("SELECT * FROM users_ensure($1, NULL, NULL, NULL)", user)
    searches, server.app.jobs.on_search[:] = server.app.jobs.on_search[:], []
    try:
        answer = await server.app.jobs.create(
            Actor(user, frozenset({"customer"}), "en"),
            JobRequest(service_type=ServiceType.RIDE, pickup=Place(lat=at[0], lng=at[1], address="somewhere")),
            None,
        )
    finally:
        server.app.jobs.on_search[:] = searches
    job_id = (
        await server.sql(
            "UPDATE jobs SET next_search_at = expires_at WHERE customer_id = $1 AND id = $2 RETURNING id",
            user,
            _id(answer.body),
        )
    )[0]["id"]
    return UUID(str(job_id))


def _id(body: bytes) -> UUID:
    import orjson

    return UUID(orjson.loads(body)["id"])


async def offer(
    server: Server, job_id: UUID, racers: Sequence[Racer], *, ttl_s: float = 60.0, at_once: int = 0, round: int = 0
) -> dict[UUID, UUID]:
    """Offer a job to these providers in one round, through the judge's own function; provider id → offer id."""
    async with server.app.pg.system() as conn:
        made = await conn.fetchrow(
            MATCHING["offers_create"],
            job_id,
            round,
            [new_id() for _ in racers],
            [racer.id for racer in racers],
            [100] * len(racers),
            ttl_s,
            at_once,
            5.0,
            15.0,
        )
    assert made is not None and made["word"] == "offered", made
    return dict(zip(made["offered_to"], made["offered"], strict=True))


async def outcome(work: Any) -> str:
    """ "accepted", or the code of the refusal."""
    from dispatch.kit.errors import DispatchError

    try:
        await work
    except DispatchError as refusal:
        status = refusal.details.get("status")
        return f"{refusal.code}:{status}" if status else str(refusal.code)
    return "accepted"


async def until_final(
    server: Server, racer: Racer, job_id: UUID, offer_id: UUID | None, round: int | None = 1, *, key: str | None = None
) -> str:
    """Ask with one id until the answer is final, as a client does."""
    import asyncio

    key = key or str(uuid4())
    while True:
        word = await outcome(server.app.claims.accept(racer.actor, job_id, offer_id, round, key))
        if word != "BUSY":
            return word
        await asyncio.sleep(0)


async def check_invariants(server: Server) -> None:
    """I2 (one job a provider, one provider a job), I4 (accepted only with an accepted offer of that round), I6 (no gap), I1 (by the judge)."""
    two = await server.sql(
        "SELECT provider_id FROM jobs WHERE status IN ('accepted', 'arrived', 'in_progress') GROUP BY provider_id HAVING count(*) > 1"
    )
    assert not two, f"providers with two jobs: {two}"
    without = await server.sql(
        """SELECT j.id FROM jobs j WHERE j.status IN ('accepted', 'arrived', 'in_progress') AND NOT EXISTS (
             SELECT FROM offers o WHERE o.job_id = j.id AND o.round = j.round AND o.provider_id = j.provider_id AND o.status = 'accepted')"""
    )
    assert not without, f"assigned without an accepted offer: {without}"
    winners = await server.sql(
        "SELECT job_id, round FROM offers WHERE status = 'accepted' GROUP BY job_id, round HAVING count(*) > 1"
    )
    assert not winners, f"rounds with two winners: {winners}"
    gaps = await server.sql(
        """SELECT h.user_id, h.seq, count(e.seq) AS n, max(e.seq) AS top FROM inbox_head h LEFT JOIN events e USING (user_id)
           GROUP BY h.user_id, h.seq HAVING count(e.seq) <> h.seq OR max(e.seq) <> h.seq"""
    )
    assert not gaps, f"inboxes with gaps: {gaps}"


def wall() -> datetime:
    return datetime.now(UTC)
