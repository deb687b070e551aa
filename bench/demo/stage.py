"""The real server with its stores, its people and its tokens, started for one run and gone after it.

Nothing is imported from the server and called here: it is started as an operator would, by its command line
and its environment, so what the run measures is what ships. The stores are the embedded ones on a folder that
is removed at the end.
"""

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from dispatch.kit.embedded import stores

READY = re.compile(r"ready: (http://\S+)")
PASSWORD = re.compile(r"^password: (\S+)$", re.MULTILINE)
# Migrating, seeding and starting take a second or two; a loaded machine gets a minute.
STEP_TIMEOUT_S = 60.0
# The server drains first; after this it is killed.
STOP_TIMEOUT_S = 30.0
LOG_TAIL_LINES = 15
REMOVE_TRIES = 60
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StageError(RuntimeError):
    """The server could not be brought up. The message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Person:
    """One seeded user."""

    user_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a run needs to know about what was started."""

    url: str
    database_url: str
    redis_url: str
    providers: tuple[Person, ...]
    customers: tuple[Person, ...]
    admin_password: str | None
    server_pid: int
    folder: Path
    stamp_file: Path
    versions: dict[str, str]

    def server_log(self) -> str:
        """The end of what the server wrote."""
        return tail_of(self.folder / "server.log")

    @property
    def mail(self) -> Path:
        """The folder of the mails that the server sent."""
        return self.folder / "server" / "mail"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to start. `overrides` are the settings of markets that differ from their files; `admin` is the address of
    an admin to make, who then may ask as often as he likes. `settings` are of the server, by their names in the environment.
    """

    market: str
    providers: int
    customers: int
    workers: int
    overrides: Mapping[str, Mapping[str, object]]
    admin: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def stage(wanted: Wanted, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Stores, migration, people, server, in this order; all of it stopped and removed on leaving, however that happens.

    Raises StageError, and EmbeddedError when there is no Postgres or Valkey to be found.
    """
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="dispatch-"))
        stack.push_async_callback(_remove, folder)
        running = await stack.enter_async_context(stores(folder / "stores", echo=say))
        stamp_file = folder / "stamps"
        environment = environment_of(wanted, running.database_url, running.redis_url, stamp_file)
        await run_command(["migrate"], environment, folder)
        tokens = folder / "tokens"
        people = ["--market", wanted.market, "--providers", str(wanted.providers), "--customers", str(wanted.customers)]
        # A hundred thousand people with their papers take some minutes.
        timeout_s = STEP_TIMEOUT_S + (wanted.providers + wanted.customers) / 300
        await run_command(["seed", *people, "--tokens", str(tokens)], environment, folder, timeout_s)
        providers, customers = read_tokens(tokens)
        say(f"seeded {f'{len(providers)} providers and ' if providers else ''}{len(customers)} customers")
        password = None if wanted.admin is None else await _admin(wanted.admin, environment, folder)
        process, url = await _serve(stack, wanted.workers, environment, folder)
        say(f"server ready on {url} with {wanted.workers} workers")
        yield Stage(
            url=url,
            database_url=running.database_url,
            redis_url=running.redis_url,
            providers=providers,
            customers=customers,
            admin_password=password,
            server_pid=process.pid,
            folder=folder,
            stamp_file=stamp_file,
            versions={str(kind): version for kind, version in running.versions.items()},
        )


