"""`python -m bench demo`: its options, and one run from start to end."""

import argparse
import asyncio
import gc
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.demo import people, summary
from bench.demo.hiring import Hired, hire
from bench.demo.recording import Recording, RecordingError, read
from bench.demo.replay import Replay, Result
from bench.demo.screen import screen
from bench.demo.stage import StageError, Wanted, stage
from bench.demo.warm import warm_fares
from dispatch.kit.embedded import EmbeddedError
from dispatch.markets import Market, Markets

DATA = Path(__file__).parents[1] / "data" / "sf"
DATE = "2008-05-23"

# With more, the speeds of the market leave their bounds.
SPEED_MAX = 100.0
# Customers take turns; this many more than there are cabs are waiting, or have just been served, at a time.
CUSTOMERS_MORE = 700
# Each of them has a socket, and so has each cab; the default of many systems is 1,024 files.
FILES = 8192
ADMIN = "office@demo.invalid"


def duration_s(text: str) -> float:
    """ "90", "90s", "5m", "1h" in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: give 90, 90s, 5m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def speed_up(text: str) -> float:
    """How many times as fast as recorded."""
    value = float(text)
    if not 0 < value <= SPEED_MAX:
        raise argparse.ArgumentTypeError(f"{text} is out of range: above 0, at most {SPEED_MAX:g}")
    return value


def share(text: str) -> float:
    """A part of all, more than nothing."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range: above 0, at most 1")
    return value


def at_least_one(text: str) -> int:
    """A count."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range: at least 1")
    return value


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="python -m bench demo",
        description="Replays recorded cabs and their customers through the real server. Exit code 0; 1 when a job was "
        "assigned twice or an event was lost; 2 when it could not start; 130 when it was stopped by Ctrl-C.",
        epilog="In the JSON a latency of null is infinite: an offer that never arrived counts as such.",
    )
    options.add_argument(
        "--for", dest="run_s", type=duration_s, default=60.0, metavar="TIME", help="60s, 5m (default: 60s)"
    )
    options.add_argument("--speed", type=speed_up, default=20.0, help="time-lapse (default: 20)")
    options.add_argument(
        "--cabs", type=at_least_one, default=300, help="cabs of the recording that drive (default: 300)"
    )
    options.add_argument(
        "--demand", type=share, default=1.0, help="share of the recorded requests that are made (default: 1)"
    )
    options.add_argument("--seed", type=int, default=1, help="of everybody's temper (default: 1)")
    options.add_argument("--workers", type=at_least_one, default=2, help="of the server (default: 2)")
    options.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder of a recording (default: ours)")
    options.add_argument("--date", default=None, metavar="YYYY-MM-DD", help=f"its day (default: {DATE})")
    options.add_argument("--json", type=Path, default=None, metavar="PATH", help="write the summary there")
    return options


def market_of(recording: Recording, markets: Markets) -> Market:
    """The market that most of the requests lie in. Raises RecordingError when that is none of ours."""
    codes = Counter(market.code for market in markets.at_many([r.pickup for r in recording.requests]) if market)
    if not codes:
        raise RecordingError(f"no request lies in one of the markets: {', '.join(market.code for market in markets)}")
    return markets[codes.most_common(1)[0][0]]


def overrides(market: Market, default: Market, speed: float) -> dict[str, dict[str, object]]:
    """What the demo's markets have different: the server knows no time-lapse, so its cabs are simply very fast.

    Outside of all markets the server believes what it believes in its default market, and some trips lead there.
    """
    fast: dict[str, object] = {"speed_max_mps": market.speed_max_mps * speed}
    # Offers go out one wave after the other; on the board everybody would see everything.
    own = fast | {"speed_mps": market.speed_mps * speed, "open_board": False}
    return {default.code: fast} | {market.code: own}


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to tell of a run that has ended."""

    result: Result
    hired: Hired
    versions: dict[str, str]


class Brake:
    """Ctrl-C. `stop` ends a run in good order; before there is a run to end (`orderly`), one cancels."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.orderly: Callable[[], bool] = lambda: False


async def perform(options: argparse.Namespace, brake: Brake) -> Told:
    """Read, start, hire, replay, stop. Raises RecordingError, StageError, EmbeddedError, ValueError in words for people."""
    folder = options.data if any(options.data.glob("requests_*")) else options.data / "sf"
    date = options.date or DATE
    recording = read(folder, date, options.run_s * options.speed)
    recording = replace(recording, requests=people.asking(options.seed, recording.requests, options.demand))
    markets = Markets.load()
    market = market_of(recording, markets)
    length_s = recording.end - recording.start
    if length_s < options.run_s * options.speed:
        print(f"The recording ends after {length_s / options.speed:.0f} s at this speed; so does the run.")
    coverage = {
        vehicle: trace.coverage(recording.start - 60, recording.end) for vehicle, trace in recording.traces.items()
    }
    vehicles = people.fleet(options.seed, coverage, options.cabs)
    warm = len(warm_fares(recording, vehicles))
    customers = warm + min(len(recording.requests), options.cabs + CUSTOMERS_MORE)
    print(
        f"{market.name}, {date}: {len(recording.requests)} requests, {len(vehicles)} of {len(recording.traces)} cabs,"
        f" {warm} of them with a fare; {recording.jumps} GPS jumps left out"
    )
    wanted = Wanted(
        market=market.code,
        providers=0,
        customers=customers,
        workers=options.workers,
        overrides=overrides(market, markets.default, options.speed),
        admin=ADMIN,
    )
    async with (
        stage(wanted, print) as running,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as session,
    ):
        hired = await hire(running, len(vehicles), session, print, admin=ADMIN)
        replay = Replay(
            running,
            hired.drivers,
            recording,
            market,
            vehicles,
            speed=options.speed,
            seed=options.seed,
            run_s=min(options.run_s, length_s / options.speed),
            session=session,
            title=f"{market.name} {date}",
        )
        # Thousands of objects that live to the end need not be looked at again and again.
        gc.collect()
        gc.freeze()
        brake.orderly = replay.city.clock.started.is_set
        async with screen() as shown:
            return Told(await replay.run(brake.stop, shown), hired, running.versions)


async def interruptible(options: argparse.Namespace) -> Told | None:
    """`perform`; the first Ctrl-C (or SIGTERM) ends it in good order, a second one at once. None: nothing to tell."""
    brake = Brake()
    task = asyncio.ensure_future(perform(options, brake))

    def interrupted() -> None:
        if brake.stop.is_set() or not brake.orderly():
            task.cancel()
        brake.stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        return await task
    except asyncio.CancelledError:
        return None


def raise_file_limit() -> None:
    """As many open files as we need, if the system lets us; the server's processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit code."""
    options = parser().parse_args(arguments)
    raise_file_limit()
    try:
        import uvloop

        loop_factory: Any = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            done = runner.run(interruptible(options))
    except (RecordingError, StageError, EmbeddedError, ValueError) as error:
        print(f"The demo cannot run: {error}", file=sys.stderr)
        return 2
    if done is None:
        print("Stopped.", file=sys.stderr)
        return summary.INTERRUPTED
    shown = {name: value for name, value in vars(options).items() if name != "json"}
    shown["data"], shown["date"] = options.data.name, options.date or DATE
    figures = summary.report(done.result, done.hired, shown, done.versions)
    summary.print_table(figures)
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    return summary.exit_code(figures)
