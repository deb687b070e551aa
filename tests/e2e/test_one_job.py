"""One job through real sockets, from the request to the fare."""

from collections.abc import AsyncIterator

import pytest

from tests.support.server import Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_a_job_goes_from_request_to_fare(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (driver, phone), customer.connected() as app:
        job = await server.request(customer)
        assert job["status"] == "pending"
        offer = (await driver.inbox.named("offer.created")).data
        assert offer["job"]["pickup"]["address"] != "Khao San Road 1", "the exact address is the winner's alone"
        won = await phone.accept(job["id"], offer["offer_id"], offer["round"])
        assert won["job"]["status"] == "accepted"
        assert won["job"]["pickup"]["address"] == "Khao San Road 1"
        assert won["navigation_url"] == "geo:13.7563,100.5018?q=13.7563,100.5018"
        told = await customer.inbox.named("job.accepted")
        assert told.data["provider"]["id"] == driver.provider_id
        await app.track(job["id"])
        await customer.inbox.until(lambda: customer.inbox.positions)
        for stage in ("arrived", "in_progress"):
            assert (await phone.advance(job["id"], stage))["job"]["status"] == stage
        done = (await phone.advance(job["id"], "completed", distance_m=400, duration_s=1))["job"]
        assert done["status"] == "completed"
        fare = done["fare"]
        assert (
            fare["total_minor"]
            == fare["base_minor"] + fare["distance_minor"] + fare["time_minor"] + fare["surge_minor"]
        )
        assert not fare["estimated"]
        assert (fare["base_minor"], fare["distance_minor"]) == (3500, 200)
        await customer.inbox.status(job["id"], "completed")
    assert [event.seq for event in customer.inbox.events] == list(range(1, len(customer.inbox.events) + 1))
    rows = await server.sql("SELECT from_status, to_status, actor_role FROM job_events ORDER BY version")
    assert [tuple(row) for row in rows] == [
        (None, "pending", "customer"),
        ("pending", "offered", "system"),
        ("offered", "accepted", "provider"),
        ("accepted", "arrived", "provider"),
        ("arrived", "in_progress", "provider"),
        ("in_progress", "completed", "provider"),
    ]


async def test_a_line_lost_in_the_middle_resumes_without_a_gap(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (driver, phone), customer.connected() as app:
        job = await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        app.drop()
        await phone.accept(job["id"], offer["offer_id"], offer["round"])
        await phone.advance(job["id"], "arrived")
        await customer.inbox.status(job["id"], "arrived")
        assert (app.welcomes, len(customer.inbox.snapshots)) == (2, 1), "resumed, and not by a second snapshot"
        assert [event.seq for event in customer.inbox.events] == list(range(1, len(customer.inbox.events) + 1))
