"""Use cases of documents: upload, list, link."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import orjson
import structlog

from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Invalid, Limited, Missing, Overloaded
from dispatch.kit.ids import new_id
from dispatch.kit.objects import Objects, Seals
from dispatch.kit.postgres import Actor, Postgres
from dispatch.kit.route import Part, Sent
from dispatch.providers.documents.errors import BadFile, DocumentMissing, UnsupportedFile
from dispatch.providers.documents.rules import HEAD_BYTES, KINDS, check_known, content_type_of, told
from dispatch.providers.documents.store import Q
from dispatch.providers.documents.uploads import Pace, Uploads
from dispatch.providers.errors import ProviderMissing
from dispatch.providers.service import updated
from dispatch.providers.store import cleared, lock_gate, submitted

_LIST_MAX = 200
_AT_ONCE = 16
"""Uploads of one worker at the same time: each may hold two parts of 5 MiB on their way to the store."""
_AT_ONCE_OF_ONE = 4
"""Of one provider: he alone must not take all the places with slow ones."""

log = structlog.get_logger("documents")


@dataclass(frozen=True, slots=True)
class _File:
    content_type: str
    size: int
    sha256: str


class Documents:
    """One per worker."""

    def __init__(
        self,
        pg: Postgres,
        inbox: Inbox,
        objects: Objects,
        seals: Seals,
        clock: Clock,
        idempotency: Idempotency,
        *,
        link_s: int,
        uploads_per_hour: int,
    ) -> None:
        self._pg = pg
        self._inbox = inbox
        self._objects = objects
        self._uploads = Uploads(pg, objects)
        self._seals = seals
        self._clock = clock
        self._once = idempotency.once
        self._link_s = link_s
        self._per_hour = uploads_per_hour
        self._under_way: Counter[UUID] = Counter()

    async def upload(self, actor: Actor, parts: AsyncIterator[Part], key: str | None) -> Answer:
        """Store a document and put it before the office. First the object, then the row; what fails leaves neither.

        Raises: ProviderMissing, Invalid, BadFile, UnsupportedFile, FileTooLarge, StorageUnavailable, Limited, Overloaded.
        """
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(Q["uploader"], actor.user_id)
        if row is None:
            raise ProviderMissing("this user is no provider")
        # With a request id it may have been done: then the stored answer is due, and the count is asked under it.
        if key is None:
            self._check_rate(row["lately"])
        self._check_place(row["id"])
        document_id = new_id()
        path = f"documents/{row['id']}/{document_id}"
        stored = placed = False
        pace = Pace(self._clock)
        try:
            fields: dict[str, str] = {}
            file: _File | None = None
            async for part in pace.each(parts):
                chunks = pace.each(part.chunks)
                if part.name != "file":
                    fields[part.name] = await _text(part.name, chunks)
                    continue
                check_known(fields, row["today"])
                first = await anext(chunks, b"")
                # Only now: who opens a form and sends no file takes nobody's place.
                self._check_place(row["id"])
                self._under_way[row["id"]] += 1
                placed = True
                await self._uploads.begin(path)
                stored = True
                file = await self._store(path, first, chunks)
            document = told(fields, row["today"], file=file is not None)
            assert file is not None
            body = fields | {"sha256": file.sha256}
            async with self._once(actor, key, fingerprint_of("documents.upload", body)) as turn:
                if turn.replay is not None:
                    return turn.replay
                await lock_gate(turn.tx, row["id"])
                self._check_rate(await turn.tx.fetchval(Q["uploads_lately"], row["id"]))
                await turn.tx.fetchval(
                    Q["document_add"],
                    document_id,
                    row["id"],
                    str(document.document_type),
                    path,
                    file.content_type,
                    file.size,
                    file.sha256,
                    document.expiry_date,
                )
                views = [await cleared(turn.tx, row["id"]), await submitted(turn.tx, row["id"])]
                facts = await append(turn.tx, [updated(actor.user_id, view) for view in views if view is not None])
                answer = {"document_id": str(document_id), "storage_path": path, "status": "pending"}
                kept = turn.keep(Answer(orjson.dumps(answer), 201))
            stored = False
        finally:
            if placed:
                self._under_way -= Counter({row["id"]: 1})  # those at zero fall out
            if stored:
                await self._uploads.abandon(path)
        self._inbox.deliver(facts)
        log.info("document uploaded", provider_id=str(row["id"]), document_id=str(document_id), bytes=file.size)
        return kept

    def _check_rate(self, lately: int) -> None:
        if lately >= self._per_hour:
            raise Limited(f"{lately} uploads within the hour", retry_after_s=600)

    def _check_place(self, provider_id: UUID) -> None:
        if self._under_way[provider_id] >= _AT_ONCE_OF_ONE:
            raise Limited("too many uploads of one provider at once", retry_after_s=5)
        if self._under_way.total() >= _AT_ONCE:
            raise Overloaded("too many uploads at once")

    async def _store(self, path: str, head: bytes, chunks: AsyncIterator[bytes]) -> _File:
        while len(head) < HEAD_BYTES and (chunk := await anext(chunks, b"")):
            head += chunk
        if not head:
            raise BadFile("the file is empty")
        kind = content_type_of(head)
        if kind is None:
            raise UnsupportedFile("the file is none of these", content_types=list(KINDS))
        digest = hashlib.sha256()
        size = 0

        async def everything() -> AsyncIterator[bytes]:
            nonlocal size
            digest.update(head)
            size = len(head)
            yield head
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        await self._objects.put(path, everything(), content_type=kind)
        return _File(kind, size, digest.hexdigest())

    async def sweep(self) -> int:
        """Delete one batch of what uploads have left behind. Returns how many."""
        return await self._uploads.sweep()

    async def mine(self, actor: Actor) -> bytes:
        """The own documents. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            if await tx.fetchrow(Q["uploader"], actor.user_id) is None:
                raise ProviderMissing("this user is no provider")
            rows = await tx.fetch(Q["documents_own"], actor.user_id, _LIST_MAX)
        return b'{"items":[' + b",".join(row["body"] for row in rows) + b"]}"

    async def of(self, admin: Actor, provider_id: UUID) -> bytes:
        """A provider's documents, for the office. Raises: ProviderMissing."""
        async with self._pg.acting(admin) as tx:
            if not await tx.fetchval(Q["provider_known"], provider_id):
                raise ProviderMissing(f"no provider {provider_id}")
            rows = await tx.fetch(Q["documents_of"], provider_id, _LIST_MAX)
        return b'{"items":[' + b",".join(row["body"] for row in rows) + b"]}"

    async def link(self, actor: Actor, document_id: UUID, *, anybodys: bool = False) -> bytes:
        """An address that ends by itself; `anybodys` for admins. Raises: DocumentMissing, StorageUnavailable."""
        async with self._pg.acting(actor) as tx:
            path = await tx.fetchval(Q["document_path"], document_id, None if anybodys else actor.user_id)
        if path is None:
            raise DocumentMissing(f"no document {document_id}")
        until = int(self._clock.now().timestamp()) + self._link_s
        url = await self._objects.link(path, seconds=self._link_s)
        if url is None:
            url = f"/v1/files/{self._seals.seal(document_id, until)}"
        ends = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return orjson.dumps({"url": url, "expires_at": ends})

    async def file(self, seal: str) -> Sent:
        """What a link of ours stands for. Raises: Missing (not ours, over, or the object is gone), StorageUnavailable."""
        document_id = self._seals.opened(seal, self._clock.now().timestamp())
        if document_id is None:
            raise Missing("the link is over or none of ours")
        async with self._pg.system() as conn:
            row = await conn.fetchrow(Q["document_file"], document_id)
        if row is None:
            raise Missing("the document is gone")
        try:
            chunks = await self._objects.get(row["storage_path"])
        except FileNotFoundError as error:
            log.error("a document has lost its object", document_id=str(document_id))
            raise Missing("the object is gone") from error
        return Sent(chunks, row["content_type"], f"{document_id}.{row['content_type'].partition('/')[2]}")


async def _text(name: str, chunks: AsyncIterator[bytes]) -> str:
    data = b"".join([chunk async for chunk in chunks])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{name} is no text", fields=[{"field": name, "problem": "not UTF-8"}]) from error
