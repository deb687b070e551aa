"""What the evidence is measured against: each aim, where its figure is kept, and by which command it is made."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, dict[str, Any]]
"""File of bench/results/faults without its end → what it holds."""


@dataclass(frozen=True, slots=True)
class Target:
    """One aim."""

    words: str
    aim: str
    limit: float | None
    """None: no aim, a plain figure."""
    value: Callable[[Results], float | None]
    """None: no run has measured it. Infinite: it was waited for and never came."""
    command: str
    unit: str = ""
    at_least: bool = False

    def met(self, value: float) -> bool:
        if self.limit is None:
            return True
        return value >= self.limit if self.at_least else value <= self.limit

    def shown(self, value: float) -> str:
        if math.isinf(value):
            return "never"
        number = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.2f}"
        return f"{number} {self.unit}".strip()


def _runs(found: Results) -> list[dict[str, Any]]:
    return [one for name, one in found.items() if name.partition("-")[0] in ("simulation", "chaos")]


def _real(found: Results) -> list[dict[str, Any]]:
    return [one for name, one in found.items() if name.startswith("chaos-")]


def _sum(key: str) -> Callable[[Results], float | None]:
    def summed(found: Results) -> float | None:
        values = [one[key] for one in _runs(found)]
        return sum(values) if values else None

    return summed


def _worst(*path: str) -> Callable[[Results], float | None]:
    """The largest of what the chaos runs have there; null is nothing measured. What never came is counted by a target of its own."""

    def worst(found: Results) -> float | None:
        return max(_known(found, path), default=None)

    return worst


def _count(*path: str) -> Callable[[Results], float | None]:
    """How many in all chaos runs."""

    def count(found: Results) -> float | None:
        values = _known(found, path)
        return sum(values) if values else None

    return count


def _known(found: Results, path: tuple[str, ...]) -> list[float]:
    return [value for one in _real(found) if (value := _at(one, path)) is not None]


def _of(name: str, *path: str) -> Callable[[Results], float | None]:
    def value(found: Results) -> float | None:
        return _at(found[name], path) if name in found else None

    return value


def _reached(name: str, *path: str) -> Callable[[Results], float | None]:
    """The same of what was waited for: null in a result is that it never came."""

    def value(found: Results) -> float | None:
        *parts, last = path
        one: Any = found.get(name, {})
        for key in parts:
            one = one.get(key, {})
        return math.inf if last in one and one[last] is None else _at(one, (last,))

    return value


def _less(name: str, part: str, whole: str, less: str) -> Callable[[Results], float | None]:
    """How many of `whole` are missing from `less`."""

    def value(found: Results) -> float | None:
        every, those = _of(name, part, whole)(found), _of(name, part, less)(found)
        return None if every is None or those is None else every - those

    return value


def _at(one: Any, path: tuple[str, ...]) -> float | None:
    """The figure there; a list counts as its length."""
    for key in path:
        if not isinstance(one, dict) or key not in one:
            return None
        one = one[key]
    if isinstance(one, list):
        return float(len(one))
    return None if one is None else float(one)


def _caught(found: Results) -> float | None:
    return float(len(found["mutants"]["mutants"])) if "mutants" in found else None


def _slowest_catch(found: Results) -> float | None:
    caught = found.get("mutants", {}).get("mutants", {})
    return max((float(one["seconds"]) for one in caught.values()), default=None)


def _slowed(found: Results) -> float | None:
    before = _of("storms", "not_reading", "accept_ms_before_p99")(found)
    during = _reached("storms", "not_reading", "accept_ms_p99")(found)
    return None if before is None or during is None else during / before


def _drift(found: Results) -> float | None:
    share = _of("hostile", "rss_drift")(found)
    return None if share is None else share * 100


SIMULATED, CHAOS, STORMS, HOSTILE = (
    "python -m bench simulate-faults",
    "python -m bench chaos",
    "python -m bench storms",
    "python -m bench hostile",
)

TARGETS = (
    Target("attempts to take a job, all runs", "≥ 1,000,000", 1e6, _sum("accepts"), f"{SIMULATED}`, `{CHAOS}", at_least=True),
    Target("faults that met somebody, all runs", "≥ 10,000", 1e4, _sum("faults"), f"{SIMULATED}`, `{CHAOS}", at_least=True),
    Target("violations of any invariant, all runs", "0", 0, _sum("violations"), f"{SIMULATED}`, `{CHAOS}"),
    Target("accepts answered with yes and lost, real processes", "0", 0, _count("acked_accepts_lost"), CHAOS),
    Target("resumed after SIGKILL of a worker, p99, no other fault at the time", "≤ 5 s", 5_000, _worst("resume_ms", "resume_p99"), CHAOS, "ms"),
    Target("accepts while Redis is dead, p99, no other fault at the time", "≤ 500 ms", 500, _worst("accept_ms_redis_dead", "accept_p99"), CHAOS, "ms"),
    Target("first accept won after Postgres is back, worst", "≤ 10 s", 10, _worst("postgres_to_first_accept_s", "served_max"), CHAOS, "s"),
    Target("accepts whose commit's reply was lost: settled, worst, no other fault at the time", "≤ 5 s", 5, _worst("unknown_commits_settled_s", "settled_max"), CHAOS, "s"),
    Target("the same: never settled", "0", 0, _count("unknown_commits_unsettled"), CHAOS),
    Target("phones of a killed worker that never resumed", "0", 0, _count("never_resumed"), CHAOS),
    Target("returns of Postgres after which nobody won a job any more", "0", 0, _count("never_served"), CHAOS),
    Target("messages, lines of a log and deaths that nobody explains", "0", 0, _count("unexpected"), CHAOS),
    Target("faults planned and not done (skipped ones are in the table of faults)", "0", 0, _count("not_done"), CHAOS),
    Target("storm: sockets that return at once", "≥ 5,000", 5_000, _of("storms", "returning", "sockets"), STORMS, at_least=True),
    Target("storm: of these, not back within 2 min", "0", 0, _less("storms", "returning", "sockets", "returned"), STORMS),
    Target("storm: of these, not resumed where they stood", "0", 0, _less("storms", "returning", "sockets", "resumed"), STORMS),
    Target("storm: the last one back", "≤ 30 s", 30, _reached("storms", "returning", "return_s_max"), STORMS, "s"),
    Target("storm: loop lag, max", "≤ 500 ms", 500, _of("storms", "returning", "loop_lag_ms_max"), STORMS, "ms"),
    Target("storm: accepts meanwhile", "≥ 1", 1, _of("storms", "returning", "accepts"), STORMS, at_least=True),
    Target("storm: accepts meanwhile, p99", "≤ 1 s", 1_000, _reached("storms", "returning", "accept_ms_p99"), STORMS, "ms"),
    Target("slow readers: a tenth of the sockets, in rounds", "≥ 500", 500, _of("storms", "not_reading", "not_reading"), STORMS, at_least=True),
    Target("slow readers: waiting for each, max", "≤ 256 KiB", 256, _of("storms", "not_reading", "waiting_kib_max"), STORMS, "KiB"),
    Target("slow readers: not cut within 1 min", "0", 0, _less("storms", "not_reading", "not_reading", "gone"), STORMS),
    Target("slow readers: the last one gone", "≤ 10 s", 10, _reached("storms", "not_reading", "gone_s_max"), STORMS, "s"),
    Target("slow readers: others' accepts, p99 to what it was before", "≤ 1.2", 1.2, _slowed, STORMS, "×"),
    Target("storm and slow readers: others' requests that failed", "0", 0, _of("storms", "failed"), STORMS),
    Target("rolling restart: workers", "≥ 4", 4, _of("storms", "restarting", "workers"), STORMS, at_least=True),
    Target("rolling restart: workers not replaced", "0", 0, _less("storms", "restarting", "workers", "replaced"), STORMS),
    Target("rolling restart: accepts meanwhile", "≥ 1", 1, _of("storms", "restarting", "accepts"), STORMS, at_least=True),
    Target("rolling restart: failed requests", "0", 0, _of("storms", "restarting", "failed"), STORMS),
    Target("rolling restart: events lost", "0", 0, _of("storms", "restarting", "events_lost"), STORMS),
    Target("rolling restart: events out of order", "0", 0, _of("storms", "restarting", "events_out_of_order"), STORMS),
    Target("broken frames that reached the server", "≥ 1,000,000", 1e6, _of("hostile", "frames_reached"), HOSTILE, at_least=True),
    Target("unhandled exceptions", "0", 0, _of("hostile", "unhandled"), HOSTILE),
    Target("answers that are not of the contract", "0", 0, _of("hostile", "answers_not_of_the_contract"), HOSTILE),
    Target("all workers lived", "1 (yes)", 1, _of("hostile", "workers_alive"), HOSTILE, at_least=True),
    Target("attackers that were neither welcomed nor refused in time", "0", 0, _of("hostile", "never_welcomed"), HOSTILE),
    Target("growth of resident memory over it", "≤ 5 %", 5, _drift, HOSTILE, "%"),
    Target("bystander: requests that failed", "0", 0, _of("hostile", "bystander", "failed"), HOSTILE),
    Target("bystander: rides", "≥ 1", 1, _of("hostile", "bystander", "rides"), HOSTILE, at_least=True),
    Target("bystander: sockets that he needed", "1", 1, _of("hostile", "bystander", "sockets_needed"), HOSTILE),
    Target("bystander: answers on the socket, p99", "none", None, _reached("hostile", "bystander", "socket_ms_p99"), HOSTILE, "ms"),
    Target("bystander: answers over HTTP, p50", "none", None, _reached("hostile", "bystander", "http_ms_p50"), HOSTILE, "ms"),
    Target("bystander: answers over HTTP, p99", "none", None, _reached("hostile", "bystander", "http_ms_p99"), HOSTILE, "ms"),
    Target("requests told that the server is busy", "none", None, _of("hostile", "answers", "Reply BUSY"), HOSTILE),
    Target("mutants caught", "12 of 12", 12, _caught, "make mutants", at_least=True),
    Target("slowest catch", "≤ 5 min", 300, _slowest_catch, "make mutants", "s"),
)  # fmt: skip
