"""Worker mains for the supervisor's tests: what a worker can do to its supervisor, without the server."""

import asyncio
import os
import signal
from collections.abc import Callable

from dispatch.settings import Settings
from dispatch.supervisor import listen


async def echo(settings: Settings, slot: int, port: int, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Tells each client its slot and pid, then obeys one word: die, or bye."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{slot} {os.getpid()}\n".encode())
        if await reader.readline() == b"die\n":
            os.kill(os.getpid(), signal.SIGKILL)
        writer.close()

    server = await asyncio.start_server(talk, sock=listen(settings.host, port))
    ready()
    await stop.wait()
    server.close()


async def broken(settings: Settings, slot: int, port: int, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Cannot start."""
    raise ValueError("no such thing")


async def deaf(settings: Settings, slot: int, port: int, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Gets ready and never stops by itself."""
    ready()
    await asyncio.Event().wait()


async def fickle(settings: Settings, slot: int, port: int, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Gets ready and dies, again and again."""
    ready()
    raise ValueError("changed my mind")