async def _remove(folder: Path) -> None:
    """Remove the folder. What was killed while it wrote may write for a moment longer, so not on the first try only."""
    for _ in range(REMOVE_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        await asyncio.sleep(0.05)


def environment_of(wanted: Wanted, database_url: str, redis_url: str, stamp_file: Path) -> dict[str, str]:
    """Ours, without any setting of another server that may be lying around in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DISPATCH_") and name not in ("DATABASE_URL", "REDIS_URL")
    }
    # One person does in seconds what an office does in weeks.
    office = {} if wanted.admin is None else {"DISPATCH_USER_RATE": "1000", "DISPATCH_USER_BURST": "1000"}
    return kept | {
        **office,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DISPATCH_MARKETS": orjson.dumps({code: dict(keys) for code, keys in wanted.overrides.items()}).decode(),
        # Hundreds of phones behind one address: ours.
        "DISPATCH_ADDRESS_RATE": "0",
        "DISPATCH_SENDS_PER_ADDRESS": "0",
        "DISPATCH_ATTEMPTS_PER_ADDRESS": "0",
        "DISPATCH_MAIL_BY": "folder",
        "DISPATCH_STAMP_FILE": str(stamp_file),
        "DISPATCH_LOG_LEVEL": "warning",
        # Nobody is left to come back when we stop.
        "DISPATCH_DRAIN_S": "0",
        "PYTHONUNBUFFERED": "1",
        **wanted.settings,
    }


async def _admin(email: str, environment: dict[str, str], folder: Path) -> str:
    """Make an admin as an operator makes the first one; his password."""
    await run_command(["admin", "--email", email], environment, folder)
    log = folder / "admin.log"
    if found := PASSWORD.search(log.read_text(encoding="utf-8")):
        return found.group(1)
    raise StageError(f"dispatch admin said no password:\n{tail_of(log)}")


async def run_command(
    arguments: list[str], environment: dict[str, str], folder: Path, timeout_s: float = STEP_TIMEOUT_S
) -> None:
    """One `dispatch` command to its end. Raises StageError with what it said."""
    log = folder / f"{arguments[0]}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dispatch", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_us,
        )
    try:
        async with asyncio.timeout(timeout_s):
            code = await process.wait()
    except TimeoutError:
        raise StageError(f"dispatch {arguments[0]} took over {timeout_s:.0f} s:\n{tail_of(log)}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise StageError(f"dispatch {arguments[0]} ended with exit code {code}:\n{tail_of(log)}")


async def _serve(
    stack: AsyncExitStack, workers: int, environment: dict[str, str], folder: Path
) -> tuple[asyncio.subprocess.Process, str]:
    """Start the server, to be stopped by `stack`, and wait until it says where it listens."""
    command = [sys.executable, "-m", "dispatch", "serve", "--workers", str(workers), "--port", "0"]
    return await started(stack, [*command, "--data", str(folder / "server")], environment, folder / "server.log")


async def started(
    stack: AsyncExitStack, command: Sequence[str], environment: Mapping[str, str], log: Path
) -> tuple[asyncio.subprocess.Process, str]:
    """A server's process and its address, once it has said `ready: http://…`; to be stopped by `stack`. Raises StageError."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            env=environment,
            # Ctrl-C reaches the whole foreground group; the server is stopped by us, after its clients.
            start_new_session=True,
            preexec_fn=end_with_us,
        )
    stack.push_async_callback(_stop, process)
    assert process.stdout is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            async for line in process.stdout:
                said.append(line.decode(errors="replace"))
                if found := READY.search(said[-1]):
                    return process, found.group(1)
    except TimeoutError:
        pass
    raise StageError(f"the server did not become ready:\n{''.join(said[-LOG_TAIL_LINES:])}{tail_of(log)}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask it to stop, and kill it if it does not; its workers end with it."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            # Its stdout is a pipe: read it out, or a chatty end would never come.
            assert process.stdout is not None
            await process.stdout.read()
            await process.wait()
    except TimeoutError:
        pass
    finally:
        # Also when we are cancelled while waiting. The group is its own (start_new_session), so this reaches its
        # workers and nobody else.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def end_with_us() -> None:
    """In the child, before it becomes another program: end when we are killed, so that nothing is left running."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def read_tokens(file: Path) -> tuple[tuple[Person, ...], tuple[Person, ...]]:
    """Providers and customers out of the seed's `role<TAB>user_id<TAB>token` lines."""
    people: dict[str, list[Person]] = {"provider": [], "customer": []}
    for line in file.read_text(encoding="utf-8").splitlines():
        role, user_id, token = line.split("\t")
        people.setdefault(role, []).append(Person(user_id, token))
    return tuple(people["provider"]), tuple(people["customer"])


def descendants(pid: int, parents: Mapping[int, int]) -> set[int]:
    """All processes below `pid`, itself included, by each process's parent."""
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    return found


def cpu_s(pid: int) -> float | None:
    """User and system seconds that `pid` and all processes below it have used. None where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return None
    stats = {int(path.name): stat for path in Path("/proc").glob("[0-9]*") if (stat := _stat(path)) is not None}
    family = descendants(pid, {child: int(stat[1]) for child, stat in stats.items()})
    # Fields 14 to 17 of proc(5): own user and system ticks, then those of children that ended and were waited for.
    ticks = sum(int(field) for child in family if child in stats for field in stats[child][11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(path: Path) -> list[str] | None:
    """Field 3 on of /proc/PID/stat; the name before it may hold anything, its closing bracket is the last one."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def tail_of(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(lines[-LOG_TAIL_LINES:]) or "(it wrote nothing)"
