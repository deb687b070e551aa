"""One worker: `serve --workers 1` as an operator starts it, on a port of its own, whose supervisor revives it.

A supervisor that gives up (its stores were away for too long) is started again, as a service manager would.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.chaos.stores import family, send
from bench.demo.stage import StageError, end_with_us, tail_of

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 25.0
_SPAWNED = b"spawn_main"


class Worker:
    """One `serve` command with its one worker process."""

    def __init__(
        self, number: int, launch: Sequence[str], port: int, environment: Mapping[str, str], folder: Path
    ) -> None:
        self.number = number
        self.port = port
        self.wanted = False
        self.killed = self.killed_whole = 0
        """How often by us: the worker process alone, and with its supervisor."""
        self._launch = launch
        self._environment = dict(environment)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self._folder / f"worker-{self.number}.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The worker process itself, below its supervisor; None while there is none."""
        if self._process is None or self._process.returncode is not None:
            return None
        for child in family(self._process.pid)[1:]:
            with contextlib.suppress(OSError):
                if _SPAWNED in Path(f"/proc/{child}/cmdline").read_bytes():
                    return child
        return None

    async def start(self, prefix: Sequence[str] = ()) -> None:
        """Start the command, unless it runs; does not wait for it."""
        if self.running:
            return
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(*prefix, *self._launch, "serve", "--workers", "1", "--port", str(self.port)),
                *("--data", str(self._folder / f"worker-{self.number}")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
                preexec_fn=end_with_us,
            )
        self.wanted = True

    async def ready(self) -> None:
        """Wait until it lets connections in; a command that gave up meanwhile is started again by others. Raises StageError."""
        began = time.monotonic()
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if time.monotonic() - began > READY_WITHIN_S:
                    raise StageError(f"worker {self.number} did not become ready:\n{tail_of(self.log)}") from None
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return

    def kill(self) -> int | None:
        """SIGKILL to the worker process; its supervisor starts another. The pid, or None: there was none."""
        pid = self.pid
        if pid is not None:
            send([pid], signal.SIGKILL)
            self.killed += 1
        return pid

    async def kill_all(self) -> None:
        """SIGKILL to supervisor and worker; returns when the supervisor is gone."""
        self.wanted = False
        if self._process is not None and self._process.returncode is None:
            send(family(self._process.pid), signal.SIGKILL)
            self.killed_whole += 1
            await self._process.wait()

    async def leave(self) -> None:
        """The end of the run: asked to stop, and killed if it does not."""
        self.wanted = False
        if self._process is None or self._process.returncode is not None:
            return
        everybody = family(self._process.pid)
        send(everybody, signal.SIGCONT)
        send(everybody[:1], signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
