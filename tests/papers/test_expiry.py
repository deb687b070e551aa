"""The end of papers: warnings, suspensions, deferred ones, and sweepers that meet."""

import asyncio
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest

from dispatch.admin import expiry
from dispatch.admin.expiry import Expiry
from dispatch.kit.clock import SystemClock
from dispatch.notifications import Notifications
from dispatch.providers import seed
from tests.papers.scenes import Papers, in_days, until
from tests.support.server import BANGKOK, Person, code


async def paper(papers: Papers, person: Person, kind: str = "driver_license") -> str:
    """The id of his approved document of this type."""
    found = await papers.judge.fetchval(
        "SELECT id FROM provider_documents WHERE user_id = $1 AND document_type = $2 AND status = 'approved' AND replaced_by IS NULL",
        person.user_id,
        kind,
    )
    return str(found)


async def test_a_warning_comes_once_for_each_threshold_and_only_the_nearest(papers: Papers) -> None:
    person = await papers.applicant()
    document = await papers.approved(person, "driver_license")
    for days, warned in ((31, []), (30, [30]), (29, []), (8, []), (7, [7]), (2, []), (1, [1]), (0, [])):
        await papers.ends(document, days)
        before = len(await papers.told(person, "document_expiring"))
        await papers.server.app.expiry.sweep()
        await papers.server.app.expiry.sweep()
        told = (await papers.told(person, "document_expiring"))[before:]
        assert [data for _, data in told] == [{"document_type": "driver_license", "days": one} for one in warned], days
    missed = await papers.approved(person, "bank_account", expiry_date=in_days(3))
    await papers.server.app.expiry.sweep()
    assert (await papers.told(person, "document_expiring"))[-1][1] == {"document_type": "bank_account", "days": 3}
    await papers.ends(missed, 5)
    swept = await papers.server.app.expiry.sweep()
    assert swept.warned == 0, "the same threshold again"


async def test_what_is_required_and_runs_out_suspends_and_what_is_not_does_not(papers: Papers) -> None:
    person, other = await papers.working(), await papers.working()
    await papers.approved(other, "health_certificate", expiry_date=in_days(2))
    async with person.connected() as phone:
        await phone.online(*BANGKOK)
        await papers.ends(await paper(papers, person), -1)
        await papers.ends(await paper(papers, other, "health_certificate"), -1)
        swept = await papers.server.app.expiry.sweep()
        assert (swept.expired, swept.suspended, swept.deferred) == (2, 1, 0)
        await person.inbox.named("provider.updated", nth=2)
        view = await person.http.provider()
    assert (view["status"], view["is_online"], view["cleared_service_types"]) == ("suspended", False, [])
    assert view["suspension_reason"] == "documents expired: driver_license"
    assert [kind for kind, _ in await papers.told(person, "document_expired", "account_suspended")] == [
        "document_expired",
        "account_suspended",
    ]
    assert await papers.status(other) == "approved"
    assert [kind for kind, _ in await papers.told(other, "document_expired", "account_suspended")] == [
        "document_expired"
    ]
    assert [one["status"] for one in (await person.http.papers.documents())["items"]].count("expired") == 1


async def test_the_last_day_is_good_to_its_end(papers: Papers) -> None:
    person = await papers.working()
    await papers.ends(await paper(papers, person), 0)
    assert (await papers.server.app.expiry.sweep()).expired == 0
    assert await papers.status(person) == "approved"


async def test_a_live_offer_is_withdrawn_with_the_papers(papers: Papers) -> None:
    person, customer = await papers.working(), await papers.server.person()
    async with person.connected() as phone:
        await phone.online(*BANGKOK)
        await papers.server.listed(person)
        job = await papers.server.request(customer)
        offer = (await person.inbox.named("offer.created")).data
        await papers.ends(await paper(papers, person), -1)
        await papers.server.app.expiry.sweep()
        await person.inbox.named("offer.withdrawn", offer_id=offer["offer_id"])
        with code("PROVIDER_SUSPENDED"):
            await person.http.accept(UUID(job["id"]), UUID(offer["offer_id"]))


