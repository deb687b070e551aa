"""`python -m bench offers`: from the commit of an offer to its frame at the provider's phone, at a steady rate of jobs.

Jobs come as a Poisson process that waits for nobody, from customers over HTTP, into a city whose providers all send a
position a second. The server stamps each offer when its COMMIT has returned; the phone stamps it when its bytes are
here; both read the machine's CLOCK_MONOTONIC. An offer that was stamped and never seen counts as infinite. Each job is
cancelled by its customer a moment later, so that its providers are free for the next.
"""

import argparse
import asyncio
import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from bench.demo.command import at_least_one
from bench.demo.stamps import Stamps
from bench.demo.tally import offer_latencies_ms
from bench.fleet import Drive, Phone, arrivals, cloud, complaints, fleet, lost, open_all
from bench.report import complete, ms, options, perform, seconds, show, spread, verdict
from bench.server import Running, Usage, server
from dispatch.markets import Markets
from protocol.errors import Denied
from protocol.frames import Event
from protocol.http import Http
from protocol.lifecycle import ServiceType

MARKET = "bkk"
TARGET_MS = 15.0
GRACE_S = 3.0
"""After the last job: an offer that has not come by then never will."""


def parser() -> argparse.ArgumentParser:
    found = options("offers", "Latency of offers, from COMMIT to the provider's phone.")
    found.add_argument("--providers", type=at_least_one, default=2_000, help="online (default: 2000)")
    found.add_argument("--customers", type=at_least_one, default=500, help="taking turns (default: 500)")
    found.add_argument("--rate", type=seconds, default=50.0, help="jobs a second (default: 50)")
    found.add_argument("--fixes", type=float, default=1.0, help="positions a second and provider (default: 1)")
    found.add_argument("--hold", type=seconds, default=1.0, metavar="S", help="a job is cancelled after (default: 1)")
    found.add_argument("--for", dest="run_s", type=seconds, default=30.0, metavar="S", help="measured (default: 30)")
    found.add_argument("--warm-up", type=seconds, default=5.0, metavar="S", help="not measured (default: 5)")
    return found


class Seen:
    """What reached the phones and the customers."""

    def __init__(self) -> None:
        self.offers: dict[str, int] = {}
        """Offer → CLOCK_MONOTONIC ns of its first frame."""
        self.first_of_job: dict[str, int] = {}
        self.asked: dict[str, int] = {}
        """Job → CLOCK_MONOTONIC ns at which its request was sent, within the measured time."""
        self.created_ms: list[float] = []
        self.failed: dict[str, int] = {}

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


async def one_job(http: Customer, pickup: tuple[float, float], seen: Seen, *, hold_s: float, measured: bool) -> None:
    """Create it, wait a moment, cancel it."""
    asked_ns = time.monotonic_ns()
    place = {"lat": pickup[0], "lng": pickup[1], "address": "1 Bench Road"}
    try:
        job = await http.create_job(ServiceType.RIDE, place)
        if measured:
            seen.created_ms.append((time.monotonic_ns() - asked_ns) / 1e6)
            seen.asked[job["id"]] = asked_ns
        await asyncio.sleep(hold_s)
        await http.cancel(UUID(job["id"]))
    except Denied as denied:
        seen.fail(denied.code)


async def all_jobs(
    customers: Sequence[Customer], usage: Callable[[], Usage], seen: Seen, shown: argparse.Namespace
) -> tuple[int, int, Usage]:
    """Jobs at their moments; (begin, end) of the measured time, CLOCK_MONOTONIC ns, and what was used meanwhile."""
    loop = asyncio.get_running_loop()
    moments = arrivals(shown.rate, shown.warm_up + shown.run_s, seed=3)
    pickups = cloud(Markets.load()[MARKET], len(moments), seed=2)
    began, began_ns = loop.time(), time.monotonic_ns()
    before = None
    async with asyncio.TaskGroup() as group:
        for number, (moment, pickup) in enumerate(zip(moments, pickups, strict=True)):
            await asyncio.sleep(began + moment - loop.time())
            measured = moment >= shown.warm_up
            if measured and before is None:
                before = usage()
            group.create_task(
                one_job(customers[number % len(customers)], pickup, seen, hold_s=shown.hold, measured=measured),
                name=f"job {number}",
            )
    after = usage()
    used = after.since(before or after)
    return began_ns + round(shown.warm_up * 1e9), began_ns + round((shown.warm_up + shown.run_s) * 1e9), used


