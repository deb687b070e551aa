"""People with papers: what the tests of documents, vehicles, reviews and expiry stand on."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg

from protocol.client import Client
from tests.support.server import BANGKOK, Person, Server, serving

PDF = b"%PDF-1.7\n1 0 obj\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
RIDE = ["national_id", "driver_license", "vehicle_registration"]
REQUIRED = {"ride": RIDE, "delivery": RIDE, "laundry": ["national_id"]}
_plates = itertools.count(1000)


def in_days(days: int) -> str:
    """A day far from midnight's doubts: counted from the day in Bangkok, which the judge reckons by."""
    from datetime import UTC, datetime

    return str((datetime.now(UTC) + timedelta(hours=7)).date() + timedelta(days=days))


def a_car(**other: Any) -> dict[str, Any]:
    """A vehicle with a plate of its own."""
    return {
        "vehicle_type": "car",
        "make": "Toyota",
        "model": "Yaris",
        "year": 2020,
        "plate_number": f"1กก {next(_plates)}",
        "color": "white",
        "registration_expiry": in_days(400),
        "insurance_expiry": in_days(400),
        **other,
    }


class Papers:
    """A server that asks for papers, an office, and the folder where they lie."""

    def __init__(self, server: Server, judge: "asyncpg.Connection[Any]", folder: Path, office: Person) -> None:
        self.server = server
        self.judge = judge
        self.folder = folder
        self.office = office

    @property
    def stored(self) -> list[Path]:
        """Every file in the store, finished or not."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    async def applicant(self, **given: Any) -> Person:
        return await self.server.provider(approved=False, **given)

    async def upload(self, person: Person, kind: str = "national_id", file: bytes = PDF, **given: Any) -> str:
        """The new document's id."""
        if kind in ("driver_license", "vehicle_registration", "vehicle_insurance"):
            given.setdefault("expiry_date", in_days(400))
        made = await person.http.papers.upload(kind, file, **given)
        return str(made["document_id"])

    async def approved(self, person: Person, kind: str, **given: Any) -> str:
        """A new document of this type, uploaded and approved."""
        document = await self.upload(person, kind, **given)
        await self.office.http.papers.review_document(document, "approve")
        return document

    async def working(self, *, kinds: tuple[str, ...] = ("ride",), vehicle: bool = False) -> Person:
        """A provider with all his papers, approved by the office."""
        person = await self.applicant(service_types=list(kinds))
        for kind in sorted({kind for one in kinds for kind in REQUIRED.get(one, [])}):
            await self.approved(person, kind)
        if vehicle:
            car = await person.http.papers.add_vehicle(**a_car())
            await self.office.http.papers.review_vehicle(car["id"], "approve")
        await self.verify_email(person)
        await self.office.http.provider_action(UUID(str(person.provider_id)), "approve")
        return person

    async def verify_email(self, person: Person) -> None:
        await self.judge.execute(
            "INSERT INTO verified_emails VALUES ($1, $2) ON CONFLICT DO NOTHING",
            person.user_id,
            f"{person.user_id}@test.invalid",
        )

    async def ends(self, document: str, days: int) -> None:
        """Move a document's last day: tests move days, never clocks. The gate is judged again, as the sweep would find it."""
        await self.judge.execute(
            "UPDATE provider_documents SET expiry_date = papers_today() + $2::int WHERE id = $1", UUID(document), days
        )

    async def vehicle_ends(self, vehicle: str, days: int, column: str = "registration_expiry") -> None:
        await self.judge.execute(
            f"UPDATE provider_vehicles SET {column} = papers_today() + $2::int WHERE id = $1", UUID(vehicle), days
        )

    async def status(self, person: Person) -> str:
        return str((await person.http.provider())["status"])

    async def told(self, person: Person, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
        """(type, data) of his notifications of these types, oldest first; without any named all but the mail that a registration causes."""
        import orjson

        rows = await self.judge.fetch(
            "SELECT type, data::text AS data FROM notifications WHERE recipient_id = $1 ORDER BY created_at, id",
            person.user_id,
        )
        return [
            (row["type"], orjson.loads(row["data"]))
            for row in rows
            if (row["type"] in kinds if kinds else row["type"] != "email_verification")
        ]

    @asynccontextmanager
    async def on_a_job(self, person: Person) -> AsyncIterator[tuple[Client, dict[str, Any]]]:
        """The provider with an accepted job and a socket; (his phone, the job)."""
        customer = await self.server.person()
        async with person.connected() as phone:
            await phone.online(*BANGKOK)
            await self.server.listed(person)
            job = await self.server.request(customer)
            offer = (await person.inbox.named("offer.created")).data
            await phone.accept(job["id"], offer["offer_id"])
            yield phone, job

    async def finish(self, phone: Client, job: dict[str, Any]) -> None:
        for stage in ("arrived", "in_progress", "completed"):
            await phone.advance(job["id"], stage)

    async def send(
        self,
        person: Person,
        data: Any,
        *,
        headers: dict[str, str] | None = None,
        path: str = "/v1/providers/me/documents",
    ) -> tuple[int, str, dict[str, Any]]:
        """One raw POST: (status, code, details)."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                self.server.url() + path,
                data=data,
                headers={"Authorization": f"Bearer {person.token}", **(headers or {})},
            ) as answer,
        ):
            body = await answer.json()
            error = body.get("error", {})
            return answer.status, error.get("code", ""), error.get("details", {})


def form(*fields: tuple[str, Any], file_name: str = "scan.pdf") -> aiohttp.FormData:
    """A form of these parts in this order; `bytes` are a file."""
    data = aiohttp.FormData()
    for name, value in fields:
        if isinstance(value, str):
            data.add_field(name, value)
        else:
            data.add_field(name, value, filename=file_name, content_type="image/jpeg")
    return data


@asynccontextmanager
async def papers_of(database_url: str, redis_url: str, folder: Path, **given: Any) -> AsyncIterator[Papers]:
    """A server with these settings."""
    settings = {"storage_dir": folder / "store", "required_documents": REQUIRED, "uploads_per_hour": 1000} | given
    async with serving(database_url, redis_url, **settings) as server:
        judge = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
        try:
            yield Papers(server, judge, folder / "store", await server.admin())
        finally:
            await judge.close()


async def until(question: Any, what: str) -> None:
    """Ask until the answer is yes."""
    async with asyncio.timeout(10):
        while not await question():
            await asyncio.sleep(0)
    assert what


__all__ = ["JPEG", "PDF", "PNG", "Papers", "a_car", "date", "form", "in_days", "papers_of", "until"]
