"""The final reads of a world, as `bench.faults.reads` takes them from real tables."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from bench.faults.history import Fault, Final, History, digest
from bench.faults.reads import STUCK_S, ends_of, job_of, offer_of, step_of
from bench.faults.standing import standings
from bench.simulation.judge.views import OPEN, is_open

if TYPE_CHECKING:
    from bench.simulation.world import World

_START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_S = 1_000_000_000
_SILENCING = ("postgres_", "worker_freeze", "freeze_at_commit", "phone_")
"""Faults in which a worker or a phone cannot do its part. Redis' troubles give nobody more time, nor a row that is held: telling
needs no lock.
"""


def ns(at: datetime | None) -> int:
    """Virtual nanoseconds of an instant of Postgres' clock; 0: none."""
    return 0 if at is None else (at - _START) // timedelta(microseconds=1) * 1000


def head_of(world: "World", user: UUID) -> int:
    row = world.postgres.tables.rows["inbox_head"].get(user)
    return 0 if row is None else int(row["seq"])


def history_of(world: "World") -> History:
    """All of a run."""
    weather = world.around.weather.all
    return History(ops=world.ops, told=world.told, faults=weather, final=_final(world), silences=_silences(weather))


def _silences(faults: list[Fault]) -> list[tuple[int, int, str]]:
    """While who could hear or say nothing."""
    longer = {"freeze_at_commit": 5 * _S}  # it thaws after its fault has passed
    return [
        (fault.at, fault.until + longer.get(fault.kind, 0), fault.target)
        for fault in faults
        if fault.until and fault.kind.startswith(_SILENCING)
    ]


def _final(world: "World") -> Final:
    rows = world.postgres.tables.rows
    bodies = {
        str(user): [(fact["seq"], fact["name"], orjson.loads(fact["body"])) for fact in kept["rows"]]
        for user, kept in rows["events"].items()
    }
    return Final(
        at=world.around.now_ns,
        jobs=[job_of(job) for job in rows["jobs"].values()],
        steps=[
            step_of(row, ns)
            for row in sorted(rows["job_events"].values(), key=lambda row: (row["job_id"], row["version"]))
        ],
        offers=[offer_of(offer, ns) for offer in rows["offers"].values()],
        events={user: [(seq, digest(name, body)) for seq, name, body in facts] for user, facts in bodies.items()},
        standings={user: standings((name, body) for _, name, body in facts) for user, facts in bodies.items()},
        heads={str(user): row["seq"] for user, row in rows["inbox_head"].items()},
        provider_users=[str(row["user_id"]) for row in rows["providers"].values()],
        shifts_ended=ends_of(
            (
                {"user_id": rows["providers"][row["provider_id"]]["user_id"], "at": row["at"]}
                for row in rows["provider_log"].values()
                if (row["what"], row["actor_role"]) == ("offline", "system")
            ),
            ns,
        ),
        stuck=_stuck(world),
        applied={phone.device: phone.session.seq for phone in world.phones if phone.session.live},
    )


def _stuck(world: "World") -> list[str]:
    """Jobs whose next action is overdue; after a rest also those that somebody free could have had, and trips that stand still."""
    rows = world.postgres.tables.rows
    now = world.postgres.clock()
    found = []
    for job in rows["jobs"].values():
        where = f"{job['id']} {job['status']}, round {job['round']}"
        if job["status"] in OPEN:
            due = job["next_search_at"]
            if due is None or min(due, job["expires_at"]) < now - timedelta(seconds=STUCK_S):
                found.append(f"{where}, next search {due}")
            elif free := _free_for(world, job):
                found.append(f"{where}, though {free} is free")
        elif job["status"] not in ("completed", "cancelled"):
            found.append(f"{where}, its provider drives no more")
    found += _stuck_offers(world)
    found += [f"{phone.device} has no line" for phone in world.phones if not phone.session.live]
    return found + world.unanswered


def _stuck_offers(world: "World") -> Iterator[str]:
    """Live offers that the server ought to have ended: expired, of a job that is not open, to somebody who has had another job since."""
    rows = world.postgres.tables.rows
    late = world.postgres.clock() - timedelta(seconds=STUCK_S)
    moved = {row["job_id"]: row["at"] for row in sorted(rows["job_events"].values(), key=lambda row: row["version"])}
    active = {
        job["provider_id"]: job
        for job in rows["jobs"].values()
        if job["status"] in ("accepted", "arrived", "in_progress")
    }
    for offer in rows["offers"].values():
        if offer["status"] != "live":
            continue
        job, busy = rows["jobs"][offer["job_id"]], active.get(offer["provider_id"])
        if offer["expires_at"] < late:
            yield f"{job['id']} has live offer {offer['offer_id']}, which expired {offer['expires_at']}"
        elif job["status"] not in OPEN and moved[job["id"]] < late:
            yield f"{job['id']} {job['status']}, and offer {offer['offer_id']} is live"
        elif busy is not None and offer["offered_at"] <= busy["accepted_at"] < late:
            yield f"{busy['id']} {busy['status']}, and its provider has live offer {offer['offer_id']}"


def unanswered(world: "World") -> list[str]:
    """Requests that have been asked again and again for so long in good weather, and not decided."""
    late = world.around.now_ns - STUCK_S * _S
    return [
        f"{asking.op.job or asking.op.user}: {asking.op.kind} of {phone.device} is not answered"
        for phone in (*world.phones, world.office)
        for asking in phone.asking.values()
        if asking.op.at < late
    ]


def _free_for(world: "World", job: Any) -> str:
    """Somebody who may be offered this job, is idle and connected."""
    rows = world.postgres.tables.rows
    answered = {
        offer["provider_id"]
        for offer in rows["offers"].values()
        if offer["job_id"] == job["id"] and offer["status"] in ("declined", "accepted")
    }
    for provider in world.providers:
        gate = rows["provider_gate"][provider.provider]
        busy = any(
            other["provider_id"] == provider.provider and other["status"] in ("accepted", "arrived", "in_progress")
            for other in rows["jobs"].values()
        )
        if is_open(gate) and not busy and provider.provider not in answered and provider.session.live:
            return provider.device
    return ""
