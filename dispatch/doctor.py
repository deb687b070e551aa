"""`dispatch doctor`: is this machine, with these settings, fit to run the server? In words, with what to do."""

import resource
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

import asyncpg
import redis.asyncio as redis
from pydantic import SecretStr
from redis.exceptions import RedisError

from dispatch.kit.clock import Clock, SystemClock
from dispatch.kit.log import clean_text
from dispatch.kit.migrate import MigrationError, pending
from dispatch.kit.objects import StorageUnavailable
from dispatch.kit.queue import POOL_SIZE as QUEUE_POOL
from dispatch.kit.redis import addresses
from dispatch.markets import MarketConfigError, Markets
from dispatch.notifications import NotNow, Smtp, doors_of
from dispatch.providers.documents import objects_of
from dispatch.settings import Settings
from dispatch.start import (
    CONNECT_TIMEOUT_S,
    MIGRATIONS,
    Trouble,
    on_loopback,
    postgres_trouble,
    redis_trouble,
    with_stores,
)

SKEW_S_MAX = 1.0  # tokens, and the `at` of positions, are compared with the machine's clock; offers with Postgres'
OTHER_CONNECTIONS = 10  # psql, backups, migrations: besides the pools
PROBE = "doctor/nothing"
_SAFE_MINORS = {15: 9, 16: 5, 17: 1}
OPEN_FILES_MIN = 4096  # one per socket, and some hundred of our own


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `note` is worth knowing and no reason to fail."""

    about: str
    verdict: Literal["ok", "note", "BAD"]
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:4}  {self.about:11} {self.text}"


async def examine(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Finding]:
    """All findings, as they are made. Starts the embedded stores where no others are named; changes nothing in them."""
    yield _secret(settings)
    if trouble := unreachable_links(settings):
        yield Finding("links", "note", trouble)
    for trouble in payout_troubles(settings):
        yield Finding("payouts", "note", trouble)
    yield _markets(settings)
    yield _files()
    yield await _documents(settings)
    async for finding in _channels(settings, clock or SystemClock()):
        yield finding
    said: list[str] = []
    try:
        async with with_stores(settings, said.append) as (found, _):
            assert found.database_url is not None
            assert found.redis_url is not None
            async for finding in _postgres(found, found.database_url, clock or SystemClock()):
                yield finding
            async for finding in _redis(found.redis_url):
                yield finding
    except Trouble as error:
        yield Finding("stores", "BAD", str(error))


def _secret(settings: Settings) -> Finding:
    if not settings.development_secret:
        return Finding("settings", "ok", "all known, with secrets of your own")
    if on_loopback(settings.host):
        return Finding(
            "settings", "note", "tokens are signed with the published development secret: fine on this machine alone"
        )
    return Finding(
        "settings",
        "BAD",
        f"tokens are signed with the published development secret, and the server listens on {settings.host}: "
        "anybody can make himself admin. Set DISPATCH_JWT_SECRETS='[\"…\"]' (openssl rand -base64 48)",
    )


def unreachable_links(settings: Settings) -> str | None:
    """Why links in mails would lead nowhere; None: they lead somewhere."""
    if settings.public_url or on_loopback(settings.host) or (settings.email_link and settings.password_link):
        return None
    return f"links in mails lead to http://{settings.host}:{settings.port}: set DISPATCH_PUBLIC_URL to where people reach this server"


def payout_troubles(settings: Settings) -> list[str]:
    """What is worth knowing of how bank accounts are kept and who pays."""
    found = []
    if not settings.bank_keys:
        found.append(
            "bank account numbers are sealed with a key derived from DISPATCH_JWT_SECRETS: set DISPATCH_BANK_KEYS='[\"…\"]' "
            "(openssl rand -base64 48), and run `dispatch rotate-keys` before a secret of tokens is dropped"
        )
    if settings.payout_by == "folder":
        found.append(f"payouts are written to {settings.data_dir / 'payouts'} and count as paid: nobody gets money")
    elif settings.payout_by == "http" and not settings.payout_url.startswith("https://"):
        found.append("DISPATCH_PAYOUT_URL is not https: account numbers and the secret travel in the clear")
    return found


def _markets(settings: Settings) -> Finding:
    try:
        markets = Markets.load(settings.markets)
    except MarketConfigError as error:
        return Finding("markets", "BAD", str(error))
    return Finding("markets", "ok", ", ".join(market.code for market in markets))


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES_MIN:
        return Finding(
            "open files",
            "note",
            f"each worker may open {soft}, so about {soft} sockets; raise it with `ulimit -n {hard}`",
        )
    return Finding("open files", "ok", f"{soft} per worker")


async def _documents(settings: Settings) -> Finding:
    where = f"bucket {settings.storage_bucket}" if settings.storage_bucket else f"folder {settings.documents_dir}"
    try:
        # Removing what is not there asks for the store, the bucket and the right to write, and changes nothing.
        await objects_of(settings).delete([PROBE])
    except StorageUnavailable as error:
        return Finding("documents", "BAD", f"{where}: {error}. Look at the DISPATCH_STORAGE_ settings")
    if settings.storage_bucket is None and settings.workers > 1:
        return Finding("documents", "ok", f"{where}; workers on other machines need a bucket, or this folder shared")
    return Finding("documents", "ok", where)


async def _channels(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    try:
        doors = doors_of(settings, clock)
    except (ValueError, OSError) as error:
        yield Finding("channels", "BAD", str(error))
        return
    if settings.mail_by == "smtp":
        mail = doors["email"]
        assert isinstance(mail, Smtp)
        try:
            await mail.greet()
            yield Finding("e-mail", "ok", f"{settings.smtp_host} port {settings.smtp_port} answers")
        except NotNow as error:
            text = f"{settings.smtp_host} port {settings.smtp_port}: {error}. Look at the DISPATCH_SMTP_ settings"
            yield Finding("e-mail", "BAD", text)
    elif settings.mail_by == "folder":
        yield Finding("e-mail", "note", f"written to {settings.data_dir / 'mail'}: nobody gets them")
    else:
        yield Finding("e-mail", "note", "off: nobody can prove an address, so no provider can be approved")
    missing = [name for name in ("sms", "fcm", "webpush") if name not in doors]
    if missing:
        yield Finding("channels", "note", f"not connected: {', '.join(missing)}; docs/operating/notifications.md")
    for door in doors.values():
        await door.close()


async def _postgres(settings: Settings, url: str, clock: Clock) -> AsyncIterator[Finding]:
    if (trouble := await postgres_trouble(url)) is not None:
        yield Finding("postgres", "BAD", trouble)
        return
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        version = await connection.fetchval("SHOW server_version")
        yield Finding("postgres", "ok", f"{version} at {clean_text(url)}")
        if (hole := postgres_hole(int(await connection.fetchval("SHOW server_version_num")))) is not None:
            yield Finding("postgres", "BAD", hole)
        yield await _migrations(url)
        yield _skew(await _offset_s(connection, clock))
        yield await _connections(connection, settings)
        if await connection.fetchval("SHOW synchronous_commit") == "off":
            text = "synchronous_commit is off: what was promised can be lost in a crash. Set it to on"
            yield Finding("durability", "BAD", text)
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


def postgres_hole(number: int) -> str | None:
    """Why this version (150009 is 15.9) keeps no person from another's rows; None: nothing is known against it."""
    major, minor = divmod(number, 10_000)
    if minor >= _SAFE_MINORS.get(major, 0):
        return None
    return (
        f"{major}.{minor} may show one person the rows of another (CVE-2024-10976, CVE-2024-10978: row security and roles are what "
        f"keeps them apart here). Update to {major}.{_SAFE_MINORS[major]} or newer"
    )


