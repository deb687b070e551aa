"""Uploads through the door: everything a phone, or somebody who is none, may send."""

import asyncio
import socket
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from bench.faults.proxy import Proxy
from dispatch.providers.documents.store import Q
from tests.papers.scenes import JPEG, PDF, PNG, Papers, form, in_days, papers_of, until
from tests.support.server import Person, code, denied

MIB = 1024 * 1024


@pytest.fixture
async def person(papers: Papers) -> Person:
    return await papers.applicant()


async def rows(papers: Papers) -> int:
    count = await papers.judge.fetchval(
        "SELECT (SELECT count(*) FROM provider_documents) + (SELECT count(*) FROM provider_uploads)"
    )
    return int(count)


async def test_a_document_is_stored_queued_listed_and_read(papers: Papers, person: Person) -> None:
    made = await person.http.papers.upload("driver_license", PNG, expiry_date=in_days(30))
    assert made["status"] == "pending"
    assert made["storage_path"] == f"documents/{person.provider_id}/{made['document_id']}"
    (shown,) = (await person.http.papers.documents())["items"]
    assert shown["id"] == made["document_id"]
    assert (shown["content_type"], shown["size_bytes"], shown["expires_in_days"]) == ("image/png", len(PNG), 30)
    (waiting,) = (await papers.office.http.papers.verification())["items"]
    assert [one["id"] for one in waiting["documents"]] == [made["document_id"]]
    link = await person.http.papers.link(made["document_id"])
    async with aiohttp.ClientSession() as session, session.get(papers.server.url() + link["url"]) as answer:
        assert await answer.read() == PNG
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{made["document_id"]}.png"'
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in answer.headers["Cache-Control"]
    assert (await papers.office.http.papers.documents_of(str(person.provider_id)))["items"][0]["id"] == shown["id"]
    assert (await papers.office.http.papers.link_of(shown["id"]))["url"].startswith("/v1/files/")


FORMS: list[tuple[list[tuple[str, Any]], int, str]] = [
    ([("document_type", "national_id"), ("file", PDF)], 201, ""),
    ([("file", PDF), ("expiry_date", "2100-01-01"), ("document_type", "national_id")], 201, ""),
    ([("file", JPEG), ("document_type", "driver_license"), ("expiry_date", "2100-01-01")], 201, ""),
    ([("document_type", "national_id"), ("file", b"")], 400, "INVALID_FILE"),
    ([("document_type", "national_id"), ("file", b"GIF89a" + bytes(99))], 400, "UNSUPPORTED_FILE_TYPE"),
    ([("document_type", "national_id"), ("file", b"%")], 400, "UNSUPPORTED_FILE_TYPE"),
    ([("document_type", "national_id")], 400, "VALIDATION_ERROR"),
    ([("file", PDF)], 400, "VALIDATION_ERROR"),
    ([("document_type", "passport"), ("file", PDF)], 400, "VALIDATION_ERROR"),
    ([("document_type", "driver_license"), ("file", PDF)], 400, "VALIDATION_ERROR"),
    ([("file", PDF), ("document_type", "driver_license")], 400, "VALIDATION_ERROR"),
    ([("document_type", "national_id"), ("expiry_date", "2020-01-01"), ("file", PDF)], 400, "VALIDATION_ERROR"),
    ([("document_type", "national_id"), ("file", PDF), ("expiry_date", "soon")], 400, "VALIDATION_ERROR"),
    ([("document_type", "national_id"), ("document_type", "national_id"), ("file", PDF)], 400, "VALIDATION_ERROR"),
    ([("document_type", "national_id"), ("file", PDF), ("file", PDF)], 400, "VALIDATION_ERROR"),
    ([("document_type", "national_id"), ("file", PDF), ("user_id", "me")], 400, "VALIDATION_ERROR"),
    ([("document_type", "n" * 300), ("file", PDF)], 400, "VALIDATION_ERROR"),
    ([("document_type", "\udcff".encode("utf-8", "surrogateescape")), ("file", PDF)], 400, "VALIDATION_ERROR"),
]


