"""What the judge holds when everything has healed and come to rest."""

import re
import time
from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from bench.faults.history import Balance, Entry, Final, Job, Offer, Step, digest

_JOB = re.compile(r"^job:([0-9a-f-]{36})")
READ_WITHIN_S = 120.0

STUCK = """
SELECT id, status, round, next_search_at, offer_deadline, expires_at FROM jobs
WHERE status IN ('pending', 'offered') AND (next_search_at IS NULL OR next_search_at < clock_timestamp() - interval '10 s'
  OR expires_at < clock_timestamp() - interval '10 s')
"""
ENTRIES = """
SELECT e.txn_id, t.kind, t.ref, a.kind AS account, a.owner_id, a.asset, a.shard, e.amount
FROM ledger_entry e JOIN ledger_txn t ON t.id = e.txn_id JOIN ledger_account a ON a.id = e.account_id
ORDER BY e.txn_id, e.leg, e.amount
"""


def ns(at: datetime | None) -> int:
    """Wall-clock nanoseconds; 0 for none. Postgres keeps microseconds."""
    return 0 if at is None else int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000


def _id(value: UUID | None) -> str:
    return "" if value is None else str(value)


def _account(kind: str, row: Any) -> str:
    shard = f"/{row['shard']}" if row["shard"] else ""
    return f"{kind}:{_id(row['owner_id'])}{shard}"


async def read(url: str, *, books: list[str], applied: dict[str, int]) -> Final:
    """All of it, in one snapshot, past all proxies. `url` is a superuser's: row security hides nothing from him."""
    conn = await asyncpg.connect(url, server_settings={"search_path": "dispatch", "jit": "off"}, command_timeout=READ_WITHIN_S)
    try:
        await conn.set_type_codec("json", schema="pg_catalog", format="text", encoder=str, decoder=str)
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            final = Final(at=time.time_ns(), books=books, applied=applied)
            await _jobs(conn, final)
            await _events(conn, final)
            await _money(conn, final)
            final.provider_users = [str(row["user_id"]) for row in await conn.fetch("SELECT user_id FROM providers")]
            final.stuck = [" ".join(str(value) for value in row.values()) for row in await conn.fetch(STUCK)]
            return final
    finally:
        await conn.close()


async def _jobs(conn: Any, final: Final) -> None:
    for row in await conn.fetch(
        "SELECT id, status, round, version, customer_id, provider_user_id, accept_id FROM jobs ORDER BY id"
    ):
        final.jobs.append(
            Job(
                id=str(row["id"]),
                status=row["status"],
                round=row["round"],
                version=row["version"],
                customer=str(row["customer_id"]),
                holder=_id(row["provider_user_id"]),
            )
        )
    for row in await conn.fetch(
        "SELECT job_id, version, from_status, to_status, round, actor_id, actor_role, at FROM job_events ORDER BY job_id, version"
    ):
        final.steps.append(
            Step(
                job=str(row["job_id"]),
                version=row["version"],
                was=row["from_status"] or "",
                to=row["to_status"],
                round=row["round"],
                actor=_id(row["actor_id"]),
                role=row["actor_role"],
                at=ns(row["at"]),
            )
        )
    for row in await conn.fetch(
        "SELECT offer_id, job_id, round, provider_user_id, status, offered_at, expires_at, responded_at FROM offers ORDER BY offer_id"
    ):
        final.offers.append(
            Offer(
                id=str(row["offer_id"]),
                job=str(row["job_id"]),
                round=row["round"],
                user=str(row["provider_user_id"]),
                status=row["status"],
                at=ns(row["offered_at"]),
                expires=ns(row["expires_at"]),
                responded=ns(row["responded_at"]),
            )
        )


async def _events(conn: Any, final: Final) -> None:
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    async for row in conn.cursor("SELECT user_id, seq, name, body FROM events ORDER BY user_id, seq", prefetch=5_000):
        found[str(row["user_id"])].append((row["seq"], digest(row["name"], msgspec.json.decode(row["body"]))))
    final.events = dict(found)
    final.kept_from = {user: rows[0][0] for user, rows in found.items() if rows[0][0] > 1}


async def _money(conn: Any, final: Final) -> None:
    for row in await conn.fetch(ENTRIES):
        job = _JOB.match(row["ref"] or "")
        final.entries.append(
            Entry(
                transaction=str(row["txn_id"]),
                kind=row["kind"],
                account=_account(row["account"], row),
                currency=row["asset"],
                amount=row["amount"],
                job=job[1] if job else "",
            )
        )
    for row in await conn.fetch("SELECT kind, owner_id, asset, shard, balance, min_balance FROM ledger_account"):
        final.balances.append(
            Balance(
                account=_account(row["kind"], row), currency=row["asset"], amount=row["balance"], floor=row["min_balance"]
            )
        )
