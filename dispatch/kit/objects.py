"""Files: a private store of objects by key, in a local folder or in a bucket that speaks S3.

Both are obstore underneath. What a file is (type, size, owner) stands in Postgres: a folder keeps no attributes.
"""

import asyncio
import hashlib
import hmac
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode

CHUNK_BYTES: Final = 64 * 1024
_PART_BYTES = 5 * 1024 * 1024
"""S3 takes no smaller parts. One is in flight and one fills up: what an upload may hold in memory."""


class StorageUnavailable(DispatchError):
    """The object store failed, or does not answer."""

    code = ErrorCode.STORAGE_UNAVAILABLE
    decided = False


class Objects(Protocol):
    """A store of objects. Every method raises StorageUnavailable when the store cannot do it. Keys are made of our own ids."""

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, content_type: str) -> None:
        """Write an object from a stream. What `chunks` raises comes out as it is; then, as after a cancellation, there is no object."""

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """The object's bytes, from the start. Raises FileNotFoundError: there is none."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects. One that is not there is deleted already."""

    async def link(self, key: str, *, seconds: int) -> str | None:
        """An address that anybody can download from for so long; None: this store has none, the bytes come through us."""


class _Stored(ABC):
    """What both stores share."""

    _attributes = True

    @abstractmethod
    async def _store(self) -> Any:
        """The library's store, opened at the first use."""

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, content_type: str) -> None:
        failed: list[BaseException] = []

        async def watched() -> AsyncIterator[bytes]:
            # obstore may wrap what its source raises; the caller wants to see it as it was.
            try:
                async for chunk in chunks:
                    yield chunk
            except BaseException as error:
                failed.append(error)
                raise

        given: dict[str, Any] = {}
        if self._attributes:
            given["attributes"] = {"Content-Type": content_type, "Content-Disposition": "attachment"}
        store = await self._opened()
        try:
            await obstore.put_async(store, key, watched(), chunk_size=_PART_BYTES, max_concurrency=1, **given)
        except Exception as error:
            if failed:
                raise failed[0] from None
            raise StorageUnavailable(f"an object could not be written: {_first_line(error)}") from error

    async def get(self, key: str) -> AsyncIterator[bytes]:
        store = await self._opened()
        try:
            found = await obstore.get_async(store, key)
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"an object could not be read: {_first_line(error)}") from error
        return _bytes_of(found)

    async def delete(self, keys: Sequence[str]) -> None:
        store = await self._opened()
        for key in keys:
            try:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(store, key)
            except (BaseError, OSError) as error:
                raise StorageUnavailable(f"an object could not be deleted: {_first_line(error)}") from error

    async def _opened(self) -> Any:
        try:
            return await self._store()
        except (BaseError, OSError) as error:
            raise StorageUnavailable(f"the object store cannot be opened: {_first_line(error)}") from error


class Folder(_Stored):
    """Objects in a folder of this machine, which is made when the first one is written. All workers must see the same folder."""

    _attributes = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: LocalStore | None = None

    async def _store(self) -> LocalStore:
        if self._made is None or not self._path.is_dir():
            await asyncio.to_thread(self._path.mkdir, mode=0o700, parents=True, exist_ok=True)
            self._made = LocalStore(self._path)
        return self._made

    async def link(self, key: str, *, seconds: int) -> str | None:
        """A folder signs nothing."""
        return None


@dataclass(frozen=True, slots=True)
class BucketRules:
    """Where a bucket is. `endpoint` None: the cloud that invented S3. Without keys those of the machine's environment are used."""

    name: str
    endpoint: str | None = None
    region: str = "us-east-1"
    key_id: str | None = None
    secret: str | None = None
    timeout_s: float = 10.0


class Bucket(_Stored):
    """Objects in a bucket."""

    def __init__(self, rules: BucketRules) -> None:
        self._rules = rules
        self._made: S3Store | None = None

    async def _store(self) -> S3Store:
        if self._made is None:
            rules = self._rules
            given: dict[str, Any] = {"region": rules.region}
            if rules.endpoint is not None:
                given |= {"endpoint": rules.endpoint, "virtual_hosted_style_request": False}
            if rules.key_id is not None:
                given |= {"access_key_id": rules.key_id, "secret_access_key": rules.secret}
            self._made = S3Store(
                rules.name,
                client_options={
                    "allow_http": (rules.endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=rules.timeout_s / 2),
                    "timeout": timedelta(seconds=rules.timeout_s),
                },
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=rules.timeout_s)},
                **given,
            )
        return self._made

    async def link(self, key: str, *, seconds: int) -> str | None:
        """A presigned GET. Hand it on as it is: unquoting breaks its signature."""
        store = await self._opened()
        try:
            signed: str = await obstore.sign_async(store, "GET", key, timedelta(seconds=seconds))
        except (BaseError, OSError, ValueError) as error:
            raise StorageUnavailable(f"a link could not be signed: {_first_line(error)}") from error
        return signed


async def _bytes_of(found: Any) -> AsyncIterator[bytes]:
    async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
        yield bytes(chunk)


def _first_line(error: BaseException) -> str:
    """obstore adds a page of debug output, addresses and all."""
    return str(error).partition("\n")[0][:300]


class Seals:
    """Words that only we can make: an id and an end, signed. Whoever has one may fetch that id's file until then."""

    def __init__(self, secrets: Sequence[str]) -> None:
        # Keys of their own, so that a seal is never a signature of something else.
        self._keys = [hmac.digest(secret.encode(), b"dispatch file links", "sha256") for secret in secrets]

    def seal(self, subject: UUID, until: int) -> str:
        """`until`: seconds since 1970."""
        payload = subject.bytes + until.to_bytes(8, "big")
        return urlsafe_b64encode(payload + hmac.digest(self._keys[0], payload, "sha256")).rstrip(b"=").decode()

    def opened(self, word: str, now: float) -> UUID | None:
        """Whose it is; None: not ours, changed, or over."""
        try:
            raw = urlsafe_b64decode(word + "=" * (-len(word) % 4))
        except ValueError:
            return None
        payload, mark = raw[:24], raw[24:]
        # Every key is tried, in the same time whichever fits: secrets rotate. One spelling a seal: base64 would let loose bits pass.
        good = [hmac.compare_digest(mark, hmac.digest(key, payload, hashlib.sha256)) for key in self._keys]
        if len(raw) != 56 or not any(good) or urlsafe_b64encode(raw).rstrip(b"=").decode() != word:
            return None
        return UUID(bytes=payload[:16]) if int.from_bytes(payload[16:], "big") > now else None
