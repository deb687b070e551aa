"""The live picture in the terminal: a process of its own, fed with one JSON object per line.

Drawing takes milliseconds and the replay measures milliseconds, so the two do not share a process. This one
reads stdin until it ends, draws the newest line, and leaves the terminal as it found it.
"""

import math
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from rich.console import Console, Group
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

# The dots of a braille character, by column and row: U+2800 plus these bits.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
# Characters for the figures beside the map.
SIDE = 34
# Later wins where several share a character.
LAYERS = (("free", "green"), ("to_pickup", "yellow"), ("riding", "bright_red"), ("waiting", "bright_cyan"))
GROUND = "grey30"
LABELS = {"free": "free cab", "to_pickup": "on its way", "riding": "with a rider", "waiting": "customer waits"}
STATES = ("pending", "offered", "accepted", "arrived", "in_progress", "completed", "cancelled")


class Canvas:
    """A map of braille dots: each character is two dots wide and four high, and has one colour."""

    def __init__(self, box: Sequence[float], columns: int, rows: int) -> None:
        """`box` is (south, west, north, east). It is widened so that a metre is as long to the north as to the east."""
        south, west, north, east = box
        self._columns, self._rows = max(4, columns), max(2, rows)
        shrink = math.cos(math.radians((south + north) / 2))
        # One dot is as wide as high on most terminals: characters are about twice as high as wide.
        dots_wide, dots_high = self._columns * 2, self._rows * 4
        degrees = max((north - south) / dots_high, (east - west) * shrink / dots_wide, 1e-9)
        self._degrees_up, self._degrees_right = degrees, degrees / shrink
        self._north = (north + south) / 2 + degrees * dots_high / 2
        self._west = (west + east) / 2 - self._degrees_right * dots_wide / 2
        self._cells: dict[tuple[int, int], tuple[int, str]] = {}
        self._ground: dict[tuple[int, int], int] = {}

    def _at(self, lat: float, lng: float) -> tuple[tuple[int, int], int] | None:
        """The character, by row and column, and the dot within it; None outside of the map."""
        right = math.floor((lng - self._west) / self._degrees_right)
        down = math.floor((self._north - lat) / self._degrees_up)
        if not (0 <= right < self._columns * 2 and 0 <= down < self._rows * 4):
            return None
        return (down // 4, right // 2), DOTS[right % 2][down % 4]

    def draw_ground(self, places: Iterable[Sequence[float]]) -> None:
        """What lies under everything else: dim, and not seen where there is a dot."""
        for lat, lng in places:
            if found := self._at(lat, lng):
                self._ground[found[0]] = self._ground.get(found[0], 0) | found[1]

    def clear(self) -> None:
        """Take all dots away; the ground stays."""
        self._cells.clear()

    def dot(self, lat: float, lng: float, colour: str) -> bool:
        """Set the dot at that place. False: it lies outside."""
        found = self._at(lat, lng)
        if found is None:
            return False
        bits, _ = self._cells.get(found[0], (0, colour))
        self._cells[found[0]] = (bits | found[1], colour)
        return True

    def text(self) -> Text:
        """The map, one line per row of characters."""
        picture = Text(no_wrap=True)
        for row in range(self._rows):
            for column in range(self._columns):
                bits, colour = self._cells.get((row, column), (0, GROUND))
                picture.append(chr(0x2800 + (bits or self._ground.get((row, column), 0))), style=colour)
            if row < self._rows - 1:
                picture.append("\n")
        return picture


def milliseconds(value: float | None) -> str:
    """A latency for people. None: there is none yet, or one is infinite (JSON has no word for that)."""
    return "-" if value is None else f"{value:.1f} ms"


def figures(now: dict[str, Any]) -> Table:
    """The numbers beside the map."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    jobs = now["jobs"]
    doubles = now["double_assignments"]
    table.add_row("cabs online", f"{now['online']:,} of {now['cabs']:,}")
    table.add_row("with a job", f"{now['busy']:,}")
    table.add_row("", "")
    for state in STATES:
        style = "bold green" if state == "completed" else ""
        table.add_row(f"jobs {state}", Text(f"{jobs.get(state, 0):,}", style=style))
    table.add_row("", "")
    table.add_row("offer latency p50", milliseconds(now["offer_p50_ms"]))
    table.add_row("offer latency p99", milliseconds(now["offer_p99_ms"]))
    table.add_row("accepts", f"{now['accepts']:,}")
    table.add_row("double assignments", Text(f"{doubles}", style="bold green" if doubles == 0 else "bold white on red"))
    table.add_row("events", f"{now['events_per_s']:.0f} /s")
    table.add_row("positions", f"{now['positions_per_s']:.0f} /s")
    table.add_row("lines lost", f"{now['lines_lost']:,}")
    return table


def canvas_of(box: Sequence[float], width: int, height: int, streets: Iterable[Sequence[float]] = ()) -> Canvas:
    """The map of a screen of that size."""
    canvas = Canvas(box, width - SIDE - 4, height - 5)
    canvas.draw_ground(streets)
    return canvas


def picture(now: dict[str, Any], canvas: Canvas) -> Layout:
    """The whole screen, the map on `canvas`."""
    canvas.clear()
    for layer, colour in LAYERS:
        for lat, lng in now["map"].get(layer, []):
            canvas.dot(lat, lng, colour)
    legend = Text("  ").join(Text(f"● {LABELS[layer]}", style=colour) for layer, colour in LAYERS)
    title = f"{now['title']} · {now['city_time']} · {now['speed']:g}x"
    share = min(1.0, now["seconds"] / now["of_s"])
    left = round(share * (SIDE - 4))
    bar = Text("━" * left, style="green") + Text("━" * (SIDE - 4 - left), style="bright_black")
    clock = Text(f"{now['phase']}  {now['seconds']:.0f} s of {now['of_s']:.0f} s", style="dim")
    screen = Layout()
    screen.split_row(Layout(name="map"), Layout(name="side", size=SIDE))
    screen["map"].update(Panel(Group(canvas.text(), legend), title=title, border_style="bright_black"))
    screen["side"].update(Panel(Group(figures(now), Text(""), bar, clock), border_style="bright_black"))
    return screen


def lines(now: dict[str, Any]) -> str:
    """The same in one line, for a log."""
    jobs = now["jobs"]
    waiting = jobs.get("pending", 0) + jobs.get("offered", 0)
    driving = jobs.get("accepted", 0) + jobs.get("arrived", 0) + jobs.get("in_progress", 0)
    return (
        f"{now['phase']:8} {now['seconds']:5.0f} s  {now['city_time']}  cabs {now['online']}/{now['cabs']}"
        f"  jobs waiting {waiting} driving {driving} completed {jobs.get('completed', 0)}"
        f" cancelled {jobs.get('cancelled', 0)}  offer p50 {milliseconds(now['offer_p50_ms'])}"
        f" p99 {milliseconds(now['offer_p99_ms'])}  accepts {now['accepts']}  doubles {now['double_assignments']}"
        f"  events {now['events_per_s']:.0f}/s  positions {now['positions_per_s']:.0f}/s"
    )


def frames(stream: Any) -> Iterator[dict[str, Any]]:
    """The objects of the stream as they come; a torn last line is the end."""
    for line in stream:
        if not line.endswith(b"\n"):
            return
        yield orjson.loads(line)


def main() -> None:
    # Ctrl-C is for the replay; we end when it closes our stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    console = Console()
    streets: list[Sequence[float]] = []
    canvas, drawn_for = canvas_of((0, 0, 1, 1), 80, 24), None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for now in frames(sys.stdin.buffer):
            if "streets" in now:
                streets = now["streets"]
                continue
            if drawn_for != console.size:
                drawn_for = console.size
                canvas = canvas_of(now["box"], *console.size, streets)
            live.update(picture(now, canvas), refresh=True)


if __name__ == "__main__":
    main()
