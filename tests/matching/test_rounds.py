"""Rounds: whom they reach, how they end, and what happens when nobody answers or a worker dies in between."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatch.kit.clock import SystemClock
from protocol.lifecycle import Stage
from tests.support.crowd import crowd, lone_job, offer, until_final
from tests.support.server import BANGKOK, WITHIN_S, Server, denied, serving

QUICK = {"bkk": {"offer_ttl_s": 1.0, "research_s": 0.2, "lapse_cooldown_s": 0.2, "job_ttl_s": 60}}


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, markets=QUICK) as running:
        yield running


async def eventually(server: Server, query: str, *args: Any) -> list[Any]:
    """Until the judge has rows for this."""
    async with asyncio.timeout(WITHIN_S):
        while not (rows := await server.sql(query, *args)):
            await asyncio.sleep(0)
        return rows


async def test_an_offer_that_lapses_goes_to_the_next_round(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (driver, _), customer.connected():
        await server.request(customer)
        first = await driver.inbox.named("offer.created")
        await driver.inbox.named("offer.withdrawn", reason="expired")
        second = await driver.inbox.named("offer.created", nth=2)
        assert second.data["round"] > first.data["round"]


async def test_two_who_do_not_answer_keep_no_job_from_the_third(database_url: str, redis_url: str) -> None:
    """When the second's offer had lapsed the first was free to be asked again, and the nearest of all: they had it by turns."""
    times = {"offer_ttl_s": 0.6, "lapse_cooldown_s": 0.6, "research_s": 0.1, "policy": "nearest", "open_board": False}
    async with serving(database_url, redis_url, markets={"bkk": times}) as server:
        near = (BANGKOK[0] + 0.0005, BANGKOK[1])
        far = (BANGKOK[0] + 0.004, BANGKOK[1])
        async with server.working(), server.working(at=near), server.working(at=far) as (third, _):
            await server.request(await server.person())
            await third.inbox.named("offer.created")


