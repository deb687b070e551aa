"""What an accept does, and what may happen to a job: properties 16, 17, 18 and 20. Through HTTP and the socket, on real stores."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Denied
from protocol.http import Http
from tests.properties.scenes import BANGKOK, PROPERTY, Scene, actor, kind, scene_of
from tests.support.crowd import outcome
from tests.support.server import Person, code

NEXT = {"accepted": "arrived", "arrived": "in_progress", "in_progress": "completed"}


async def ready(scene: Scene, count: int, kind: str = "ride") -> list[Person]:
    """Providers who are on, without a socket of their own: no search finds them, the board and `Scene.offer` do."""
    drivers = await scene.drivers(count, service_types=[kind])
    await scene.switch_on(drivers)
    return drivers


@PROPERTY
@given(
    kind=kind,
    rivals=st.integers(0, 2),
    way=st.sampled_from(["offer", "round", "bare offer", "board", "board beside an offer", "socket"]),
    again=st.booleans(),
)
async def test_an_accepted_job_is_his_and_the_customer_hears_it(
    scene: Scene, kind: str, rivals: int, way: str, again: bool
) -> None:
    """Feature: provider-system-redesign, Property 16: an accepted job is assigned to that provider and the customer is notified.

    Fails when accept_job tells the customer nothing.
    """
    await scene.clear()
    driver, *others = await ready(scene, 1 + rivals, kind)
    job = await scene.job(kind)
    offers = {} if way == "board" else await scene.offer(job, driver, *others)
    offer_id = offers.get(driver.provider_id)
    match way:
        case "offer":
            answer = await driver.http.accept(job["id"], offer_id, 1, key="k")
        case "round":
            answer = await driver.http.accept(job["id"], None, 1, key="k")
        case "bare offer":
            answer = await driver.http.accept(job["id"], offer_id, key="k")
        case "socket":
            async with driver.connected() as phone:
                answer = await phone.accept(job["id"], offer_id, 1)
        case _:
            answer = await driver.http.accept(job["id"], key="k")
    assert answer["job"]["provider"]["id"] == driver.provider_id
    assert answer["job"]["status"] == "accepted"
    assert answer["job"]["accepted_at"]
    assert answer["navigation_url"] == f"geo:{BANGKOK[0]},{BANGKOK[1]}?q={BANGKOK[0]},{BANGKOK[1]}"
    if again and way == "offer":
        assert (await driver.http.accept(job["id"], offer_id, 1, key="k"))["job"] == answer["job"]
    row = await scene.row(job)
    assert (str(row["provider_id"]), row["status"]) == (driver.provider_id, "accepted")
    heard = await scene.customer.inbox.until(
        lambda: [
            e for e in scene.customer.inbox.events if e.name == "job.accepted" and e.data["job"]["id"] == job["id"]
        ]
    )
    assert [event.data["provider"]["id"] for event in heard] == [driver.provider_id]
    assert heard[0].data["job"]["version"] == answer["job"]["version"]
    same = await scene.judge.fetchval(
        "SELECT e.xmin = j.xmin FROM events e, jobs j WHERE e.user_id = $1 AND e.seq = $2 AND j.id = $3",
        scene.customer.user_id,
        heard[0].seq,
        UUID(job["id"]),
    )
    assert same, "the assignment and the notification were committed apart"


@PROPERTY
@given(
    others=st.integers(1, 3),
    jobs=st.integers(1, 2),
    asked=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=8),
    wins=st.integers(0, 1),
    held_up=st.booleans(),
)
async def test_an_accepted_job_leaves_every_other_list(
    scene: Scene, others: int, jobs: int, asked: set[tuple[int, int]], wins: int, held_up: bool
) -> None:
    """Feature: provider-system-redesign, Property 17: an accepted job is removed from all other providers' available jobs.

    Fails when offers_board shows offers of jobs that have found their provider.
    """
    await scene.clear()
    drivers = await ready(scene, 1 + others)
    made = [await scene.job() for _ in range(jobs)]
    offers = [
        await scene.offer(job, *[drivers[who] for who, which in sorted(asked) if which == number and who <= others])
        for number, job in enumerate(made)
    ]
    job, given = made[wins % jobs], offers[wins % jobs]
    winner, *losers = drivers
    for loser in losers:
        assert job["id"] in await listed(loser)
    with closing_held_up(scene) if held_up else nullcontext():
        await winner.http.accept(job["id"], given.get(winner.provider_id))
        # At once: the losers' offers are withdrawn in a transaction of their own, a moment later or after a worker's death.
        assert not any(job["id"] in seen for seen in await asyncio.gather(*map(listed, losers)))
    assert not await listed(winner), "he has a job"
    await scene.quiet()
    for loser in losers:
        assert set(await listed(loser)) == {one["id"] for one in made} - {job["id"]}
        told = await scene.told(loser, "offer.withdrawn", job)
        assert len(told) == (loser.provider_id in given)
        assert all('"reason":"taken"' in row["body"].replace(" ", "") for row in told)


@contextmanager
def closing_held_up(scene: Scene) -> Iterator[None]:
    """The losers are not told before the end of the block."""
    go = asyncio.Event()
    matching = scene.server.app.matching
    close = matching.close

    async def later(job_id: UUID) -> None:
        await go.wait()
        await close(job_id)

    matching.close = later  # type: ignore[method-assign]
    try:
        yield
    finally:
        del matching.close
        go.set()


async def listed(driver: Person) -> list[str]:
    page = await driver.http.available()
    return [row["job"]["id"] for row in page["items"]]


@pytest.fixture
async def two_workers(database_url: str, redis_url: str) -> Any:
    async with scene_of(database_url, redis_url, workers=2) as opened:
        yield opened


@PROPERTY
@given(
    stage=st.sampled_from(["accepted", "arrived", "in_progress"]),
    ways=st.lists(st.sampled_from(["offer", "board", "other worker", "expired offer"]), min_size=1, max_size=3),
    at_once=st.booleans(),
    end=st.sampled_from(["completed", "cancelled", None]),
)
async def test_an_active_job_blocks_every_other_accept(
    two_workers: Scene, stage: str, ways: list[str], at_once: bool, end: str | None
) -> None:
    """Feature: provider-system-redesign, Property 18: with an active job (accepted, arrived, in_progress) new accepts are blocked.

    Fails when accept_job's check and the index jobs_one_active both forget `arrived`.
    """
    scene = two_workers
    await scene.clear()
    (driver,) = await ready(scene, 1)
    own, *rest = [await scene.job() for _ in range(2 + len(ways))]
    elsewhere = scene.http(driver, worker=1)
    offers = [await offered(scene, job, driver, way) for job, way in zip(rest, ways, strict=False)]
    first = (await scene.offer(own, driver))[driver.provider_id]
    if at_once:
        # Two workers do not see each other: only the judge keeps him from both.
        answers = await asyncio.gather(
            driver.http.accept(own["id"], first), elsewhere.accept(rest[-1]["id"]), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, Denied)]
        assert [denied.code for denied in refused] == ["PROVIDER_HAS_ACTIVE_JOB"]
        won = next(answer for answer in answers if not isinstance(answer, BaseException))
        own, *lost = sorted((own, rest.pop()), key=lambda job: job["id"] != won["job"]["id"])
        (rival,) = await ready(scene, 1)
        late = await outcome(scene.server.app.claims.accept(actor(rival), UUID(lost[0]["id"]), None, None, "k"))
        assert late == "accepted", "the claim of somebody who was refused is free for the next"
    else:
        await driver.http.accept(own["id"], first)
    status = "accepted"
    while status != stage:
        status = NEXT[status]
        await driver.http.advance(own["id"], status)
    for job, way, offer in zip(rest, ways, offers, strict=False):
        with code("PROVIDER_HAS_ACTIVE_JOB"):
            await (elsewhere if way == "other worker" else driver.http).accept(job["id"], offer)
    assert await active(scene, driver) == [(own["id"], stage)]
    if end is None:
        return
    if end == "cancelled":
        await scene.customer.http.cancel(own["id"])
    while end == "completed" and status != "completed":
        status = NEXT[status]
        await driver.http.advance(own["id"], status)
    after = await scene.job()
    await driver.http.accept(after["id"])
    assert await active(scene, driver) == [(after["id"], "accepted")]


async def offered(scene: Scene, job: dict[str, Any], driver: Person, way: str) -> str | None:
    if way == "board":
        return None
    ttl_s = 0.0 if way == "expired offer" else 60.0
    return (await scene.offer(job, driver, ttl_s=ttl_s))[driver.provider_id]


async def active(scene: Scene, driver: Person) -> list[tuple[str, str]]:
    rows = await scene.judge.fetch(
        "SELECT id, status FROM jobs WHERE provider_id = $1 AND status IN ('accepted', 'arrived', 'in_progress')",
        UUID(driver.provider_id),
    )
    return [(str(row["id"]), row["status"]) for row in rows]


# Written out from the contract's section 5 and the seed, not taken from the code.
TABLE = {
    None: {"pending"},
    "pending": {"offered", "cancelled"},
    "offered": {"offered", "accepted", "cancelled"},
    "accepted": {"arrived", "offered", "cancelled"},
    "arrived": {"in_progress", "offered", "cancelled"},
    "in_progress": {"completed", "cancelled"},
    "completed": set(),
    "cancelled": set(),
}
ACTIVE = ("accepted", "arrived", "in_progress")
moves = st.lists(
    st.tuples(
        st.sampled_from(["customer", "driver", "driver", "other driver", "stranger", "admin"]),
        st.sampled_from(["offer", "accept", "next", "next", "next", "arrived", "in_progress", "completed", "cancel", "release"]),
    ),
    min_size=2,
    max_size=9,
)  # fmt: skip


@PROPERTY
@given(start=st.sampled_from(["pending", "offered", *ACTIVE]), moves=moves)
async def test_only_legal_moves_by_the_right_person_change_a_job(
    scene: Scene, start: str, moves: list[tuple[str, str]]
) -> None:
    """Feature: provider-system-redesign, Property 20: statuses follow pending → offered → accepted → arrived → in_progress → completed,
    or cancelled at any point.

    Fails when Jobs.advance does not check the move.
    """
    await scene.clear()
    driver, other = await ready(scene, 2)
    people = {
        "customer": scene.customer.http,
        "driver": driver.http,
        "other driver": other.http,
        "stranger": scene.somebody().http,
        "admin": (await scene.server.admin()).http,
    }
    job = await scene.job()
    path, owner = ["pending"], None
    if start != "pending":
        moves = [("driver", "offer"), *moves]
    if start in ACTIVE:
        moves = [moves[0], ("driver", "accept"), *[("driver", "next")] * ACTIVE.index(start), *moves[1:]]
    for who, verb in moves:
        status = path[-1]
        goal = NEXT.get(status, "arrived") if verb == "next" else verb
        if verb == "offer":
            before = await scene.row(job)
            if await scene.offer(job, driver, other, round=before["round"]):
                path.append("offered")
            continue
        his = verb == "accept" and who == owner and status != "cancelled"  # asked again: the same answer, and no change
        legal = his or {
            "accept": status in ("pending", "offered") and who in ("driver", "other driver"),
            "cancel": who in ("customer", "admin")
            and status in ("pending", "offered", *ACTIVE)
            or who == owner
            and status in ACTIVE,
            "release": who == "admin" and status in ("accepted", "arrived"),
        }.get(verb, who == owner and NEXT.get(status) == goal)
        try:
            await move(people[who], job["id"], verb, goal)
        except Denied as refusal:
            assert not legal or (verb == "accept" and refusal.code == "JOB_NOT_AVAILABLE"), refusal
            assert refusal.code in REFUSALS, refusal
        else:
            assert legal, f"{who} could {verb} a job that was {status}"
            if his:
                pass
            elif verb == "accept":
                owner = who
                path += ["offered", "accepted"] if status == "pending" else ["accepted"]
            elif verb == "release":
                owner = None
                path.append("offered")
            else:
                path.append("cancelled" if verb == "cancel" else goal)
        assert (await scene.row(job))["status"] == path[-1]
    rows = await scene.judge.fetch(
        "SELECT version, from_status, to_status FROM job_events WHERE job_id = $1 ORDER BY version", UUID(job["id"])
    )
    assert [row["to_status"] for row in rows] == path
    assert [row["from_status"] for row in rows] == [None, *path[:-1]]
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["to_status"] in TABLE[row["from_status"]] for row in rows)


REFUSALS = {
    "INVALID_STATUS_TRANSITION", "JOB_NOT_FOUND", "FORBIDDEN", "JOB_NOT_AVAILABLE", "PROVIDER_NOT_FOUND", "OFFER_NOT_FOUND",
    "PROVIDER_HAS_ACTIVE_JOB",
}  # fmt: skip


async def move(http: Http, job_id: Any, verb: str, goal: Any) -> None:
    match verb:
        case "accept":
            await http.accept(job_id)
        case "cancel":
            await http.cancel(job_id, "why not")
        case "release":
            await http.release(job_id, "the office says so")
        case _:
            await http.advance(job_id, goal)
