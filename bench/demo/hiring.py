"""How drivers come: by the doors that are open to anybody, and then past the office.

Each signs up, proves his address with the link of the mail, registers and uploads what the server's settings
require; then an admin works through the queue. All of it over HTTP, as apps of strangers would do it.
"""

import asyncio
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import aiohttp

from bench.demo.account import Account
from bench.demo.mailbox import Mailbox
from bench.demo.stage import Stage, StageError
from protocol.client import Http
from protocol.errors import Denied
from protocol.lifecycle import AdminAction, ProviderStatus, ServiceType
from protocol.papers import NEEDS_EXPIRY, DocumentType, ReviewAction

T = TypeVar("T")

PAPERS = (DocumentType.NATIONAL_ID, DocumentType.DRIVER_LICENSE, DocumentType.VEHICLE_REGISTRATION)
PAPERS_GOOD_FOR = timedelta(days=365)
# As many as keep two workers busy: a server hashes few passwords at a time.
APPLY_AT_A_TIME = 24
REVIEW_AT_A_TIME = 8
REVIEW_EVERY_S = 0.2
PAGE = 100
MAIL_WITHIN_S = 30.0
# Everybody is told of everything by mail; the run begins when that is done, or after this long without.
QUIET_WITHIN_S = 20.0
QUIET_EVERY_S = 0.1
# How often one hears of the progress, as a share of all.
TOLD_TIMES = 4


@dataclass(frozen=True, slots=True)
class Hired:
    """Drivers who may work. `seconds`: from the first sign-up to the last approval."""

    drivers: tuple[Account, ...]
    registered: int
    approved: int
    seconds: float

    def figures(self) -> dict[str, Any]:
        """For the summary."""
        return {"registered": self.registered, "approved": self.approved, "seconds": round(self.seconds, 3)}


async def hire(
    stage: Stage, count: int, session: aiohttp.ClientSession, say: Callable[[str], None], *, admin: str
) -> Hired:
    """`count` approved drivers, and a server that has told them so. `admin`: the address of the stage's.

    Raises: StageError in words for people.
    """
    hiring = _Hiring(stage, count, session, say)
    await hiring.open_office(admin, stage.admin_password or "")
    began = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            applications = group.create_task(hiring.applications())
            group.create_task(hiring.reviews())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    drivers = applications.result()
    seconds = time.monotonic() - began
    await hiring.quiet()
    say(f"{count} drivers registered and approved over HTTP in {seconds:.1f} s")
    return Hired(tuple(drivers), len(drivers), hiring.approved, seconds)


class _Hiring:
    """One run of it."""

    def __init__(self, stage: Stage, count: int, session: aiohttp.ClientSession, say: Callable[[str], None]) -> None:
        self.applied = 0
        self.approved = 0
        self._stage = stage
        self._count = count
        self._session = session
        self._say = say
        self._mailbox = Mailbox(stage.mail)
        self._anyone = self._http("")
        self._office = self._anyone

    async def open_office(self, email: str, password: str) -> None:
        """The admin signs in. His first token lives longer than all this takes."""
        tokens = await self._said(self._anyone.account.sign_in(email, password))
        self._office = self._http(tokens["access_token"])

    async def applications(self) -> list[Account]:
        """Everybody applies; they come back in the order of their numbers."""
        drivers: dict[int, Account] = {}

        async def apply(number: int) -> None:
            drivers[number] = await self._apply(number)
            self.applied += 1
            self._tell(self.applied, "have applied")

        reading = asyncio.create_task(self._mailbox.watch())
        try:
            await self._all(range(self._count), apply, APPLY_AT_A_TIME)
        finally:
            reading.cancel()
            await asyncio.wait((reading,))
            if not reading.cancelled():
                reading.result()
        return [drivers[number] for number in range(self._count)]

    async def _apply(self, number: int) -> Account:
        """One driver, from the sign-up to the last of his papers."""
        email, password = f"driver-{number}@demo.invalid", f"cable car {number}"
        name = {"first_name": "Driver", "last_name": f"No. {number}"}
        mail = self._mailbox.expect(email)
        signed_up = await self._anyone.account.sign_up(email, password, **name, locale="en")
        driver = Account(str(signed_up["user"]["id"]), email, password, signed_up["tokens"])
        try:
            async with asyncio.timeout(MAIL_WITHIN_S):
                token = await mail
        except TimeoutError:
            raise StageError(f"no mail to {email} within {MAIL_WITHIN_S:.0f} s\n{self._stage.server_log()}") from None
        await self._anyone.account.verify_email(token)
        app = self._http(driver.token)
        await app.register(**name, email=email, phone_number=f"08{number:08d}", service_types=[ServiceType.RIDE])
        last_day = str((datetime.now(UTC) + PAPERS_GOOD_FOR).date())
        for kind in PAPERS:
            expiry = last_day if kind in NEEDS_EXPIRY else None
            await app.papers.upload(kind, scan(), expiry_date=expiry, file_name=f"{kind}.png")
        return driver

    async def reviews(self) -> None:
        """The office looks into its queue and works through who has handed in everything, until all are approved."""
        while self.approved < self._count:
            all_applied = self.applied == self._count
            queue = (await self._said(self._office.papers.verification(limit=PAGE)))["items"]
            if ready := [one for one in queue if one["status"] == ProviderStatus.PENDING_VERIFICATION]:
                await self._all(ready, self._review, REVIEW_AT_A_TIME)
            elif all_applied:
                raise StageError(
                    f"the office has nobody left to approve, but approved {self.approved} of {self._count}"
                )
            else:
                await asyncio.sleep(REVIEW_EVERY_S)

    async def _review(self, application: dict[str, Any]) -> None:
        for document in application["documents"]:
            await self._office.papers.review_document(document["id"], ReviewAction.APPROVE)
        await self._office.provider_action(UUID(application["provider_id"]), AdminAction.APPROVE)
        self.approved += 1
        self._tell(self.approved, "are approved")

    async def quiet(self) -> None:
        """Wait until the mails about all this are out: figures are those of the run, not of what was before it."""
        deadline = time.monotonic() + QUIET_WITHIN_S
        while waiting := int((await self._said(self._office.office.health()))["queue_waiting"]):
            if time.monotonic() > deadline:
                self._say(f"{waiting} messages to drivers still wait to be sent; the run begins all the same")
                return
            await asyncio.sleep(QUIET_EVERY_S)

    def _http(self, token: str | Callable[[], str]) -> Http:
        return Http(self._stage.url, token, session=self._session, locale="en")

    def _tell(self, done: int, what: str) -> None:
        if done % max(1, self._count // TOLD_TIMES) == 0 or done == self._count:
            self._say(f"{done} of {self._count} drivers {what}")

    async def _all(self, items: Iterable[T], work: Callable[[T], Awaitable[None]], at_a_time: int) -> None:
        """Do `work` on each, so many at a time. The first that fails ends it; what it raises is raised."""
        left: Iterator[T] = iter(items)

        async def one_after_another() -> None:
            for item in left:
                await self._said(work(item))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_a_time):
                    group.create_task(one_after_another())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _said(self, answer: Awaitable[T]) -> T:
        """The answer. A refusal ends the demo: nothing here may be refused."""
        try:
            return await answer
        except Denied as no:
            details = f" {no.details}" if no.details else ""
            raise StageError(f"a driver or the office was refused: {no}{details}\n{self._stage.server_log()}") from no


def scan() -> bytes:
    """A picture of one white point: as a PNG, the smallest paper that a server takes for one."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    white = zlib.compress(b"\x00\xff")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", white) + chunk(b"IEND", b"")