async def test_a_decline_is_final_and_the_job_goes_on_at_once(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (one, first):
        job = await server.request(customer)
        made = (await one.inbox.named("offer.created")).data
        async with server.working(at=(13.757, 100.503)) as (two, second):
            await first.decline(made["offer_id"], "too far")
            await first.decline(made["offer_id"], "too far")
            other = (await two.inbox.named("offer.created")).data
            await second.accept(job["id"], other["offer_id"], other["round"])
        assert one.inbox.names().count("offer.created") == 1
        assert (await denied(first.accept(job["id"], made["offer_id"]))).details == {"status": "accepted"}


async def test_a_job_without_takers_is_cancelled_and_the_customer_told_why(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets={"bkk": {**QUICK["bkk"], "job_ttl_s": 1.0}}) as server:
        customer = await server.person()
        async with customer.connected():
            await server.request(customer)
            told = await customer.inbox.named("job.cancelled")
            assert (told.data["by"], told.data["reason"]) == ("system", "no_provider")


async def test_a_waiting_job_is_offered_when_somebody_comes_online(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets={"bkk": {"research_s": 60}}) as server:
        customer = await server.person()
        job = await server.request(customer)
        await eventually(
            server,
            "SELECT 1 FROM jobs WHERE id = $1 AND next_search_at > clock_timestamp() + interval '30 s'",
            UUID(job["id"]),
        )
        async with server.working() as (driver, _):
            await driver.inbox.named("offer.created")


async def test_a_provider_on_another_worker_is_offered_too(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, workers=2) as server:
        customer = await server.person()
        async with server.working(worker=1) as (driver, phone), customer.connected(worker=0):
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            await phone.accept(job["id"], made["offer_id"], made["round"])
            await customer.inbox.named("job.accepted")
            live = server.apps[1].presence.of(driver.user_id)
            assert live is not None and live.busy == UUID(job["id"])


async def test_an_offer_answered_on_another_worker_holds_nobody(database_url: str, redis_url: str) -> None:
    """He comes back elsewhere with an offer open and answers before he has said there where he is: no map of that worker has him yet,
    and still the hold of 60 s that came with the offer ends.
    """
    async with serving(database_url, redis_url, workers=2, markets={"bkk": {"offer_ttl_s": 60}}) as server:
        customer = await server.person()
        async with server.working() as (driver, phone):
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            session, attempt = phone.session, phone.attempt
        # Long ago he said over HTTP or with `online` where he is: it does not put him on the map.
        await server.sql("UPDATE providers SET located_at = located_at - interval '1 min'")
        async with driver.connected(worker=1, session=session, attempt=attempt) as phone:
            await phone.accept(job["id"], made["offer_id"], made["round"])
            for stage in (Stage.ARRIVED, Stage.IN_PROGRESS, Stage.COMPLETED):
                await phone.advance(job["id"], stage)
            phone.locate(*BANGKOK)
            async with asyncio.timeout(WITHIN_S):
                while (live := server.apps[1].presence.of(driver.user_id)) is None or live.listed is None:
                    await asyncio.sleep(0)
            await server.request(customer)
            await driver.inbox.named("offer.created", nth=2)


async def test_a_search_that_failed_holds_nobody(database_url: str, redis_url: str) -> None:
    """It had found him, and then the judge was held up: the next search must find him too, not when the hold of 60 s is over."""
    async with serving(database_url, redis_url, markets={"bkk": {"offer_ttl_s": 60, "research_s": 0.2}}) as server:
        customer = await server.person()
        await server.request(customer)
        blocker = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
        held_up = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%offers_create(%'"
        try:
            async with blocker.transaction():
                await blocker.execute("SELECT FROM inbox_head WHERE user_id = $1 FOR UPDATE", customer.user_id)
                async with server.working() as (driver, _):
                    await eventually(server, held_up)
                    async with asyncio.timeout(WITHIN_S):
                        while await server.sql(held_up):
                            await asyncio.sleep(0)
                    await blocker.execute("ROLLBACK; BEGIN")
                    await driver.inbox.named("offer.created")
        finally:
            await blocker.close()


async def test_a_provider_has_one_offer_at_a_time(server: Server) -> None:
    """The constraint holds it even when the search does not: both jobs are offered straight at the judge."""
    (racer,) = await crowd(server, 1)
    jobs = [await lone_job(server) for _ in range(2)]
    await offer(server, jobs[0], [racer], at_once=1)
    with pytest.raises(AssertionError, match="nobody"):
        await offer(server, jobs[1], [racer], at_once=1)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE provider_gate SET online = false WHERE provider_id = $1",
        "UPDATE provider_gate SET status = 'suspended' WHERE provider_id = $1",
        "UPDATE provider_gate SET cleared = '{laundry}' WHERE provider_id = $1",
        "UPDATE provider_gate SET cleared_until = clock_timestamp() WHERE provider_id = $1",
        "UPDATE provider_gate SET narrowed = '{laundry}' WHERE provider_id = $1",
        "UPDATE sockets SET lost_at = clock_timestamp() - interval '6 s' WHERE user_id = (SELECT user_id FROM providers WHERE id = $1)",
        "UPDATE sockets SET worker_id = 'dead' WHERE user_id = (SELECT user_id FROM providers WHERE id = $1)",
    ],
)
async def test_the_judge_offers_only_to_the_eligible(server: Server, change: str) -> None:
    """I4, whatever the search believed: one who is no longer eligible at the commit gets no offer."""
    fit, unfit = await crowd(server, 2)
    await server.sql("INSERT INTO workers (id, beat_at) VALUES ('dead', clock_timestamp() - interval '6 s')")
    await server.sql(change, unfit.id)
    offers = await offer(server, await lone_job(server), [unfit, fit])
    assert set(offers) == {fit.id}