async def test_the_passenger_is_not_thrown_out(papers: Papers) -> None:
    person = await papers.working()
    async with papers.on_a_job(person) as (phone, job):
        await papers.ends(await paper(papers, person), -1)
        swept = await papers.server.app.expiry.sweep()
        assert (swept.suspended, swept.deferred) == (0, 1)
        view = await person.http.provider()
        assert (view["status"], view["is_online"]) == ("active", False)
        assert await papers.server.app.expiry.suspend_due() == 0, "he is still driving"
        assert (await papers.server.app.expiry.sweep()).providers == 0, "once"
        await papers.finish(phone, job)

        async def suspended() -> bool:
            await papers.server.app.expiry.suspend_due()
            return await papers.status(person) == "suspended"

        await until(suspended, "his job has ended")
    assert len(await papers.told(person, "account_suspended")) == 1
    assert not await papers.judge.fetchval("SELECT count(*) FROM provider_gate WHERE suspend_due")


async def test_a_renewal_during_the_job_calls_the_suspension_off(papers: Papers) -> None:
    person = await papers.working()
    async with papers.on_a_job(person) as (phone, job):
        await papers.ends(await paper(papers, person), -1)
        await papers.server.app.expiry.sweep()
        await papers.approved(person, "driver_license")
        await papers.finish(phone, job)
        assert await papers.server.app.expiry.suspend_due() == 0
    assert await papers.status(person) == "active"
    assert not await papers.judge.fetchval("SELECT count(*) FROM provider_gate WHERE suspend_due")


async def test_an_expiry_that_meets_the_end_of_the_job_suspends_once(papers: Papers) -> None:
    """Whoever locks the job first: the other sees what he did."""
    for _ in range(3):
        person = await papers.working()
        async with papers.on_a_job(person) as (phone, job):
            for stage in ("arrived", "in_progress"):
                await phone.advance(job["id"], stage)
            await papers.ends(await paper(papers, person), -1)
            await asyncio.gather(phone.advance(job["id"], "completed"), papers.server.app.expiry.sweep())
            assert (await papers.office.http.job(UUID(job["id"])))["status"] == "completed"

            async def suspended(person: Person = person) -> bool:
                await papers.server.app.expiry.sweep()
                await papers.server.app.expiry.suspend_due()
                return await papers.status(person) == "suspended"

            await until(suspended, "both are over")
        assert len(await papers.told(person, "account_suspended")) == 1


@pytest.mark.parametrize(
    ("column", "reason"), [("registration_expiry", "registration"), ("insurance_expiry", "insurance")]
)
async def test_a_vehicle_that_runs_out_is_suspended(papers: Papers, column: str, reason: str) -> None:
    person = await papers.working(vehicle=True)
    (car,) = (await person.http.papers.vehicles())["items"]
    await papers.vehicle_ends(car["id"], 0, column)
    assert (await papers.server.app.expiry.sweep()).vehicles == 0
    await papers.vehicle_ends(car["id"], -1, column)
    assert (await papers.server.app.expiry.sweep()).vehicles == 1
    (shown,) = (await person.http.papers.vehicles())["items"]
    assert (shown["status"], shown["is_active"]) == ("suspended", False)
    ((_, data),) = await papers.told(person, "vehicle_suspended")
    assert data["reason"] == f"{reason}_expired"
    assert await papers.status(person) == "approved"
    with code("VEHICLE_NOT_APPROVED"):
        await person.http.papers.activate_vehicle(car["id"])
    renewed = await person.http.papers.patch_vehicle(car["id"], **{column: in_days(300)})
    assert renewed["status"] == "pending", "somebody has to look at the new paper"
    assert (await papers.office.http.papers.review_vehicle(car["id"], "approve"))["is_active"]


