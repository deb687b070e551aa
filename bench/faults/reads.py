"""The final reads: what the judge's own tables say when everything has come to rest."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from bench.faults.history import Balance, Entry, Final, Job, Offer, Step, digest

Row = Any
"""A record of asyncpg or a dict: what has its columns by name."""
Instant = Callable[[datetime | None], int]

STUCK_S = 10
"""A job whose next action is overdue by more than this is stuck: I9."""


async def final(conn: "asyncpg.Connection[Any]", *, at: int | None = None) -> Final:
    """All of it, in one snapshot, as the owner of the tables. `at`: the clients' clock, ns; now unless told.

    Neither `applied` nor `books` is known here: phones and `dispatch ledger reconcile` say those.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        events: dict[str, list[tuple[int, str]]] = {}
        for row in await conn.fetch(
            "SELECT user_id, seq, name, body::text AS body FROM dispatch.events ORDER BY user_id, seq"
        ):
            said = digest(row["name"], msgspec.json.decode(row["body"]))
            events.setdefault(str(row["user_id"]), []).append((row["seq"], said))
        return Final(
            at=time.time_ns() if at is None else at,
            jobs=[
                job_of(row)
                for row in await conn.fetch(
                    "SELECT id, status, round, version, customer_id, provider_user_id, accept_id FROM dispatch.jobs"
                )
            ],
            steps=[
                step_of(row)
                for row in await conn.fetch(
                    "SELECT job_id, version, from_status, to_status, round, actor_id, actor_role, at FROM dispatch.job_events ORDER BY job_id, version"
                )
            ],
            offers=[
                offer_of(row)
                for row in await conn.fetch(
                    "SELECT offer_id, job_id, round, provider_user_id, status, offered_at, expires_at, responded_at FROM dispatch.offers"
                )
            ],
            events=events,
            heads={
                str(row["user_id"]): row["seq"]
                for row in await conn.fetch("SELECT user_id, seq FROM dispatch.inbox_head")
            },
            paid=True,
            provider_users=[str(row["user_id"]) for row in await conn.fetch("SELECT user_id FROM dispatch.providers")],
            shifts_ended=ends_of(
                await conn.fetch(
                    "SELECT p.user_id, l.at FROM dispatch.provider_log l JOIN dispatch.providers p ON p.id = l.provider_id "
                    "WHERE l.what = 'offline' AND l.actor_role = 'system' ORDER BY l.at"
                )
            ),
            entries=[
                Entry(
                    transaction=str(row["txn_id"]),
                    kind=row["kind"],
                    account=str(row["account_id"]),
                    currency=row["asset"],
                    amount=row["amount"],
                    job=row["ref"].removeprefix("job:") if (row["ref"] or "").startswith("job:") else "",
                )
                for row in await conn.fetch(
                    "SELECT e.txn_id, t.kind, e.account_id, a.asset, e.amount, t.ref FROM dispatch.ledger_entry e "
                    "JOIN dispatch.ledger_txn t ON t.id = e.txn_id JOIN dispatch.ledger_account a ON a.id = e.account_id"
                )
            ],
            balances=[
                Balance(account=str(row["id"]), currency=row["asset"], amount=row["balance"], floor=row["min_balance"])
                for row in await conn.fetch("SELECT id, asset, balance, min_balance FROM dispatch.ledger_account")
            ],
            stuck=[
                f"{row['id']} {row['status']}, next search {row['next_search_at']}, expires {row['expires_at']}"
                for row in await conn.fetch(
                    "SELECT id, status, next_search_at, expires_at FROM dispatch.jobs WHERE status IN ('pending', 'offered') "
                    "AND (next_search_at IS NULL OR least(next_search_at, expires_at) < clock_timestamp() - make_interval(secs => $1))",
                    STUCK_S,
                )
            ],
        )


def wall_ns(at: datetime | None) -> int:
    """Nanoseconds since 1970; 0: none. Microseconds are whole, a float of seconds would round them."""
    return 0 if at is None else int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1_000


def job_of(row: Row) -> Job:
    """Out of a row of `jobs`, a real one or the simulator's."""
    return Job(
        id=str(row["id"]),
        status=row["status"],
        round=row["round"],
        version=row["version"],
        customer=str(row["customer_id"]),
        holder=_text(row["provider_user_id"]),
        key=_text(row["accept_id"]),
    )


def step_of(row: Row, ns: Instant = wall_ns) -> Step:
    """Out of a row of `job_events`. `ns` tells an instant on the clock of the run."""
    return Step(
        job=str(row["job_id"]),
        version=row["version"],
        was=row["from_status"] or "",
        to=row["to_status"],
        round=row["round"],
        actor=_text(row["actor_id"]),
        role=row["actor_role"],
        at=ns(row["at"]),
    )


def offer_of(row: Row, ns: Instant = wall_ns) -> Offer:
    """Out of a row of `offers`."""
    return Offer(
        id=str(row["offer_id"]),
        job=str(row["job_id"]),
        round=row["round"],
        user=str(row["provider_user_id"]),
        status=row["status"],
        at=ns(row["offered_at"]),
        expires=ns(row["expires_at"]),
        responded=ns(row["responded_at"]),
    )


def ends_of(rows: Iterable[Row], ns: Instant = wall_ns) -> dict[str, list[int]]:
    """Out of the rows of `provider_log` that end a shift: user_id and at."""
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(str(row["user_id"]), []).append(ns(row["at"]))
    return found


def _text(value: UUID | None) -> str:
    return "" if value is None else str(value)
