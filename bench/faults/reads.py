"""The final reads: what the judge's own tables say when everything has come to rest."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from bench.faults.history import Balance, Entry, Final, Job, Kept, Offer, Step, Withdrawal, digest
from bench.faults.standing import standings
from bench.faults.tables import said

Row = Any
"""A record of asyncpg or a dict: what has its columns by name."""
Instant = Callable[[datetime | None], int]

STUCK_S = 10
"""A job whose next action is overdue by more than this is stuck: I9."""
GONE_S = 45
"""Without a socket for so long a provider loses his job: the settings' `gone_after_s`."""

STUCK = """
WITH t AS (SELECT clock_timestamp() AS now, make_interval(secs => $1) AS late, make_interval(secs => $2) AS gone)
-- Nobody looks at it any more, or ought to have: `jobs_due` takes what is due.
SELECT j.id || ' ' || j.status || ', next search ' || coalesce(j.next_search_at::text, 'never') || ', expires ' || j.expires_at
FROM dispatch.jobs j, t WHERE j.status IN ('pending', 'offered') AND (j.next_search_at IS NULL OR least(j.next_search_at, j.expires_at) < now - late)
UNION ALL
-- Nobody can accept it, and nobody looks for somebody who can. At rest (`jobs_rest`), until it expires, it had all its rounds.
SELECT j.id || ' ' || j.status || ', on offer to nobody, next search ' || j.next_search_at
FROM dispatch.jobs j, t WHERE j.status IN ('pending', 'offered') AND j.next_search_at > now + late AND j.next_search_at < j.expires_at
  AND NOT EXISTS (SELECT FROM dispatch.offers o WHERE o.job_id = j.id AND o.status = 'live')
UNION ALL
-- What `offers_lapse` settles.
SELECT o.job_id || ' has live offer ' || o.offer_id || ', which expired ' || o.expires_at
FROM dispatch.offers o, t WHERE o.status = 'live' AND o.expires_at < now - late
UNION ALL
-- What the reconciler settles: `offers_left_open`.
SELECT o.job_id || ' ' || j.status || ', and offer ' || o.offer_id || ' is live'
FROM dispatch.offers o JOIN dispatch.jobs j ON j.id = o.job_id, t WHERE o.status = 'live' AND j.status NOT IN ('pending', 'offered')
  AND (SELECT max(e.at) FROM dispatch.job_events e WHERE e.job_id = j.id) < now - late
UNION ALL
SELECT b.id || ' ' || b.status || ', and its provider has live offer ' || o.offer_id
FROM dispatch.offers o JOIN dispatch.jobs b ON b.provider_id = o.provider_id AND b.status IN ('accepted', 'arrived', 'in_progress'), t
WHERE o.status = 'live' AND o.offered_at <= b.accepted_at AND b.accepted_at < now - late
UNION ALL
-- What the presence sweeper ends before pickup (`providers_gone`), and what needs a person after it (`jobs_stuck`).
SELECT j.id || ' ' || j.status || ', and its provider has been gone since before ' || now - gone
FROM dispatch.jobs j JOIN dispatch.provider_gate g ON g.provider_id = j.provider_id, t WHERE j.status IN ('accepted', 'arrived', 'in_progress')
  AND greatest(g.changed_at, j.accepted_at) < now - gone - late
  AND NOT EXISTS (SELECT FROM dispatch.sockets s LEFT JOIN dispatch.workers w ON w.id = s.worker_id WHERE s.user_id = g.user_id
                  AND coalesce(s.lost_at, w.beat_at, s.connected_at) > now - gone - late)
UNION ALL
-- A suspension ends his job in its own transaction.
SELECT j.id || ' ' || j.status || ', and its provider is ' || g.status
FROM dispatch.jobs j JOIN dispatch.provider_gate g ON g.provider_id = j.provider_id, t WHERE j.status IN ('accepted', 'arrived', 'in_progress')
  AND g.status NOT IN ('approved', 'active')
"""
"""Jobs that no part of the server will ever move again, or that it should have moved long ago: $1 is how late, $2 when he is gone, s."""


async def final(conn: "asyncpg.Connection[Any]", *, at: int | None = None) -> Final:
    """All of it, in one snapshot, as the owner of the tables. `at`: the clients' clock, ns; now unless told.

    Neither `applied` nor `books` is known here: phones and `dispatch ledger reconcile` say those.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        events: dict[str, list[tuple[int, str]]] = {}
        bodies: dict[str, list[tuple[str, Any]]] = {}
        for row in await conn.fetch(
            "SELECT user_id, seq, name, body::text AS body FROM dispatch.events ORDER BY user_id, seq"
        ):
            user, name, body = str(row["user_id"]), row["name"], msgspec.json.decode(row["body"])
            events.setdefault(user, []).append((row["seq"], digest(name, body)))
            bodies.setdefault(user, []).append((name, body))
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
            standings={user: standings(said) for user, said in bodies.items()},
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
            stuck=[row[0] for row in await conn.fetch(STUCK, STUCK_S, GONE_S)],
            kept=[
                kept_of(row)
                for row in await conn.fetch("SELECT user_id, key, response, at FROM dispatch.idem ORDER BY at")
            ],
            withdrawals=[
                withdrawal_of(row)
                for row in await conn.fetch(
                    "SELECT id, user_id, bank_account_id, amount_minor, currency FROM dispatch.withdrawals"
                )
            ],
            providers={
                str(row["user_id"]): row["status"]
                for row in await conn.fetch("SELECT user_id, status FROM dispatch.providers")
            },
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


def kept_of(row: Row) -> Kept:
    """Out of a row of `idem`."""
    answer = msgspec.json.decode(row["response"])
    return Kept(
        user=str(row["user_id"]),
        key=row["key"],
        at=wall_ns(row["at"]),
        answer=said(answer),
        withdrawal=str(answer.get("withdrawal_id", "")) if isinstance(answer, dict) else "",
    )


def withdrawal_of(row: Row) -> Withdrawal:
    """Out of a row of `withdrawals`."""
    amount, currency = row["amount_minor"], row["currency"]
    asked = {"amount_minor": amount, "bank_account_id": str(row["bank_account_id"]), "currency": currency}
    return Withdrawal(
        id=str(row["id"]),
        user=str(row["user_id"]),
        amount=amount,
        currency=currency,
        asked=digest("withdraw", asked),
    )


def _text(value: UUID | None) -> str:
    return "" if value is None else str(value)
