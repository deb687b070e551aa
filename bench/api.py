"""`python -m bench api`: what apps read over HTTP, with Postgres behind each answer, at a rate that waits for nobody.

Customers read themselves, their jobs, one job, their notifications, wallet and tickets; providers their record, papers, onboarding,
vehicles and earnings. Requests come as a Poisson process, each from another person in turn; latency counts from the moment that was a
request's, so that a slow answer makes all that waits behind it slow too. Whatever is not answered 200 is an error.
"""

import argparse
import asyncio
import gc
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from bench.demo.command import at_least_one
from bench.demo.stage import Person
from bench.elsewhere import target
from bench.figures import (
    at_least,
    complete,
    curve,
    full,
    latencies,
    ms,
    options,
    parsed,
    perform,
    point,
    seconds,
    show,
    spread,
    us,
    verdict,
)
from bench.fleet import FleetError, cloud
from bench.meter import Meter, rows_of
from bench.offers import customers_of
from bench.pace import arrivals, at_moments
from bench.progress import say, wait
from bench.server import Target
from dispatch.markets import Markets
from protocol.errors import Denied
from protocol.lifecycle import ServiceType

MARKET: Final = "bkk"
RATE_MIN, MEAN_MS, P99_MS = 1_000.0, 200.0, 50.0
ANSWER_WITHIN_S: Final = 30.0
JOBS_EACH: Final = 2
"""That a customer has had, and cancelled: so that there is something to read."""
MAKING_AT_A_TIME: Final = 8
CUSTOMERS_READ: Final = (
    "/v1/me", "/v1/jobs", "/v1/jobs/{job}", "/v1/notifications", "/v1/notifications/unread_count", "/v1/wallet", "/v1/support/tickets",
)  # fmt: skip
PROVIDERS_READ: Final = (
    "/v1/me", "/v1/providers/me", "/v1/providers/me/documents", "/v1/providers/me/onboarding", "/v1/providers/me/vehicles", "/v1/wallet",
    "/v1/jobs", "/v1/notifications",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    found = options("api", "HTTP reads at a rate, with Postgres behind.", anywhere=True)
    found.add_argument("--rate", type=seconds, default=1_100.0, help="reads a second (default: 1100)")
    found.add_argument("--customers", type=at_least_one, default=200, help="who read (default: 200)")
    found.add_argument("--providers", type=at_least_one, default=200, help="who read (default: 200)")
    found.add_argument("--for", dest="run_s", type=seconds, default=20.0, metavar="S", help="measured (default: 20)")
    found.add_argument("--warm-up", type=seconds, default=3.0, metavar="S", help="not measured (default: 3)")
    return found


SHORT: Final = {"rate": 200.0, "customers": 40, "providers": 40, "run_s": 4.0, "warm_up": 1.0}


@dataclass(slots=True)
class Reads:
    """What came back."""

    took_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By route, of those that were answered 200."""
    errors: Counter[str] = field(default_factory=Counter)
    """«route: status or what went wrong»."""
    ended_ns: int = 0

    @property
    def all_ms(self) -> list[float]:
        return [one for many in self.took_ms.values() for one in many]


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody with an app open. `routes` as they are counted, and as they are asked for."""

    person: Person
    routes: tuple[tuple[str, str], ...]


async def readers_of(running: Target) -> list[Reader]:
    """Everybody, each customer with jobs that are over. Raises FleetError."""
    pickups = cloud(Markets.load()[MARKET], len(running.customers), seed=1)
    gate = asyncio.Semaphore(MAKING_AT_A_TIME)

    async def with_jobs(number: int) -> str:
        customer = customers_of(running, ANSWER_WITHIN_S)[number]
        place = {"lat": pickups[number][0], "lng": pickups[number][1], "address": "1 Bench Road"}
        async with gate:
            for _ in range(JOBS_EACH):
                job = await customer.create_job(ServiceType.RIDE, place)
                await customer.cancel(job["id"])
        return str(job["id"])

    try:
        jobs = await asyncio.gather(*map(with_jobs, range(len(running.customers))))
    except Denied as no:
        raise FleetError(f"a customer could not have a job: {no}") from no
    customers = [
        Reader(one, tuple((route, route.format(job=job)) for route in CUSTOMERS_READ))
        for one, job in zip(running.customers, jobs, strict=True)
    ]
    return customers + [Reader(one, tuple((route, route) for route in PROVIDERS_READ)) for one in running.providers]


async def read(running: Target, reader: Reader, which: int, due_ns: int, reads: Reads, *, measured: bool) -> None:
    """One answer, from its moment to its last byte."""
    route, path = reader.routes[which % len(reader.routes)]
    try:
        async with running.http.get(
            running.url + path,
            headers={"Authorization": f"Bearer {reader.person.token}"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
        ) as answer:
            await answer.read()
            trouble = "" if answer.status == 200 else str(answer.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        trouble = type(error).__name__
    ended_ns = time.monotonic_ns()
    if not measured:
        return
    reads.ended_ns = max(reads.ended_ns, ended_ns)
    if trouble:
        reads.errors[f"{route}: {trouble}"] += 1
    else:
        reads.took_ms[route].append((ended_ns - due_ns) / 1e6)


async def at_rate(
    running: Target, readers: Sequence[Reader], shown: argparse.Namespace, seconds_: float, *, measured: bool
) -> tuple[Reads, float, float]:
    """(what came back, seconds until the last of it, seconds that the latest request was sent late)."""
    reads = Reads()
    dice = random.Random(4)
    order = list(range(len(readers)))
    dice.shuffle(order)
    moments = arrivals(shown.rate, seconds_, seed=5 if measured else 6)
    began_ns = time.monotonic_ns()
    late_s, _ = await asyncio.gather(
        at_moments(
            moments,
            lambda number, due_ns: read(
                running, readers[order[number % len(order)]], number // len(order), due_ns, reads, measured=measured
            ),
        ),
        wait(f"{shown.rate:g} reads a second", seconds_),
    )
    return reads, max(seconds_, (reads.ended_ns - began_ns) / 1e9), late_s


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError, Unreachable."""
    async with target(
        shown,
        providers=shown.providers,
        customers=shown.customers,
        market_overrides={},
        # Each person reads rate / people a second; a load of few is not to be refused for that.
        settings={"DISPATCH_USER_RATE": "1000", "DISPATCH_USER_BURST": "1000"},
    ) as running:
        readers = await readers_of(running)
        gc.collect()
        gc.freeze()
        await at_rate(running, readers, shown, shown.warm_up, measured=False)
        async with Meter(running) as meter:
            reads, took_s, late_s = await at_rate(running, readers, shown, shown.run_s, measured=True)
        assert meter.used is not None
        took_ms, errors = reads.all_ms, sum(reads.errors.values())
        per_s = len(took_ms) / took_s
        cpu = meter.used.per(max(1, len(took_ms)))
        figures = {
            "rate": shown.rate,
            "reads": len(took_ms),
            "reads_per_s": round(per_s, 1),
            "errors": errors,
            "errors_by_route": dict(sorted(reads.errors.items())),
            "mean_ms": round(sum(took_ms) / len(took_ms), 3) if took_ms else None,
            **spread(took_ms, "read_ms"),
            "routes": {route: {"reads": len(one), **spread(one, "ms")} for route, one in sorted(reads.took_ms.items())},
            "cpu_us_per_read": cpu,
            "sent_late_ms_max": round(late_s * 1000, 1),
            "processes": meter.figures,
            "latency": {"HTTP read": curve(took_ms)},
            "scaling": [
                point("server CPU per read", "µs", "reads a second", shown.rate, cpu["server"]),
                point("read p99", "ms", "reads a second", shown.rate, spread(took_ms, "ms")["ms_p99"]),
            ],
            "lines_lost": 0,
        }
        _show(figures, shown)
        if any(name.endswith(": 429") for name in reads.errors):
            say(
                "429: the server lets one address or one person ask so often and no oftener; start it with DISPATCH_ADDRESS_RATE=0 and a"
                " high DISPATCH_USER_RATE and DISPATCH_USER_BURST, or give more --customers"
            )
        return complete(figures, shown, running.versions), 1 if errors or not took_ms else 0


def _show(figures: dict[str, Any], shown: argparse.Namespace) -> None:
    cpu = figures["cpu_us_per_read"]
    # A rate below the aim says nothing about it.
    rate_min, mean_ms, p99_ms = (
        (RATE_MIN, MEAN_MS, P99_MS) if full(shown, (figures["rate"], RATE_MIN)) else (None, None, None)
    )
    show(
        f"{figures['rate']:,g} HTTP reads a second",
        [
            ("answered", f"{figures['reads_per_s']:,.0f}/s", at_least(figures["reads_per_s"], rate_min, "/s")),
            ("errors", f"{figures['errors']:,}", verdict(figures["errors"], 0, "")),
            *((f"  {name}", f"{count:,}", "") for name, count in figures["errors_by_route"].items()),
            ("mean", ms(figures["mean_ms"]), verdict(figures["mean_ms"], mean_ms, "ms")),
            *latencies(figures, "read_ms", "read", p99_ms),
            *((f"  {route} p99", ms(one["ms_p99"]), "") for route, one in figures["routes"].items()),
            ("server CPU per read", us(cpu["server"]), ""),
            ("Redis, Postgres CPU per read", f"{us(cpu['redis'])}, {us(cpu['postgres'])}", ""),
            ("load generator sent late at most", f"{figures['sent_late_ms_max']:.1f} ms", ""),
            *rows_of(figures["processes"]),
        ],
    )  # fmt: skip


def main(args: list[str]) -> int:
    """Run it; 1 when a read failed."""
    return perform(scenario, parsed(parser(), args, SHORT))
