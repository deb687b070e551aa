"""`python -m bench offers`: from the commit of an offer to its frame at the provider's phone, at a steady rate of jobs.

Jobs come as a Poisson process that waits for nobody, or many in one instant, from customers over HTTP, into a city whose providers all send a
position a second. The server stamps each offer when its COMMIT has returned; the phone stamps it when its bytes are
here; both read the machine's CLOCK_MONOTONIC. An offer that was stamped and never seen counts as infinite. Each job is
cancelled by its customer a moment later, so that its providers are free for the next.
"""

import argparse
import asyncio
import gc
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from bench.demo.command import at_least_one
from bench.demo.stamps import Stamps
from bench.demo.tally import offer_latencies_ms
from bench.elsewhere import target
from bench.figures import (
    broken,
    complete,
    curve,
    full,
    known,
    latencies,
    none,
    options,
    parsed,
    perform,
    point,
    seconds,
    show,
    spread,
    us,
    verdict,
    void,
)
from bench.fleet import Phone, cloud, complaints, fleet, hang_up, lost, open_all
from bench.meter import Meter, rows_of
from bench.pace import Drive, arrivals, at_moments, bursts
from bench.progress import bar, say, wait
from bench.server import Target, Usage
from dispatch.markets import Markets
from protocol.errors import Denied
from protocol.frames import Event
from protocol.http import Http
from protocol.lifecycle import ServiceType

MARKET = "bkk"
AIMS_MS: Final = (
    (25.0, 100.0, 5_000, 100),
    (10.0, 100.0, 5_000, 1),
    (15.0, 50.0, 2_000, 1),
)
"""(p99 from commit to frame, at so many jobs a second, among so many providers, so many in one instant.)"""
FIXES_MIN: Final = 1 / 15
"""Positions a second and provider, for which these are aims: whoever is online sends one at least every 15 s."""
REQUEST_MS: Final = 200.0
"""p99 from the moment that was a request's to its first frame, wherever one of these counts."""
BY_STAMPS: Final = (
    *(f"commit_to_frame_ms_{share}" for share in ("p50", "p90", "p95", "p99", "max")),
    "offers",
    "offers_never_seen",
    "offers_seen_without_stamp",
)
"""What nobody knows without the server's stamps."""
GRACE_S = 3.0
"""After the last job: an offer that has not come by then never will."""


def parser() -> argparse.ArgumentParser:
    found = options("offers", "Latency of offers, from COMMIT to the provider's phone.", anywhere=True)
    found.add_argument("--providers", type=at_least_one, default=2_000, help="online (default: 2000)")
    found.add_argument("--customers", type=at_least_one, default=500, help="taking turns (default: 500)")
    found.add_argument("--rate", type=seconds, default=50.0, help="jobs a second (default: 50)")
    found.add_argument(
        "--at-once",
        type=at_least_one,
        default=1,
        metavar="N",
        help="jobs that fall into one instant, evenly (default: 1, at random)",
    )
    found.add_argument("--fixes", type=float, default=1.0, help="positions a second and provider (default: 1)")
    found.add_argument("--hold", type=seconds, default=1.0, metavar="S", help="a job is cancelled after (default: 1)")
    found.add_argument("--for", dest="run_s", type=seconds, default=30.0, metavar="S", help="measured (default: 30)")
    found.add_argument("--warm-up", type=seconds, default=5.0, metavar="S", help="not measured (default: 5)")
    return found


SHORT: Final = {"providers": 300, "customers": 100, "rate": 20.0, "run_s": 4.0, "warm_up": 1.0}


class Seen:
    """What reached the phones and the customers."""

    def __init__(self) -> None:
        self.offers: dict[str, int] = {}
        """Offer → CLOCK_MONOTONIC ns of its first frame."""
        self.first_of_job: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        """Job → CLOCK_MONOTONIC ns at which its request was due, within the measured time."""
        self.created_ms: list[float] = []
        self.failed: dict[str, int] = {}
        self.refused = 0
        """Requests of the measured time that made no job."""

    def event(self, phone: Phone, event: Event, now_ns: int) -> None:
        """One event at one phone."""
        if event.name == "offer.created":
            self.offers.setdefault(event.data["offer_id"], now_ns)
            self.first_of_job.setdefault(event.data["job"]["id"], now_ns)

    def fail(self, code: str) -> None:
        self.failed[code] = self.failed.get(code, 0) + 1


class Customer(Protocol):
    """Whoever asks for jobs and cancels them again: `protocol.http.Http`, or a peer's like. Both raise Denied."""

    async def create_job(self, service_type: ServiceType, pickup: Mapping[str, Any], /) -> dict[str, Any]: ...

    async def cancel(self, job_id: UUID, /) -> Any: ...


