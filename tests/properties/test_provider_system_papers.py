"""Documents and vehicles: properties 3, 4, 6, 33, 34, 35, 45, 46, 47. Through HTTP and the sweep, on real stores."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.providers import seed
from protocol.papers import NEEDS_EXPIRY, DocumentType
from tests.papers.scenes import PDF, Papers, a_car, in_days, papers_of
from tests.properties.scenes import PROPERTY, kinds
from tests.support.server import Person, code

REQUIRED = {
    "ride": ["national_id", "driver_license", "vehicle_registration"],
    "delivery": ["national_id", "driver_license"],
    "shopping": ["national_id", "bank_account"],
    "moving": ["driver_license", "vehicle_insurance"],
    "laundry": ["national_id"],
}
ALL = [str(kind) for kind in DocumentType]
document_kind = st.sampled_from(ALL)
_words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
_numbers = count()


@pytest.fixture
async def papers(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Papers]:
    given = {"required_documents": REQUIRED, "vehicle_services": ["ride"], "uploads_per_hour": 100_000}
    async with papers_of(database_url, redis_url, tmp_path, **given) as opened:
        await opened.office.http.me()
        yield opened


def required(service_types: list[str]) -> set[str]:
    return {kind for one in service_types for kind in REQUIRED[one]}


async def working(papers: Papers, service_types: list[str]) -> Person:
    """A provider who may work, with an approved document of every kind, required or not, straight into the judge's books."""
    stock: list[UUID] = papers.__dict__.setdefault("stock", [])
    if not stock:
        stock += [user for _, user in await seed(papers.server.settings, providers=120, customers=0)]
    user = stock.pop()
    provider = await papers.judge.fetchval(
        "UPDATE providers SET service_types = $2 WHERE user_id = $1 RETURNING id", user, service_types
    )
    await papers.judge.execute("DELETE FROM provider_documents WHERE user_id = $1", user)
    await papers.judge.execute(
        """INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, status, expiry_date)
           SELECT gen_random_uuid(), $1, $2, d, gen_random_uuid()::text, 'image/png', 1, '', 'approved', papers_today() + 300 FROM unnest($3::text[]) d""",
        provider,
        user,
        ALL,
    )
    person = await papers.server.person(user_id=user)
    person.provider_id = str(provider)
    return person


async def lapse(papers: Papers, person: Person, lost: set[str]) -> None:
    """The day after the last day of these."""
    await papers.judge.execute(
        "UPDATE provider_documents SET expiry_date = papers_today() - 1 WHERE user_id = $1 AND document_type = ANY ($2::text[])",
        person.user_id,
        list(lost),
    )


async def queue(papers: Papers, limit: int = 100) -> list[dict[str, Any]]:
    """The whole of it, page by page."""
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await papers.office.http.papers.verification(limit=limit, cursor=cursor)
        rows += page["items"]
        if (cursor := page.get("next_cursor")) is None:
            return rows


@PROPERTY
@given(service_types=kinds, data=st.data())
async def test_an_upload_is_in_the_queue(papers: Papers, service_types: list[str], data: st.DataObject) -> None:
    """Feature: provider-system-redesign, Property 3: an uploaded required document appears in the verification queue as pending.

    Fails when verification_queue leaves out documents that replaced a pending one.
    """
    person = await papers.applicant(service_types=service_types)
    uploads = data.draw(st.lists(st.sampled_from(sorted(required(service_types))), min_size=1, max_size=3))
    newest = {kind: await papers.upload(person, kind) for kind in uploads}
    (row,) = [row for row in await queue(papers) if row["provider_id"] == person.provider_id]
    assert {one["document_type"]: (one["id"], one["status"]) for one in row["documents"]} == {
        kind: (document, "pending") for kind, document in newest.items()
    }
    for document in newest.values():
        await papers.office.http.papers.review_document(document, "approve")
    assert person.provider_id not in [row["provider_id"] for row in await queue(papers)]


