"""What a provider sees and whether he is seen: properties 11, 12, 14, 39. Through HTTP and the socket, on real stores."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.client import Client
from tests.properties.scenes import BANGKOK, MARKETS, PROPERTY, Scene, actor, kind, kinds, metres, place
from tests.support.server import Person, code


async def shown(driver: Person, **query: Any) -> list[dict[str, Any]]:
    """What GET /v1/jobs/available lists."""
    page = await driver.http.available(**query)
    items: list[dict[str, Any]] = page["items"]
    return items


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["job"]["id"] for row in rows}


@PROPERTY
@given(
    registered=kinds,
    narrowed=st.none() | kinds,
    changed=st.none() | kinds,
    wanted=st.lists(kind, min_size=1, max_size=4),
    offered=st.sets(st.integers(0, 3)),
)
async def test_available_jobs_are_of_the_providers_types(
    scene: Scene,
    registered: list[str],
    narrowed: list[str] | None,
    changed: list[str] | None,
    wanted: list[str],
    offered: set[int],
) -> None:
    """Feature: provider-system-redesign, Property 11: all displayed jobs match at least one of the provider's registered service types.

    Fails when jobs_board drops its service type check.
    """
    await scene.clear()
    driver = await scene.driver(service_types=registered)
    taken = registered if narrowed is None else [one for one in registered if one in narrowed] or registered
    await scene.server.app.shifts.start(actor(driver), BANGKOK, taken if narrowed is not None else None, None)
    jobs = [await scene.job(one) for one in wanted]
    for number in offered & set(range(len(jobs))):
        await scene.offer(jobs[number], driver)
    if changed is not None:
        await driver.http.patch_provider(service_types=changed)
        registered = changed
    rows = await shown(driver)
    assert {row["job"]["service_type"] for row in rows} <= set(registered)
    if narrowed is None:
        assert ids(rows) == {job["id"] for job in jobs if job["service_type"] in registered}


@PROPERTY
@given(registered=st.lists(kind, min_size=2, max_size=5, unique=True), wanted=st.lists(kind, min_size=1, max_size=5))
async def test_jobs_of_all_registered_types_are_shown(scene: Scene, registered: list[str], wanted: list[str]) -> None:
    """Feature: provider-system-redesign, Property 39: with several service types, available jobs include jobs of all of them.

    Fails when jobs_board looks at the first of a provider's service types only.
    """
    await scene.clear()
    driver = await scene.driver(service_types=registered)
    await driver.http.set_online(True, *BANGKOK)
    jobs = [await scene.job(one) for one in wanted]
    rows = await shown(driver)
    assert ids(rows) >= {job["id"] for job in jobs if job["service_type"] in registered}
    assert [row["pickup_distance_m"] for row in rows] == sorted(row["pickup_distance_m"] for row in rows)


@PROPERTY
@given(
    home=st.tuples(st.integers(-3_000, 3_000), st.integers(-3_000, 3_000)),
    radius_m=st.integers(1_000, 12_000),
    asked_m=st.none() | st.integers(1, 12_000),
    pickups=st.lists(
        st.tuples(st.integers(-9_000, 9_000), st.integers(-9_000, 9_000)), min_size=1, max_size=4, unique=True
    ),
    moved=st.none() | st.tuples(st.integers(-3_000, 3_000), st.integers(-3_000, 3_000)),
)
async def test_available_jobs_lie_within_the_radius(
    scene: Scene,
    home: tuple[int, int],
    radius_m: int,
    asked_m: int | None,
    pickups: list[tuple[int, int]],
    moved: tuple[int, int] | None,
) -> None:
    """Feature: provider-system-redesign, Property 14: an online provider's available jobs lie within his service area radius.

    Fails when jobs_board drops its comparison with the radius.
    """
    await scene.clear()
    driver = await scene.driver()
    await driver.http.patch_provider(service_radius_m=radius_m)
    await driver.http.set_online(True, *place(*home))
    jobs = {job["id"]: at for at in [place(*one) for one in pickups] for job in [await scene.job(at=at)]}
    if moved is not None:
        await driver.http.set_online(True, *place(*moved))
    here = place(*(moved or home))
    reach_m = min(radius_m, asked_m or radius_m)
    rows = await shown(driver, max_distance_m=asked_m)
    # A metre of doubt: the server rounds, and the two formulas differ in the last bits.
    assert ids(rows) <= {job for job, at in jobs.items() if metres(here, at) <= reach_m + 1}
    assert ids(rows) >= {job for job, at in jobs.items() if metres(here, at) <= reach_m - 1}
    for row in rows:
        assert row["pickup_distance_m"] == pytest.approx(metres(here, jobs[row["job"]["id"]]), abs=1)
    await driver.http.set_online(False)
    with code("PROVIDER_OFFLINE"):
        await shown(driver)


@PROPERTY
@given(
    toggles=st.lists(
        st.tuples(st.integers(0, 2), st.booleans(), st.sampled_from(["socket", "http"])), min_size=1, max_size=6
    )
)
async def test_a_toggle_changes_who_is_matched_at_once(
    broadcasting: Scene, toggles: list[tuple[int, bool, str]], crews: "Iterator[list[tuple[Person, Client]]]"
) -> None:
    """Feature: provider-system-redesign, Property 12: toggling online status immediately updates the availability for matching.

    Fails when providers_set_online leaves `online` on once it was on.
    """
    scene = broadcasting
    await scene.clear()
    crew = next(crews)
    on = dict.fromkeys(range(3), False)
    try:
        for who, wanted, door in toggles:
            await toggle(scene, *crew[who], wanted, door, was=on[who])
            on[who] = wanted
        job = await scene.job()
        await scene.until_offered(job, {crew[who][0].provider_id for who in on if on[who]})
        for who, (driver, _) in enumerate(crew):
            if on[who]:
                await driver.inbox.until(lambda driver=driver: job["id"] in asked(driver))
                assert job["id"] in ids(await shown(driver))
            else:
                with code("PROVIDER_OFFLINE"):
                    await shown(driver)
    finally:
        for who, (driver, _) in enumerate(crew):
            if on[who]:
                await driver.http.set_online(False)


async def toggle(scene: Scene, driver: Person, phone: Client, wanted: bool, door: str, *, was: bool) -> None:
    """Switch on or off by this door; a newly switched on one is awaited in the searches."""
    if not was:
        scene.freed.discard(driver.user_id)
    if door == "http":
        assert (await driver.http.set_online(wanted, *BANGKOK))["is_online"] == wanted
    else:
        await (phone.online(*BANGKOK) if wanted else phone.offline())
    if wanted and not was:
        await scene.until_free(driver)
    assert (await driver.http.provider())["is_online"] == wanted


def asked(driver: Person) -> list[str]:
    """The jobs that his phone was asked about."""
    return [event.data["job"]["id"] for event in driver.inbox.events if event.name == "offer.created"]


@pytest.fixture
async def crews(broadcasting: Scene) -> Any:
    """Crews of three providers on sockets, off, in turn: one crew alone would speak faster than a phone may."""
    async with AsyncExitStack() as stack:
        people = await broadcasting.drivers(15)
        phones = [(driver, await stack.enter_async_context(driver.connected())) for driver in people]
        yield cycle([phones[start : start + 3] for start in range(0, 15, 3)])


def test_the_city_of_these_tests_holds_its_places() -> None:
    for north, east in [(-9_000, -9_000), (-9_000, 9_000), (9_000, -9_000), (9_000, 9_000), (30_000, 0)]:
        assert MARKETS.at(*place(north, east)) is MARKETS["bkk"]
