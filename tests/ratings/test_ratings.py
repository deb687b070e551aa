"""Rating a completed job: RAT-01 to RAT-05."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest

from dispatch.jobs import JobNotCompleted, NotYourJob
from dispatch.ratings.rules import check_may_rate, words_of
from protocol.lifecycle import JobStatus
from tests.support.ended import ended_job
from tests.support.server import Person, Server, code, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


@pytest.fixture
async def judge(database_url: str, server: Server) -> AsyncIterator["asyncpg.Connection[Any]"]:
    conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    yield conn
    await conn.close()


async def known(server: Server, **fields: str) -> Person:
    """A customer whose user row is there."""
    person = await server.person()
    await person.http.patch_me(**(fields or {"locale": "en"}))
    return person


async def rating_of(judge: "asyncpg.Connection[Any]", provider: Person) -> float | None:
    rating = await judge.fetchval("SELECT rating FROM providers WHERE user_id = $1", provider.user_id)
    return None if rating is None else float(rating)


async def test_a_ride_is_rated_and_its_provider_is_told(server: Server) -> None:
    customer = await known(server, first_name="Malee", last_name="Sukjai")
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        with code("JOB_NOT_COMPLETED"):
            await customer.http.ratings.rate(job["id"], 4)
        offer = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], offer["offer_id"])
        for stage in ("arrived", "in_progress"):
            await phone.advance(job["id"], stage)
        with code("JOB_NOT_COMPLETED"):
            await customer.http.ratings.rate(job["id"], 4)
        await phone.advance(job["id"], "completed")
        rated = await customer.http.ratings.rate(job["id"], 4, "  Careful, and on time. ", key="k1")
        assert (rated["score"], rated["comment"], rated["job_id"]) == (4, "Careful, and on time.", job["id"])
        told = await driver.inbox.until(
            lambda: next(
                (
                    e.data["notification"]
                    for e in driver.inbox.events
                    if e.name == "notification.created" and e.data["notification"]["type"] == "rating_received"
                ),
                None,
            )
        )
        assert told["data"] == {"score": 4, "job_id": job["id"]}
        changed = await driver.inbox.until(
            lambda: next((e for e in driver.inbox.events if e.data.get("provider", {}).get("rating") == 4.0), None)
        )
        assert changed.name == "provider.updated"
        # The same request again has the same answer, another one is refused.
        assert await customer.http.ratings.rate(job["id"], 4, "  Careful, and on time. ", key="k1") == rated
        with code("IDEMPOTENCY_KEY_REUSED"):
            await customer.http.ratings.rate(job["id"], 5, key="k1")
        with code("RATING_EXISTS"):
            await customer.http.ratings.rate(job["id"], 5)
        assert (await driver.http.provider())["rating"] == 4.0
        (review,) = (await driver.http.ratings.reviews())["items"]
        assert (review["score"], review["service_type"], review["customer_first_name"]) == (4, "ride", "Malee")
        assert "Sukjai" not in str(review) and str(customer.user_id) not in str(review)
        admin = await server.admin()
        assert (await admin.http.ratings.reviews_of(driver.provider_id))["items"] == [review]
        # Who meets him next reads it on his card.
        await server.listed(driver)
        again = await server.request(customer)
        second = (await driver.inbox.named("offer.created", nth=2)).data
        await phone.accept(again["id"], second["offer_id"])
        assert (await customer.http.job(again["id"]))["provider"]["rating"] == 4.0


async def test_only_the_jobs_customer_rates_it(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver, stranger = await known(server), await server.provider(), await server.person()
    job = await ended_job(judge, customer, driver)
    with code("FORBIDDEN"):
        await driver.http.ratings.rate(job, 5)
    with code("FORBIDDEN"):
        await (await server.admin()).http.ratings.rate(job, 5)
    with code("JOB_NOT_FOUND"):
        await stranger.http.ratings.rate(job, 5)
    with code("JOB_NOT_FOUND"):
        await customer.http.ratings.rate(uuid4(), 5)
    assert await rating_of(judge, driver) is None
    with code("PROVIDER_NOT_FOUND"):
        await customer.http.ratings.reviews()
    with code("PROVIDER_NOT_FOUND"):
        await (await server.admin()).http.ratings.reviews_of(uuid4())
    with code("FORBIDDEN"):
        await driver.http.ratings.reviews_of(driver.provider_id)


NO_RATINGS: list[dict[str, Any]] = [
    {},
    {"score": 0},
    {"score": 6},
    {"score": 4.5},
    {"score": "5"},
    {"score": None},
    {"score": True},
    {"score": 5, "comment": "x" * 1001},
    {"score": 5, "comment": 5},
    {"score": 5, "stars": 5},
]


async def test_what_is_no_rating_is_refused(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver = await known(server), await server.provider()
    job = await ended_job(judge, customer, driver)
    for body in NO_RATINGS:
        with code("VALIDATION_ERROR"):
            await customer.http.send(
                "POST", f"/v1/jobs/{job}/rating", lambda body=body: orjson.dumps(body), kind="application/json"
            )
    assert not await judge.fetch("SELECT 1 FROM ratings")


async def test_a_cancelled_job_is_not_rated(server: Server) -> None:
    customer = await server.person()
    job = await server.request(customer)
    await customer.http.cancel(job["id"])
    with code("JOB_NOT_COMPLETED"):
        await customer.http.ratings.rate(job["id"], 1)


async def test_two_weeks_and_no_longer(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver = await known(server), await server.provider()
    late = await ended_job(judge, customer, driver, ago=timedelta(days=14, seconds=1))
    just = await ended_job(judge, customer, driver, ago=timedelta(days=14, minutes=-1))
    with code("TOO_LATE"):
        await customer.http.ratings.rate(late, 1)
    await customer.http.ratings.rate(just, 5)
    assert await rating_of(judge, driver) == 5.0


async def test_a_comment_of_a_thousand_signs_is_kept_and_one_of_blanks_is_none(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    customer, driver = await known(server), await server.provider()
    long = await customer.http.ratings.rate(await ended_job(judge, customer, driver), 5, "ก" * 1000)
    assert long["comment"] == "ก" * 1000
    assert "comment" not in await customer.http.ratings.rate(await ended_job(judge, customer, driver), 5, " \n ")
    assert "comment" not in await customer.http.ratings.rate(await ended_job(judge, customer, driver), 5, "")


async def test_twenty_customers_rate_one_provider_at_the_same_time(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    """None is lost. Fails when the means are read before the provider's gate is held."""
    driver = await server.provider()
    customers = [await known(server) for _ in range(20)]
    jobs = [await ended_job(judge, customer, driver) for customer in customers]
    scores = [1 + number * 7 % 5 for number in range(20)]
    gate = asyncio.Barrier(20)

    async def rate(number: int) -> None:
        await gate.wait()
        await customers[number].http.ratings.rate(jobs[number], scores[number])

    await asyncio.gather(*(rate(number) for number in range(20)))
    assert await rating_of(judge, driver) == round(sum(scores) / 20, 2)
    row = await judge.fetchrow("SELECT rating, ratings_count FROM provider_ratings")
    assert row is not None and (float(row["rating"]), row["ratings_count"]) == (round(sum(scores) / 20, 2), 20)


