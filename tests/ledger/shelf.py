"""A ledger without a server around it: postings as the system role, and a pure model of the same."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from dispatch.kit.postgres import Postgres
from dispatch.ledger import Account, Kind, Leg, Posted, post, reconcile

THB = "THB"


def wallet(owner: UUID) -> Account:
    return Account(Kind.WALLET, owner)


CLEARING = Account(Kind.RIDE_CLEARING)
FEE = Account(Kind.PLATFORM_FEE)


@dataclass
class Shelf:
    pg: Postgres

    async def post(
        self, key: str, legs: Sequence[Leg], *, kind: str = "test", asset: str = THB, **given: object
    ) -> Posted:
        async with self.pg.system_tx() as tx:
            return await post(tx, kind, key, asset, legs, **given)  # type: ignore[arg-type]

    async def fund(self, owner: UUID, minor: int, *, asset: str = THB) -> None:
        await self.post(f"fund:{owner}:{asset}", [Leg(CLEARING, wallet(owner), minor)], asset=asset)

    async def balances(self, owner: UUID) -> Mapping[str, int]:
        async with self.pg.system() as conn:
            rows = await conn.fetch(
                "SELECT kind, sum(balance)::bigint AS b FROM ledger_account WHERE owner_id = $1 GROUP BY kind", owner
            )
        return {row["kind"]: row["b"] for row in rows}

    async def total(self, kind: Kind, asset: str = THB) -> int:
        async with self.pg.system() as conn:
            return int(
                await conn.fetchval(
                    "SELECT coalesce(sum(balance), 0) FROM ledger_account WHERE kind = $1 AND asset = $2",
                    str(kind),
                    asset,
                )
            )

    async def count(self, table: str) -> int:
        async with self.pg.system() as conn:
            return int(await conn.fetchval(f"SELECT count(*) FROM {table}"))

    async def differences(self) -> list[object]:
        async with self.pg.system_tx() as tx:
            return [one async for one in reconcile(tx)]


@asynccontextmanager
async def shelf_at(url: str, *, size: int = 20) -> AsyncIterator[Shelf]:
    async with Postgres.open(url, size=size) as pg:
        yield Shelf(pg)


@dataclass
class Model:
    """What the ledger promises, in a few lines: keys once, all legs or none, floors."""

    floors: Mapping[Kind, int]
    balances: dict[Account, int] = field(default_factory=lambda: defaultdict(int))
    keys: dict[str, tuple[Leg, ...]] = field(default_factory=dict)

    def post(self, key: str, legs: Sequence[Leg]) -> str:
        """posted, replayed, reused, bad or floor."""
        if key in self.keys:
            return "replayed" if self.keys[key] == tuple(legs) else "reused"
        if not legs or any(leg.amount_minor <= 0 or leg.src == leg.dst for leg in legs):
            return "bad"
        after = dict(self.balances)
        for leg in legs:
            after[leg.src] = after.get(leg.src, 0) - leg.amount_minor
            after[leg.dst] = after.get(leg.dst, 0) + leg.amount_minor
        if any(
            account.kind in self.floors and balance < self.floors[account.kind] for account, balance in after.items()
        ):
            return "floor"
        self.balances.update(after)
        self.keys[key] = tuple(legs)
        return "posted"
