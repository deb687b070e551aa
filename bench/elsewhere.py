"""A server that somebody else has started: reach it, and make people on it.

Their tokens are signed with the server's own key, which comes from the environment as the server reads it. With a DATABASE_URL there
the people are seeded, which takes seconds; else they come by the open doors: each signs up with a token of ours, registers, hands
in his papers, and an admin of ours approves him. They stay behind.
"""

import argparse
import asyncio
import base64
import hmac
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aiohttp
import redis.asyncio as aioredis

from bench.demo.hiring import PAPERS, PAPERS_GOOD_FOR, scan
from bench.demo.stage import Person, StageError, read_tokens, run_command
from bench.figures import SECRETS
from bench.progress import bar, say
from bench.server import Target, Unreachable, listeners, postgres_pid, redis_pid, server
from dispatch.accounts import mint
from dispatch.kit.ids import new_word
from dispatch.settings import BadSettings, Settings, load
from protocol.client import Http
from protocol.errors import Denied, ErrorCode
from protocol.lifecycle import AdminAction, ServiceType
from protocol.papers import NEEDS_EXPIRY, ReviewAction

MARKET: Final = "bkk"
"""Where all loads drive."""
TOKENS_FOR_S: Final = 24 * 3600
AT_A_TIME: Final = 16
PATIENCE_S: Final = 120.0
"""Of those who sign up: a server that lets in so many a second from one address tells the others to wait."""
NUMBERS: Final = 5
"""Phone numbers that are tried for one provider: there are few of them, and earlier runs have left theirs."""
REACH_WITHIN_S: Final = 5.0
_LOCAL: Final = ("127.0.0.1", "localhost", "::1")


@asynccontextmanager
async def target(
    shown: argparse.Namespace,
    *,
    providers: int,
    customers: int,
    market_overrides: Mapping[str, object],
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Target]:
    """The server that the options name, or one of our own with these settings; with people. Raises StageError, EmbeddedError,
    Unreachable.
    """
    if shown.url is not None:
        async with elsewhere(shown.url, providers=providers, customers=customers, say=say) as there:
            yield there
        return
    async with server(
        market=MARKET, providers=providers, customers=customers, workers=shown.workers, market_overrides=market_overrides, say=say,
        settings=settings,
    ) as running:  # fmt: skip
        yield running


@asynccontextmanager
async def elsewhere(url: str, *, providers: int, customers: int, say: Callable[[str], None]) -> AsyncIterator[Target]:
    """The server at `url`, with people. Raises Unreachable."""
    base = checked(url)
    try:
        settings = load()
    except BadSettings as error:
        raise Unreachable(f"the environment's settings cannot be used: {error}") from error
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        await ready(http, base)
        await key_fits(http, base, settings)
        if settings.database_url is None:
            say(f"making {providers} providers over HTTP; with DATABASE_URL set it takes seconds")
            drivers = tuple(await signed_up(http, base, settings, providers))
            riders = tuple(person(settings, ["customer"]) for _ in range(customers))
        else:
            drivers, riders = await seeded(http, base, providers, customers)
        redis = None
        if settings.redis_url is not None:
            redis = await stack.enter_async_context(aioredis.Redis.from_url(settings.redis_url))
        yield Target(
            url=base,
            providers=drivers,
            customers=riders,
            versions={},
            http=http,
            redis=redis,
            redis_pid=None if redis is None or not here(settings.redis_url) else await redis_pid(redis),
            postgres_pid=None if not here(settings.database_url) else await postgres_pid(settings.database_url or ""),
            stamp_file=settings.stamp_file,
            listeners=listeners(urlsplit(base).port or 80) if here(base) else (),
        )


def here(url: str | None) -> bool:
    """Whether a store with this address runs on this machine, where its process can be seen."""
    return url is not None and (urlsplit(url).hostname or _LOCAL[0]) in _LOCAL


def checked(url: str) -> str:
    """The address without a path. Raises Unreachable when it is none."""
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        found, port = urlsplit(""), None
    if found.scheme != "http" or not found.hostname or found.path not in ("", "/"):
        raise Unreachable(
            f"--url {url!r} is no address of a server: give it as http://host:port, without a path. TLS is not spoken here:"
            " measure the server itself, not the proxy in front of it"
        )
    return f"http://{found.hostname}:{port or 80}"


async def ready(http: aiohttp.ClientSession, url: str) -> None:
    """Raises Unreachable unless a dispatch server says that it is ready."""
    try:
        async with http.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(total=REACH_WITHIN_S)) as answer:
            status, text = answer.status, (await answer.text())[:200]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unreachable(
            f"nobody answers at {url} ({error or type(error).__name__}): start the server, or look at the port it listens on"
        ) from error
    if status == 503:
        raise Unreachable(
            f"the server at {url} is not ready: {text}. See its log, and try again when /readyz says ready"
        )
    if status != 200 or '"status"' not in text:
        raise Unreachable(
            f"what answers at {url} is no dispatch server: /readyz says {status} {text!r}. Look at the port"
        )


