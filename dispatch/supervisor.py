"""N workers on one port: started, watched, started again when they die, drained when it is time.

The workers are processes of their own (spawn), each with its own event loop and its own listening socket on the shared port
(SO_REUSEPORT: the kernel spreads connections). A worker is known by its SLOT, 0 to N-1, which stays when the
process changes. Workers that lose their supervisor drain and end by themselves.
"""

import asyncio
import ctypes
import importlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from dispatch.kit import log as logs
from dispatch.kit import metrics
from dispatch.kit.clock import Clock, SystemClock

if TYPE_CHECKING:
    from dispatch.settings import Settings

WORKER_MAIN = "dispatch.app:worker_main"

DRAIN_GRACE_S = 20.0  # longer than a worker's own drain (settings.drain_s); what still runs then is killed
HURRY_GRACE_S = 1.0  # after a second signal
START_TIMEOUT_S = 60.0  # imports and first connections; a worker that does not listen by then is taken for dead
HEALTH_EVERY_S = 1.0
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.1, 5.0
CRASHES_MAX, CRASH_WINDOW_S = 5, 60.0
CRASHES_MAX_AT_START = 2  # a slot that never came up will hardly do so by trying
BACKLOG = 1024

log = structlog.get_logger("supervisor")


class WorkerMain(Protocol):
    """What runs in a worker. It calls `ready` once it listens on `port`, and returns after `stop` is set and it has drained."""

    def __call__(
        self, settings: "Settings", slot: int, port: int, ready: Callable[[], None], stop: asyncio.Event
    ) -> Awaitable[None]: ...


class PortUnavailable(Exception):
    """The address to listen on cannot be had. The message is for people."""


class Reservation:
    """A port held for the workers: bound and never listening, so that it stays ours while no worker lives."""

    def __init__(self, host: str, port: int) -> None:
        """Port 0 takes a free one. Raises PortUnavailable."""
        try:
            if port:
                # With SO_REUSEPORT a second server of the same user would be let in, and take half of the connections.
                _bound(host, port, reuse_port=False).close()
            self._socket = _bound(host, port, reuse_port=True)
        except OSError as error:
            why = error.strerror or str(error)
            raise PortUnavailable(
                f"Cannot listen on {host} port {port}: {why}. Choose another with --port or DISPATCH_PORT, or stop what listens there."
            ) from error
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


