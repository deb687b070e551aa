"""`python -m bench hostile`: a million broken frames against the real server, beside a bystander who must be served.

A frame counts when the server has parsed it, by its own counter of frames less those that it dropped unread over the rate
of a socket; to stay below that rate there are many sockets. A broken framing counts when the server closed for it. Greetings,
valid frames and the bystander's are subtracted. Drift of memory is between the first fifth of the run, its first minute at least, and its end; a run below two minutes is all warming up.

The bystander is served, and slowly: he shares two cores and the workers' connections to Postgres with the attackers. That
none of his requests fails is judged, how long they take is shown.
"""

import argparse
import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bench.demo.command import at_least_one
from bench.fleet import FleetError, cloud
from bench.hostile.attack import Crowd
from bench.hostile.corpus import load
from bench.hostile.judge import Bystander, Memory, frames_of
from bench.hostile.record import record
from bench.logs import judged_log
from bench.report import complete, ms, options, perform, show
from bench.server import Running, server
from dispatch.markets import Markets
from protocol.client import Http
from protocol.errors import Denied
from protocol.lifecycle import ServiceType

MARKET: Final = "bkk"
WARM_SHARE: Final = 0.2
WARM_S: Final = 60.0
"""A worker grows by 5 % in its first minute of attackers, and by 2 % in the five after it (bench/results/faults/hostile.json)."""
DRIFT_MAX: Final = 0.05
LOOK_EVERY_S: Final = 2.0
STALLED_S: Final = 120.0
JOB_EVERY_S: Final = 0.25
WIRE_CLOSES: Final = (1002, 1007, 1009)