@PROPERTY
@given(service_types=kinds, uploads=st.lists(document_kind, max_size=5))
async def test_complete_documents_and_only_they_update_the_status(
    papers: Papers, service_types: list[str], uploads: list[str]
) -> None:
    """Feature: provider-system-redesign, Property 4: with all required documents uploaded, and not before, a provider is pending_verification.

    Fails when documents_missing looks at one of several service types, or submits with one document still missing.
    """
    person = await papers.applicant(service_types=service_types)
    there: set[str] = set()
    for kind in [*uploads, *sorted(required(service_types) - set(uploads))]:
        assert await papers.status(person) == (
            "pending_verification" if required(service_types) <= there else "pending"
        )
        await papers.upload(person, kind)
        there.add(kind)
    assert await papers.status(person) == "pending_verification"


@PROPERTY
@given(
    waits=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 9)), max_size=14),
    limit=st.integers(1, 7),
)
async def test_the_queue_is_oldest_first(papers: Papers, waits: list[tuple[int, bool, int]], limit: int) -> None:
    """Feature: provider-system-redesign, Property 6: the queue lists providers by their oldest submission, ascending, whatever the page.

    Fails when the queue orders by the newest item of a provider, or when a page loses one of two that tie.
    """
    people = await _six(papers)
    await papers.judge.execute("DELETE FROM provider_documents; DELETE FROM provider_vehicles")
    oldest: dict[str, int] = {}
    documents = [
        (people[who], age, ALL[number % 7])
        for number, (who, vehicle, age) in enumerate(waits)
        if not vehicle and number < 7
    ]
    vehicles = [(people[who], age) for who, vehicle, age in waits if vehicle]
    await papers.judge.executemany(
        """INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, uploaded_at)
           VALUES (gen_random_uuid(), $1, $2, $4, gen_random_uuid()::text, 'image/png', 1, '', timestamptz '2026-01-01' + interval '1 s' * $3::int)""",
        [(*person, age, kind) for person, age, kind in documents],
    )
    await papers.judge.executemany(
        """INSERT INTO provider_vehicles (id, provider_id, user_id, vehicle_type, make, model, year, plate_number, plate_key, color, registration_expiry,
             insurance_expiry, submitted_at) VALUES (gen_random_uuid(), $1, $2, 'car', 'a', 'b', 2020, $4, $4, 'c', '2100-01-01', '2100-01-01',
             timestamptz '2026-01-01' + interval '1 s' * $3::int)""",
        [(*person, age, f"P{next(_numbers)}") for person, age in vehicles],
    )
    for person, age in [*((person, age) for person, age, _ in documents), *vehicles]:
        oldest[str(person[0])] = min(age, oldest.get(str(person[0]), age))
    rows = await queue(papers, limit)
    assert [row["provider_id"] for row in rows] == sorted(oldest, key=lambda one: (oldest[one], UUID(one).bytes))
    assert sum(len(row["documents"]) + len(row["vehicles"]) for row in rows) == len(documents) + len(vehicles)


async def _six(papers: Papers) -> list[tuple[UUID, UUID]]:
    """(provider, user) of the six people of this server."""
    rows = await papers.judge.fetch("SELECT id, user_id FROM providers ORDER BY created_at LIMIT 6")
    if len(rows) < 6:
        await seed(papers.server.settings, providers=6, customers=0)
        return await _six(papers)
    return [(row["id"], row["user_id"]) for row in rows]


@PROPERTY
@given(kind=document_kind, days=st.sampled_from([1, 7, 30, 31]) | st.integers(1, 60), approved=st.booleans())
async def test_a_document_that_ends_soon_shows_a_warning(papers: Papers, kind: str, days: int, approved: bool) -> None:
    """Feature: provider-system-redesign, Property 33: a document with an expiry date within 30 days shows its provider a warning.

    Fails when document_view warns below 30 days instead of up to 30, or when documents_warn begins a day later.
    """
    person = await _only(papers)
    document = await papers.upload(person, kind, expiry_date=in_days(days))
    if approved:
        await papers.office.http.papers.review_document(document, "approve")
    before = len(await papers.told(person, "document_expiring"))
    await papers.server.app.expiry.sweep()
    (shown,) = [one for one in (await person.http.papers.documents())["items"] if one["id"] == document]
    assert shown.get("expires_in_days") == (days if days <= 30 else None)
    told = [data for _, data in (await papers.told(person, "document_expiring"))[before:]]
    assert told == ([{"document_type": kind, "days": days}] if approved and days <= 30 else [])


