"""What a simulated day is judged by."""

from collections.abc import Sequence
from typing import Any

from bench.matching.engine import Outcome
from dispatch.markets import Market


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of all are not above; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1e9) * len(ordered) // 1_000_000_000) - 1))]


def gini(values: Sequence[float]) -> float | None:
    """How unevenly: 0 all the same, towards 1 one has it all. None of none, and where nobody has anything: nothing was shared out."""
    ordered = sorted(values)
    total = sum(ordered)
    if total <= 0:
        return None
    n = len(ordered)
    return sum((2 * rank - n - 1) * value for rank, value in enumerate(ordered, 1)) / (n * total)


def measures(outcome: Outcome, market: Market) -> dict[str, Any]:
    """One row. `busy` is the share of the cabs' time on shift that they had a customer or were on the way to one. Waits are of customers who got a cab, from asking until it is there; metres of pickups straight, of idling on the road.

    Earnings are per hour on shift, of cabs that were out for an hour at least. None stands for what nothing was there to measure by: no cab
    was out for so long, nobody was served.
    """
    taken = [job for job in outcome.jobs if job.taken_at is not None]
    waits = [(job.taken_at - job.trip.at_ms + job.way_ms) / 1000 for job in taken if job.taken_at is not None]
    answers = [(job.taken_at - job.trip.at_ms) / 1000 for job in taken if job.taken_at is not None]
    hourly = [cab.earned_minor * 3_600_000 / cab.on_ms for cab in outcome.cabs if cab.on_ms >= 3_600_000]

    def each(total: float) -> float | None:
        return total / len(taken) if taken else None

    worst = quantile(outcome.solves_s, 0.99)
    on_ms = max(1, sum(cab.on_ms for cab in outcome.cabs))
    return {
        "jobs": len(outcome.jobs),
        "served": len(taken) / max(1, len(outcome.jobs)),
        "wait_p50_s": quantile(waits, 0.5),
        "wait_p95_s": quantile(waits, 0.95),
        "assigned_p50_s": quantile(answers, 0.5),
        "assigned_p95_s": quantile(answers, 0.95),
        "pickup_m": each(sum(job.pickup_m for job in taken)),
        "offers_per_assignment": each(outcome.offers),
        "idle_m": each(outcome.cruised_m * market.detour_factor),
        "gini": gini(hourly),
        "busy": sum(cab.busy_ms for cab in outcome.cabs) / on_ms,
        "window_jobs": sum(outcome.windows) / max(1, len(outcome.windows)),
        "solve_p99_ms": None if worst is None else 1000 * worst,
        "decisions_per_s": outcome.decisions / max(1e-9, outcome.deciding_s),
        "offers": outcome.offers,
        "took_s": outcome.took_s,
        "times_life": outcome.span_s / max(1e-9, outcome.took_s),
        "decisions": outcome.decisions,
        "log_hash": outcome.log_hash,
    }