async def one_job(
    http: Customer, pickup: tuple[float, float], seen: Seen, *, asked_ns: int, hold_s: float, measured: bool
) -> None:
    """Create it, wait a moment, cancel it. `asked_ns`: the moment that was its."""
    place = {"lat": pickup[0], "lng": pickup[1], "address": "1 Bench Road"}
    try:
        job = await http.create_job(ServiceType.RIDE, place)
    except Denied as denied:
        seen.fail(denied.code)
        seen.refused += measured
        return
    if measured:
        seen.created_ms.append((time.monotonic_ns() - asked_ns) / 1e6)
        seen.asked[job["id"]] = asked_ns
    try:
        await asyncio.sleep(hold_s)
        await http.cancel(UUID(job["id"]))
    except Denied as denied:
        seen.fail(denied.code)


async def all_jobs(
    customers: Sequence[Customer], usage: Callable[[], Usage], seen: Seen, shown: argparse.Namespace
) -> tuple[int, int, Usage]:
    """Jobs at their moments; (begin, end) of the measured time, CLOCK_MONOTONIC ns, and what was used meanwhile."""
    run_s = shown.warm_up + shown.run_s
    moments = arrivals(shown.rate, run_s, seed=3) if shown.at_once == 1 else bursts(shown.rate, run_s, of=shown.at_once)
    pickups = cloud(Markets.load()[MARKET], len(moments), seed=2)
    began_ns = time.monotonic_ns()
    before = None

    def job(number: int, due_ns: int) -> Coroutine[Any, Any, None]:
        nonlocal before
        measured = moments[number] >= shown.warm_up
        if measured and before is None:
            before = usage()
        customer = customers[number % len(customers)]
        return one_job(customer, pickups[number], seen, asked_ns=due_ns, hold_s=shown.hold, measured=measured)

    await at_moments(moments, job)
    after = usage()
    used = after.since(before or after)
    return began_ns + round(shown.warm_up * 1e9), began_ns + round((shown.warm_up + shown.run_s) * 1e9), used


def customers_of(running: Target, patience_s: float) -> list[Http]:
    """All of them. Without patience, what is not answered at the first try is not asked again."""
    return [
        Http(running.url, person.token, session=running.http, patience_s=patience_s) for person in running.customers
    ]


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    seen = Seen()
    places = cloud(Markets.load()[MARKET], shown.providers, seed=1)
    async with target(
        shown, providers=shown.providers, customers=shown.customers, market_overrides={"open_board": False}
    ) as running:
        phones = fleet(running.url, running.providers, places, seen.event)
        with bar("providers connecting", len(phones)) as advance:
            await open_all(phones, advance=advance)
        gc.collect()
        gc.freeze()
        say(f"{len(phones)} providers online")
        customers = customers_of(running, 0.0)
        async with Drive(phones, max(1.0, shown.fixes * len(phones))) as drive:
            async with Meter(running) as meter:
                (began_ns, ended_ns, used), _ = await asyncio.gather(
                    all_jobs(customers, running.usage, seen, shown),
                    wait(f"{shown.rate:g} jobs a second", shown.warm_up + shown.run_s),
                )
            await asyncio.sleep(GRACE_S)
        stamps = {} if running.stamp_file is None else Stamps(running.stamp_file).read_on()
        figures = figures_of(seen, stamps, began_ns, ended_ns) | {
            "providers": len(phones),
            "rate": shown.rate,
            "at_once": shown.at_once,
            "fixes": shown.fixes,
            "cpu_us_per_job_with_its_positions": used.per(max(1, len(seen.asked))),
            "others_cores": used.others_share(),
            "sent_late_ms_max": round(drive.pace.late_s_max * 1000, 1),
            "lines_lost": lost(phones),
            "errors": complaints(phones),
            "processes": meter.figures,
        }
        cost = figures["cpu_us_per_job_with_its_positions"]["server"]
        each = f"{shown.fixes:g} positions a second each"
        figures["scaling"] = [
            point(
                f"server CPU per job with its positions, {shown.rate:g} jobs a second, {each}",
                "µs",
                "providers",
                len(phones),
                cost,
            ),
            point(
                f"server CPU per job with its positions, {len(phones):,} providers, {each}",
                "µs",
                "jobs a second",
                shown.rate,
                cost,
            ),
        ]
        if not stamps:
            say("commit to frame is unknown: the server writes no stamps, or not where DISPATCH_STAMP_FILE says")
            figures = {name: None if name in BY_STAMPS else value for name, value in figures.items()}
        await hang_up(phones, offline=shown.url is not None)
        for reason in wrong(figures):
            void(reason)
        _show(figures, shown)
        return complete(figures, shown, running.versions), 0