async def test_what_is_wrong_with_a_form_is_said_and_leaves_nothing(papers: Papers, person: Person) -> None:
    good = 0
    for fields, status, expected in FORMS:
        answer = await papers.send(person, form(*fields))
        assert answer[:2] == (status, expected), (fields, answer)
        good += status == 201
        assert (len(papers.stored), await rows(papers)) == (good, good), fields


async def test_a_files_name_means_nothing(papers: Papers, person: Person) -> None:
    names = ["../../etc/passwd", "/etc/passwd", "C:\\x.pdf", "..", "ใบขับขี่.pdf", "a" * 900, ""]
    for name in names:
        status, _, _ = await papers.send(person, form(("document_type", "national_id"), ("file", PDF), file_name=name))
        assert status == 201, name
    assert len(papers.stored) == len(names)
    for path in papers.stored:
        assert path.relative_to(papers.folder).parts[:2] == ("documents", str(person.provider_id))
        UUID(path.name)


async def test_a_pdf_that_is_called_a_photo_is_a_pdf(papers: Papers, person: Person) -> None:
    await papers.send(person, form(("document_type", "national_id"), ("file", PDF), file_name="me.jpg"))
    (shown,) = (await person.http.papers.documents())["items"]
    assert shown["content_type"] == "application/pdf"


