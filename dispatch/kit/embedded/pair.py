"""Both servers on one folder: started, or joined where they already run."""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dispatch.kit.embedded import postgres, valkey
from dispatch.kit.embedded.binaries import EmbeddedError, Kind
from dispatch.kit.embedded.children import OURSELVES, POLL_S, Child, Echo, not_root
from dispatch.kit.embedded.folder import FileLock, settle

START_TIMEOUT_S = 30.0  # cold start takes 0.5 s; recovery after a crash on a loaded disk has no short bound
DATABASE = "dispatch"
ORPHAN_PATIENCE_S = (
    3.0  # where children do not die with their parent (macOS), a server without one is joined after this
)
RETRY_S = 0.05

_Ask = Callable[[Path], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the stores are. An address is "" for a store that was not wanted."""

    database_url: str
    redis_url: str
    started: tuple[Kind, ...]  # those that this call started and will stop; the others were running already
    versions: dict[Kind, str]
    children: dict[Kind, Child] = field(repr=False)

    def failed(self) -> str | None:
        """A sentence about a server of ours that has ended by itself; None while all run."""
        for child in self.children.values():
            if (code := child.exit_code()) is not None:
                return f"{child.name} ended with exit code {code}. Its last words:\n{child.last_words()}"
        return None


def _silence(_: str) -> None:
    pass


@asynccontextmanager
async def stores(
    folder: Path | None,
    *,
    want: Collection[Kind] = ("postgres", "valkey"),
    fast: bool = False,
    echo: Echo = _silence,
    timeout_s: float = START_TIMEOUT_S,
) -> AsyncIterator[Stores]:
    """The wanted stores, answering, with the database `dispatch` created; stopped on leaving.

    `folder` keeps data, sockets and logs; None means a temporary one that is removed afterwards. `fast` gives up
    durability for speed and belongs to tests. A store that already runs on the folder is joined and not stopped on
    leaving. `echo` is told in one line what is going on. Call it from a thread that stays: on Linux the servers die with
    the thread that started them. Cancelling is safe. Raises EmbeddedError, whose text is for people.
    """
    async with AsyncExitStack() as stack:
        if temporary := folder is None:
            folder = Path(tempfile.mkdtemp(prefix="dispatch-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            as_ = not_root()
        except LookupError as error:
            if "postgres" in want:
                raise EmbeddedError("postgres", f"{error}.") from error
            as_ = OURSELVES
        place = settle(folder, as_, temporary=temporary)
        folder, sockets = place.folder, place.sockets
        if temporary:
            stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        elif not sockets.is_relative_to(folder):
            stack.callback(_remove_if_empty, sockets)
        versions: dict[Kind, str] = {}
        children: dict[Kind, Child] = {}
        servers: dict[Kind, tuple[Callable[..., AbstractAsyncContextManager[tuple[Child, str]]], _Ask]] = {
            "postgres": (postgres.running, postgres.version),
            "valkey": (valkey.running, valkey.version),
        }
        for kind, (running, ask) in servers.items():
            if kind not in want:
                continue
            began = time.monotonic()
            lock, owner = FileLock(folder / f"{kind}.lock"), FileLock(folder / f"{kind}.owner")
            stack.callback(owner.close)
            stack.callback(lock.close)
            if (found := await _lock_or_join(kind, lock, owner, partial(ask, sockets), timeout_s)) is not None:
                versions[kind] = found
                echo(f"{kind} {found} already runs on {folder}: joined")
                continue
            child, versions[kind] = await stack.enter_async_context(
                running(place, lock, fast=fast, timeout_s=timeout_s, echo=echo)
            )
            children[kind] = child
            await _become_owner(owner)
            echo(f"{kind} {versions[kind]} answers after {time.monotonic() - began:.2f} s")
        if "postgres" in want:
            await postgres.create_database(sockets, DATABASE)
        yield Stores(
            database_url=postgres.url(sockets, DATABASE) if "postgres" in want else "",
            redis_url=valkey.url(sockets) if "valkey" in want else "",
            started=tuple(children),
            versions=versions,
            children=children,
        )


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


async def _lock_or_join(
    kind: Kind, lock: FileLock, owner: FileLock, ask: Callable[[], Awaitable[str | None]], timeout_s: float
) -> str | None:
    """Take `lock` (then None: the server is ours to start), or the version of the running server to join.

    A server whose owner is gone is about to die with it: we wait for its lock instead of joining it.
    """
    began = time.monotonic()
    while True:
        if lock.take():
            return None
        waited_s = time.monotonic() - began
        lasting = not owner.is_free() or (sys.platform != "linux" and waited_s > ORPHAN_PATIENCE_S)
        if lasting and (found := await ask()) is not None:
            return found
        if waited_s > timeout_s:
            why = f"another process holds {lock.path} and its server does not answer; find it with `fuser {lock.path}`."
            raise EmbeddedError(kind, why)
        await asyncio.sleep(RETRY_S)


async def _become_owner(owner: FileLock) -> None:
    """Show that the server's starter lives. Others look at this lock by taking it for an instant: hence the repeats."""
    for _ in range(100):
        if owner.take():
            return
        await asyncio.sleep(POLL_S)
