"""The four test cases of the seed that repaired the provider system in production, by their names, through the real doors."""

import asyncio
from uuid import UUID

from protocol.errors import Denied
from protocol.http import Http
from tests.properties.scenes import BANGKOK, Scene, place
from tests.support.server import Person, code


def thai(scene: Scene, person: Person) -> Http:
    return scene.http(person, locale="th")


async def test_case_1_toggle_online(scene: Scene) -> None:
    """`toggleOnline(true, {lat: 13.7563, lng: 100.5018})`: isOnline = true, and the judge's books say so."""
    driver = await scene.driver()
    on = await thai(scene, driver).set_online(True, 13.7563, 100.5018)
    assert on == {"success": True, "message": "เปิดรับงานแล้ว", "provider_id": driver.provider_id, "is_online": True}
    row = await scene.judge.fetchrow(
        "SELECT g.online, g.open, p.status, p.last_lat, p.last_lng FROM provider_gate g JOIN providers p ON p.id = g.provider_id WHERE p.id = $1",
        UUID(driver.provider_id),
    )
    assert tuple(row) == (True, True, "active", 13.7563, 100.5018)
    off = await thai(scene, driver).set_online(False)
    assert off == {"success": True, "message": "ปิดรับงานแล้ว", "provider_id": driver.provider_id, "is_online": False}
    assert not await scene.judge.fetchval(
        "SELECT online OR open FROM provider_gate WHERE provider_id = $1", UUID(driver.provider_id)
    )
    assert (await driver.http.provider())["is_online"] is False


async def test_case_1_toggle_online_is_not_for_everybody(scene: Scene) -> None:
    with code("PROVIDER_NOT_FOUND"):
        await scene.somebody().http.set_online(True, *BANGKOK)
    waiting = await scene.server.provider(approved=False)
    with code("PROVIDER_NOT_APPROVED"):
        await waiting.http.set_online(True, *BANGKOK)
    driver = await scene.driver()
    await (await scene.server.admin()).http.provider_action(driver.provider_id, "suspend", "papers")
    with code("PROVIDER_SUSPENDED"):
        await driver.http.set_online(True, *BANGKOK)
    assert (await driver.http.set_online(False))["is_online"] is False, "going off is always allowed"


async def test_case_2_fetch_pending_jobs(scene: Scene) -> None:
    """`fetchPendingRequests()`: the list has the jobs with status pending, with the passenger's name and without his number."""
    driver, busy = await scene.drivers(2)
    await scene.switch_on([driver, busy])
    named = scene.somebody()
    await named.http.patch_me(first_name="Malee", last_name="Jaidee", phone_number="0812345678")
    pending = [await scene.job(customer=named), await scene.job(at=place(400, 0))]
    taken, other_kind = await scene.job(), await scene.job("laundry")
    await busy.http.accept(taken["id"])
    page = await driver.http.available()
    rows = {row["job"]["id"]: row for row in page["items"]}
    assert list(rows) == [job["id"] for job in pending], "those, nearest first; not the taken one, nor another type"
    assert other_kind["id"] not in rows
    statuses = await scene.judge.fetch(
        "SELECT status FROM jobs WHERE id = ANY ($1::uuid[])", [UUID(one) for one in rows]
    )
    assert {row["status"] for row in statuses} == {"pending"}
    assert rows[pending[0]["id"]]["job"]["passenger_name"] == "Malee Jaidee"
    assert rows[pending[1]["id"]]["job"]["passenger_name"] == "ผู้โดยสาร"
    assert "phone" not in str(page)
    won = await driver.http.accept(pending[0]["id"])
    assert won["job"]["customer"] == {"first_name": "Malee", "phone_number": "+66812345678"}


async def test_case_3_accept_job_race_condition(scene: Scene) -> None:
    """`Promise.all([acceptRide(id), acceptRide(id)])`: one wins, the other reads «งานนี้ถูกรับไปแล้ว»."""
    for turn in range(10):
        pair = await scene.drivers(2)
        await scene.switch_on(pair)
        job = await scene.job()
        offers = await scene.offer(job, *pair) if turn % 2 else {}
        answers = await asyncio.gather(
            *(thai(scene, driver).accept(job["id"], offers.get(driver.provider_id)) for driver in pair),
            return_exceptions=True,
        )
        (won,) = [answer for answer in answers if isinstance(answer, dict)]
        (lost,) = [answer for answer in answers if isinstance(answer, Denied)]
        winner = pair[answers.index(won)]
        assert won["success"] is True
        assert won["job"]["provider"]["id"] == winner.provider_id
        assert (lost.code, lost.message, lost.status) == ("JOB_NOT_AVAILABLE", "งานนี้ถูกรับไปแล้ว", 409)
        assert lost.details == {"status": "accepted"}
        assert str((await scene.row(job))["provider_id"]) == winner.provider_id


async def test_case_4_realtime_updates(scene: Scene) -> None:
    """The customer makes a job: the provider who is online hears of it at once, who is off does not; then the customer hears of him."""
    here, away = await scene.drivers(2)
    async with here.connected() as phone, away.connected():
        await scene.online(here, phone)
        job = await scene.job()
        offer = await here.inbox.named("offer.created")
        assert offer.data["job"]["id"] == job["id"]
        await phone.accept(job["id"], offer.data["offer_id"], offer.data["round"])
        heard = await scene.customer.inbox.named("job.accepted")
        assert (heard.data["job"]["id"], heard.data["provider"]["id"]) == (job["id"], here.provider_id)
        await phone.advance(job["id"], "arrived")
        await scene.customer.inbox.status(job["id"], "arrived")
        assert away.inbox.events == []