async def _only(papers: Papers) -> Person:
    """The one provider of this server."""
    if not hasattr(papers, "only"):
        papers.only = await papers.applicant()  # type: ignore[attr-defined]
    person: Person = papers.only  # type: ignore[attr-defined]
    return person


@PROPERTY
@given(service_types=kinds, lost=st.sets(document_kind, max_size=4))
async def test_a_required_document_that_ends_suspends(papers: Papers, service_types: list[str], lost: set[str]) -> None:
    """Feature: provider-system-redesign, Property 34: an expired required document suspends its provider and asks him for a renewal; another does not.

    Fails when the sweep suspends for any document, or writes no notice for one that is not required.
    """
    person = await working(papers, service_types)
    await lapse(papers, person, lost)
    await papers.server.app.expiry.sweep()
    suspended = bool(lost & required(service_types))
    row = await papers.judge.fetchrow(
        "SELECT status, suspension_cause FROM providers WHERE user_id = $1", person.user_id
    )
    assert row is not None
    assert tuple(row) == (("suspended", "documents") if suspended else ("approved", None))
    assert {data["document_type"] for _, data in await papers.told(person, "document_expired")} == lost
    assert len(await papers.told(person, "account_suspended")) == suspended
    assert {
        one["document_type"] for one in (await person.http.papers.documents())["items"] if one["status"] == "expired"
    } == lost


@PROPERTY
@given(service_types=kinds, data=st.data(), cause=st.sampled_from(["documents", "documents", "admin"]))
async def test_all_documents_approved_again_restore_the_status(
    papers: Papers, service_types: list[str], data: st.DataObject, cause: str
) -> None:
    """Feature: provider-system-redesign, Property 35: a provider suspended for papers is approved again when all required ones are, not before.

    Fails when suspension_over forgets the cause, or when one approved renewal of two is enough.
    """
    person = await working(papers, service_types)
    needed = sorted(required(service_types))
    lost = data.draw(st.lists(st.sampled_from(needed), min_size=1, max_size=3, unique=True))
    await lapse(papers, person, set(lost))
    await papers.server.app.expiry.sweep()
    await papers.judge.execute("UPDATE providers SET suspension_cause = $2 WHERE user_id = $1", person.user_id, cause)
    for kind in lost:
        assert await papers.status(person) == "suspended"
        if data.draw(st.booleans()):
            await papers.office.http.papers.review_document(await papers.upload(person, kind), "reject", "blurred")
            assert await papers.status(person) == "suspended"
        await papers.approved(person, kind)
    assert await papers.status(person) == ("approved" if cause == "documents" else "suspended")
    assert len(await papers.told(person, "account_reactivated")) == (cause == "documents")


@PROPERTY
@given(
    make=_words,
    model=_words,
    color=_words,
    year=st.integers(1980, 2027),
    action=st.sampled_from(["approve", "approve", "reject"]),
    already=st.booleans(),
)
async def test_an_approved_vehicle_is_available(
    papers: Papers, make: str, model: str, color: str, year: int, action: str, already: bool
) -> None:
    """Feature: provider-system-redesign, Property 45: a vehicle that an admin approves becomes available for jobs; one that he rejects does not.

    Fails when vehicle_review leaves the first approved vehicle out of use, or judges no gate.
    """
    person = await working(papers, ["ride"])
    office, mine = papers.office.http.papers, person.http.papers
    if already:
        await office.review_vehicle((await mine.add_vehicle(**a_car()))["id"], "approve")
    car = await mine.add_vehicle(**a_car(make=make, model=model, color=color, year=year))
    assert (car["make"], car["status"]) == (make, "pending")
    shown = await office.review_vehicle(car["id"], action, "why")
    approved = action == "approve"
    assert (shown["status"], shown["is_active"]) == ("approved" if approved else "rejected", approved and not already)
    assert (await person.http.provider())["cleared_service_types"] == (["ride"] if approved or already else [])
    if approved:
        assert (await mine.activate_vehicle(car["id"]))["is_active"]
    else:
        with code("VEHICLE_NOT_APPROVED"):
            await mine.activate_vehicle(car["id"])
    assert len(await papers.told(person, f"vehicle_{shown['status']}")) == 1 + (approved and already)