def figures_of(seen: Seen, stamps: dict[str, int], began_ns: int, ended_ns: int) -> dict[str, Any]:
    """Latencies of the offers stamped within [began_ns, ended_ns), and how the requests went. Pure."""
    counted = {offer: stamp for offer, stamp in stamps.items() if began_ns <= stamp < ended_ns}
    latencies_ms = offer_latencies_ms(counted, seen.offers)
    request_ms = [
        (seen.first_of_job[job] - asked) / 1e6 if job in seen.first_of_job else math.inf
        for job, asked in seen.asked.items()
    ]
    without_offer = sum(math.isinf(value) for value in request_ms)
    request_ms += [math.inf] * seen.refused
    return {
        **spread(latencies_ms, "commit_to_frame_ms", (0.5, 0.9, 0.95, 0.99)),
        "offers": len(counted),
        "offers_never_seen": sum(math.isinf(value) for value in latencies_ms),
        "offers_seen_without_stamp": len(seen.offers.keys() - stamps.keys()),
        "jobs": len(seen.asked),
        "jobs_without_offer": without_offer,
        "requests_refused": seen.refused,
        **spread(request_ms, "request_to_first_frame_ms"),
        **spread(seen.created_ms, "create_ms"),
        "latency": {
            "commit to frame": curve(latencies_ms),
            "request to first frame": curve(request_ms),
            "POST /v1/jobs": curve(seen.created_ms),
        },
        "requests_failed": dict(sorted(seen.failed.items())),
    }


def aim_ms(rate: float, providers: int, at_once: int) -> float | None:
    """Of the p99 from commit to frame; None where there is no aim for a load as small. Pure."""
    for limit, jobs, among, together in AIMS_MS:
        if rate >= jobs and providers >= among and (at_once >= together if together > 1 else at_once == 1):
            return limit
    return None


def wrong(figures: Mapping[str, Any]) -> list[str]:
    """Why the latencies are not those of the load that they stand beside. Pure."""
    found = []
    if figures["offers"] == 0 or not figures["jobs"]:
        found.append("nothing was offered")
    if figures["requests_failed"]:
        found.append(f"requests failed: {figures['requests_failed']}")
    if figures["offers_seen_without_stamp"]:
        found.append(f"{figures['offers_seen_without_stamp']:,} offers came that the server had not stamped")
    return found + broken(figures)


def _show(figures: dict[str, Any], shown: argparse.Namespace) -> None:
    cpu = figures["cpu_us_per_job_with_its_positions"]
    together = f", {figures['at_once']:,} in one instant" if figures["at_once"] > 1 else ""
    limit = (
        aim_ms(figures["rate"], figures["providers"], figures["at_once"])
        if full(shown, (figures["fixes"], FIXES_MIN))
        else None
    )
    show(
        f"{figures['rate']:g} jobs a second{together}, {figures['providers']:,} providers online, {figures['fixes']:g} positions a second each",
        [
            *(
                [("commit to frame p99", "unknown", verdict(math.nan, limit, "ms"))]
                if figures["offers"] is None
                else latencies(figures, "commit_to_frame_ms", "commit to frame", limit)
            ),
            ("offers", known(figures["offers"], ","), ""),
            ("offers never seen", known(figures["offers_never_seen"], ","), ""),
            ("jobs", f"{figures['jobs']:,}", ""),
            (
                "jobs without an offer when they were cancelled",
                f"{figures['jobs_without_offer']:,}",
                "" if limit is None else none(figures["jobs_without_offer"]),
            ),
            *latencies(
                figures, "request_to_first_frame_ms", "request to first frame", None if limit is None else REQUEST_MS
            ),
            *latencies(figures, "create_ms", "POST /v1/jobs"),
            (
                "requests failed",
                f"{figures['requests_failed'] or 'none'}",
                "" if limit is None else none(sum(figures["requests_failed"].values())),
            ),
            ("server CPU per job, positions included", us(cpu["server"]), ""),
            ("Redis, Postgres CPU per job", f"{us(cpu['redis'])}, {us(cpu['postgres'])}", ""),
            ("load generator sent late at most", f"{figures['sent_late_ms_max']:.1f} ms", ""),
            *rows_of(figures["processes"]),
            ("lines lost", f"{figures['lines_lost']}", ""),
        ],
    )


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parsed(parser(), args, SHORT))
