"""From samples to ratios: ours over theirs of the same run, so that what slows the machine slows both. Below 1 we are cheaper or
faster, but for rates (`…_per_s_…`), where above 1 we are. Pure.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench.peers.sides import NAMES, VARIANTS

Sample = dict[str, Any]

TARGETS: Final[dict[str, tuple[str, float]]] = {
    "position_cpu_vs_node_ws": ("≤", 0.5),
    "position_cpu_vs_node_ws_best": ("≤", 1.2),
    "position_cpu_vs_socketio": ("≤", 0.5),
    "position_cpu_vs_postgres": ("≤", 0.3),
    "offer_p99_vs_postgres": ("≤", 0.5),
    "accepts_per_s_vs_bare_update": ("≥", 0.5),
    "accept_cpu_vs_postgres": ("≤", 1.0),
}
"""Of performance.md §0.2; against `usual` where no variant is named."""


def ratio(samples: Sequence[Sample], ours: str, theirs: str, figure: Callable[[Sample], float | None]) -> list[float]:
    """One for each run in which both have a figure above nothing."""
    found: dict[str, dict[int, float]] = {ours: {}, theirs: {}}
    for sample in samples:
        value = figure(sample) if sample["side"] in found else None
        if value is not None and value > 0:
            found[sample["side"]][sample["run"]] = value
    runs = sorted(found[ours].keys() & found[theirs].keys())
    return [found[ours][run] / found[theirs][run] for run in runs]


def spread_of(ratios: Sequence[float]) -> dict[str, Any]:
    """{median, min, max, runs, each}."""
    return {
        "median": round(statistics.median(ratios), 4),
        "min": round(min(ratios), 4),
        "max": round(max(ratios), 4),
        "runs": len(ratios),
        "each": [round(one, 4) for one in ratios],
    }


def _all_cpu(sample: Sample) -> float:
    return float(sample["cpu_us"]["all"])


def _server_cpu(sample: Sample) -> float:
    return float(sample["cpu_us"]["server"])


def _of(name: str) -> Callable[[Sample], float | None]:
    return lambda sample: sample[name]


def _short(rate: float) -> str:
    return f"{rate:g}"


def compare(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """All ratios that these samples allow, CPU for each operation first. A name ends in the peer, and in `_best` for that variant."""
    found: dict[str, list[float]] = {}
    positions = [one for one in samples if one["work"] == "positions"]
    rates = list(dict.fromkeys(one["rate"] for one in positions))
    accepts = [one for one in samples if one["work"] == "accepts"]
    by_kind = {kind: [one for one in accepts if one["kind"] == kind] for kind in ("crowd", "racers", "function")}
    works = {work: [one for one in samples if one["work"] == work] for work in ("offers", "tracking", "sockets")}
    for kind in NAMES:
        for variant in VARIANTS:
            side = f"{kind}_{variant}"
            end = kind if variant == "usual" else side
            for number, rate in enumerate(rates):
                at = "" if number == 0 else f"_at_{_short(rate)}"
                some = [one for one in positions if one["rate"] == rate]
                found[f"position_cpu{at}_vs_{end}"] = ratio(some, "ours", side, _all_cpu)
                found[f"position_server_cpu{at}_vs_{end}"] = ratio(some, "ours", side, _server_cpu)
            found[f"offer_cpu_vs_{end}"] = ratio(works["offers"], "ours", side, _all_cpu)
            found[f"accept_cpu_vs_{end}"] = ratio(by_kind["crowd"], "ours", side, _all_cpu)
            found[f"race_cpu_vs_{end}"] = ratio(by_kind["racers"], "ours", side, _all_cpu)
            found[f"tracking_cpu_vs_{end}"] = ratio(works["tracking"], "ours", side, _all_cpu)
            found[f"rss_per_socket_vs_{end}"] = ratio(works["sockets"], "ours", side, _of("rss_kib_per_socket"))
            found[f"offer_p99_vs_{end}"] = ratio(works["offers"], "ours", side, _of("commit_to_frame_ms_p99"))
            # A NOTIFY may be heard before the COMMIT's own reply is read, so a stamp can be later than the frame; this one has no stamp.
            found[f"offer_request_p99_vs_{end}"] = ratio(
                works["offers"], "ours", side, _of("request_to_first_frame_ms_p99")
            )
            found[f"accept_p99_vs_{end}"] = ratio(by_kind["crowd"], "ours", side, _of("accept_ms_p99"))
            found[f"race_p99_vs_{end}"] = ratio(by_kind["racers"], "ours", side, _of("accept_ms_p99"))
            found[f"tracking_age_p50_vs_{end}"] = ratio(works["tracking"], "ours", side, _of("age_ms_p50"))
    functions = by_kind["function"]
    found["accept_function_cpu_vs_bare_update"] = ratio(functions, "ours", "bare_update", _of("postgres_cpu_us"))
    found["accept_function_cpu_vs_postgres"] = ratio(functions, "ours", "postgres_design", _of("postgres_cpu_us"))
    found["accepts_per_s_vs_bare_update"] = ratio(functions, "ours", "bare_update", _of("accepts_per_s"))
    found["accepts_per_s_vs_postgres_function"] = ratio(functions, "ours", "postgres_design", _of("accepts_per_s"))
    ordered = sorted(found, key=lambda name: 0 if "_cpu" in name else 1 if name.startswith("rss") else 2)
    return {name: spread_of(found[name]) for name in ordered if found[name]}


def judged(name: str, median: float) -> str:
    """The target and whether it was met; "" where there is none."""
    if name not in TARGETS:
        return ""
    sign, limit = TARGETS[name]
    met = median <= limit if sign == "≤" else median >= limit
    return f"{sign} {limit:g}: {'met' if met else 'MISSED'}"
