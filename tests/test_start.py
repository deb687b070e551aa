"""What is wrong with a store is said before there is a server; doctor sees what a start does not."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from bench.faults.proxy import Proxy
from dispatch import start
from dispatch.doctor import examine
from dispatch.kit.clock import ManualClock, SystemClock
from dispatch.kit.embedded.binaries import find
from dispatch.settings import Settings
from dispatch.start import postgres_trouble, redis_trouble


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[str]:
    """A Valkey with options that ours does not have: its address. It answers once its socket is there."""
    place = folder / "s"
    process = subprocess.Popen(
        [find("valkey").path, "--port", "0", "--unixsocket", place, "--save", "", *options], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        while b"ready to accept" not in process.stdout.readline().lower():
            assert process.poll() is None
        yield f"unix://{place}"
    finally:
        process.kill()
        process.communicate()


async def test_good_stores_are_no_trouble(empty_database_url: str, redis_url: str) -> None:
    assert await postgres_trouble(empty_database_url) is None
    assert await redis_trouble(redis_url) is None


async def test_a_postgres_that_is_too_old_is_told(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "POSTGRES_VERSION_MIN", 99)
    assert "99 or newer is needed" in (await postgres_trouble(empty_database_url) or "")


async def test_a_postgres_that_never_answers_is_told(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "CONNECT_TIMEOUT_S", 0.3)
    async with Proxy(empty_database_url) as line:
        line.blackhole()
        assert "cannot be reached" in (await postgres_trouble(line.url) or "")


async def test_a_redis_without_functions_is_told(tmp_path: Path) -> None:
    with valkey(tmp_path, "--rename-command", "FCALL", "") as url:
        assert "does not know FCALL" in (await redis_trouble(url) or "")


async def test_a_redis_that_wants_a_password_is_told(tmp_path: Path) -> None:
    with valkey(tmp_path, "--requirepass", "right") as url:
        assert "refuses the login" in (await redis_trouble(url.replace("unix://", "unix://:wrong@")) or "")
        assert await redis_trouble(url.replace("unix://", "unix://:right@")) is None


@pytest.mark.parametrize("url", ["http://x", "valkey"])
async def test_a_wrong_redis_address_is_told(url: str) -> None:
    assert f"REDIS_URL={url} is no address" in (await redis_trouble(url) or "")


async def test_doctor_measures_the_clocks(database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url)
    right = {finding.about: finding async for finding in examine(settings, clock=SystemClock())}
    assert right["clock"].verdict == "ok"
    wrong = {finding.about: finding async for finding in examine(settings, clock=ManualClock())}
    assert wrong["clock"].verdict == "BAD"
    assert "NTP" in wrong["clock"].text


async def test_doctor_changes_nothing(empty_database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=empty_database_url, redis_url=redis_url)
    assert {finding.about: finding.verdict async for finding in examine(settings)}["migrations"] == "BAD"
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'dispatch'") == 0
    await connection.close()
    async with redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0


async def test_doctor_warns_of_an_evicting_redis(database_url: str, tmp_path: Path) -> None:
    with valkey(tmp_path, "--maxmemory-policy", "allkeys-lru") as url:
        settings = Settings(database_url=database_url, redis_url=url)
        texts = [finding.text async for finding in examine(settings) if finding.about == "redis"]
    assert any("allkeys-lru" in text and "noeviction" in text for text in texts)


async def test_what_is_wrong_with_postgres_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors have details and hints in further ones, and a log is read line by line."""

    async def refuses(*args: object, **given: object) -> None:
        error = asyncpg.CannotConnectNowError("the database system is not yet accepting connections")
        error.detail = "Consistent recovery state has not been yet reached."
        raise error

    monkeypatch.setattr(asyncpg, "connect", refuses)
    trouble = await postgres_trouble("postgresql://joe@127.0.0.1:1/x")
    assert trouble is not None and "\n" not in trouble
    assert "not yet accepting connections; DETAIL:  Consistent recovery state" in trouble