async def _migrations(url: str) -> Finding:
    try:
        waiting = await pending(url, MIGRATIONS)
    except MigrationError as error:
        return Finding("migrations", "BAD", str(error))
    if waiting:
        text = f"not applied yet: {', '.join(waiting)}. Run `dispatch migrate` (`serve` does it too)"
        return Finding("migrations", "BAD", text)
    return Finding("migrations", "ok", "up to date")


async def _offset_s(connection: "asyncpg.Connection[asyncpg.Record]", clock: Clock) -> float:
    """Postgres' clock minus ours, in seconds, with the time of the question halved between the two ways."""
    before = clock.now()
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    after = clock.now()
    offset: float = (theirs - (before + (after - before) / 2)).total_seconds()
    return offset


def _skew(offset_s: float) -> Finding:
    if abs(offset_s) <= SKEW_S_MAX:
        return Finding("clock", "ok", f"within {abs(offset_s) * 1000:.0f} ms of Postgres'")
    way = "behind" if offset_s > 0 else "ahead of"
    text = (
        f"this machine is {abs(offset_s):.1f} s {way} Postgres; keep both in step with NTP (at most {SKEW_S_MAX:.0f} s)"
    )
    return Finding("clock", "BAD", text)


async def _connections(connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings) -> Finding:
    allowed = int(await connection.fetchval("SHOW max_connections"))
    reserved = int(await connection.fetchval("SHOW superuser_reserved_connections"))
    needed = settings.workers * (settings.pool_size * 2 + 1 + QUEUE_POOL) + OTHER_CONNECTIONS
    if needed > allowed - reserved:
        text = (
            f"{settings.workers} workers may want {needed} connections (two pools of {settings.pool_size}, one of {QUEUE_POOL} and one connection each, and "
            f"{OTHER_CONNECTIONS} others), Postgres allows {allowed - reserved}. Raise max_connections, or lower DISPATCH_POOL_SIZE"
        )
        return Finding("connections", "BAD", text)
    return Finding("connections", "ok", f"{needed} at most, of {allowed - reserved}")


