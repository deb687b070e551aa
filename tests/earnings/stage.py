"""Jobs driven to their end, and what the judge's books say of somebody's money."""

from typing import Any
from uuid import UUID, uuid4

from dispatch.kit.postgres import Actor
from protocol.client import Client
from tests.support.server import BANGKOK, Person, Server


async def ride(
    server: Server,
    customer: Person,
    driver: Person,
    phone: Client,
    *,
    metres: float = 0,
    cash: bool = False,
    **given: Any,
) -> dict[str, Any]:
    """A job of this customer that this driver has completed."""
    if cash:
        given["payment_method"] = "cash"
    job = await server.request(customer, **given)
    offer = await driver.inbox.until(
        lambda: next(
            (e.data for e in driver.inbox.events if e.name == "offer.created" and e.data["job"]["id"] == job["id"]),
            None,
        )
    )
    await phone.accept(job["id"], offer["offer_id"])
    await phone.advance(job["id"], "arrived")
    await phone.advance(job["id"], "in_progress")
    done: dict[str, Any] = (await phone.advance(job["id"], "completed", distance_m=metres, duration_s=1))["job"]
    await server.listed(driver)
    return done


async def begun(server: Server, customer: Person, driver: Person, **given: Any) -> UUID:
    """A job of this customer, already on its way with this driver, by the judge's own hand: ready to be completed."""
    job = await server.request(customer, **given)
    await server.sql(
        """UPDATE jobs SET status = 'in_progress', provider_id = $2, provider_user_id = $3, accepted_at = clock_timestamp(),
             started_at = clock_timestamp(), provider_first_name = 'Somchai', next_search_at = NULL, offer_deadline = NULL WHERE id = $1""",
        UUID(job["id"]),
        UUID(driver.provider_id),
        driver.user_id,
    )
    return UUID(job["id"])


async def completed(server: Server, customer: Person, driver: Person, *, key: str | None = None, **given: Any) -> UUID:
    """The same, completed by its driver over HTTP."""
    job_id = await begun(server, customer, driver, to=None, **given)
    await driver.http.call("POST", f"/v1/jobs/{job_id}/advance", {"to": "completed"}, key=key)
    return job_id


async def balances(server: Server, person: Person) -> dict[str, int]:
    """Kind of account → balance of what this person has."""
    rows = await server.sql(
        "SELECT kind, sum(balance)::bigint AS n FROM ledger_account WHERE owner_id = $1 GROUP BY kind", person.user_id
    )
    return {row["kind"]: row["n"] for row in rows}


async def platform(server: Server, kind: str) -> int:
    """Balance of one of the platform's accounts, all shards."""
    rows = await server.sql(
        "SELECT coalesce(sum(balance), 0)::bigint AS n FROM ledger_account WHERE kind = $1 AND owner_id IS NULL", kind
    )
    return int(rows[0]["n"])


def key() -> str:
    return str(uuid4())


def acting(person: Person) -> Actor:
    return Actor(person.user_id, frozenset(person.roles), "en")


HERE = BANGKOK