async def test_a_busy_provider_and_one_too_far_away_get_no_offer(server: Server) -> None:
    busy, far, fit = await crowd(server, 3)
    job = await lone_job(server)
    assert await until_final(server, busy, job, (await offer(server, job, [busy]))[busy.id]) == "accepted"
    await server.sql("UPDATE providers SET service_radius_m = 1000 WHERE id = $1", far.id)
    async with server.app.pg.system() as conn:
        from dispatch.kit.ids import new_id
        from dispatch.matching.store import Q

        people = [busy, far, fit]
        made = await conn.fetchrow(
            Q["offers_create"],
            await lone_job(server),
            0,
            [new_id() for _ in people],
            [one.id for one in people],
            [100, 1_001, 100],
            60.0,
            1,
            5.0,
            15.0,
        )
    assert made is not None and made["offered_to"] == [fit.id]


async def test_what_a_dead_worker_left_is_settled(server: Server) -> None:
    """It won a job and died before telling the losers: the reconciler of any worker does."""
    winner, loser = await crowd(server, 2)
    job = await lone_job(server)
    offers = await offer(server, job, [winner, loser])
    other = await lone_job(server)
    await offer(server, other, [winner])
    async with server.app.pg.app() as conn:
        from uuid import uuid4

        from dispatch.claims.service import Q as CLAIMS

        row = await conn.fetchrow(
            CLAIMS["accept_job"],
            winner.actor.user_id,
            job,
            offers[winner.id],
            1,
            uuid4(),
            "k",
            "f",
            False,
            None,
            0,
            None,
            None,
            None,
        )
    assert row is not None and row["word"] == "accepted"
    rows = await eventually(
        server, "SELECT reason FROM offers WHERE provider_id = $1 AND status = 'withdrawn'", loser.id
    )
    assert rows[0]["reason"] == "taken"
    rows = await eventually(server, "SELECT reason FROM offers WHERE job_id = $1 AND status = 'withdrawn'", other)
    assert rows[0]["reason"] == "revoked"


async def test_a_provider_gone_for_long_goes_off_and_his_job_to_another_round(server: Server) -> None:
    customer = await server.person()
    async with customer.connected():
        async with server.working() as (driver, phone):
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            await phone.accept(job["id"], made["offer_id"], made["round"])
        await eventually(server, "SELECT 1 FROM sockets WHERE user_id = $1 AND lost_at IS NOT NULL", driver.user_id)
        assert await server.app.shifts.sweep(45.0) == 0, "45 s are not over"
        await server.sql("UPDATE sockets SET lost_at = lost_at - interval '46 s' WHERE user_id = $1", driver.user_id)
        await server.sql(
            "UPDATE provider_gate SET changed_at = changed_at - interval '46 s' WHERE user_id = $1", driver.user_id
        )
        assert await server.app.shifts.sweep(45.0) == 1
        told = await customer.inbox.until(
            lambda: next(
                (
                    e
                    for e in customer.inbox.events
                    if e.name == "job.updated" and e.data["job"]["round"] > made["round"]
                ),
                None,
            )
        )
        assert told.data["job"]["status"] == "offered"
        assert "provider" not in told.data["job"]
        assert not (await driver.http.provider())["is_online"]
        assert await server.app.shifts.sweep(45.0) == 0, "once"


class _Later(SystemClock):
    """As after an outage: nobody's word has come through for 50 s."""

    def monotonic(self) -> float:
        return super().monotonic() + 50


