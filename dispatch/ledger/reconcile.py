"""The books against themselves and against the outside world. Differences are told, and corrected by postings only."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatch.kit.postgres import Tx
from dispatch.ledger.model import Kind
from dispatch.ledger.store import Q

CLEARING = (Kind.RIDE_CLEARING, Kind.STRIPE_CLEARING, Kind.BANK_CLEARING)
SHOWN_MAX = 1_000
"""Of each check: who has more has one trouble, not so many."""
LOT_GRACE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that does not add up. `check` is the letter of the check, `facts` what it was found by."""

    check: str
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """What an owner had in one account at a moment, in minor units of `asset`."""

    kind: str
    asset: str
    balance_minor: int
    entries: int
    last_at: datetime | None


Export = Mapping[tuple[str, str], int]
"""(reference, asset) → what the outside world says came to us (+) or left us (-) under it, in minor units."""


async def reconcile(conn: Tx) -> AsyncIterator[Difference]:
    """Checks (a) to (e) and (h): nothing comes out where the books are in order. One snapshot: call it in a repeatable-read transaction."""
    for row in await conn.fetch(Q["accounts_off"], SHOWN_MAX):
        facts = {"account": row["id"], "kind": row["kind"], "owner": row["owner_id"], "asset": row["asset"]}
        if row["balance"] != row["total"]:
            yield Difference(
                "a", "a balance is not the sum of its entries", facts | {"balance": row["balance"], "sum": row["total"]}
            )
        if row["version"] != row["n"]:
            yield Difference(
                "b", "a version is not the number of entries", facts | {"version": row["version"], "entries": row["n"]}
            )
        if row["broken"]:
            yield Difference("e", "entries do not follow one another", facts | {"entries": row["broken"]})
    for row in await conn.fetch(Q["txns_off"], SHOWN_MAX):
        what = "a transaction has no entries" if row["leg"] is None else "a leg does not sum to zero"
        facts = {"txn": row["id"], "kind": row["kind"], "key": row["idem_key"]}
        yield Difference("c", what, facts | ({} if row["leg"] is None else {"leg": row["leg"], "sum": row["total"]}))
    for row in await conn.fetch(Q["assets_off"]):
        yield Difference("d", "an asset does not sum to zero", {"asset": row["asset"], "sum": row["total"]})
    for row in await conn.fetch(Q["lots_left"], LOT_GRACE_S, SHOWN_MAX):
        facts = {"account": row["id"], "kind": row["kind"], "owner": row["owner_id"], "balance": row["balance"]}
        yield Difference("h", "a lot has ended and still holds something", facts | {"expired_at": row["expires_at"]})


async def unsettled(conn: Tx, kind: Kind, export: Export, *, before: datetime) -> AsyncIterator[Difference]:
    """Check (i) of one clearing account against the outside world's own list: a reference nets to zero with what that says.

    What we have posted since `before` may still be on its way; what the list says and we have not posted is a difference at once.
    """
    left = dict(export)
    shown = 0
    async for row in conn.cursor(Q["clearing_of"], str(kind), before, prefetch=1_000):
        known = left.pop((row["ref"] or "", row["asset"]), None)
        settled = -(known or 0)
        if settled not in (row["amount"], row["late"]) and (shown := shown + 1) <= SHOWN_MAX:
            facts = {
                "account": kind,
                "ref": row["ref"],
                "asset": row["asset"],
                "posted": row["amount"],
                "outside": known,
            }
            yield Difference(
                "i", "a reference does not net to zero with the outside world", facts | {"since": row["since"]}
            )
    for (ref, asset), amount in left.items():
        if amount and (shown := shown + 1) <= SHOWN_MAX:
            facts = {"account": kind, "ref": ref, "asset": asset, "posted": None, "outside": amount}
            yield Difference("i", "the outside world knows of what we never posted", facts)


async def clearing(conn: Tx) -> list[dict[str, Any]]:
    """What each clearing account has open in all."""
    return [dict(row) for row in await conn.fetch(Q["clearing_totals"], [str(kind) for kind in CLEARING])]


async def counts(conn: Tx) -> dict[str, int]:
    """Accounts, transactions and entries that there are."""
    row = await conn.fetchrow(Q["counts"])
    assert row is not None
    return {"accounts": row["accounts"], "txns": row["txns"], "entries": row["entries"]}


async def statement(conn: Tx, owner_id: UUID, at: datetime) -> list[Held]:
    """What `owner_id` had at that moment, by account; out of the entries alone."""
    return [
        Held(row["kind"], row["asset"], row["balance"], row["entries"], row["last_at"])
        for row in await conn.fetch(Q["statement"], owner_id, at)
    ]
