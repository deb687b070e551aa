"""Everything that is started for a run: stores, workers, and a proxy on every link between them and their clients."""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bench.chaos.disk import Disk, NoDisk
from bench.chaos.stores import Build, Hurry, Judge, Say
from bench.chaos.workers import Worker
from bench.demo.stage import Person, StageError, read_tokens, run_command
from bench.faults.proxy import Proxy, Struck
from dispatch.kit.embedded import EmbeddedError

WATCH_S = 0.25
RESTART_AFTER_S = 1.0

MARKET = "bkk"
OVERRIDES: Mapping[str, object] = {
    # 3 to 8 offers a round: eight where there are so many, and everybody may hold several, so that rounds overlap.
    "wave_size": 8,
    "offers_at_once": 3,
    "offer_ttl_s": 8,
    "open_board": False,
    "redispatch": True,
    "research_s": 1.0,
    "lapse_cooldown_s": 1,
    "job_ttl_s": 120,
}

Prepare = Callable[[str], Awaitable[None]]


async def nothing(_: str) -> None:
    """No preparation."""


@dataclass(frozen=True, slots=True)
class Node:
    """A worker with its three links."""

    worker: Worker
    clients: Proxy
    redis: Proxy
    postgres: Proxy

    @property
    def links(self) -> tuple[Proxy, Proxy, Proxy]:
        return self.clients, self.redis, self.postgres

    @property
    def store_calls(self) -> int:
        """Statements of this worker that wait for their answer now."""
        return self.redis.in_flight + self.postgres.in_flight


@dataclass(slots=True)
class Cluster:
    """What runs."""

    folder: Path
    judge: Judge
    hurry: Hurry
    environment: dict[str, str]
    say: Say
    launch: Sequence[str]
    nodes: list[Node] = field(default_factory=list)
    providers: tuple[Person, ...] = ()
    customers: tuple[Person, ...] = ()
    disk: Disk | None = None
    no_disk: str = ""
    """Why there is none."""
    ended: list[str] = field(default_factory=list)
    """What was found dead without our doing, and started again."""
    broken: list[str] = field(default_factory=list)
    """Where the harness itself failed."""

    @property
    def links(self) -> list[Proxy]:
        return [link for node in self.nodes for link in node.links]

    async def run(self, *arguments: str) -> None:
        """A `dispatch` command to its end, past all proxies. Raises StageError."""
        await run_command(list(arguments), self.environment, self.folder, 120.0)

    async def watch(self) -> None:
        """Start again what has ended by itself, as a service manager does. Runs until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            for node in self.nodes:
                if node.worker.wanted and not node.worker.running:
                    self.ended.append(f"worker {node.worker.number}")
                    await asyncio.sleep(RESTART_AFTER_S)
                    if node.worker.wanted and not node.worker.running:
                        await node.worker.start()
            for name, store in (("postgres", self.judge), ("redis", self.hurry)):
                if store.wanted and not store.running and not store.turn.locked():
                    self.ended.append(name)
                    await asyncio.sleep(RESTART_AFTER_S)
                    if store.turn.locked():
                        continue  # a fault, which leaves it running: workers are not to wait for that
                    async with store.turn:
                        if store.wanted and not store.running:
                            try:
                                await store.start()
                            except (EmbeddedError, TimeoutError) as error:
                                self.say(f"{name} does not start yet: {error}")

    def watched(self, watch: "asyncio.Task[None]") -> None:
        """The watcher has ended; only a cancellation may end it."""
        if not watch.cancelled():
            self.broken.append(f"the harness itself failed: nobody starts again what ends: {watch.exception()!r}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment_of(database_url: str, redis_url: str, folder: Path, log_level: str = "warning") -> dict[str, str]:
    """Of the server's commands: ours, without any setting of another server that may be lying around in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DISPATCH_") and name not in ("DATABASE_URL", "REDIS_URL")
    }
    return kept | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DISPATCH_DATA_DIR": str(folder / "server"),
        "DISPATCH_MARKETS": orjson.dumps({MARKET: dict(OVERRIDES)}).decode(),
        # Hundreds of phones behind one address, and an office that does in minutes what takes weeks.
        "DISPATCH_ADDRESS_RATE": "0",
        "DISPATCH_SENDS_PER_ADDRESS": "0",
        "DISPATCH_ATTEMPTS_PER_ADDRESS": "0",
        "DISPATCH_USER_RATE": "1000",
        "DISPATCH_USER_BURST": "1000",
        "DISPATCH_WITHDRAWAL_MIN_MINOR": "1",
        "DISPATCH_PAYOUT_BY": "manual",
        "DISPATCH_MAIL_BY": "off",
        "DISPATCH_LOG_LEVEL": log_level,
        # Nobody is left to come back when we stop.
        "DISPATCH_DRAIN_S": "0",
        "PYTHONUNBUFFERED": "1",
    }


