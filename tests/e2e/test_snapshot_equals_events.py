"""The one sentence of resume: an old snapshot with the later events applied equals a fresh snapshot, at every step of a life."""

import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
import pytest

from bench.faults.standing import Standing
from protocol.errors import Denied
from protocol.lifecycle import FINAL
from tests.support.server import Person, Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(
        database_url,
        redis_url,
        workers=2,
        markets={
            "bkk": {"offer_ttl_s": 1.0, "research_s": 0.2, "lapse_cooldown_s": 0.2, "redispatch": True, "wave_size": 2}
        },
    ) as running:
        yield running


class Folded:
    """What an app shows that keeps a snapshot and applies events."""

    def __init__(self, person: Person) -> None:
        self.person = person
        first = person.inbox.snapshots[0]
        self.seq = first.seq
        self.standing = Standing(first.provider, first.jobs, first.offers)

    def upto(self, seq: int) -> Standing:
        """After applying all events up to `seq`."""
        for event in self.person.inbox.events:
            if not self.seq < event.seq <= seq:
                continue
            assert event.seq == self.seq + 1, "no gap"
            self.seq = event.seq
            self.standing.apply(event.name, event.data)
        return self.standing


async def compare(server: Server, folded: Folded) -> None:
    """Take a fresh snapshot from the judge, wait for its seq to arrive, and compare."""
    fresh = await server.app.matching.state_of(folded.person.user_id)
    await folded.person.inbox.until(
        lambda: fresh.seq == folded.seq or any(e.seq >= fresh.seq for e in folded.person.inbox.events) or fresh.seq == 0
    )
    shown = folded.upto(fresh.seq)
    assert (None if fresh.provider is None else orjson.loads(fresh.provider)) == shown.provider
    assert {job["id"]: job for job in map(orjson.loads, fresh.jobs)} == shown.jobs
    offers = {offer["offer_id"]: offer for offer in map(orjson.loads, fresh.offers)}
    missing = shown.offers.keys() - offers.keys()
    assert shown.offers == offers | {offer_id: shown.offers[offer_id] for offer_id in missing}
    # Only what somebody else has by now, and is withdrawn in a moment.
    gone = await server.sql(
        "SELECT DISTINCT o.offer_id FROM offers o JOIN job_events e ON e.job_id = o.job_id AND e.round >= o.round "
        "WHERE o.offer_id = ANY ($1) AND e.to_status NOT IN ('pending', 'offered')",
        [UUID(offer_id) for offer_id in missing],
    )
    assert len(gone) == len(missing)


@pytest.mark.parametrize("seed", range(6))
async def test_snapshot_and_events_equal_a_fresh_snapshot(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    customers = [await server.person() for _ in range(2)]
    admin = await server.admin()
    async with (
        server.working() as (one, first),
        server.working(worker=1) as (two, second),
        server.working() as (three, third),
        customers[0].connected() as _,
        customers[1].connected(worker=1) as _,
    ):
        drivers = [(one, first), (two, second), (three, third)]
        everybody = [Folded(person) for person in [one, two, three, *customers]]
        for _ in range(40):
            driver, phone = chance.choice(drivers)
            customer = chance.choice(customers)
            mine = [job for job in await _jobs(driver) if job["status"] in ("accepted", "arrived", "in_progress")]
            theirs = [job for job in await _jobs(customer) if job["status"] not in FINAL]
            what = chance.choice(
                ["request"] * 3
                + ["answer"] * 5
                + ["advance", "advance", "cancel", "drop", "shift", "release", "rename"]
            )
            try:
                match what:
                    case "request" if len(theirs) < 2:
                        job = await server.request(customer)
                        # So that there is something to answer.
                        await server.searched(UUID(job["id"]))
                    case "answer":
                        asked = [
                            (phone, orjson.loads(offer))
                            for driver, phone in drivers
                            for offer in (await server.app.matching.state_of(driver.user_id)).offers
                        ]
                        if asked:
                            phone, offer = chance.choice(asked)
                            if chance.random() < 0.7:
                                await phone.accept(offer["job"]["id"], offer["offer_id"], offer["round"])
                            else:
                                await phone.decline(offer["offer_id"])
                    case "advance" if mine:
                        order = {"accepted": "arrived", "arrived": "in_progress", "in_progress": "completed"}
                        await phone.advance(mine[0]["id"], order[mine[0]["status"]])
                    case "cancel" if theirs:
                        if mine and chance.random() < 0.5:
                            await phone.cancel(mine[0]["id"], "flat tyre")
                        else:
                            await customer.http.cancel(theirs[0]["id"])
                    case "release" if mine:
                        await admin.http.release(mine[0]["id"], "the office says so")
                    case "shift":
                        await phone.offline()
                        await phone.online(13.7563, 100.5018)
                    case "rename":
                        await driver.http.patch_provider(first_name=chance.choice(["Lek", "Noi", "Yai"]))
                        await customer.http.patch_me(first_name=chance.choice(["Ann", "Bo"]))
                    case "drop":
                        phone.drop()
            except Denied as refusal:
                assert refusal.code in (
                    "JOB_NOT_AVAILABLE", "PROVIDER_HAS_ACTIVE_JOB", "INVALID_STATUS_TRANSITION", "OFFER_NOT_FOUND", "PROVIDER_OFFLINE", "JOB_NOT_FOUND",
                ), refusal  # fmt: skip
            await compare(server, chance.choice(everybody))
        for folded in everybody:
            await compare(server, folded)
    lived = await server.sql("SELECT to_status, count(*) AS n FROM job_events GROUP BY to_status")
    counts = {row["to_status"]: row["n"] for row in lived}
    assert counts.get("accepted", 0) >= 1, f"this seed tests too little: {counts}"


async def _jobs(person: Person) -> list[dict[str, Any]]:
    page = await person.http.jobs(limit=20)
    items: list[dict[str, Any]] = page["items"]
    return items
