"""The command line: serve | migrate | sweep | rotate-keys | token | admin | seed | doctor.

What is for programs goes to stdout (a token, the line that says ready), logs go to stderr. An operator's mistake is one
sentence and exit code 2. Modules that take long to import are imported by the command that needs them.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

if TYPE_CHECKING:
    from dispatch.settings import Settings

SEED_TOKEN_TTL_S = 24 * 3600  # load tests run for hours
INTERRUPTED = 130
OPERATOR_ERROR = 2

cli = typer.Typer(
    name="dispatch",
    help="A dispatch server: offers to the right providers within milliseconds, exactly one winner, nothing lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


ledger = typer.Typer(help="The books: whether they add up, and what somebody had at a moment.", no_args_is_help=True)
cli.add_typer(ledger, name="ledger")


class Role(StrEnum):
    """Roles a token may carry. Being a provider is not one: it is having a provider record."""

    CUSTOMER = "customer"
    PARTNER = "partner"
    SUPPORT = "support"
    ADMIN = "admin"


def main() -> None:
    """Run one command. Exit codes: 0 done, 1 failed, 2 the operator has to put something right, 130 interrupted."""
    from dispatch.kit import log
    from dispatch.settings import BadSettings
    from dispatch.start import Trouble
    from dispatch.supervisor import PortUnavailable

    # Until the settings are known; never to stdout.
    log.configure("warning")
    try:
        cli()
    except (BadSettings, Trouble, PortUnavailable) as error:
        print(f"dispatch: {error}", file=sys.stderr)
        raise SystemExit(OPERATOR_ERROR) from None
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


Data = Annotated[
    Path | None, typer.Option(help="Folder of the embedded stores.  [DISPATCH_DATA_DIR, .data]", show_default=False)
]


@cli.command()
def serve(
    workers: Annotated[
        int | None, typer.Option(help="Worker processes.  [DISPATCH_WORKERS, 2]", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port for HTTP and sockets; 0 takes a free one.  [DISPATCH_PORT, 8080]", show_default=False),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.  [DISPATCH_HOST, 127.0.0.1]", show_default=False)
    ] = None,
    data: Data = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM; migrates first. Embedded stores unless DATABASE_URL and REDIS_URL say others."""
    settings = _settings(workers=workers, port=port, host=host, data_dir=data)
    _check_markets(settings)
    _run(_serve(settings))


async def _serve(settings: "Settings") -> int:
    import structlog

    from dispatch.doctor import payout_troubles, unreachable_links
    from dispatch.start import Trouble, migrated, on_loopback, postgres_trouble, redis_trouble, with_stores
    from dispatch.supervisor import Reservation, Supervisor

    log = structlog.get_logger("serve")
    # Tell at once what can be told before stores are started.
    await _check_channels(settings)
    if settings.port:
        Reservation(settings.host, settings.port).close()
    if settings.development_secret and not on_loopback(settings.host):
        log.warning("tokens are signed with the published secret: anybody can make himself admin", host=settings.host)
    if trouble := unreachable_links(settings):
        log.warning(trouble)
    if not on_loopback(settings.host):
        for trouble in payout_troubles(settings):
            log.warning(trouble)
    if settings.database_url and (trouble := await postgres_trouble(settings.database_url)):
        raise Trouble(trouble)
    on_signal: list[Callable[[], object]] = [_cancel_current()]
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: on_signal[-1]())
    async with with_stores(settings, _say) as (found, failed):
        assert found.database_url is not None
        assert found.redis_url is not None
        for name in await migrated(found.database_url):
            _say(f"migrated: {name}")
        if trouble := await redis_trouble(found.redis_url):
            log.warning("starting degraded", reason=trouble)
        supervisor = Supervisor(found, announce=_say, health=failed)
        on_signal.append(supervisor.stop)
        try:
            trouble = await supervisor.run()
        finally:
            on_signal.append(lambda: None)  # what is left is stopping the stores, which must not be cut short
    if trouble is not None:
        print(f"dispatch: {trouble}", file=sys.stderr)
        return 1
    return 0


async def _check_channels(settings: "Settings") -> None:
    """A key or an account that no door can be made of is told here instead of by workers that die."""
    from dispatch.kit.clock import SystemClock
    from dispatch.notifications import doors_of
    from dispatch.start import Trouble

    try:
        doors = doors_of(settings, SystemClock())
    except (ValueError, OSError) as error:
        raise Trouble(f"{error}. `dispatch doctor` looks at all settings.") from error
    for door in doors.values():
        await door.close()


@cli.command()
def migrate(data: Data = None) -> None:
    """Bring the database up to date."""
    settings = _settings(data_dir=data)
    _run(_migrate(settings))


async def _migrate(settings: "Settings") -> int:
    from dispatch.start import migrated, with_stores

    async with with_stores(settings, _say) as (found, _):
        assert found.database_url is not None
        applied = await migrated(found.database_url)
    _say(f"migrated: {', '.join(applied)}" if applied else "nothing to do: the database is up to date")
    return 0