@PROPERTY
@given(registration=st.integers(-5, 5), insurance=st.integers(-5, 5), in_use=st.booleans())
async def test_a_vehicle_that_ends_is_suspended(
    papers: Papers, registration: int, insurance: int, in_use: bool
) -> None:
    """Feature: provider-system-redesign, Property 46: a vehicle whose registration (or insurance) expires is suspended and its provider told.

    Fails when vehicles_due looks at one of the two days only, or a day too early.
    """
    person = await working(papers, ["ride"])
    office, mine = papers.office.http.papers, person.http.papers
    if not in_use:
        await office.review_vehicle((await mine.add_vehicle(**a_car()))["id"], "approve")
    car = (await mine.add_vehicle(**a_car()))["id"]
    await office.review_vehicle(car, "approve")
    await papers.vehicle_ends(car, registration)
    await papers.vehicle_ends(car, insurance, "insurance_expiry")
    await papers.server.app.expiry.sweep()
    over = min(registration, insurance) < 0
    (shown,) = [one for one in (await mine.vehicles())["items"] if one["id"] == car]
    assert (shown["status"], shown["is_active"]) == ("suspended" if over else "approved", in_use and not over)
    told = await papers.told(person, "vehicle_suspended")
    assert [data["vehicle_id"] for _, data in told] == [car] * over
    assert (await person.http.provider())["cleared_service_types"] == ([] if over and in_use else ["ride"])


_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "plate_number": st.just("new"),
        "vehicle_type": st.sampled_from(["car", "van", "motorcycle"]),
        "registration_document_id": st.just("new"),
        "make": _words,
        "model": _words,
        "color": _words,
        "year": st.integers(1980, 2027),
    },
)


@PROPERTY
@given(changes=_CHANGES)
async def test_a_critical_change_is_verified_again(papers: Papers, changes: dict[str, Any]) -> None:
    """Feature: provider-system-redesign, Property 47: a change of plate, type or registration document puts a vehicle back into the queue; no other does.

    Fails when rules.changed forgets one of the three, or takes any change for one.
    """
    person = await working(papers, ["ride"])
    office, mine = papers.office.http.papers, person.http.papers
    car = await mine.add_vehicle(**a_car())
    await office.review_vehicle(car["id"], "approve")
    if "plate_number" in changes:
        changes["plate_number"] = a_car()["plate_number"]
    if "registration_document_id" in changes:
        changes["registration_document_id"] = await papers.upload(person, "vehicle_registration")
    critical = (
        bool({"plate_number", "registration_document_id"} & set(changes)) or changes.get("vehicle_type", "car") != "car"
    )
    shown = await mine.patch_vehicle(car["id"], **changes)
    assert (shown["status"], shown["is_active"]) == (("pending", False) if critical else ("approved", True))
    waiting = [
        one["id"] for row in await queue(papers) if row["provider_id"] == person.provider_id for one in row["vehicles"]
    ]
    assert waiting == [car["id"]] * critical
    assert (await person.http.provider())["cleared_service_types"] == ([] if critical else ["ride"])
    if critical:
        with code("VEHICLE_NOT_APPROVED"):
            await mine.activate_vehicle(car["id"])
        await office.review_vehicle(car["id"], "approve")
        assert (await person.http.provider())["cleared_service_types"] == ["ride"]


def test_the_requirements_of_these_tests_differ_and_some_need_a_day() -> None:
    assert len({tuple(one) for one in REQUIRED.values()}) == len(REQUIRED)
    assert {str(kind) for kind in NEEDS_EXPIRY} & required(list(REQUIRED))
    assert PDF.startswith(b"%PDF-")
