"""One suite for every store of objects: a folder, and a bucket of a server that speaks S3. And the seals of links."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import yarl

from dispatch.kit.objects import Bucket, BucketRules, Folder, Objects, Seals, StorageUnavailable


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 with an empty bucket named `papers`."""
    from tests.papers.s3 import running_s3

    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return Folder(tmp_path / "deep" / "store")
    endpoint = request.getfixturevalue("s3")
    return Bucket(BucketRules("papers", endpoint=endpoint, key_id="us", secret="secret", timeout_s=5))


def key() -> str:
    return f"documents/{uuid4()}/{uuid4()}"


async def pieces(*sizes: int, end: BaseException | None = None) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        yield bytes([number % 256]) * size
        await asyncio.sleep(0)
    if end is not None:
        raise end


async def read(objects: Objects, where: str) -> bytes:
    return b"".join([chunk async for chunk in await objects.get(where)])


@pytest.mark.parametrize("sizes", [(1,), (1, 65_536, 3), (65_536,) * 100], ids=["one", "some", "over one part"])
async def test_what_is_put_is_got(objects: Objects, sizes: tuple[int, ...]) -> None:
    where = key()
    await objects.put(where, pieces(*sizes), content_type="image/png")
    assert await read(objects, where) == b"".join([chunk async for chunk in pieces(*sizes)])


@pytest.mark.parametrize("sizes", [(), (1_000,), (65_536,) * 100], ids=["nothing", "a little", "over one part"])
async def test_a_stream_that_fails_leaves_nothing_and_its_own_error(objects: Objects, sizes: tuple[int, ...]) -> None:
    where, problem = key(), RuntimeError("the phone went into a tunnel")
    with pytest.raises(RuntimeError) as raised:
        await objects.put(where, pieces(*sizes, end=problem), content_type="image/png")
    assert raised.value is problem
    with pytest.raises(FileNotFoundError):
        await objects.get(where)


async def test_a_cancelled_put_leaves_nothing(objects: Objects) -> None:
    where, began = key(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(65_536)
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(objects.put(where, endless(), content_type="image/png"))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(FileNotFoundError):
        await objects.get(where)


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(objects: Objects) -> None:
    one, two = key(), key()
    for where in (one, two):
        await objects.put(where, pieces(3), content_type="image/png")
    await objects.delete([one])
    await objects.delete([one, two, key()])
    for where in (one, two):
        with pytest.raises(FileNotFoundError):
            await objects.get(where)


async def test_a_key_cannot_leave_the_store(objects: Objects) -> None:
    with pytest.raises((StorageUnavailable, ValueError)):
        await objects.put("documents/../../out", pieces(3), content_type="image/png")


async def test_a_folder_links_nothing_and_a_bucket_signs(tmp_path: Path, s3: str) -> None:
    assert await Folder(tmp_path).link(key(), seconds=60) is None
    bucket = Bucket(BucketRules("papers", endpoint=s3, key_id="us", secret="secret"))
    where = key()
    await bucket.put(where, pieces(3), content_type="image/png")
    url = await bucket.link(where, seconds=60)
    assert url is not None and "X-Amz-Expires=60" in url and "secret" not in url.replace("X-Amz-Security", "")
    async with aiohttp.ClientSession() as session, session.get(yarl.URL(url, encoded=True)) as answer:
        assert await answer.read() == bytes(3)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == "attachment"


async def test_a_bucket_that_does_not_answer_is_unavailable(unused_tcp_port: int) -> None:
    logging.getLogger("obstore").setLevel(logging.ERROR)
    bucket = Bucket(
        BucketRules("papers", endpoint=f"http://127.0.0.1:{unused_tcp_port}", key_id="us", secret="secret", timeout_s=1)
    )
    for work in (
        bucket.put(key(), pieces(3), content_type="image/png"),
        bucket.get(key()),
        bucket.delete([key()]),
    ):
        with pytest.raises(StorageUnavailable) as refused:
            await work
        assert "secret" not in str(refused.value)


async def test_a_folder_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StorageUnavailable):
        await Folder(tmp_path / "store").put(key(), pieces(3), content_type="image/png")


def test_a_seal_opens_until_its_end_and_not_when_changed() -> None:
    seals, subject = Seals(["a" * 32]), uuid4()
    word = seals.seal(subject, 1_000)
    assert seals.opened(word, 999.9) == subject
    assert seals.opened(word, 1_000.0) is None
    for at in range(len(word)):
        for other in "Ab0_":
            if word[at] != other:
                assert seals.opened(word[:at] + other + word[at + 1 :], 0.0) is None, at
    for bad in ("", "A", word[:-1], word + "A", word + "AAAA", "!" * 75, "é" * 75):
        assert seals.opened(bad, 0.0) is None


def test_seals_live_through_a_rotation_of_secrets_and_no_longer() -> None:
    word = Seals(["old" * 12]).seal(subject := uuid4(), 1_000)
    assert Seals(["new" * 12, "old" * 12]).opened(word, 0) == subject
    assert Seals(["new" * 12]).opened(word, 0) is None
