"""Shows how the run goes: the live picture where there is a terminal, a line now and then where there is none."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from bench.demo.recording import Place
from bench.demo.view import lines

REFRESH_S = 0.5
LINE_EVERY_S = 5.0


class Screen:
    """Takes the state of the run twice a second and shows it."""

    def __init__(self, pipe: asyncio.StreamWriter | None) -> None:
        self._pipe = pipe
        self._line_at = 0.0
        self._phase = ""

    def draw_streets(self, places: list[Place]) -> None:
        """What the map shows under the cabs, once and for all."""
        if self._pipe is not None:
            self._pipe.write(orjson.dumps({"streets": places}) + b"\n")

    def show(self, now: dict[str, Any]) -> None:
        """Never waits: while the picture is still being drawn, the next state is left out."""
        if self._pipe is not None:
            transport = self._pipe.transport
            if not transport.is_closing() and transport.get_write_buffer_size() == 0:
                self._pipe.write(orjson.dumps(now) + b"\n")
        elif now["phase"] != self._phase or now["seconds"] >= self._line_at:
            self._phase = now["phase"]
            self._line_at = now["seconds"] + LINE_EVERY_S
            print(lines(now), flush=True)


@asynccontextmanager
async def screen() -> AsyncIterator[Screen]:
    """The picture in a process of its own if stdout is a terminal; gone on leaving, the terminal as it was."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield Screen(None)
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.demo.view", stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        yield Screen(process.stdin)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