def parser() -> argparse.ArgumentParser:
    found = options("hostile", "A million broken frames, and a bystander who must be served.")
    found.add_argument(
        "--frames", type=at_least_one, default=1_000_000, help="that reach the server (default: 1000000)"
    )
    found.add_argument("--seed", type=int, default=1, help="of what is broken how (default: 1)")
    found.add_argument("--sockets", type=at_least_one, default=600, help="of attackers (default: 600)")
    found.add_argument(
        "--record", type=Path, default=None, metavar="PATH", help="write a corpus of real frames there, and end"
    )
    return found  # fmt: skip


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    if shown.record is not None:
        count = await record(shown.record)
        print(f"{count} frames recorded in {shown.record}")
        return {"frames": count}, 0
    providers = max(2, shown.sockets * 3 // 4)
    customers = max(2, shown.sockets - providers)
    city = Markets.load()[MARKET]
    async with server(
        market=MARKET, providers=providers + 1, customers=customers + 2, workers=shown.workers, market_overrides={}, say=print
    ) as running:  # fmt: skip
        people, guests = running.stage.providers, running.stage.customers
        # The bystander waits at the edge, where attackers' first places are few.
        quiet, *places = cloud(city, providers + 1, seed=shown.seed)
        crowd = Crowd(
            running.stage.url, zip(people[1:], places, strict=True), guests[2:], load(), seed=shown.seed
        )  # fmt: skip
        pids = running.worker_pids()
        memory = Memory(pids)
        before = await frames_of(running)
        bystander = Bystander(running.stage.url, people[0], guests[0], quiet)
        async with bystander:
            crowd.start()
            trade = asyncio.create_task(_trade(running, guests[1].token, city.centre(), crowd, shown.seed))
            try:
                reached = await _until_reached(running, crowd, bystander, memory, before, shown.frames)
            finally:
                trade.cancel()
                with suppress(asyncio.CancelledError):
                    await trade
                await crowd.stop()
        seconds = time.monotonic() - crowd.began
        figures = {
            "frames_reached": reached,
            "seconds": round(seconds, 1),
            "frames_per_s": round(reached / seconds),
            **crowd.figures(),
            "bystander": bystander.figures(),
            **memory_figures(memory),
            "workers_alive": running.worker_pids() == pids,
            **judged_log((running.stage.folder / "server.log").read_text(errors="replace")),
            "lines_lost": max(0, bystander.welcomes - 1),
        }
        _show(figures, shown)
        return complete(figures | {"record": None}, shown, running.stage.versions), code_of_run(figures)


RIDE_WITHIN_S = 120.0
"""However few the frames are, so long they go on for the bystander's first ride."""


async def _until_reached(
    running: Running, crowd: Crowd, bystander: Bystander, memory: Memory, before: tuple[int, int], frames: int
) -> int:
    """Look every two seconds until so many have reached the server, and the bystander has had a ride among them; how many did.
    Raises FleetError when none come any more.
    """
    reached, grown_at, began = 0, time.monotonic(), time.monotonic()
    while reached < frames or (not bystander.rides and time.monotonic() - began < RIDE_WITHIN_S):
        await asyncio.sleep(LOOK_EVERY_S)
        crowd.check()
        memory.look()
        read, limited = await frames_of(running)
        verdicts = crowd.verdicts
        parsed = (read - before[0]) - (limited - before[1]) - verdicts.valid_sent - bystander.frames_sent
        now = parsed + sum(verdicts.closes[code] for code in WIRE_CLOSES)
        if now > reached:
            reached, grown_at = now, time.monotonic()
        elif time.monotonic() - grown_at > STALLED_S:
            raise FleetError(f"no frame reached the server for {STALLED_S:.0f} s, after {reached:,}")
    return reached


async def _trade(running: Running, token: str, centre: tuple[float, float], crowd: Crowd, seed: int) -> None:
    """Jobs that come and go, so that attackers have living ids to break."""
    dice = random.Random(seed)
    live: list[str] = []
    async with Http(running.stage.url, token, session=running.http) as http:
        while True:
            place = {
                "lat": centre[0] + dice.uniform(-0.03, 0.03),
                "lng": centre[1] + dice.uniform(-0.03, 0.03),
                "address": "1 Bazaar Road",
            }
            # Somebody may have done with it already: that is what they are for.
            with suppress(Denied):
                job = await http.create_job(ServiceType.RIDE, place)
                crowd.jobs.append(job["id"])
                live.append(job["id"])
                if len(live) > 20:
                    await http.cancel(UUID(live.pop(0)))
            await asyncio.sleep(JOB_EVERY_S)


def memory_figures(memory: Memory) -> dict[str, Any]:
    """`rss_drift`: the share by which it grew once warm. None: the run was too short to tell."""
    seconds = memory.series[-1][0]
    share = max(WARM_SHARE, WARM_S / max(seconds, 1.0))
    warm, end = memory.around(min(share, 1.0)), memory.around(1.0)
    step = max(1, len(memory.series) // 40)
    return {
        "rss_kib_warm": warm,
        "rss_kib_end": end,
        "rss_drift": round((end - warm) / warm, 4) if share <= 0.5 else None,
        "rss_kib_series": memory.series[::step],
    }


def code_of_run(figures: dict[str, Any]) -> int:
    """1 when the server failed, grew, answered what it has no right to, or left somebody without an answer."""
    good = (
        figures["unhandled"] == 0
        and figures["answers_not_of_the_contract"] == 0
        and figures["workers_alive"]
        and figures["bystander"]["failed"] == 0
        and figures["bystander"]["rides"] > 0
        and figures["bystander"]["sockets_needed"] == 1
        and figures["never_welcomed"] == 0
        and (figures["rss_drift"] is None or figures["rss_drift"] <= DRIFT_MAX)
    )
    return 0 if good else 1


def _met(holds: bool, text: str) -> str:
    return f"{text}: {'met' if holds else 'MISSED'}"


def _show(figures: dict[str, Any], shown: argparse.Namespace) -> None:
    by = figures["bystander"]
    drift = figures["rss_drift"]
    show(
        f"{shown.frames:,} broken frames, {shown.sockets} attackers, seed {shown.seed}",
        [
            ("frames that reached the server", f"{figures['frames_reached']:,}", ""),
            ("in", f"{figures['seconds']:,.0f} s, {figures['frames_per_s']:,}/s", ""),
            ("sockets", f"{figures['sockets']:,}", ""),
            ("unhandled exceptions in the log", f"{figures['unhandled']}", _met(figures["unhandled"] == 0, "0")),
            (
                "answers not of the contract",
                f"{figures['answers_not_of_the_contract']}",
                _met(figures["answers_not_of_the_contract"] == 0, "0"),
            ),
            ("workers lived", f"{figures['workers_alive']}", _met(figures["workers_alive"], "all")),
            ("RSS, warm and at the end", f"{figures['rss_kib_warm']:,} and {figures['rss_kib_end']:,} KiB", ""),
            ("drift", "too short a run", "")
            if drift is None
            else ("drift", f"{drift:+.1%}", _met(drift <= DRIFT_MAX, f"≤ {DRIFT_MAX:.0%}")),
            ("bystander asked and was answered", f"{by['asked']:,}, {by['failed']} failed", _met(not by["failed"], "0")),
            ("bystander's socket p99", ms(by["socket_ms_p99"]), ""),
            ("bystander's HTTP p50 and p99", f"{ms(by['http_ms_p50'])} and {ms(by['http_ms_p99'])}", ""),
            ("answers of BUSY", f"{figures['answers'].get('Reply BUSY', 0):,}", ""),
            ("bystander's rides", f"{by['rides']} ({by['rides_not_offered']} taken from him)", ""),
        ],
    )  # fmt: skip
    for line in figures["violations"] + figures["unhandled_lines"]:
        print(line[:600])


def main(args: list[str]) -> int:
    """Run it; 1 when the server failed, grew, or answered what it has no right to."""
    return perform(scenario, parser().parse_args(args))
