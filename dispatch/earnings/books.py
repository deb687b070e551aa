"""Earnings held against jobs and the ledger: what does not agree. For the server, by a connection of the system role; nothing is changed."""

from dataclasses import dataclass
from uuid import UUID

from dispatch.earnings.store import Q
from dispatch.kit.postgres import Tx


@dataclass(frozen=True, slots=True)
class JobUnpaid:
    """A completed job without its one earning (`earning_id` None), or with one that says something else, or an earning of a job that is not
    completed (`status` None).
    """

    job_id: UUID
    status: str | None
    job_minor: int | None
    earning_id: UUID | None
    earning_minor: int | None


@dataclass(frozen=True, slots=True)
class EarningUnposted:
    """An earning that says something else than what its posting moved of the owner's money, or of the fees; or a posting without an earning."""

    earning_id: UUID | None
    txn_id: int | None
    said_minor: int | None
    moved_minor: int
    said_fee_minor: int | None
    moved_fee_minor: int


@dataclass(frozen=True, slots=True)
class TotalWrong:
    """A lifetime sum that is not that of its rows. None: there is no such sum, or no such row."""

    provider_id: UUID
    currency: str
    service_type: str | None
    said_jobs: int | None
    jobs: int | None
    said_minor: int | None
    net_minor: int | None


@dataclass(frozen=True, slots=True)
class SumWrong:
    """An earning whose running sum is not that of the rows up to it."""

    earning_id: UUID
    said_minor: int
    real_minor: int


async def jobs_unpaid(conn: Tx, limit: int) -> list[JobUnpaid]:
    """Up to `limit` jobs. One pass over both tables."""
    return [JobUnpaid(**row) for row in await conn.fetch(Q["jobs_unpaid"], limit)]


async def earnings_unposted(conn: Tx, limit: int) -> list[EarningUnposted]:
    """Up to `limit` earnings. One pass over the earnings and the ledger's entries."""
    return [EarningUnposted(**row) for row in await conn.fetch(Q["earnings_unposted"], limit)]


async def totals_wrong(conn: Tx, limit: int) -> list[TotalWrong]:
    """Up to `limit` lifetime sums."""
    return [TotalWrong(**row) for row in await conn.fetch(Q["totals_wrong"], limit)]


async def sums_wrong(conn: Tx, limit: int) -> list[SumWrong]:
    """Up to `limit` earnings."""
    return [SumWrong(**row) for row in await conn.fetch(Q["sums_wrong"], limit)]