def customers_of(running: Running, patience_s: float) -> list[Http]:
    """All of them. Without patience, what is not answered at the first try is not asked again."""
    return [
        Http(running.stage.url, person.token, session=running.http, patience_s=patience_s)
        for person in running.stage.customers
    ]


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    seen = Seen()
    places = cloud(Markets.load()[MARKET], shown.providers, seed=1)
    async with server(
        market=MARKET,
        providers=shown.providers,
        customers=shown.customers,
        workers=shown.workers,
        market_overrides={"open_board": False},
        say=print,
    ) as running:
        phones = fleet(running.stage.url, running.stage.providers, places, seen.event)
        await open_all(phones)
        gc.collect()
        gc.freeze()
        print(f"{len(phones)} providers online")
        customers = customers_of(running, 0.0)
        async with Drive(phones, max(1.0, shown.fixes * len(phones))) as drive:
            began_ns, ended_ns, used = await all_jobs(customers, running.usage, seen, shown)
            await asyncio.sleep(GRACE_S)
        stamps = Stamps(running.stage.stamp_file).read_on()
        figures = figures_of(seen, stamps, began_ns, ended_ns) | {
            "providers": len(phones),
            "rate": shown.rate,
            "cpu_us_per_job_with_its_positions": used.per(max(1, len(seen.asked))),
            "others_cores": used.others_share(),
            "sent_late_ms_max": round(drive.pace.late_s_max * 1000, 1),
            "lines_lost": lost(phones),
            "errors": complaints(phones),
        }
        for phone in phones:
            phone.close()
        _show(figures)
        return complete(figures, shown, running.stage.versions), 0


def figures_of(seen: Seen, stamps: dict[str, int], began_ns: int, ended_ns: int) -> dict[str, Any]:
    """Latencies of the offers stamped within [began_ns, ended_ns), and how the requests went. Pure."""
    counted = {offer: stamp for offer, stamp in stamps.items() if began_ns <= stamp < ended_ns}
    latencies = offer_latencies_ms(counted, seen.offers)
    request_ms = [
        (seen.first_of_job[job] - asked) / 1e6 if job in seen.first_of_job else math.inf
        for job, asked in seen.asked.items()
    ]
    return {
        **spread(latencies, "commit_to_frame_ms", (0.5, 0.9, 0.99)),
        "offers": len(counted),
        "offers_never_seen": sum(math.isinf(value) for value in latencies),
        "offers_seen_without_stamp": len(seen.offers.keys() - stamps.keys()),
        "jobs": len(seen.asked),
        "jobs_without_offer": sum(math.isinf(value) for value in request_ms),
        **spread([value for value in request_ms if math.isfinite(value)], "request_to_first_frame_ms"),
        **spread(seen.created_ms, "create_ms"),
        "requests_failed": dict(sorted(seen.failed.items())),
    }


def _show(figures: dict[str, Any]) -> None:
    p99 = figures["commit_to_frame_ms_p99"]
    cpu = figures["cpu_us_per_job_with_its_positions"]
    show(
        f"{figures['rate']:g} jobs a second, {figures['providers']:,} providers online",
        [
            ("commit to frame p50", ms(figures["commit_to_frame_ms_p50"]), ""),
            ("commit to frame p90", ms(figures["commit_to_frame_ms_p90"]), ""),
            ("commit to frame p99", ms(p99), verdict(p99, TARGET_MS, "ms")),
            ("commit to frame max", ms(figures["commit_to_frame_ms_max"]), ""),
            ("offers", f"{figures['offers']:,}", ""),
            ("offers never seen", f"{figures['offers_never_seen']:,}", ""),
            ("jobs", f"{figures['jobs']:,}", ""),
            ("jobs without an offer", f"{figures['jobs_without_offer']:,}", ""),
            ("request to first frame p50", ms(figures["request_to_first_frame_ms_p50"]), ""),
            ("request to first frame p99", ms(figures["request_to_first_frame_ms_p99"]), ""),
            ("POST /v1/jobs p50", ms(figures["create_ms_p50"]), ""),
            ("POST /v1/jobs p99", ms(figures["create_ms_p99"]), ""),
            ("requests failed", f"{figures['requests_failed'] or 'none'}", ""),
            ("server CPU per job, positions included", f"{cpu['server'] / 1000:.2f} ms", ""),
            ("Valkey, Postgres CPU per job", f"{cpu['redis'] / 1000:.2f} ms, {cpu['postgres'] / 1000:.2f} ms", ""),
            ("load generator sent late at most", f"{figures['sent_late_ms_max']:.1f} ms", ""),
            ("kept busy by others", f"{figures['others_cores']:.2f} cores", ""),
            ("lines lost", f"{figures['lines_lost']}", ""),
        ],
    )


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parser().parse_args(args))