async def test_a_byte_too_many_is_refused_while_it_streams(papers: Papers, person: Person) -> None:
    async def stream(size: int) -> AsyncIterator[bytes]:
        yield JPEG
        for _ in range((size - len(JPEG)) // 65_536):
            yield bytes(65_536)
        yield bytes((size - len(JPEG)) % 65_536)

    for told in (True, False):
        for size, expected in ((10 * MIB, (201, "")), (10 * MIB + 1, (413, "FILE_TOO_LARGE"))):
            file: Any = BytesIO(JPEG + bytes(size - len(JPEG))) if told else stream(size)
            answer = await papers.send(person, form(("document_type", "national_id"), ("file", file)))
            assert answer[:2] == expected, (told, size)
    assert [path.stat().st_size for path in papers.stored] == [10 * MIB] * 2
    assert await rows(papers) == 2


async def test_a_length_that_cannot_be_a_file_is_refused_before_a_byte(papers: Papers, person: Person) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", papers.server.ports[0])
    writer.write(_head(person, 11 * MIB))
    status = await reader.readline()
    assert b"413" in status
    writer.close()


BODIES = [
    (b"{}", "application/json"),
    (b"hello", "multipart/form-data"),
    (b"hello", "multipart/form-data; boundary=x"),
    (b"--x\r\n", "multipart/form-data; boundary=x"),
    (b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n%PDF-1.7", "multipart/form-data; boundary=x"),
    (b"--x\r\nbroken\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    (b"--x\r\n\r\nno name\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    (b"--x--\r\n", "multipart/form-data; boundary=x"),
    (b"", "multipart/form-data; boundary=x"),
    (b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--", "multipart/form-data; boundary=x"),
    (b"--" + b"x" * 90 + b"\r\n", "multipart/form-data; boundary=" + "x" * 90),
    (b"--x\r\n" + b"A: b\r\n" * 500 + b"\r\n--x--", "multipart/form-data; boundary=x"),
    (b"--x\r\nA: " + b"b" * 99_999 + b"\r\n\r\n--x--", "multipart/form-data; boundary=x"),
]


async def test_a_body_that_is_no_form_is_a_bad_request(papers: Papers, person: Person) -> None:
    for body, kind in BODIES:
        answer = await papers.send(person, body, headers={"Content-Type": kind})
        assert answer[:2] == (400, "VALIDATION_ERROR"), (body[:40], answer)
    assert not papers.stored
    assert not await rows(papers)


def _head(person: Person, length: int) -> bytes:
    return (
        f"POST /v1/providers/me/documents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.token}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


BEGUN = (
    b'--x\r\nContent-Disposition: form-data; name="document_type"\r\n\r\nnational_id\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + JPEG + bytes(200_000)
)


async def test_a_line_cut_in_the_middle_leaves_nothing(papers: Papers, person: Person) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", papers.server.ports[0])
    writer.write(_head(person, MIB) + BEGUN)
    await writer.drain()
    await until(lambda: papers.judge.fetchval("SELECT count(*) FROM provider_uploads"), "the upload has begun")
    line: socket.socket = writer.get_extra_info("socket")
    line.shutdown(socket.SHUT_RDWR)
    writer.close()

    async def gone() -> bool:
        return not await rows(papers)

    await until(gone, "the upload is given up")
    assert not papers.stored
    assert papers.server.app.documents._under_way.total() == 0

    async def answered() -> dict[int, int]:
        found = papers.server.app.api.answers.items()
        return {status: times for (route, status), times in found if route == "/v1/providers/me/documents"}

    await until(answered, "the request has ended")
    assert await answered() == {499: 1}, "no Postgres was lost"


async def test_a_slow_sender_is_not_waited_for(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with papers_of(database_url, redis_url, tmp_path, upload_within_s=0.5) as papers:
        person = await papers.applicant()
        reader, writer = await asyncio.open_connection("127.0.0.1", papers.server.ports[0])
        writer.write(_head(person, MIB) + BEGUN)
        async with asyncio.timeout(10):
            assert b"400" in await reader.readline()
        writer.close()
        assert not papers.stored
        assert not await rows(papers)


async def test_who_stalls_takes_nobodys_place_and_is_not_waited_for(
    papers: Papers, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = []
    for _ in range(4):
        other = await papers.applicant()
        for begun in (b"--x\r\n", BEGUN[: BEGUN.index(JPEG)], b"--x\r\n", BEGUN[: BEGUN.index(JPEG)]):
            line = await asyncio.open_connection("127.0.0.1", papers.server.ports[0])
            line[1].write(_head(other, MIB) + begun)
            stalled.append(line)
    await asyncio.gather(*(papers.upload(person) for _ in range(2)))
    monkeypatch.setattr("dispatch.providers.documents.uploads._PATIENCE_S", 0.3)
    monkeypatch.setattr("dispatch.providers.documents.uploads._BYTES_PER_S", 10 * MIB)
    # One that sends, and then no more: what came earns it no long wait.
    other = await papers.applicant()
    line = await asyncio.open_connection("127.0.0.1", papers.server.ports[0])
    line[1].write(_head(other, MIB) + BEGUN)
    async with asyncio.timeout(5):
        assert b"400" in await line[0].readline()
    for _, writer in [*stalled, line]:
        writer.close()
    assert papers.server.app.documents._under_way.total() == 0
    assert len(papers.stored) == await rows(papers) == 2


async def test_a_store_that_is_down_changes_nothing(papers: Papers, person: Person) -> None:
    papers.folder.parent.mkdir(exist_ok=True)
    papers.folder.write_text("somebody put a file here")
    answer = await papers.send(person, form(("document_type", "national_id"), ("file", PDF)))
    assert answer[:2] == (502, "STORAGE_UNAVAILABLE")
    assert not await papers.judge.fetchval("SELECT count(*) FROM provider_documents")
    papers.folder.unlink()
    await papers.upload(person)
    # What could not be taken back then is the sweep's.
    await papers.judge.execute("UPDATE provider_uploads SET started_at = started_at - interval '2 hours'")
    await papers.server.app.documents.sweep()
    assert (len(papers.stored), await rows(papers)) == (1, 1)


async def test_a_bucket_serves_documents_by_its_own_links(database_url: str, redis_url: str, tmp_path: Path) -> None:
    import yarl

    from tests.papers.s3 import running_s3

    with running_s3() as endpoint:
        bucket = {
            "storage_bucket": "papers",
            "storage_endpoint": endpoint,
            "storage_key_id": "us",
            "storage_secret": "s",
        }
        async with papers_of(database_url, redis_url, tmp_path, **bucket) as papers:
            person = await papers.applicant()
            document = await papers.upload(person, file=JPEG)
            link = await person.http.papers.link(document)
            async with aiohttp.ClientSession() as session, session.get(yarl.URL(link["url"], encoded=True)) as answer:
                assert (await answer.read(), answer.headers["Content-Type"]) == (JPEG, "image/jpeg")
            too_much = BytesIO(JPEG + bytes(10 * MIB))
            answer = await papers.send(person, form(("document_type", "national_id"), ("file", too_much)))
            assert answer[:2] == (413, "FILE_TOO_LARGE")
            assert await rows(papers) == 1
    assert not papers.stored


async def test_a_transaction_that_fails_takes_the_object_back(papers: Papers, person: Person) -> None:
    await papers.judge.execute("ALTER TABLE provider_documents ADD CHECK (size_bytes <> 666)")
    answer = await papers.send(person, form(("document_type", "national_id"), ("file", PDF + bytes(666 - len(PDF)))))
    assert answer[:2] == (500, "INTERNAL_ERROR")
    assert not papers.stored
    assert not await rows(papers)


async def test_a_lost_commit_keeps_the_object_of_its_row(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """The line breaks when the commit was done: the row stands, so its object must."""
    async with Proxy(database_url) as line, papers_of(line.url, redis_url, tmp_path) as papers:
        person = await papers.applicant()
        trap = line.drop_next_reply(b"COMMIT")
        # The first commit is that of the question who he is; wait it out.
        await papers.send(person, form(("document_type", "national_id"), ("file", PDF)))
        assert trap.reached.is_set()
        held = line.hold_next(b"document_add")
        work = asyncio.ensure_future(papers.send(person, form(("document_type", "national_id"), ("file", PDF))))
        await held.reached.wait()
        trap = line.drop_next_reply(b"COMMIT")
        held.release()
        status, _, _ = await work
        assert (status, trap.reached.is_set()) == (503, True)
        documents = await papers.judge.fetch("SELECT storage_path FROM provider_documents")
        assert [str(path.relative_to(papers.folder)) for path in papers.stored] == [
            row["storage_path"] for row in documents
        ]
        assert len(documents) == 1


async def test_the_same_request_is_done_once(papers: Papers, person: Person) -> None:
    first = await person.http.papers.upload("national_id", PDF, key="once-and-for-all")
    again = await person.http.papers.upload("national_id", PDF, key="once-and-for-all")
    assert again == first
    with code("IDEMPOTENCY_KEY_REUSED"):
        await person.http.papers.upload("national_id", PDF + b"x", key="once-and-for-all")
    with code("IDEMPOTENCY_KEY_REUSED"):
        await person.http.papers.upload("bank_account", PDF, key="once-and-for-all")
    assert (len(papers.stored), await rows(papers)) == (1, 1)


async def test_many_uploads_within_the_hour_are_too_many(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with papers_of(database_url, redis_url, tmp_path, uploads_per_hour=3) as papers:
        person, other = await papers.applicant(), await papers.applicant()
        answers = await asyncio.gather(
            *(papers.send(person, form(("document_type", "national_id"), ("file", PDF))) for _ in range(6))
        )
        assert sorted(status for status, _, _ in answers) == [201] * 3 + [429] * 3
        assert len(papers.stored) == 3
        await papers.upload(other)
        await papers.judge.execute("UPDATE provider_documents SET uploaded_at = uploaded_at - interval '61 minutes'")
        await papers.upload(person)


async def test_a_new_upload_takes_the_place_of_what_waits_and_not_of_what_is_approved(
    papers: Papers, person: Person
) -> None:
    old = await papers.upload(person)
    new = await papers.upload(person)
    shown = {one["id"]: one for one in (await person.http.papers.documents())["items"]}
    assert (shown[old]["replaced_by"], "replaced_by" in shown[new]) == (new, False)
    await papers.office.http.papers.review_document(new, "approve")
    renewal = await papers.upload(person)
    shown = {one["id"]: one for one in (await person.http.papers.documents())["items"]}
    assert [one for one in shown if "replaced_by" not in shown[one]] == [renewal, new]
    assert len(papers.stored) == 3, "history is kept"


async def test_the_last_required_document_sends_the_application_to_review(papers: Papers) -> None:
    person = await papers.applicant(service_types=["ride", "laundry"])
    for kind in ("national_id", "bank_account", "driver_license"):
        await papers.upload(person, kind)
        assert await papers.status(person) == "pending"
    await papers.upload(person, "vehicle_registration")
    assert await papers.status(person) == "pending_verification"


async def test_a_rejected_provider_uploads_again_what_was_rejected(papers: Papers) -> None:
    person = await papers.applicant(service_types=["laundry"])
    document = await papers.upload(person)
    await papers.office.http.papers.review_document(document, "reject", "blurred")
    await papers.office.http.provider_action(UUID(str(person.provider_id)), "reject", "blurred papers")
    await person.http.call("POST", "/v1/providers/me/reapply")
    assert await papers.status(person) == "pending"
    await papers.upload(person)
    assert await papers.status(person) == "pending_verification"
    assert len((await person.http.papers.documents())["items"]) == 2


async def test_left_over_objects_are_swept_after_an_hour_in_batches(papers: Papers, person: Person) -> None:
    document = await papers.upload(person)
    left = [f"documents/{person.provider_id}/{uuid4()}" for _ in range(150)]
    for path in left:
        (papers.folder / path).write_bytes(PDF)
        async with papers.server.app.pg.system() as conn:
            await conn.execute(Q["upload_begin"], path)
    assert await papers.server.app.documents.sweep() == 0, "they may be under way"
    await papers.judge.execute("UPDATE provider_uploads SET started_at = started_at - interval '61 minutes'")
    swept = await asyncio.gather(*(papers.server.app.documents.sweep() for _ in range(3)))
    assert max(swept) <= 100
    assert sum(swept) == 150
    assert [path.name for path in papers.stored] == [document]
    assert await papers.server.app.documents.sweep() == 0


async def test_another_persons_document_is_as_good_as_none(papers: Papers, person: Person) -> None:
    document = await papers.upload(person)
    other = await papers.applicant()
    for target in (document, str(uuid4())):
        with code("DOCUMENT_NOT_FOUND"):
            await other.http.papers.link(target)
    assert (await other.http.papers.documents())["items"] == []
    # An admin's own papers are his own too: the office's door is another one.
    with code("DOCUMENT_NOT_FOUND"):
        await papers.office.http.papers.link(document)
    nobody = await papers.server.person()
    for work in (
        nobody.http.papers.upload("national_id", PDF),
        nobody.http.papers.documents(),
        nobody.http.papers.onboarding(),
    ):
        assert (await denied(work)).code == "PROVIDER_NOT_FOUND"
    with code("PROVIDER_NOT_FOUND"):
        await papers.office.http.papers.documents_of(str(uuid4()))


async def test_a_link_ends_and_cannot_be_changed(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with (
        papers_of(database_url, redis_url, tmp_path, file_link_s=1) as papers,
        aiohttp.ClientSession() as session,
    ):
        person = await papers.applicant()
        link = (await person.http.papers.link(await papers.upload(person)))["url"]

        async def status(url: str) -> int:
            async with session.get(papers.server.url() + url) as answer:
                await answer.read()
                return answer.status

        forged = "/v1/files/" + papers.server.app.documents._seals.seal(uuid4(), 2**40)
        assert [await status(link), await status(link[:-3] + "AAA"), await status(forged)] == [200, 404, 404]

        async def over() -> bool:
            return await status(link) == 404

        await until(over, "the second is over")


async def test_an_object_that_is_gone_is_a_link_to_nothing(papers: Papers, person: Person) -> None:
    link = await person.http.papers.link(await papers.upload(person))
    papers.stored[0].unlink()
    async with aiohttp.ClientSession() as session, session.get(papers.server.url() + link["url"]) as answer:
        assert answer.status == 404
