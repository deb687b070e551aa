"""Vehicles through the door: registering, changing, using, and what a customer sees of one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.papers.scenes import Papers, a_car, in_days, papers_of
from tests.support.server import BANGKOK, Person, code, denied


@pytest.fixture
async def person(papers: Papers) -> Person:
    return await papers.applicant()


@pytest.fixture
async def strict(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Papers]:
    """Rides need a vehicle, and nothing else."""
    async with papers_of(database_url, redis_url, tmp_path, required_documents={}, vehicle_services=["ride"]) as opened:
        yield opened


WRONG = [
    ({"year": 1979}, "year"),
    ({"year": 2200}, "year"),
    ({"year": "2020"}, "year"),
    ({"make": ""}, "make"),
    ({"make": "   "}, "make"),
    ({"make": "x" * 51}, "make"),
    ({"model": None}, "model"),
    ({"color": "a\nb"}, "color"),
    ({"plate_number": "-"}, "plate_number"),
    ({"plate_number": "x" * 21}, "plate_number"),
    ({"plate_number": "AB\x0012"}, None),
    ({"registration_expiry": in_days(0)}, "registration_expiry"),
    ({"insurance_expiry": in_days(-1)}, "insurance_expiry"),
    ({"insurance_expiry": "tomorrow"}, "insurance_expiry"),
    ({"insurance_expiry": "9999-12-31"}, "insurance_expiry"),
    ({"registration_document_id": "7"}, "registration_document_id"),
    ({"status": "approved"}, "status"),
    ({"is_active": True}, "is_active"),
]


async def test_what_is_wrong_with_a_vehicle_is_said(papers: Papers, person: Person) -> None:
    for wrong, field in WRONG:
        refusal = await denied(person.http.papers.add_vehicle(**{**a_car(), **wrong}))
        assert refusal.code == "VALIDATION_ERROR", wrong
        if field is not None:
            assert [fault["field"] for fault in refusal.details["fields"]] == [field], (wrong, refusal.details)
    with code("DOCUMENT_NOT_FOUND"):
        await person.http.papers.add_vehicle(**a_car(registration_document_id=str(uuid4())))
    theirs = await papers.upload(await papers.applicant(), "vehicle_registration")
    with code("DOCUMENT_NOT_FOUND"):
        await person.http.papers.add_vehicle(**a_car(registration_document_id=theirs))
    licence = await papers.upload(person, "driver_license")
    refusal = await denied(person.http.papers.add_vehicle(**a_car(registration_document_id=licence)))
    assert refusal.details["fields"][0]["field"] == "registration_document_id"
    with code("PROVIDER_NOT_FOUND"):
        await (await papers.server.person()).http.papers.add_vehicle(**a_car())
    assert (await person.http.papers.vehicles())["items"] == []


async def test_a_vehicle_is_registered_approved_and_in_use(papers: Papers, person: Person) -> None:
    mine, office = person.http.papers, papers.office.http.papers
    paper = await papers.upload(person, "vehicle_registration")
    car = await mine.add_vehicle(**a_car(registration_document_id=paper, insurance_expiry=in_days(30)), key="once")
    assert (car["status"], car["is_active"], car["version"], car["expires_in_days"]) == ("pending", False, 1, 30)
    (waiting,) = (await office.verification())["items"]
    assert [one["id"] for one in waiting["vehicles"]] == [car["id"]]
    with code("VEHICLE_NOT_APPROVED"):
        await mine.activate_vehicle(car["id"])
    assert (await office.review_vehicle(car["id"], "approve"))["is_active"]
    with code("INVALID_STATUS_TRANSITION"):
        await office.review_vehicle(car["id"], "reject", "too late")
    van = await mine.add_vehicle(**a_car(vehicle_type="van"))
    assert not (await office.review_vehicle(van["id"], "approve"))["is_active"], "one is in use already"
    assert (await mine.activate_vehicle(van["id"]))["is_active"]
    assert (await mine.activate_vehicle(van["id"]))["is_active"], "again is fine"
    assert [one["is_active"] for one in (await mine.vehicles())["items"]] == [True, False]
    for call in (mine.activate_vehicle, mine.patch_vehicle):
        with code("VEHICLE_NOT_FOUND"):
            await call(uuid4())
        stranger = await papers.applicant()
        with code("VEHICLE_NOT_FOUND"):
            await getattr(stranger.http.papers, call.__name__)(car["id"])
    told = await papers.told(person, "vehicle_approved")
    assert told[0][1]["vehicle"] == f"Toyota Yaris {car['plate_number']}"


async def test_a_plate_belongs_to_one_vehicle_however_it_is_spelt(papers: Papers, person: Person) -> None:
    other, office = await papers.applicant(), papers.office.http.papers
    car = await person.http.papers.add_vehicle(**a_car(plate_number="1กก 1234"))
    for plate in ("1กก 1234", "1กก-1234", "๑กก ๑๒๓๔"):
        with code("PLATE_TAKEN"):
            await other.http.papers.add_vehicle(**a_car(plate_number=plate))
    van = await other.http.papers.add_vehicle(**a_car(plate_number="1กข 1234"))
    with code("PLATE_TAKEN"):
        await other.http.papers.patch_vehicle(van["id"], plate_number="1กก1234")
    await office.review_vehicle(car["id"], "reject", "not yours")
    await other.http.papers.patch_vehicle(van["id"], plate_number="1กก1234")
    with code("PLATE_TAKEN"):
        await person.http.papers.patch_vehicle(car["id"], color="red")  # would hand the rejected one in again
    answers = await asyncio.gather(
        *(one.http.papers.add_vehicle(**a_car(plate_number="ZZ 9")) for one in (person, other) * 3),
        return_exceptions=True,
    )
    assert len([answer for answer in answers if isinstance(answer, dict)]) == 1


async def test_a_stale_change_or_review_is_refused(papers: Papers, person: Person) -> None:
    mine, office = person.http.papers, papers.office.http.papers
    car = await mine.add_vehicle(**a_car())
    changed = await mine.patch_vehicle(car["id"], color="red", version=1)
    assert changed["version"] == 2
    with code("CONCURRENT_MODIFICATION"):
        await mine.patch_vehicle(car["id"], color="blue", version=1)
    await mine.patch_vehicle(car["id"], plate_number="NEW 1")
    with code("CONCURRENT_MODIFICATION"):
        await office.review_vehicle(car["id"], "approve", version=2)
    assert (await office.review_vehicle(car["id"], "approve", version=3))["status"] == "approved"
    assert await mine.patch_vehicle(car["id"]) == (await mine.vehicles())["items"][0], "nothing said, nothing changed"
    with code("VALIDATION_ERROR"):
        await mine.patch_vehicle(car["id"], year=1900)
    answers = await asyncio.gather(
        *(mine.patch_vehicle(car["id"], color=color, version=4) for color in "abcd"), return_exceptions=True
    )
    assert len([answer for answer in answers if isinstance(answer, dict)]) == 1


async def test_there_are_twenty_vehicles_at_most(papers: Papers, person: Person) -> None:
    answers = await asyncio.gather(
        *(person.http.papers.add_vehicle(**a_car()) for _ in range(24)), return_exceptions=True
    )
    assert len([answer for answer in answers if isinstance(answer, dict)]) == 20


async def test_where_a_vehicle_is_needed_there_is_no_work_without_one(strict: Papers) -> None:
    person = await strict.working(vehicle=True)
    (car,) = (await person.http.papers.vehicles())["items"]
    await person.http.set_online(True, *BANGKOK)
    changed = await person.http.papers.patch_vehicle(car["id"], plate_number="NEW 7")
    assert (changed["status"], changed["is_active"]) == ("pending", False)
    assert (await person.http.provider())["cleared_service_types"] == []
    with code("VEHICLE_REQUIRED"):
        await person.http.set_online(True, *BANGKOK)
    await strict.office.http.papers.review_vehicle(car["id"], "approve")
    assert (await person.http.provider())["cleared_service_types"] == ["ride"]


async def test_the_customer_sees_the_vehicle_that_comes(strict: Papers) -> None:
    person = await strict.working(vehicle=True)
    (car,) = (await person.http.papers.vehicles())["items"]
    other = await person.http.papers.add_vehicle(**a_car())
    await strict.office.http.papers.review_vehicle(other["id"], "approve")
    async with strict.on_a_job(person) as (phone, job):
        shown = (await strict.office.http.job(UUID(job["id"])))["provider"]["vehicle"]
        assert shown == {name: car[name] for name in ("make", "model", "color", "plate_number")}
        # Not switched, nor made another one, while a customer looks out for it.
        with code("PROVIDER_HAS_ACTIVE_JOB"):
            await person.http.papers.activate_vehicle(other["id"])
        with code("PROVIDER_HAS_ACTIVE_JOB"):
            await person.http.papers.patch_vehicle(car["id"], plate_number="NEW 8")
        await person.http.papers.patch_vehicle(car["id"], color="green")
        assert (await strict.office.http.job(UUID(job["id"])))["provider"]["vehicle"] == shown, (
            "as it was when they met"
        )
        await strict.finish(phone, job)
    await person.http.papers.activate_vehicle(other["id"])
    job = await strict.office.http.job(UUID(job["id"]))
    assert job["provider"]["vehicle"] == shown


async def test_a_released_job_shows_no_vehicle(strict: Papers) -> None:
    person = await strict.working(vehicle=True)
    async with strict.on_a_job(person) as (_, job):
        await strict.office.http.release(UUID(job["id"]), "wrong car")
        row = await strict.judge.fetchrow(
            "SELECT provider_vehicle, provider_id FROM jobs WHERE id = $1", UUID(job["id"])
        )
        assert row is not None and row["provider_id"] is None and row["provider_vehicle"] is None