def listen(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """A listening socket on a port that other workers listen on too. Raises OSError."""
    made = _bound(host, port, reuse_port=True)
    made.listen(backlog)
    made.setblocking(False)
    return made


def _bound(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


@dataclass(slots=True)
class _Worker:
    slot: int
    process: BaseProcess
    control: Connection  # it says "ready" through it, and sees us die by its end
    ready: bool = False


class Supervisor:
    """One run of a server's workers."""

    def __init__(
        self,
        settings: "Settings",
        *,
        worker: str = WORKER_MAIN,
        announce: Callable[[str], None] = print,
        health: Callable[[], str | None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        """`worker` names a WorkerMain as module:function. `announce` gets the line that says all workers listen. `health` is
        asked every second for a reason to give up, such as an embedded store that died.
        """
        self._settings = settings
        self._worker_name = worker
        self._announce = announce
        self._health = health
        self._clock = clock or SystemClock()
        self._stopping = asyncio.Event()
        self._workers: dict[int, _Worker] = {}
        self._announced = False
        self._killed = False
        self._failure: str | None = None
        self._metrics = Path(tempfile.gettempdir())

    def stop(self) -> None:
        """Drain: workers get SIGTERM and DRAIN_GRACE_S. Called again, they get HURRY_GRACE_S."""
        grace_s = HURRY_GRACE_S if self._stopping.is_set() else DRAIN_GRACE_S
        self._stopping.set()
        for worker in self._workers.values():
            _signal(worker, signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace_s, self._kill_all)
        log.info("draining", workers=len(self._workers), grace_s=grace_s)

    async def run(self) -> str | None:
        """Serve until `stop`. Returns None after an orderly end, else a sentence about what went wrong.

        Raises PortUnavailable. Must run in the main thread: workers die with the thread that started them.
        """
        reservation = Reservation(self._settings.host, self._settings.port)
        self._metrics = _metrics_folder()
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch_health())
                async with asyncio.TaskGroup() as slots:
                    for slot in range(self._settings.workers):
                        slots.create_task(self._keep(slot, reservation))
                watch.cancel()
        finally:
            self._kill_all()
            reservation.close()
            shutil.rmtree(self._metrics, ignore_errors=True)
            reap_tracker()
        if self._failure is None and self._killed:
            return "Some workers did not drain in time and were killed."
        return self._failure

    async def _keep(self, slot: int, reservation: Reservation) -> None:
        """Keep one slot served."""
        crashes: deque[float] = deque(maxlen=CRASHES_MAX)
        ever_ready = False
        while not self._stopping.is_set():
            worker = self._start(slot, reservation)
            code = await self._ended(worker, reservation)
            ever_ready |= worker.ready
            metrics.forget_slot(slot, self._metrics)
            if self._stopping.is_set():
                self._killed |= code == -signal.SIGKILL
                return
            if code == 0:
                # It ends in order only when somebody told it to (see `_worker`): workers are replaced one by one. No crash.
                log.info("worker ended as told; starting another", worker=slot)
                await self._pause(BACKOFF_S_MIN)
                continue
            now = self._clock.monotonic()
            crashes.append(now)
            log.error("worker died", worker=slot, exit_code=code, was_ready=worker.ready)
            recent = sum(now - crash < CRASH_WINDOW_S for crash in crashes)
            if recent >= (CRASHES_MAX if ever_ready else CRASHES_MAX_AT_START):
                self._give_up(
                    f"Worker {slot} died {recent} times in a row, the last time with exit code {code}; its log says why."
                )
                return
            await self._pause(min(BACKOFF_S_MIN * 2**recent, BACKOFF_S_MAX))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until the stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _start(self, slot: int, reservation: Reservation) -> _Worker:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(
            target=run_worker,
            args=(self._worker_name, self._settings, slot, reservation.port, self._metrics, os.getpid(), theirs),
            name=f"dispatch-worker-{slot}",
        )
        # The child starts with both signals blocked and opens itself to them when it has handlers: Ctrl-C reaches the
        # whole group, also a worker that is still importing. The tracker process is started before, as it unblocks them.
        multiprocessing.resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        theirs.close()
        worker = self._workers[slot] = _Worker(slot, process, ours)
        log.info("worker started", worker=slot, pid=process.pid)
        return worker

    async def _ended(self, worker: _Worker, reservation: Reservation) -> int:
        """Wait for a worker's end; its exit code, negative for a signal."""
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()

        def hear() -> None:
            loop.remove_reader(worker.control.fileno())
            with suppress(EOFError, OSError):
                worker.ready = worker.control.recv_bytes() == b"ready"
                self._maybe_announce(reservation)

        def too_late() -> None:
            if not worker.ready:
                log.error("worker does not get ready", worker=worker.slot, after_s=START_TIMEOUT_S)
                _signal(worker, signal.SIGKILL)

        loop.add_reader(worker.control.fileno(), hear)
        loop.add_reader(worker.process.sentinel, gone.set)
        deadline = loop.call_later(START_TIMEOUT_S, too_late)
        if self._stopping.is_set():  # the stop came while it was being started
            _signal(worker, signal.SIGTERM)
        try:
            await gone.wait()
        finally:
            deadline.cancel()
            loop.remove_reader(worker.process.sentinel)
            loop.remove_reader(worker.control.fileno())
            worker.control.close()
        worker.process.join()
        self._workers.pop(worker.slot, None)
        code = worker.process.exitcode
        return -1 if code is None else code

    def _maybe_announce(self, reservation: Reservation) -> None:
        total = self._settings.workers
        if self._announced or self._stopping.is_set() or sum(worker.ready for worker in self._workers.values()) < total:
            return
        self._announced = True
        host = f"[{reservation.host}]" if ":" in reservation.host else reservation.host
        self._announce(f"ready: http://{host}:{reservation.port} ({total} worker{'s' if total != 1 else ''})")

    async def _watch_health(self) -> None:
        while True:
            await self._clock.sleep(HEALTH_EVERY_S)
            if not self._stopping.is_set() and (reason := self._health()) is not None:
                self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        log.error("giving up", reason=reason)
        if self._failure is None:
            self._failure = reason
        if not self._stopping.is_set():
            self.stop()

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            _signal(worker, signal.SIGKILL)


def _metrics_folder() -> Path:
    """An empty folder for the workers' numbers. Those of supervisors that were killed are removed."""
    place = Path(tempfile.gettempdir())
    for old in place.glob("dispatch-metrics-*-*"):
        pid = old.name.split("-")[2]
        if pid.isdigit() and old.lstat().st_uid == os.getuid() and not _exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"dispatch-metrics-{os.getpid()}-", dir=place))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def reap_tracker() -> None:
    """End multiprocessing's tracker and wait for it: else it outlives us by a moment, as somebody else's zombie."""
    stop = getattr(multiprocessing.resource_tracker._resource_tracker, "_stop", None)
    if stop is not None:
        with suppress(ChildProcessError, OSError):
            stop()


def _signal(worker: _Worker, number: signal.Signals) -> None:
    if worker.process.is_alive() and worker.process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(worker.process.pid, number)


def run_worker(
    name: str, settings: "Settings", slot: int, port: int, metrics_folder: Path, parent: int, control: Connection
) -> None:
    """The main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's: it says SIGTERM when it has heard it
    _drain_with_parent(parent)
    metrics.use_slot(slot, metrics_folder)
    logs.configure(settings.log_level, slot=slot)
    module, _, function = name.partition(":")
    main: WorkerMain = getattr(importlib.import_module(module), function)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_worker(main, settings, slot, port, control))


async def _worker(main: WorkerMain, settings: "Settings", slot: int, port: int, control: Connection) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def orphaned() -> None:
        loop.remove_reader(control.fileno())
        stop.set()
        loop.call_later(DRAIN_GRACE_S, os._exit, 1)  # nobody is left to kill us

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    loop.add_reader(control.fileno(), orphaned)  # it never speaks to us: readable means closed

    def ready() -> None:
        with suppress(OSError):
            control.send_bytes(b"ready")

    await main(settings, slot, port, ready, stop)
    if not stop.is_set():
        raise RuntimeError("the worker ended without being asked to")


def _drain_with_parent(parent: int) -> None:
    """On Linux the kernel tells us at once when the supervisor dies; elsewhere the closed pipe does."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: slower, the same otherwise
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
