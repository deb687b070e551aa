"""Jobs brought to their end, and what the judge's books say of somebody's money."""

from typing import Any
from uuid import UUID, uuid4

from dispatch.earnings import earnings_unposted, jobs_unpaid, sums_wrong, totals_wrong
from dispatch.ledger import Account, Kind, Leg, post
from tests.support.server import Person, Server

BEGIN = """UPDATE jobs SET status = 'in_progress', provider_id = $2, provider_user_id = $3, provider_first_name = 'Somchai',
  accepted_at = clock_timestamp(), started_at = clock_timestamp() - make_interval(secs => $4), trail_m = $5, surge_pct = $6,
  payment_method = $7, next_search_at = NULL, offer_deadline = NULL WHERE id = $1"""


async def begun(
    server: Server,
    customer: Person,
    driver: Person,
    *,
    riding_s: float = 0,
    metres: float = 0,
    surge_pct: int = 100,
    cash: bool = False,
    **given: Any,
) -> UUID:
    """A job of this customer on its way with this driver, by the judge's own hand: ready to be completed.

    However slow the machine is, 0 seconds stay 0: the trip begins only in an hour. Others have nine tenths of a second.
    """
    job = await server.request(customer, to=None, **given)
    method = "cash" if cash else "cashless"
    await server.sql(
        BEGIN,
        UUID(job["id"]),
        UUID(driver.provider_id),
        driver.user_id,
        riding_s - 0.4 if riding_s else -3600.0,
        metres,
        surge_pct,
        method,
    )
    return UUID(job["id"])


async def finished(driver: Person, job_id: UUID, *, key: str | None = None) -> dict[str, Any]:
    """The driver says that the job is done."""
    return await driver.http.call("POST", f"/v1/jobs/{job_id}/advance", {"to": "completed"}, key=key)


async def completed(server: Server, customer: Person, driver: Person, **given: Any) -> UUID:
    """A job of this customer that this driver has completed; a fare of 35 baht unless told otherwise."""
    job_id = await begun(server, customer, driver, **given)
    await finished(driver, job_id)
    return job_id


async def balances(server: Server, person: Person) -> dict[str, int]:
    """Kind of account → what this person has in it; nothing is left out but zeros."""
    rows = await server.sql(
        "SELECT kind, sum(balance)::bigint AS n FROM ledger_account WHERE owner_id = $1 GROUP BY kind", person.user_id
    )
    return {row["kind"]: row["n"] for row in rows if row["n"]}


async def platform(server: Server) -> dict[str, int]:
    """The same of the platform and of the outside world, all shards together."""
    rows = await server.sql(
        "SELECT kind, sum(balance)::bigint AS n FROM ledger_account WHERE owner_id IS NULL GROUP BY kind"
    )
    return {row["kind"]: row["n"] for row in rows if row["n"]}


async def paid_out(server: Server, person: Person, amount_minor: int) -> None:
    """Take so much out of his wallet, as a completed withdrawal would."""
    async with server.app.pg.system_tx() as tx:
        legs = [Leg(Account(Kind.WALLET, person.user_id), Account(Kind.BANK_CLEARING), amount_minor)]
        await post(tx, "payout", f"test:{uuid4()}", "THB", legs)


async def check_books(server: Server) -> None:
    """What reconcile asks: jobs, earnings, postings and sums agree."""
    async with server.app.pg.system() as conn:
        for question in (jobs_unpaid, earnings_unposted, totals_wrong, sums_wrong):
            assert await question(conn, 10) == []
