"""An embedded Valkey, or Redis where only that is installed: start, readiness, stop."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from dispatch.kit.embedded.binaries import EmbeddedError, find
from dispatch.kit.embedded.children import OURSELVES, Child, Echo, popen
from dispatch.kit.embedded.folder import FileLock, Place

SOCKET = "valkey.sock"
DATABASES = 64  # a test takes one; the server uses number 0
ANSWER_TIMEOUT_S = 2.0

OPTIONS_ALWAYS = ["--port", "0", "--unixsocketperm", "700", "--databases", str(DATABASES), "--daemonize", "no"]
OPTIONS_ALWAYS += ["--maxmemory-policy", "noeviction", "--save", ""]
# One second of Redis may be lost: it is a copy, and rebuilt from Postgres.
OPTIONS_DURABLE = ["--appendonly", "yes", "--appendfsync", "everysec"]
OPTIONS_FAST = ["--appendonly", "no", "--enable-debug-command", "local"]


def url(sockets: Path) -> str:
    """The address of the server whose socket is in `sockets`; `?db=N` may follow."""
    return f"unix://{quote(str(sockets), safe='/')}/{SOCKET}"


async def version(sockets: Path) -> str | None:
    """The version of the server that answers there; None when none does or it is still loading its data."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(sockets / SOCKET))
            try:
                writer.write(b"INFO server\r\n")
                head = await reader.readline()
                if not head.startswith(b"$"):
                    return None
                text = (await reader.readexactly(int(head[1:]))).decode()
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None
    # Valkey calls itself redis_version:7.2.4 for old clients' sake; its own version is in another line.
    found = re.search(r"^valkey_version:(\S+)", text, re.MULTILINE) or re.search(
        r"^redis_version:(\S+)", text, re.MULTILINE
    )
    return found[1] if found else None


@asynccontextmanager
async def running(
    place: Place, lock: FileLock, *, fast: bool, timeout_s: float, echo: Echo
) -> AsyncIterator[tuple[Child, str]]:
    """A Valkey on `folder/valkey<major>`, from answering to stopped: (child, version).

    `lock` must be ours; it is passed on to the server. Runs as root unchanged. Raises EmbeddedError.
    """
    folder, sockets = place.folder, place.sockets
    server = find("valkey")
    data = folder / server.data_name
    data.mkdir(mode=0o700, exist_ok=True)
    log = folder / "valkey.log"
    (sockets / SOCKET).unlink(missing_ok=True)
    options = [*OPTIONS_ALWAYS, *(OPTIONS_FAST if fast else OPTIONS_DURABLE)]
    options += ["--dir", str(data), "--unixsocket", str(sockets / SOCKET)]
    process = popen([str(server.path), *options], as_=OURSELVES, log=log, lock_fd=lock.fd, death_signal=signal.SIGTERM)
    child = Child("valkey", process, log=log, stop_signal=signal.SIGTERM)
    lock.close()
    try:
        deadline = time.monotonic() + timeout_s
        while await version(sockets) is None:
            if (code := child.exit_code()) is not None:
                raise EmbeddedError("valkey", f"it ended with exit code {code}. Its last words:\n{child.last_words()}")
            if time.monotonic() > deadline:
                why = f"it did not answer within {timeout_s:.0f} s"
                raise EmbeddedError("valkey", f"{why}. Its last words:\n{child.last_words()}")
            await asyncio.sleep(0.01)
        yield child, server.version
    finally:
        await child.stop(echo)
