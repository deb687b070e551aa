"""What must be true before there is a server: stores found, reachable, new enough and migrated. Told in sentences if not."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import redis.asyncio as redis
from redis.exceptions import AuthenticationError, RedisError

from dispatch.kit.log import clean_text
from dispatch.kit.migrate import MigrationError, migrate
from dispatch.settings import Settings

MIGRATIONS = Path(__file__).with_name("migrations")
POSTGRES_VERSION_MIN = 15
CONNECT_TIMEOUT_S = 5.0
# What we call and Redis before 7.0 does not know. Asked by command: Valkey's version numbers mean something else.
REDIS_COMMANDS = ("FCALL", "FUNCTION", "GEOSEARCH", "SPUBLISH", "SSUBSCRIBE")


LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Trouble(Exception):
    """Something the operator has to put right. The text is all that he gets to see: what, with which value, what to do."""


def on_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    return host in LOOPBACK


@asynccontextmanager
async def with_stores(
    settings: Settings, echo: Callable[[str], None]
) -> AsyncIterator[tuple[Settings, Callable[[], str | None]]]:
    """The settings with both addresses filled in, and a function that tells when an embedded store of ours has died.

    Stores without an address are the embedded ones on `data_dir`: started, or joined where they run. Raises Trouble.
    """
    want = [kind for kind, url in (("postgres", settings.database_url), ("valkey", settings.redis_url)) if not url]
    if not want:
        yield settings, lambda: None
        return
    try:
        from dispatch.kit.embedded import EmbeddedError, stores
    except ImportError as error:  # no flock, no Unix users: Windows
        raise Trouble(
            f"Set DATABASE_URL and REDIS_URL: there are no embedded stores on this platform ({error})."
        ) from error
    try:
        async with stores(
            settings.data_dir, want=[kind for kind in ("postgres", "valkey") if kind in want], echo=echo
        ) as running:
            found = {"database_url": running.database_url, "redis_url": running.redis_url}
            yield settings.model_copy(update={name: url for name, url in found.items() if url}), running.failed
    except EmbeddedError as error:
        raise Trouble(str(error)) from error


async def postgres_trouble(url: str) -> str | None:
    """What is wrong with the Postgres at `url`, None when it can be used."""
    shown = clean_text(url)
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    except asyncpg.InvalidCatalogNameError as error:
        return f"Postgres answers, but {error}. Create it (createdb), or correct DATABASE_URL={shown}."
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidPasswordError) as error:
        return f"Postgres refuses the login: {error}. Correct user or password in DATABASE_URL={shown}."
    except (asyncpg.PostgresError, TimeoutError, OSError) as error:
        return (
            f"Postgres cannot be reached at DATABASE_URL={shown} ({_reason(error)}). "
            "Start it or correct the address; without DATABASE_URL an embedded one is used."
        )
    except (asyncpg.InterfaceError, ValueError) as error:
        return f"DATABASE_URL={shown} is no address of a Postgres ({error}); it looks like postgresql://user:password@host:5432/database."
    try:
        number = int(await connection.fetchval("SHOW server_version_num"))
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)
    if number < POSTGRES_VERSION_MIN * 10000:
        return f"Postgres at {shown} has version {number // 10000}; {POSTGRES_VERSION_MIN} or newer is needed."
    return None


async def redis_trouble(url: str) -> str | None:
    """What is wrong with the Redis or Valkey at `url`, None when it can be used."""
    shown = clean_text(url)
    try:
        client = redis.from_url(url, socket_timeout=CONNECT_TIMEOUT_S, socket_connect_timeout=CONNECT_TIMEOUT_S)
    except ValueError as error:
        return f"REDIS_URL={shown} is no address of a Redis ({error})."
    try:
        # One word with a blank: redis-py then leaves the answer alone, whose rows are in our order, null for the unknown.
        rows = await client.execute_command("COMMAND INFO", *REDIS_COMMANDS)
    except (RedisError, OSError, TimeoutError) as error:
        # redis-py wraps the refusal in one error or another, depending on when it comes.
        if isinstance(error, AuthenticationError) or re.search(r"password|auth", str(error), re.IGNORECASE):
            return f"Redis refuses the login: {error}. Correct REDIS_URL={shown}."
        return (
            f"Redis cannot be reached at REDIS_URL={shown} ({_reason(error)}). "
            "Start it or correct the address; without REDIS_URL an embedded one is used."
        )
    finally:
        await client.aclose()
    if missing := [name for name, row in zip(REDIS_COMMANDS, rows, strict=True) if not row]:
        return f"Redis at {shown} does not know {', '.join(missing)}; Redis 7.0 or Valkey 7.2 or newer is needed."
    return None


async def migrated(url: str) -> list[str]:
    """Bring the database at `url` up to date and return what was applied now. Raises Trouble."""
    if (trouble := await postgres_trouble(url)) is not None:
        raise Trouble(trouble)
    try:
        return await migrate(url, MIGRATIONS)
    except MigrationError as error:
        raise Trouble(f"The database cannot be migrated. {error}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise Trouble(f"The database at {clean_text(url)} cannot be migrated: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """In one line: Postgres' errors have details and hints in further ones."""
    return clean_text("; ".join(str(error).splitlines()) or type(error).__name__)