async def key_fits(http: aiohttp.ClientSession, url: str, settings: Settings) -> None:
    """Raises Unreachable when the server does not take our tokens."""
    try:
        await Http(url, person(settings, ["customer"]).token, session=http, locale="en", patience_s=10.0).me()
    except Denied as no:
        if no.status == 401:
            raise Unreachable(
                f"the server at {url} does not take tokens signed with the key of the environment ({no}): set {SECRETS}"
                " (and DISPATCH_JWT_ISSUER, _AUDIENCE, _ROLES_CLAIM if they are set there) as the server has them"
            ) from no
        raise Unreachable(f"the server at {url} refuses a customer of ours: {no}") from no


def person(settings: Settings, roles: Sequence[str]) -> Person:
    """Somebody new; the server makes him when he first comes."""
    user = uuid4()
    token = mint(
        user,
        roles,
        secret=settings.jwt_secrets[0].get_secret_value(),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        roles_claim=settings.jwt_roles_claim,
        at=datetime.now(UTC).replace(microsecond=0),
        ttl_s=TOKENS_FOR_S,
    )
    return Person(str(user), token)


def link_token(key: bytes, handle: UUID) -> str:
    """What the mail to a new provider's address carries: who holds the server's key need not read it. As `dispatch.accounts` makes it;
    the test that signs somebody up holds the two together.
    """
    digest = hmac.digest(key, b"link\0" + handle.bytes, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def seeded(
    http: aiohttp.ClientSession, url: str, providers: int, customers: int
) -> tuple[tuple[Person, ...], tuple[Person, ...]]:
    """Everybody by `dispatch seed`. Raises Unreachable when they are unknown to the server afterwards."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as name:
        folder = Path(name)
        tokens = folder / "tokens"
        counts = ["--providers", str(max(1, providers)), "--customers", str(customers)]
        try:
            # The market of a seeded provider is where he is: any of the server's will do.
            command = ["seed", "--market", MARKET, *counts, "--tokens", str(tokens)]
            await run_command(command, dict(os.environ), folder, PATIENCE_S + (providers + customers) / 300)
        except StageError as error:
            raise Unreachable(f"no people could be made in DATABASE_URL: {error}") from error
        drivers, riders = read_tokens(tokens)
    try:
        await Http(url, drivers[0].token, session=http, locale="en").provider()
    except Denied as no:
        raise Unreachable(
            f"whom `dispatch seed` made is unknown at {url} ({no.code}): DATABASE_URL is not the database of that server; set it so,"
            " or unset it, and people sign up instead"
        ) from no
    return drivers[:providers], riders


async def signed_up(http: aiohttp.ClientSession, url: str, settings: Settings, count: int) -> list[Person]:
    """Approved providers, by the API alone. Raises Unreachable."""
    run = new_word(6)
    people = [person(settings, ["customer"]) for _ in range(count)]
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(number: int) -> None:
        async with gate:
            await _approved(http, url, settings, people[number], f"{run}-{number}")
            advance(1)

    with bar("providers signing up", count) as advance:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(one(number))
        except ExceptionGroup as failures:
            denied, _ = failures.split(Denied)
            if denied is None:
                raise
            no = denied.exceptions[0]
            assert isinstance(no, Denied)
            raise Unreachable(
                f"the server at {url} refuses a provider of ours: {no} {no.details or ''}. With DATABASE_URL set people are seeded"
            ) from no
    return people


async def _approved(http: aiohttp.ClientSession, url: str, settings: Settings, who: Person, name: str) -> None:
    """One provider, from nothing to approved. Each has an admin of his own, or one would ask too often."""
    app = Http(url, who.token, session=http, locale="en", patience_s=PATIENCE_S)
    office = Http(url, person(settings, ["admin"]).token, session=http, locale="en", patience_s=PATIENCE_S)
    for last in (False,) * (NUMBERS - 1) + (True,):
        try:
            made = await app.register(
                first_name="Bench",
                last_name=name,
                email=f"{who.user_id}@bench.invalid",
                phone_number=f"+66{uuid4().int % 10**9:09d}",
                service_types=[ServiceType.RIDE],
            )
            break
        except Denied as no:
            if last or no.code != ErrorCode.PHONE_TAKEN:
                raise
    await app.account.verify_email(link_token(settings.link_key, UUID(made["verification_token"])))
    last_day = str((datetime.now(UTC) + PAPERS_GOOD_FOR).date())
    for kind in PAPERS:
        handed = await app.papers.upload(kind, scan(), expiry_date=last_day if kind in NEEDS_EXPIRY else None)
        await office.papers.review_document(handed["document_id"], ReviewAction.APPROVE)
    await office.provider_action(UUID(made["provider_id"]), AdminAction.APPROVE)