@cli.command()
def sweep(data: Data = None) -> None:
    """Do now what servers do every ten minutes: warn of papers that end, suspend for those that have ended, remove left-over uploads."""
    settings = _settings(data_dir=data)
    _run(_sweep(settings))


async def _sweep(settings: "Settings") -> int:
    from dispatch.kit.objects import StorageUnavailable
    from dispatch.start import Trouble, migrated, with_stores
    from dispatch.sweep import papers_swept, uploads_swept

    async with with_stores(settings, _say) as (found, _):
        assert found.database_url is not None
        await migrated(found.database_url)
        done = await papers_swept(found)
        _say(f"documents: {done.warned} warned, {done.expired} expired")
        _say(f"providers: {done.suspended} suspended, {done.deferred} when their job has ended, {done.busy} busy")
        _say(f"providers: {done.restored} whose papers are in order again")
        _say(f"vehicles: {done.vehicles} suspended")
        try:
            _say(f"uploads: {await uploads_swept(found)} left-overs removed")
        except StorageUnavailable as error:
            raise Trouble(
                f"Left-over uploads stay where they are: {error}. Look at the DISPATCH_STORAGE_ settings."
            ) from error
    return 0


@cli.command()
def rotate_keys(data: Data = None) -> None:
    """Seal all bank account numbers with the newest of DISPATCH_BANK_KEYS, so that the older ones can be dropped."""
    _run(_rotate_keys(_settings(data_dir=data)))


async def _rotate_keys(settings: "Settings") -> int:
    from dispatch.start import migrated, with_stores
    from dispatch.wallets import rotate

    async with with_stores(settings, _say) as (found, _):
        assert found.database_url is not None
        await migrated(found.database_url)
        done = await rotate(found)
    _say(f"bank accounts: {done.sealed} sealed with the newest key")
    if done.unreadable:
        _say(
            f"bank accounts: {done.unreadable} that no key opens: set the key that they were sealed with, and run it again"
        )
    return 1 if done.unreadable else 0


@cli.command()
def token(
    user: Annotated[UUID, typer.Option(help="User id, a UUID. The user is created when the token is first used.")],
    role: Annotated[
        list[Role] | None, typer.Option(help="May be given several times.  [customer]", show_default=False)
    ] = None,
    ttl: Annotated[
        int | None,
        typer.Option(
            help="Seconds; a negative one gives an expired token.  [DISPATCH_TOKEN_TTL_S]", show_default=False
        ),
    ] = None,
) -> None:
    """Print a token, and nothing else."""
    settings = _settings()
    roles = [one.value for one in role or [Role.CUSTOMER]]
    print(_mint(settings, user, roles, settings.token_ttl_s if ttl is None else ttl))


def _mint(settings: "Settings", user: UUID, roles: list[str], ttl_s: int) -> str:
    from dispatch.accounts import mint
    from dispatch.kit.clock import SystemClock

    return mint(
        user,
        roles,
        secret=settings.jwt_secrets[0].get_secret_value(),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        roles_claim=settings.jwt_roles_claim,
        at=SystemClock().now().replace(microsecond=0),
        ttl_s=ttl_s,
    )


@cli.command()
def admin(
    email: Annotated[str, typer.Option(help="E-mail address of the user; he is made if there is none.")],
    data: Data = None,
) -> None:
    """Make a user an admin; prints, once, the new password of one who had to be made or whose address was not proved."""
    from dispatch.start import Trouble

    if not re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", email) or len(email) > 254:
        raise Trouble(f"--email {email!r} is no e-mail address; it looks like name@example.com.")
    _run(_admin(_settings(data_dir=data), email))


async def _admin(settings: "Settings", email: str) -> int:
    from dispatch.accounts import first_admin
    from dispatch.start import migrated, with_stores

    async with with_stores(settings, _say) as (found, _):
        assert found.database_url is not None
        await migrated(found.database_url)
        made = await first_admin(found, email)
    if made.existed and made.password is None:
        _say("promoted the existing account, whose address is proved: its own password still counts")
    elif made.existed:
        _say(
            "the account existed unproven, so anybody may have made it: its old password, sessions and tokens are void"
        )
    _say(f"{email} is an admin now (user {made.user_id})")
    if made.password is not None:
        _say(f"password: {made.password}")
    return 0


@cli.command()
def seed(
    market: Annotated[str, typer.Option(help="Code of the market, such as sf.")],
    providers: Annotated[int, typer.Option(min=0, help="Approved providers to make.")],
    customers: Annotated[int, typer.Option(min=0, help="Customers to make.")],
    tokens: Annotated[
        Path, typer.Option(help="File to write: role, user id and token, tab-separated, one user per line.")
    ],
    data: Data = None,
) -> None:
    """Make approved providers and customers with tokens, for load tests."""
    settings = _settings(data_dir=data)
    _check_markets(settings, market)
    _run(_seed(settings, market, providers, customers, tokens))


