"""The end of a run for the books: the operator's command says whether they add up, and what phones were told is held against them."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

RECONCILE_WITHIN_S = 120.0

_WALLETS = """
SELECT a.owner_id::text AS user_id, a.asset, a.balance, (SELECT max(e.seq) FROM dispatch.events e WHERE e.user_id = a.owner_id AND e.name = 'wallet.updated') AS seq
FROM dispatch.ledger_account a WHERE a.kind = 'wallet'
"""
_EARNED = """
SELECT currency, sum(net_minor)::bigint AS net, sum(platform_fee_minor)::bigint AS fees, count(*) FILTER (WHERE kind = 'job') AS jobs,
  count(DISTINCT user_id) AS drivers, (SELECT max(t) FROM (SELECT sum(net_minor)::bigint AS t FROM dispatch.earnings m WHERE m.currency = e.currency GROUP BY user_id) s) AS best
FROM dispatch.earnings e GROUP BY currency ORDER BY currency
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver's phone was last told of one of his wallets: in event `seq`, so much available."""

    seq: int
    available_minor: int


@dataclass(frozen=True, slots=True)
class Books:
    """`differences` None: reconcile could not run. Money in minor units by currency."""

    differences: int | None = None
    entries: int = 0
    told_wrong: int = 0
    earned: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return self.differences == 0 and not self.told_wrong


async def books(database_url: str, told: Mapping[tuple[str, str], Told]) -> Books:
    """Compare and add up. `told` by (user, currency). What is still on its way to a phone is not held against it."""
    connection = await asyncpg.connect(database_url)
    try:
        wallets = await connection.fetch(_WALLETS)
        earned = await connection.fetch(_EARNED)
    finally:
        await connection.close()
    # After the sums: jobs that complete meanwhile are in the books then, and never the other way round.
    code, lines = await _reconciled(database_url)
    wrong = sum(
        heard.seq == row["seq"] and heard.available_minor != row["balance"]
        for row in wallets
        if (heard := told.get((row["user_id"], row["asset"]))) is not None
    )
    summary: dict[str, Any] = orjson.loads(lines[-1])["summary"] if code in (0, 1) else {}
    return Books(
        summary.get("differences"),
        summary.get("entries", 0),
        wrong,
        {row["currency"]: {name: row[name] for name in ("net", "fees", "jobs", "drivers", "best")} for row in earned},
    )


async def _reconciled(database_url: str) -> tuple[int, list[bytes]]:
    """`dispatch ledger reconcile`, as an operator runs it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCH_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatch", "ledger", "reconcile",
        env=environment | {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(RECONCILE_WITHIN_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.splitlines()