class Restless(SystemClock):
    """Nobody waits for a test's sweep."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_two_sweepers_do_everything_once_in_bounded_batches(papers: Papers, monkeypatch: Any) -> None:
    """Eight hundred providers due, an accept's lock on one of them, and two workers that sweep at the same time."""
    many, ended = 800, 100
    people = await seed(papers.server.settings, providers=many, customers=0)
    users = [user for _, user in people]
    ends = "UPDATE provider_documents SET expiry_date = papers_today() + $3::int WHERE document_type = $2 AND user_id = ANY ($1::uuid[])"
    await papers.judge.execute(ends, users[:ended], "driver_license", -1)
    await papers.judge.execute(ends, users, "national_id", 7)
    asked: list[int] = []
    due = Expiry._due

    async def counted(self: Expiry, what: str, after: Any) -> list[Any]:
        rows = await due(self, what, after)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(Expiry, "_due", counted)
    sweepers = [Expiry(papers.server.app.pg, Notifications(), Restless()) for _ in range(2)]
    held = await papers.judge.fetchval("SELECT provider_id FROM provider_gate WHERE user_id = $1", users[0])
    async with papers.judge.transaction():
        await papers.judge.execute("SELECT 1 FROM provider_gate WHERE provider_id = $1 FOR SHARE", held)
        swept = await asyncio.gather(*(one.sweep() for one in sweepers))
    both = swept[0] + swept[1]
    assert max(asked) <= expiry.BATCH
    assert len(asked) > 2 * many // expiry.BATCH
    assert (both.expired, both.suspended, both.warned) == (ended - 1, ended - 1, many - 1)
    assert both.busy >= 1, "he was left alone: an accept of his goes first"
    last = await sweepers[0].sweep()
    assert (last.expired, last.suspended, last.warned) == (1, 1, 1)
    told = await papers.judge.fetch(
        "SELECT type, count(*) AS n, count(DISTINCT recipient_id) AS who FROM notifications GROUP BY type"
    )
    assert {row["type"]: (row["n"], row["who"]) for row in told} == {
        "document_expired": (ended, ended),
        "document_expiring": (many, many),
        "account_suspended": (ended, ended),
    }
    longest = await papers.judge.fetchval(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM provider_documents WHERE warned_days = 7 GROUP BY xmin::text) t"
    )
    assert longest == 1, "a provider is a transaction of his own: no lock outlives one"


async def test_the_command_sweeps_and_counts(papers: Papers) -> None:
    person = await papers.working(vehicle=True)
    (car,) = (await person.http.papers.vehicles())["items"]
    await papers.ends(await paper(papers, person), -1)
    await papers.ends(await paper(papers, person, "national_id"), 1)
    await papers.vehicle_ends(car["id"], -1)
    settings = papers.server.settings

    def command() -> tuple[list[str], int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "dispatch", "sweep"],
            env={
                "DATABASE_URL": str(settings.database_url),
                "REDIS_URL": str(settings.redis_url),
                "DISPATCH_STORAGE_DIR": str(settings.storage_dir),
                "DISPATCH_LOG_LEVEL": "warning",
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.splitlines(), done.returncode, done.stderr

    # What cannot be removed is said in a sentence, after what was done.
    await papers.judge.execute("INSERT INTO provider_uploads VALUES ('documents/a/b', '2026-01-01')")
    papers.folder.rename(papers.folder.with_name("away"))
    papers.folder.write_text("a file where the folder should be")
    lines, exit_code, trouble = await asyncio.to_thread(command)
    assert lines == [
        "documents: 1 warned, 1 expired",
        "providers: 1 suspended, 0 when their job has ended, 0 busy",
        "providers: 0 whose papers are in order again",
        "vehicles: 1 suspended",
    ]
    assert (exit_code, "DISPATCH_STORAGE_" in trouble, "Traceback" in trouble) == (2, True, False), trouble
    assert await papers.status(person) == "suspended"
    papers.folder.unlink()
    await papers.judge.execute("UPDATE provider_uploads SET started_at = '2026-01-01'")
    lines, exit_code, _ = await asyncio.to_thread(command)
    assert (lines[-1], exit_code) == ("uploads: 1 left-overs removed", 0)
