"""A Valkey cluster on loopback, for a test or a measurement: primaries only, slots in even parts, nothing on disk."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from dispatch.kit.cluster import SLOTS
from dispatch.kit.embedded.binaries import EmbeddedError, find
from dispatch.kit.embedded.children import OURSELVES, Child, popen

READY_WITHIN_S: Final = 20.0
OPTIONS: Final = (
    *(
        "--bind",
        "127.0.0.1",
        "--daemonize",
        "no",
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxmemory-policy",
        "noeviction",
    ),
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
)


@dataclass(frozen=True, slots=True)
class Nodes:
    """A cluster that is ready. `url`: what REDIS_URL takes. `children` in the order of their slots."""

    url: str
    children: tuple[Child, ...]
    clients: tuple["aioredis.Redis", ...]

    def cpu_pids(self) -> list[int]:
        return [child.pid for child in self.children]

    async def move(self, slot: int, source: int, target: int) -> None:
        """Give an empty slot to another node, as an operator does who adds one; every node is told."""
        new = await _said(self.clients[target], "CLUSTER", "MYID")
        for number in (target, source, *(set(range(len(self.clients))) - {source, target})):
            await _said(self.clients[number], "CLUSTER", "SETSLOT", slot, "NODE", new)


@asynccontextmanager
async def cluster(folder: Path, nodes: int = 3) -> AsyncIterator[Nodes]:
    """`nodes` primaries from answering to stopped. Raises EmbeddedError."""
    server = find("valkey")
    async with AsyncExitStack() as stack:
        children, clients, addresses = [], [], []
        for number in range(nodes):
            home = folder / f"node-{number}"
            home.mkdir(parents=True)
            port, bus = _free_ports(2)
            own = ["--port", str(port), "--cluster-port", str(bus), "--dir", str(home)]
            child = _start([str(server.path), *OPTIONS, *own], home / "valkey.log")
            stack.push_async_callback(child.stop, print)
            client = aioredis.Redis(host="127.0.0.1", port=port)
            stack.push_async_callback(client.aclose)
            children.append(child)
            clients.append(client)
            addresses.append((port, bus))
        deadline = time.monotonic() + READY_WITHIN_S
        for child, client in zip(children, clients, strict=True):
            await _until(child, deadline, lambda client=client: client.ping())
        share = [round(SLOTS * number / nodes) for number in range(nodes + 1)]
        for number, client in enumerate(clients):
            await _said(client, "CLUSTER", "ADDSLOTSRANGE", share[number], share[number + 1] - 1)
            if number:
                await _said(client, "CLUSTER", "MEET", "127.0.0.1", *addresses[0])
        for child, client in zip(children, clients, strict=True):
            await _until(child, deadline, lambda client=client: _whole(client, nodes))
        url = ",".join(f"redis://127.0.0.1:{port}" for port, _ in addresses)
        yield Nodes(url, tuple(children), tuple(clients))


def _start(command: Sequence[str], log: Path) -> Child:
    # Whoever holds the lock of embedded stores may be found by it; nobody looks for these.
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        process = popen(command, as_=OURSELVES, log=log, lock_fd=nothing, death_signal=signal.SIGTERM)
    finally:
        os.close(nothing)
    return Child("valkey", process, log=log, stop_signal=signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


async def _said(client: "aioredis.Redis", *words: str | int) -> Any:
    return await cast("Any", client.execute_command(*words))


async def _whole(client: "aioredis.Redis", nodes: int) -> bool:
    """Whether this node knows all others and that every slot has its own."""
    info = await _said(client, "CLUSTER", "INFO")
    text = info.decode() if isinstance(info, bytes) else "\n".join(f"{key}:{value}" for key, value in info.items())
    return "cluster_state:ok" in text and f"cluster_known_nodes:{nodes}" in text


async def _until(child: Child, deadline: float, asked: Any) -> None:
    while True:
        if (code := child.exit_code()) is not None:
            raise EmbeddedError("valkey", f"it ended with exit code {code}. Its last words:\n{child.last_words()}")
        try:
            if await asked():
                return
        except (RedisError, OSError):
            pass
        if time.monotonic() > deadline:
            raise EmbeddedError(
                "valkey", f"no cluster within {READY_WITHIN_S:g} s. Its last words:\n{child.last_words()}"
            )
        await asyncio.sleep(0.02)