@asynccontextmanager
async def cluster(
    folder: Path,
    *,
    stores: Path,
    build: Build,
    workers: int,
    providers: int,
    customers: int,
    seed: int,
    say: Say,
    struck: Callable[[int, str], Struck],
    launch: Sequence[str] = (sys.executable, "-m", "dispatch"),
    prepare: Prepare = nothing,
) -> AsyncIterator[Cluster]:
    """Start it all; stopped on leaving, however that happens. `stores` is the stores' folder; `struck(worker, store)` hears of
    the statements that a fault met there. Raises StageError, EmbeddedError.
    """
    async with AsyncExitStack() as stack:
        disk, no_disk = None, ""
        try:
            disk = Disk.mounted(stores)
        except NoDisk as error:
            no_disk = str(error)
        judge, hurry = Judge(stores, folder, say), Hurry(stores, folder, build, say)
        stack.push_async_callback(hurry.leave)
        stack.push_async_callback(judge.leave)
        await judge.start()
        await hurry.start()
        environment = environment_of(judge.url, hurry.url, folder)
        made = Cluster(folder, judge, hurry, environment, say, launch, disk=disk, no_disk=no_disk)
        await made.run("migrate")
        await prepare(judge.url)
        tokens = folder / "tokens"
        await made.run(
            "seed", "--market", MARKET, "--providers", str(providers), "--customers", str(customers), "--tokens", str(tokens)
        )  # fmt: skip
        made.providers, made.customers = read_tokens(tokens)
        for number in range(workers):
            port = free_port()
            node = await _node(stack, number, port, made, seed * 1000 + number, struck)
            made.nodes.append(node)
            await node.worker.start()
        watch = asyncio.create_task(made.watch())
        watch.add_done_callback(made.watched)
        try:
            await asyncio.gather(*(node.worker.ready() for node in made.nodes))
            yield made
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            for store in (judge, hurry):
                if store.running:
                    store.go_on()
            await asyncio.gather(*(node.worker.leave() for node in made.nodes))
            for link in made.links:
                link.heal()


async def _node(
    stack: AsyncExitStack, number: int, port: int, made: Cluster, seed: int, struck: Callable[[int, str], Struck]
) -> Node:
    redis = await stack.enter_async_context(Proxy(made.hurry.url, seed=seed * 3, struck=struck(number, "redis")))
    postgres = await stack.enter_async_context(
        Proxy(made.judge.url, seed=seed * 3 + 1, struck=struck(number, "postgres"))
    )
    clients = await stack.enter_async_context(Proxy(f"http://127.0.0.1:{port}", seed=seed * 3 + 2))
    environment = made.environment | {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}
    worker = Worker(number, made.launch, port, environment, made.folder)
    stack.push_async_callback(worker.leave)
    return Node(worker, clients, redis, postgres)


@contextmanager
def run_folder(wanted: Path | None) -> Iterator[Path]:
    """The folder of one run: histories, logs, and where the stores are."""
    folder = wanted or Path(tempfile.mkdtemp(prefix="dispatch-chaos-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise StageError(f"{folder} is not empty: --keep wants a folder of its own for each run")
    yield folder