async def test_one_job_is_rated_once_however_many_ask_at_the_same_time(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    customer, driver = await known(server), await server.provider()
    job = await ended_job(judge, customer, driver)
    answers = await asyncio.gather(
        *(customer.http.ratings.rate(job, score) for score in (1, 2, 3, 4, 5)), return_exceptions=True
    )
    assert sorted(getattr(one, "code", "rated") for one in answers) == ["RATING_EXISTS"] * 4 + ["rated"]


async def test_the_last_five_hundred_count_and_halves_go_up(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver = await known(server), await server.provider()
    template = await ended_job(judge, customer, driver)
    await judge.execute(
        """WITH made AS (INSERT INTO jobs SELECT (jsonb_populate_record(j, jsonb_build_object('id', gen_random_uuid()))).*
             FROM jobs j, generate_series(1, 500) WHERE j.id = $1 RETURNING *),
           numbered AS (SELECT *, row_number() OVER () AS n FROM made)
           INSERT INTO ratings (id, job_id, provider_id, user_id, customer_id, service_type, score, created_at)
           SELECT gen_random_uuid(), id, provider_id, provider_user_id, customer_id, 'ride', CASE WHEN n <= 3 THEN 5 ELSE 1 END,
             clock_timestamp() - (501 - n) * interval '1 s' FROM numbered""",
        template,
    )
    await judge.execute("INSERT INTO provider_ratings SELECT id, user_id, 'ride', 1, 500 FROM providers")
    await customer.http.ratings.rate(template, 1)
    # Of 501 the oldest, a 5, has fallen out: two 5s among 500, 1.016, shown as 1.02.
    assert await rating_of(judge, driver) == 1.02
    row = await judge.fetchrow("SELECT rating, ratings_count FROM provider_ratings")
    assert row is not None and (float(row["rating"]), row["ratings_count"]) == (1.02, 501)
    # 3 of 8 more: 1.125 goes up to 1.13.
    other = await server.provider()
    for score in (1, 1, 1, 1, 1, 1, 1, 2):
        await customer.http.ratings.rate(await ended_job(judge, customer, other), score)
    assert await rating_of(judge, other) == 1.13


async def test_who_is_rated_as_before_is_not_told_of_a_change(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver = await known(server), await server.provider()
    for _ in range(3):
        await customer.http.ratings.rate(await ended_job(judge, customer, driver), 5)
    told = await judge.fetch(
        "SELECT 1 FROM events WHERE user_id = $1 AND name = 'provider.updated' AND body -> 'provider' ->> 'rating' IS NOT NULL",
        driver.user_id,
    )
    assert len(told) == 1


async def test_reviews_come_in_pages_newest_first(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver = await known(server), await server.provider()
    for score in (1, 2, 3, 4, 5):
        await customer.http.ratings.rate(await ended_job(judge, customer, driver), score)
    admin = await server.admin()
    for read in (
        lambda **given: driver.http.ratings.reviews(**given),
        lambda **given: admin.http.ratings.reviews_of(driver.provider_id, **given),
    ):
        seen, cursor = [], None
        while True:
            page = await read(limit=2, cursor=cursor)
            seen += [item["score"] for item in page["items"]]
            if (cursor := page.get("next_cursor")) is None:
                break
        assert seen == [5, 4, 3, 2, 1]
    with code("VALIDATION_ERROR"):
        await driver.http.ratings.reviews(cursor="none of yours")
    with code("VALIDATION_ERROR"):
        await driver.http.ratings.reviews(limit=101)
    assert (await (await server.provider()).http.ratings.reviews())["items"] == []


def test_a_comment_is_trimmed_and_a_blank_one_is_none() -> None:
    assert [words_of(one) for one in (None, "", " \t", " a b ")] == [None, None, None, "a b"]


@pytest.mark.parametrize("status", JobStatus)
def test_the_customer_alone_and_only_at_the_end(status: JobStatus) -> None:
    customer: Any = uuid4()
    job: Any = SimpleNamespace(customer_id=customer, status=status)
    with pytest.raises(NotYourJob):
        check_may_rate(job, uuid4())
    if status is JobStatus.COMPLETED:
        check_may_rate(job, customer)
    else:
        with pytest.raises(JobNotCompleted):
            check_may_rate(job, customer)
