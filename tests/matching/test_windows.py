"""Windows of a live server: jobs put off to their end, decided together, offered like any others, and what happens when that takes too long."""

import threading
from collections.abc import AsyncIterator
from uuid import UUID

import aiohttp
import pytest
import structlog

from dispatch.kit.clock import ManualClock
from dispatch.matching import Decision, Question, Reason, decide
from tests.support.server import BANGKOK, WITHIN_S, Server, serving

BATCH = {"bkk": {"policy": "batch", "batch_window_s": 60, "offer_ttl_s": 60}}
EAST = 0.01 / 1.08
"""About a kilometre of longitude in Bangkok."""


def east(km: float) -> tuple[float, float]:
    return BANGKOK[0], BANGKOK[1] + EAST * km


class Windows:
    """A server whose windows end when the test says so: their clock stands."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.heard: list[tuple[Question, Decision]] = []
        for app in server.apps:
            app.matching._batching._clock = ManualClock()
            app.matching.on_decision.append(lambda question, decision: self.heard.append((question, decision)))

    async def end(self) -> None:
        """All that wait are due at the same instant."""
        await self.server.sql(
            "UPDATE jobs SET next_search_at = clock_timestamp() WHERE status IN ('pending', 'offered')"
        )

    async def put_off(self, jobs: int) -> None:
        """Until that many jobs wait for the end of a window."""
        query = (
            "SELECT count(*) AS n FROM jobs WHERE next_search_at > clock_timestamp() + interval '10 s' AND round = 0"
        )
        while (await self.server.sql(query))[0]["n"] < jobs:
            pass


@pytest.fixture
async def windows(database_url: str, redis_url: str) -> AsyncIterator[Windows]:
    async with serving(database_url, redis_url, markets=BATCH) as server:
        yield Windows(server)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window may take as long as a test waits: beside other work 150 ms pass with nothing wrong, and its jobs go in waves."""
    monkeypatch.setattr("dispatch.matching.batching.BUDGET_S", WITHIN_S)


@pytest.mark.usefixtures("unhurried")
async def test_jobs_of_a_window_are_decided_together(windows: Windows) -> None:
    """Nearest first, the first job would take the only cab that is near the second."""
    server = windows.server
    async with server.working(at=east(0)) as (middle, _), server.working(at=east(-0.8)) as (west, _):
        first = await server.request(await server.person(), at=east(-0.2))
        second = await server.request(await server.person(), at=east(0.4))
        await windows.put_off(2)
        assert windows.heard == []
        await windows.end()
        assert (await middle.inbox.named("offer.created")).data["job"]["id"] == second["id"]
        assert (await west.inbox.named("offer.created")).data["job"]["id"] == first["id"]
        (_, decision), *_ = windows.heard
        assert set(decision.reasons.values()) == {Reason.ASSIGNED}


@pytest.mark.usefixtures("unhurried")
async def test_who_looks_at_an_offer_is_not_weighed_in_the_next_window(windows: Windows) -> None:
    server = windows.server
    async with server.working(at=east(0)) as (driver, phone):
        first = await server.request(await server.person(), at=east(0.3))
        await windows.put_off(1)
        await windows.end()
        made = (await driver.inbox.named("offer.created")).data
        second = await server.request(await server.person(), at=east(0.3))
        await windows.put_off(1)
        heard = len(windows.heard)
        await server.sql("UPDATE jobs SET next_search_at = clock_timestamp() WHERE id = $1", UUID(second["id"]))
        while len(windows.heard) == heard:
            await server.sql("SELECT 1")
        question, decision = windows.heard[heard]
        assert not question.found[UUID(second["id"])]
        assert decision.reasons == {UUID(second["id"]): Reason.NOBODY_NEAR}
        await phone.decline(made["offer_id"], None)
        await windows.put_off(1)
        await windows.end()
        assert (await driver.inbox.named("offer.created", nth=2)).data["job"]["id"] == second["id"]
        assert first["id"] != second["id"]


async def test_an_accept_in_a_window_is_one_like_any_other(windows: Windows) -> None:
    server = windows.server
    customer = await server.person()
    async with server.working() as (driver, phone), customer.connected():
        job = await server.request(customer)
        await windows.put_off(1)
        await windows.end()
        made = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], made["offer_id"], made["round"])
        await customer.inbox.named("job.accepted")


async def test_a_window_that_takes_too_long_is_offered_in_waves(windows: Windows) -> None:
    """The solver hangs until the test lets it go: meanwhile every job gets its wave, and the next window does not queue behind it."""
    server = windows.server
    hangs, matching = threading.Event(), windows.server.app.matching

    def slow(question: Question) -> Decision:
        hangs.wait(60)
        return decide(question)

    matching._batching._brain = slow
    try:
        async with server.working(at=east(0)) as (one, _), server.working(at=east(0.2)) as (two, _):
            job = await server.request(await server.person())
            await windows.put_off(1)
            with structlog.testing.capture_logs() as logs:
                await windows.end()
                for driver in (one, two):
                    assert (await driver.inbox.named("offer.created")).data["job"]["id"] == job["id"]
                market = server.app.matching._markets["bkk"]
                for _ in range(3):
                    assert await matching._batching.decide(market, []) is None
        assert matching.fell_back >= 1
        assert [question.terms.policy for question, _ in windows.heard] == ["waves"]
        said = [line["log_level"] for line in logs if "until an earlier one is solved" in line["event"]]
        assert said == ["warning"], "once, and not for each window"
        server.app.gauges.gather()
        async with aiohttp.ClientSession() as session, session.get(f"{server.url()}/metrics") as answer:
            assert f"dispatch_windows_apart_total {matching.fell_back}.0" in await answer.text()
    finally:
        hangs.set()


async def test_windows_end_by_themselves(database_url: str, redis_url: str) -> None:
    markets = {"bkk": {**BATCH["bkk"], "batch_window_s": 0.5}}
    async with serving(database_url, redis_url, markets=markets) as server, server.working() as (driver, _):
        job = await server.request(await server.person())
        assert (await driver.inbox.named("offer.created")).data["job"]["id"] == job["id"]


@pytest.mark.usefixtures("unhurried")
async def test_what_is_known_of_candidates_reaches_the_brain(windows: Windows) -> None:
    server = windows.server
    async with server.working() as (driver, _):
        provider = UUID(str(driver.provider_id))
        await server.sql(
            "INSERT INTO performance_days (provider_id, service_type, day, offered, accepted) "
            "VALUES ($1, 'ride', current_date, 90, 2)",
            provider,
        )
        await server.sql("UPDATE provider_gate SET changed_at = changed_at - interval '100 s'")
        job = await server.request(await server.person())
        await windows.put_off(1)
        await server.sql("UPDATE jobs SET created_at = created_at - interval '50 s'")
        await windows.end()
        await driver.inbox.named("offer.created")
    question, _ = windows.heard[0]
    standing = question.standings[provider]
    assert standing.acceptance == pytest.approx((2 + 8) / (90 + 10))
    assert 100 <= standing.idle_s < 160
    (search,) = question.searches
    assert search.job_id == UUID(job["id"])
    assert 50 <= search.waited_s < 110