async def _seed(settings: "Settings", market: str, providers: int, customers: int, tokens: Path) -> int:
    from dispatch import providers as slice_of_providers
    from dispatch.start import Trouble, migrated, with_stores

    async with with_stores(settings, _say) as (found, _):
        assert found.database_url is not None
        await migrated(found.database_url)
        people = await slice_of_providers.seed(found, providers=providers, customers=customers)
    lines = [f"{role}\t{user}\t{_mint(settings, user, ['customer'], SEED_TOKEN_TTL_S)}\n" for role, user in people]
    try:
        _write_private(tokens, "".join(lines))
    except OSError as error:
        raise Trouble(f"Cannot write --tokens {tokens}: {error.strerror}.") from error
    _say(f"{providers} providers and {customers} customers in {market}; tokens in {tokens}")
    return 0


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read: tokens are keys."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


@ledger.command()
def reconcile(
    export: Annotated[
        Path | None,
        typer.Option(help="JSON lines of a bank or gateway: account, ref, currency, amount_minor.", show_default=False),
    ] = None,
    data: Data = None,
) -> None:
    """Compare all books with each other, and with an export if one is given; JSON lines. Exit: 0 clean, 1 differences, 2 not run."""
    _run(_reconcile(_settings(data_dir=data), export))


async def _reconcile(settings: "Settings", export: Path | None) -> int:
    from dispatch.books import BadExport, read_export, reconciled
    from dispatch.start import Trouble

    try:
        outside = None if export is None else read_export(export)
    except (BadExport, OSError) as error:
        raise Trouble(f"The export cannot be read: {error}.") from error
    async with _books(settings) as url:
        return await reconciled(url, _say, export=outside)


@ledger.command()
def statement(
    owner: Annotated[UUID, typer.Option(help="User id of the owner.")],
    at: Annotated[
        datetime | None,
        typer.Option(
            help="The moment, such as 2026-11-20T12:00:00+07:00; without a zone UTC.  [now]",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            show_default=False,
        ),
    ] = None,
    data: Data = None,
) -> None:
    """Print what somebody had at a moment, as JSON lines, out of the entries alone."""
    _run(_statement(_settings(data_dir=data), owner, at))


async def _statement(settings: "Settings", owner: UUID, at: datetime | None) -> int:
    from datetime import UTC

    from dispatch.books import stated
    from dispatch.kit.clock import SystemClock

    moment = SystemClock().now() if at is None else at if at.tzinfo else at.replace(tzinfo=UTC)
    async with _books(settings) as url:
        return await stated(url, _say, owner, moment, note=_tell)


@asynccontextmanager
async def _books(settings: "Settings") -> AsyncIterator[str]:
    """The address of a database that has books; nothing is migrated. What goes wrong on the way is an operator's trouble: exit code 2."""
    import asyncpg

    from dispatch.start import Trouble, postgres_trouble, with_stores

    async with with_stores(settings, _tell) as (found, _):
        assert found.database_url is not None
        if trouble := await postgres_trouble(found.database_url):
            raise Trouble(trouble)
        try:
            yield found.database_url
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError) as error:
            raise Trouble(f"There are no books here: {error}. `dispatch migrate` makes them.") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise Trouble(f"The books cannot be read: {error}.") from error


@cli.command()
def doctor(data: Data = None) -> None:
    """Check settings, stores, versions, migrations and clocks, and say in words what is wrong. Lists all settings."""
    from dispatch.doctor import Finding, listing, report
    from dispatch.settings import BadSettings

    try:
        settings = _settings(data_dir=data)
    except BadSettings as error:
        for line in listing(None):
            _say(line)
        _say(f"\n{Finding('settings', 'BAD', str(error))}")
        raise SystemExit(1) from None

    async def examine() -> int:
        return 0 if await report(settings, _say) else 1

    for line in listing(settings):
        _say(line)
    _say("")
    _run(examine())


def _settings(**given: Any) -> "Settings":
    from dispatch.kit import log
    from dispatch.settings import load

    settings = load(**{name: value for name, value in given.items() if value is not None})
    log.configure(settings.log_level)
    return settings


def _check_markets(settings: "Settings", code: str | None = None) -> None:
    """A mistake in a market is the operator's, and is told here instead of by workers that die."""
    from dispatch.markets import MarketConfigError, Markets
    from dispatch.start import Trouble

    try:
        markets = Markets.load(settings.markets)
    except MarketConfigError as error:
        raise Trouble(str(error)) from error
    if code is not None and code not in markets:
        raise Trouble(f"There is no market {code!r}; known: {', '.join(market.code for market in markets)}.")


def _run(work: Coroutine[Any, Any, int]) -> None:
    """Run a command to its exit code. Ctrl-C lets it clean up first."""
    try:
        code = asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("dispatch: interrupted", file=sys.stderr)
        code = INTERRUPTED
    raise SystemExit(code)


def _cancel_current() -> Callable[[], object]:
    task = asyncio.current_task()
    assert task is not None
    return task.cancel


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say(line: str) -> None:
    print(line, flush=True)
