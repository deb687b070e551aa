"""How far a run is: a bar on a terminal, a line now and then where there is none. Drawn by the loop of the run itself, twice a second:
a thread that draws would stop the load in moments of its own.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

DRAW_EVERY_S: Final = 0.5


def say(text: str) -> None:
    """One line."""
    print(text, flush=True)


@contextmanager
def bar(what: str, total: float, console: Console | None = None) -> Iterator[Callable[[float], None]]:
    """`advance(by)` while the block lasts. Gone after it."""
    console = console or Console(file=sys.stdout)
    if not console.is_terminal:
        say(f"{what} ({total:g})")
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as drawn:
        task = drawn.add_task(what, total=total)
        last = 0.0

        def advance(by: float) -> None:
            nonlocal last
            drawn.advance(task, by)
            now = drawn.get_time()
            if now - last >= DRAW_EVERY_S:
                last = now
                drawn.refresh()

        yield advance


async def wait(what: str, seconds: float, console: Console | None = None) -> None:
    """Sleep, and show how much of it is over."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    with bar(f"{what}, s", round(seconds, 1), console) as advance:
        while (left := ends - loop.time()) > 0:
            step = min(DRAW_EVERY_S, left)
            await asyncio.sleep(step)
            advance(step)