async def _redis(url: str) -> AsyncIterator[Finding]:
    if (trouble := await redis_trouble(url)) is not None:
        yield Finding("redis", "BAD", trouble)
        return
    for node in addresses(url):
        async for finding in _redis_node(node):
            yield finding


async def _redis_node(url: str) -> AsyncIterator[Finding]:
    client = redis.from_url(url, socket_timeout=CONNECT_TIMEOUT_S, decode_responses=True)
    try:
        info = await client.info("server")
        name = "Valkey" if "valkey_version" in info else "Redis"
        yield Finding("redis", "ok", f"{name} {info.get('valkey_version', info['redis_version'])} at {clean_text(url)}")
        policy = (await client.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            yield Finding(
                "redis",
                "note",
                f"maxmemory-policy is {policy}: under pressure providers vanish from the map; use noeviction",
            )
    except RedisError as error:
        # Hosted ones refuse INFO or CONFIG; what we need of them was seen to be there.
        yield Finding("redis", "note", f"it does not tell about itself ({error})")
    finally:
        await client.aclose()


def listing(settings: Settings | None) -> list[str]:
    """Every setting with its value (None: its default) and meaning; secrets hidden."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = field.default if settings is None else getattr(settings, name)
        hidden = isinstance(value, SecretStr) or (
            isinstance(value, list) and any(isinstance(one, SecretStr) for one in value)
        )
        shown = "***" if hidden and value else "" if value in (None, [], {}) else clean_text(str(value))
        lines.append(f"DISPATCH_{name.upper()}={shown}\n      {field.description}")
    return lines


async def report(settings: Settings, say: Callable[[str], None]) -> bool:
    """Say all findings; whether the server can run."""
    bad = 0
    async for finding in examine(settings):
        say(str(finding))
        bad += finding.verdict == "BAD"
    say("\nthe server can run here" if bad == 0 else f"\n{bad} thing{'s' if bad > 1 else ''} to put right")
    return bad == 0
