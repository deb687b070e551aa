"""The office's side: the queue, reviews, races between them and uploads, and what follows for the provider."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

from protocol.papers import ReviewAction
from tests.papers.scenes import Papers, a_car, in_days
from tests.support.server import Person, code, denied


async def test_what_is_wrong_with_a_review_is_said(papers: Papers) -> None:
    person, office = await papers.applicant(), papers.office.http.papers
    document = await papers.upload(person)
    car = (await person.http.papers.add_vehicle(**a_car()))["id"]
    for review, target, missing in (
        (office.review_document, document, "DOCUMENT_NOT_FOUND"),
        (office.review_vehicle, car, "VEHICLE_NOT_FOUND"),
    ):
        for reason in (None, "   "):
            with code("REASON_REQUIRED"):
                await review(target, "reject", reason)
        with code(missing):
            await review(uuid4(), "approve")
        with code(missing):
            await review(person.provider_id, "approve")
        for action in ("expire", "APPROVE", ""):
            with code("VALIDATION_ERROR"):
                await review(target, action)
    with code("FORBIDDEN"):
        await person.http.papers.review_document(document, "approve")
    for query in ("limit=0", "limit=101", "cursor=x", "cursor=MjAyNi0wMS0wMSB4", "status=pending"):
        assert (
            await denied(papers.office.http.call("GET", f"/v1/admin/verification?{query}"))
        ).code == "VALIDATION_ERROR"


async def test_a_document_is_reviewed_once_and_its_owner_is_told(papers: Papers) -> None:
    person, office = await papers.applicant(), papers.office.http.papers
    one, two = await papers.upload(person), await papers.upload(person, "bank_account")
    shown = await office.review_document(one, "approve")
    assert (shown["status"], shown["verified_by"]) == ("approved", str(papers.office.user_id))
    shown = await office.review_document(two, "reject", " blurred ")
    assert (shown["status"], shown["rejection_reason"]) == ("rejected", "blurred")
    for document in (one, two):
        for action in ("approve", "reject"):
            assert (await denied(office.review_document(document, action, "x"))).code == "DOCUMENT_ALREADY_VERIFIED"
    assert await papers.told(person) == [
        ("document_approved", {"document_type": "national_id", "reason": None}),
        ("document_rejected", {"document_type": "bank_account", "reason": "blurred"}),
    ]
    assert all("verified_by" not in one for one in (await person.http.papers.documents())["items"])
    # Asked again with the same id, as a client does whose answer was lost: the stored answer.
    three = await papers.upload(person, "bank_account")
    first = await office.review_document(three, "approve", key="the-same")
    assert await office.review_document(three, "approve", key="the-same") == first


async def test_what_has_run_out_while_it_waited_is_not_approved(papers: Papers) -> None:
    person, office = await papers.applicant(), papers.office.http.papers
    document = await papers.upload(person, "driver_license")
    await papers.ends(document, -1)
    with code("INVALID_STATUS_TRANSITION"):
        await office.review_document(document, "approve")
    await papers.ends(document, 0)
    await office.review_document(document, "approve")


async def test_two_approvals_at_once_are_one(papers: Papers) -> None:
    person, office = await papers.applicant(), papers.office.http.papers
    for target, review, refusal in (
        (await papers.upload(person), office.review_document, "DOCUMENT_ALREADY_VERIFIED"),
        ((await person.http.papers.add_vehicle(**a_car()))["id"], office.review_vehicle, "INVALID_STATUS_TRANSITION"),
    ):
        answers = await asyncio.gather(
            *(review(target, action, "why") for action in ("approve", "reject") * 4), return_exceptions=True
        )
        done = [answer for answer in answers if isinstance(answer, dict)]
        assert len(done) == 1
        assert {answer.code for answer in answers if not isinstance(answer, dict)} == {refusal}  # type: ignore[union-attr]
    assert len(await papers.told(person)) == 2


async def test_an_approval_during_a_new_upload_ends_in_one_standing_document(papers: Papers) -> None:
    """Either the old one was approved and the new one waits beside it, or it was replaced and is history."""
    office = papers.office.http.papers
    for _ in range(8):
        person = await papers.applicant(service_types=["laundry"])
        old = await papers.upload(person)
        approval, upload = await asyncio.gather(
            office.review_document(old, "approve"), papers.upload(person), return_exceptions=True
        )
        assert isinstance(upload, str)
        shown = {one["id"]: one for one in (await person.http.papers.documents())["items"]}
        assert shown[upload]["status"] == "pending"
        assert "replaced_by" not in shown[upload]
        if isinstance(approval, dict):
            assert (shown[old]["status"], "replaced_by" in shown[old]) == ("approved", False)
        else:
            assert getattr(approval, "code", approval) == "DOCUMENT_ALREADY_VERIFIED"
            assert (shown[old]["status"], shown[old]["replaced_by"]) == ("pending", upload)


async def test_an_approved_renewal_takes_the_place_of_the_old_one(papers: Papers) -> None:
    person = await papers.working()
    old = (await _standing(person, "driver_license"))["id"]
    new = await papers.upload(person, "driver_license")
    assert (await person.http.provider())["cleared_service_types"] == ["ride"], "the old one counts meanwhile"
    await papers.office.http.papers.review_document(new, "reject", "blurred")
    assert (await _standing(person, "driver_license"))["id"] == old
    new = await papers.upload(person, "driver_license")
    await papers.office.http.papers.review_document(new, "approve")
    assert (await _standing(person, "driver_license"))["id"] == new
    assert (await person.http.provider())["cleared_service_types"] == ["ride"]


async def _standing(person: Person, kind: str) -> dict[str, object]:
    """His approved document of this type: there is one."""
    (found,) = [
        one
        for one in (await person.http.papers.documents())["items"]
        if one["document_type"] == kind and one["status"] == "approved" and "replaced_by" not in one
    ]
    return dict(found)


async def test_papers_lift_a_suspension_for_papers_and_no_other(papers: Papers) -> None:
    office = papers.office.http
    for cause, after in (("documents", "approved"), ("admin", "suspended")):
        person = await papers.working()
        lost = [(await _standing(person, kind))["id"] for kind in ("driver_license", "national_id")]
        for document in lost:
            await papers.ends(str(document), -1)
        if cause == "admin":
            await office.provider_action(UUID(str(person.provider_id)), "suspend", "fraud")
        await papers.server.app.expiry.sweep()
        assert await papers.status(person) == "suspended"
        first = await papers.upload(person, "driver_license")
        await office.papers.review_document(first, "approve")
        assert await papers.status(person) == "suspended", "another one is still missing"
        second = await papers.upload(person)
        await office.papers.review_document(second, "approve")
        assert await papers.status(person) == after
        back = await papers.told(person, "account_reactivated")
        assert len(back) == (1 if after == "approved" else 0)
        view = await person.http.provider()
        assert (view["is_online"], view["cleared_service_types"]) == (False, ["ride"])


async def test_the_queue_is_paged_by_the_oldest_item_of_each_provider(papers: Papers) -> None:
    office = papers.office.http.papers
    people = [await papers.applicant() for _ in range(7)]
    for number, person in enumerate(people):
        if number % 2:
            await person.http.papers.add_vehicle(**a_car())
        else:
            await papers.upload(person)
    for person in reversed(people):  # newer items change no place
        await papers.upload(person, "bank_account")
        await person.http.papers.add_vehicle(**a_car())
    seen: list[str] = []
    cursor = None
    while True:
        page = await office.verification(limit=2, cursor=cursor)
        seen += [row["provider_id"] for row in page["items"]]
        assert len(page["items"]) <= 2
        if (cursor := page.get("next_cursor")) is None:
            break
    assert seen == [person.provider_id for person in people]
    # Ties go by id.
    await papers.judge.execute("UPDATE provider_documents SET uploaded_at = '2026-01-01'")
    await papers.judge.execute("UPDATE provider_vehicles SET submitted_at = '2026-01-01'")
    page = await office.verification(limit=100)
    assert [row["provider_id"] for row in page["items"]] == sorted(seen)
    first = await office.verification(limit=3)
    rest = await office.verification(limit=100, cursor=first["next_cursor"])
    assert [row["provider_id"] for row in first["items"] + rest["items"]] == sorted(seen)


async def test_a_long_queue_is_read_by_its_indexes(papers: Papers) -> None:
    from dispatch.providers import seed

    people = await seed(papers.server.settings, providers=5_000, customers=0)
    await papers.judge.execute(
        """INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, uploaded_at)
           SELECT gen_random_uuid(), p.id, p.user_id, d, 'x/' || p.id || d, 'image/png', 1, '', now() - interval '1 s' * (random() * 100000)
           FROM providers p, unnest('{bank_account,criminal_record,health_certificate,vehicle_insurance}'::text[]) d WHERE p.user_id = ANY ($1::uuid[])""",
        [user for _, user in people],
    )
    judge = papers.judge

    async def rows_read() -> int:
        await judge.execute("SELECT pg_stat_force_next_flush()")
        return int(
            await judge.fetchval(
                """SELECT (SELECT sum(seq_tup_read) FROM pg_stat_all_tables WHERE relname IN ('provider_documents', 'provider_vehicles'))
                   + (SELECT sum(idx_tup_read) FROM pg_stat_all_indexes WHERE relname IN ('provider_documents', 'provider_vehicles'))"""
            )
        )

    before = await rows_read()
    seen: list[tuple[datetime, UUID]] = []
    after = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
    async with judge.transaction():
        await judge.execute("SELECT set_config('app.admin', 'on', true)")
        for _ in range(5):
            rows = await judge.fetch("SELECT at, provider_id FROM verification_queue($1, $2, 100)", *after)
            seen += [(row["at"], row["provider_id"]) for row in rows]
            after = seen[-1]
    assert seen == sorted(seen)
    assert len({provider for _, provider in seen}) == 500
    # Statistics were never gathered, and still: some look-ups for each of the rows, and nothing from end to end.
    assert await rows_read() - before < 12_000 < await judge.fetchval("SELECT count(*) FROM provider_documents")


async def test_every_write_of_the_office_is_audited(papers: Papers) -> None:
    person, office = await papers.applicant(), papers.office.http
    document = await papers.upload(person)
    car = (await person.http.papers.add_vehicle(**a_car()))["id"]
    await office.papers.review_document(document, ReviewAction.REJECT, "blurred")
    await office.papers.review_vehicle(car, ReviewAction.APPROVE)
    for subject, action, after, reason in (
        (document, "reject", "rejected", "blurred"),
        (car, "approve", "approved", None),
    ):
        (entry,) = (await office.office.audit(subject_id=subject))["items"]
        assert (entry["action"], entry["before"], entry["after"]) == (action, {"status": "pending"}, {"status": after})
        assert entry.get("reason") == reason and entry["actor_id"] == str(papers.office.user_id)


async def test_onboarding_says_in_every_status_what_is_missing(papers: Papers) -> None:
    person = await papers.applicant(service_types=["ride", "laundry"])
    office = papers.office.http

    async def steps() -> dict[str, tuple[str, list[str]]]:
        told = await person.http.papers.onboarding()
        return {
            " ".join(filter(None, (one["step"], one.get("service_type")))): (one["state"], one["missing"])
            for one in told["steps"]
        }

    three = ["driver_license", "national_id", "vehicle_registration"]
    assert await steps() == {
        "email": ("open", ["email"]),
        "documents ride": ("open", three),
        "documents laundry": ("open", ["national_id"]),
        "vehicle": ("optional", []),
        "review": ("open", []),
    }
    await papers.upload(person)
    await papers.verify_email(person)
    now = await steps()
    assert (now["email"], now["documents laundry"]) == (("done", []), ("waiting", []))
    assert now["documents ride"] == ("open", ["driver_license", "vehicle_registration"])
    for kind in three[::2]:
        await papers.upload(person, kind)
    assert (await steps())["review"] == ("waiting", [])
    await office.provider_action(UUID(str(person.provider_id)), "reject", "no")
    told = await person.http.papers.onboarding()
    assert (told["status"], told["steps"][-1]) == (
        "rejected",
        {"step": "review", "state": "rejected", "missing": [], "reason": "no"},
    )
    worker = await papers.working()
    told = await worker.http.papers.onboarding()
    assert [one["state"] for one in told["steps"]] == ["done", "done", "optional", "done"]
    await office.provider_action(UUID(str(worker.provider_id)), "suspend", "fraud")
    assert (await worker.http.papers.onboarding())["steps"][-1]["state"] == "suspended"


async def test_another_service_type_needs_its_papers_first(papers: Papers) -> None:
    person = await papers.working(kinds=("laundry",))
    refusal = await denied(person.http.patch_provider(service_types=["laundry", "ride"]))
    assert (refusal.code, refusal.details["missing"]) == (
        "DOCUMENTS_INCOMPLETE",
        ["driver_license", "vehicle_registration"],
    )
    for kind in ("driver_license", "vehicle_registration"):
        await papers.approved(person, kind, expiry_date=in_days(10))
    assert (await person.http.patch_provider(service_types=["laundry", "ride"]))["cleared_service_types"] == [
        "laundry",
        "ride",
    ]