async def test_an_outage_of_postgres_ends_nobodys_shift(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Postgres is back, the last word of every worker is old, and the sweep may come before their next."""

    async def unheard() -> None:
        raise OSError("Postgres is away")

    customer = await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        made = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], made["offer_id"], made["round"])
        beat, inbox = server.app.inbox.beat, server.app.inbox
        monkeypatch.setattr(inbox, "beat", unheard)
        monkeypatch.setattr(inbox, "_clock", _Later())
        await server.sql("UPDATE provider_gate SET changed_at = changed_at - interval '1 min'")
        await server.sql("UPDATE workers SET beat_at = beat_at - interval '50 s'")
        await server.app.shifts.sweep(45.0)
        # Our own word came through first; the others' have not yet.
        await beat()
        await server.sql("UPDATE workers SET beat_at = beat_at - interval '50 s'")
        await server.app.shifts.sweep(45.0)
        assert (await driver.http.provider())["is_online"]
        assert (await driver.http.job(job["id"]))["status"] == "accepted"


async def test_an_admin_takes_a_job_back_and_the_next_round_finds_another(server: Server) -> None:
    customer, admin = await server.person(), await server.admin()
    async with server.working() as (one, first), customer.connected():
        job = await server.request(customer)
        made = (await one.inbox.named("offer.created")).data
        await first.accept(job["id"], made["offer_id"], made["round"])
        async with server.working(at=(13.757, 100.503)) as (two, second):
            await admin.http.release(job["id"], "wrong car")
            told = await one.inbox.named("job.cancelled")
            assert told.data["by"] == "system"
            other = (await two.inbox.named("offer.created")).data
            won = await second.accept(job["id"], other["offer_id"], other["round"])
            assert won["job"]["round"] > made["round"]
            assert one.inbox.names().count("offer.created") == 1, "not to the one it was taken from"


async def test_redispatch_turns_a_providers_cancellation_into_a_new_round(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets={"bkk": {**QUICK["bkk"], "redispatch": True}}) as server:
        customer = await server.person()
        async with server.working() as (driver, phone), customer.connected():
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            await phone.accept(job["id"], made["offer_id"], made["round"])
            await phone.cancel(job["id"], "flat tyre")
            assert (await customer.http.job(job["id"]))["status"] == "offered"
            assert (await driver.inbox.named("job.cancelled")).data["by"] == "provider"


async def test_the_open_board_shows_and_gives_what_nobody_was_offered(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets={"bkk": {"research_s": 60, "radius_max_m": 1_000}}) as server:
        customer = await server.person()
        async with server.working(at=(BANGKOK[0] + 0.03, BANGKOK[1])) as (driver, phone):
            job = await server.request(customer)
            page = await driver.http.available()
            assert [row["job"]["id"] for row in page["items"]] == [job["id"]]
            assert "offer_id" not in page["items"][0]
            assert (await driver.http.available(max_distance_m=1_000))["items"] == []
            won = await phone.accept(job["id"])
            assert won["job"]["status"] == "accepted"
        rows = await server.sql("SELECT status, reason, round FROM offers WHERE job_id = $1", UUID(job["id"]))
        assert [tuple(row) for row in rows] == [("accepted", "board", 1)]


async def test_with_the_board_off_there_is_nothing_to_take_without_an_offer(database_url: str, redis_url: str) -> None:
    async with serving(
        database_url, redis_url, markets={"bkk": {"open_board": False, "research_s": 60, "radius_max_m": 1_000}}
    ) as server:
        customer = await server.person()
        async with server.working(at=(BANGKOK[0] + 0.03, BANGKOK[1])) as (driver, phone):
            job = await server.request(customer)
            assert (await driver.http.available())["items"] == []
            assert (await denied(phone.accept(job["id"]))).code == "OFFER_NOT_FOUND"


async def test_suspension_ends_everything_of_his_within_its_transaction(server: Server) -> None:
    customer, admin = await server.person(), await server.admin()
    async with server.working() as (driver, phone), customer.connected():
        job = await server.request(customer)
        made = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], made["offer_id"], made["round"])
        answer = await admin.http.provider_action(str(driver.provider_id), "suspend", "fraud")
        assert answer["affected_jobs"] == [job["id"]]
        assert (await customer.inbox.named("job.cancelled")).data["by"] == "system"
        told = await driver.inbox.until(
            lambda: next(
                (
                    e
                    for e in driver.inbox.events
                    if e.name == "provider.updated" and e.data["provider"]["status"] == "suspended"
                ),
                None,
            )
        )
        assert told.data["provider"]["suspension_reason"] == "fraud"
        assert (await denied(phone.online(*BANGKOK))).code == "PROVIDER_SUSPENDED"
        assert phone.welcomes == 1, "the socket stays open for his customer side"
        await admin.http.provider_action(str(driver.provider_id), "reactivate")
        assert (await phone.online(*BANGKOK))["is_online"]
