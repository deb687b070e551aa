"""From samples to ratios: ours over theirs of the same run, so that what slows the machine slows both. Below 1 we are cheaper or
faster, but for rates (`…_per_s_…`), where above 1 we are. What could not be compared is counted, and no target counts as reached
over it. Pure.
"""

import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
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
    "accept_path_per_s_vs_bare_update": ("≥", 0.1),
    "accepts_per_s_vs_postgres_function": ("≥", 1.0),
    "accept_cpu_vs_postgres": ("≤", 1.0),
}
"""Ratio → its aim; against `usual` where no variant is named."""
DEMANDED: Final[dict[str, tuple[str, str | None]]] = {
    "position_cpu_vs_node_ws": ("positions", "node_ws"),
    "position_cpu_vs_socketio": ("positions", "socketio"),
    "position_cpu_vs_postgres": ("positions", "postgres"),
    "offer_p99_vs_postgres": ("offers", "postgres"),
    "accepts_per_s_vs_bare_update": ("accepts", None),
}
"""Ratio → its work and its peer (None: the Postgres alone). They stand among the ratios of every run, None when they were not measured."""
PAIRS_MIN: Final = 5
"""Below it a median says nothing."""
NEVER: Final = 1e9
"""Written for a ratio that is infinite, since JSON has no word for it: ours never came, in no time can it be met."""
EDGE_S: Final = 0.1
"""Tracking counts what was sent by one clock and what came by another: as much of it may be missing at both ends of the time."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Ours over theirs, one for each run in which both have a figure."""

    each: list[float] = field(default_factory=list)
    """Infinite where ours never came."""
    dropped: int = 0
    """Runs that one side has no sample of, or a figure that is nothing or less: CPU below what can be seen, a stamp after its frame."""
    void: int = 0
    """Runs in which a side has not done the work that it was measured by."""


def ratio(samples: Sequence[Sample], ours: str, theirs: str, figure: Callable[[Sample], float | None]) -> Pairs:
    """`figure` None: infinite, it never came. Theirs then gives 0, unless ours is, too."""
    found: dict[str, dict[int, float]] = {ours: {}, theirs: {}}
    void: set[int] = set()
    for sample in samples:
        if sample["side"] not in found:
            continue
        value = figure(sample)
        found[sample["side"]][sample["run"]] = math.inf if value is None else value
        if fault(sample):
            void.add(sample["run"])
    if not found[ours] or not found[theirs]:
        return Pairs()
    each = []
    runs = found[ours].keys() | found[theirs].keys()
    for run in sorted(runs):
        mine, other = found[ours].get(run, 0.0), found[theirs].get(run, 0.0)
        if mine > 0 and other > 0:
            each.append(mine / other if math.isfinite(mine) else math.inf)
    return Pairs(each, len(runs) - len(each), len(void))


def fault(sample: Sample) -> str:
    """What of its work this side did not do; "" when nothing. Its figures are then of less than they are named for."""
    found = {
        name.replace("_", " "): sample.get(name, 0)
        for name in ("misplaced", "offers_never_seen", "jobs_without_offer", "jobs_short_of_offers", "lines_lost")
    }
    found["requests failed"] = sum(sample.get("requests_failed", {}).values())
    found["errors"] = sum(sample.get("errors", {}).values())
    if sample.get("work") == "tracking":
        missing = sample["positions"] - sample["frames"]
        found["frames missing"] = missing if missing > sample["pairs"] * EDGE_S else 0
    return ", ".join(f"{count} {name}" for name, count in found.items() if count)


def spread_of(pairs: Pairs) -> dict[str, Any]:
    """{median, min, max, runs, each, dropped, void}; at least one pair is needed."""
    each = [round(min(one, NEVER), 4) for one in pairs.each]
    return {
        "median": round(statistics.median(each), 4),
        "min": min(each),
        "max": max(each),
        "runs": len(each),
        "each": each,
        "dropped": pairs.dropped,
        "void": pairs.void,
    }


def _all_cpu(sample: Sample) -> float:
    return float(sample["cpu_us"]["all"])


def _server_cpu(sample: Sample) -> float:
    return float(sample["cpu_us"]["server"])


def _of(name: str) -> Callable[[Sample], float | None]:
    """None, where a latency is infinite or there was nothing at all."""
    return lambda sample: sample[name]


def _short(rate: float) -> str:
    return f"{rate:g}"


def compare(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """All ratios that these samples allow, CPU for each operation first. A name ends in the peer, and in `_best` for that variant."""
    return {name: spread_of(pairs) for name, pairs in paired(samples).items() if pairs.each}


def uncompared(samples: Sequence[Sample]) -> dict[str, int]:
    """Ratios of which no pair is left, and how many were dropped."""
    return {name: pairs.dropped for name, pairs in paired(samples).items() if pairs.dropped and not pairs.each}


def paired(samples: Sequence[Sample]) -> dict[str, Pairs]:
    """The pairs of all ratios, also of those that these samples do not allow; in the order in which they are told."""
    found: dict[str, Pairs] = {}
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
    # Through sockets until every job has somebody: what losers are offered after it is in the time.
    bare = [one for one in functions if one["side"] == "bare_update"]
    found["accept_path_per_s_vs_bare_update"] = ratio(
        [*by_kind["crowd"], *bare], "ours", "bare_update", _of("accepts_per_s")
    )
    ordered = sorted(found, key=lambda name: 0 if "_cpu" in name else 1 if name.startswith("rss") else 2)
    return {name: found[name] for name in ordered}


def unmeasured(spreads: Collection[str], works: Collection[str], kinds: Collection[str]) -> list[str]:
    """Which of the demanded ratios are missing, though these works against these peers were to give them."""
    return [
        name
        for name, (work, kind) in DEMANDED.items()
        if name not in spreads and work in works and (kind is None or kind in kinds)
    ]


def aim_of(name: str) -> str:
    """Such as "≤ 0.5"; "" where there is none."""
    return "{} {:g}".format(*TARGETS[name]) if name in TARGETS else ""


def _holds(name: str, value: float) -> bool:
    sign, limit = TARGETS[name]
    return value <= limit if sign == "≤" else value >= limit


def judged(name: str, median: float) -> str:
    """The target and whether a median reaches it, whatever stands behind the median; "" where there is none."""
    return f"{aim_of(name)}: {'met' if _holds(name, median) else 'MISSED'}" if name in TARGETS else ""


def verdict(name: str, spread: dict[str, Any]) -> str:
    """The target and what a spread says about it, in the words «met» and «MISSED» only if it says enough; "" where there is none."""
    if name not in TARGETS:
        return ""
    if spread["runs"] < PAIRS_MIN:
        return f"{aim_of(name)}, not judged: {spread['runs']} of {PAIRS_MIN} pairs"
    if _holds(name, spread["median"]) and (spread["dropped"] or spread["void"]):
        return f"{aim_of(name)}, not judged: {spread['dropped']} pairs dropped, {spread['void']} void"
    unsure = _holds(name, spread["min"]) != _holds(name, spread["max"])
    said = judged(name, spread["median"])
    return said.replace(":", " (unsure, runs lie on both sides):") if unsure else said
