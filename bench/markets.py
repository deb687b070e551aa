"""`python -m bench markets`: the same load in one market and in several, on a Redis cluster that is started for it.

The server runs as an operator's would who has added cities: from a copy of its own source whose `cities` folder holds more of them, each
as large as Bangkok and somewhere else. Providers and jobs are as many in all, spread evenly over the markets. First positions alone are
counted, then jobs on top of them: each is offered and cancelled a moment later. How evenly the nodes are used is told by their CPU and
their commands. A market's own keys lie on one node, so that few markets cannot fill many nodes; keys of jobs and people lie anywhere.
"""

import argparse
import gc
import math
import shutil
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

import dispatch
import protocol
from bench.cluster import Nodes, cluster
from bench.demo.command import at_least_one
from bench.figures import Row, broken, complete, known, options, parsed, perform, point, seconds, show, us, void
from bench.fleet import cloud, complaints, fleet, hang_up, lost, open_all
from bench.meter import rows_of
from bench.offers import GRACE_S, Seen, customers_of, one_job
from bench.pace import Drive, arrivals, at_moments
from bench.positions import at_rate
from bench.progress import bar, say, wait
from bench.server import Running, cpu_of, server
from dispatch.markets import Market, Markets

CODES: Final = ("bkk", "cnx", "hkt", "hdy", "utp", "usm", "kbv", "nst")
"""Markets in the order in which they are added; all but the first are Bangkok's outline moved east. The names decide on which nodes they lie."""
APART_DEGREES: Final = 2.0
HOLD_S: Final = 1.0


def counts(text: str) -> list[int]:
    """ "1,2,4,8"."""
    found = sorted({at_least_one(part) for part in text.split(",")})
    if found[-1] > len(CODES):
        raise argparse.ArgumentTypeError(f"{found[-1]} is out of range: at most {len(CODES)}")
    return found


def parser() -> argparse.ArgumentParser:
    found = options("markets", "The same load in one market and in several, on a Redis cluster.")
    found.add_argument(
        "--markets",
        type=counts,
        default=[1, 2, 4, 8],
        metavar="N[,N…]",
        help="one server after the other (default: 1,2,4,8)",
    )
    found.add_argument("--nodes", type=at_least_one, default=3, help="of the cluster (default: 3)")
    found.add_argument("--providers", type=at_least_one, default=2_000, help="online, in all markets (default: 2000)")
    found.add_argument("--customers", type=at_least_one, default=300, help="taking turns (default: 300)")
    found.add_argument("--rate", type=seconds, default=20.0, help="jobs a second, in all markets (default: 20)")
    found.add_argument(
        "--for", dest="run_s", type=seconds, default=20.0, metavar="S", help="each of positions, jobs (default: 20)"
    )
    found.add_argument("--warm-up", type=seconds, default=5.0, metavar="S", help="not measured (default: 5)")
    return found


SHORT: Final = {"markets": [1, 3], "providers": 150, "customers": 60, "rate": 10.0, "run_s": 2.0, "warm_up": 0.5}


def more_cities(folder: Path, codes: Sequence[str]) -> Path:
    """Copy the server's source into `folder`, with these markets beside its own; where its cities are. No open board: a job is offered."""
    for package in (dispatch, protocol):
        source = Path(package.__path__[0])
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    cities = folder / "dispatch" / "markets" / "cities"
    own = cities / CODES[0]
    file = own / "market.toml"
    file.write_text(file.read_text().replace("open_board = true", "open_board = false"))
    text, outline = file.read_text(), orjson.loads((own / "outline.geojson").read_bytes())
    for number, code in enumerate(codes):
        if code == CODES[0]:
            continue
        city = cities / code
        city.mkdir()
        (city / "market.toml").write_text(
            text.replace("default = true", "default = false").replace('"Bangkok"', f'"{code}"')
        )
        moved = [
            [[lng + number * APART_DEGREES, lat] for lng, lat in ring] for ring in outline["geometry"]["coordinates"]
        ]
        (city / "outline.geojson").write_bytes(
            orjson.dumps(outline | {"geometry": outline["geometry"] | {"coordinates": moved}})
        )
    return cities


def spread_over(markets: Sequence[Market], count: int, *, seed: int) -> list[tuple[float, float]]:
    """So many places, the markets by turns. The same for the same seed. Pure."""
    each = [cloud(market, -(-count // len(markets)), seed=seed) for market in markets]
    return [each[number % len(each)][number // len(each)] for number in range(count)]


@dataclass(frozen=True, slots=True)
class Work:
    """What each node has done since it began: CPU seconds, commands."""

    cpu_s: tuple[float, ...]
    commands: tuple[int, ...]

    @classmethod
    async def of(cls, nodes: Nodes) -> "Work":
        pids = nodes.cpu_pids()
        seconds_of = cpu_of(pids)
        stats = [await client.info("stats") for client in nodes.clients]
        return cls(tuple(seconds_of[pid] for pid in pids), tuple(int(one["total_commands_processed"]) for one in stats))

    def since(self, before: "Work") -> "Work":
        return Work(
            tuple(round(now - then, 2) for now, then in zip(self.cpu_s, before.cpu_s, strict=True)),
            tuple(now - then for now, then in zip(self.commands, before.commands, strict=True)),
        )


def busiest(parts: Sequence[float]) -> float:
    """The largest part to an even one: 1 when all are alike; NaN of nothing. Pure."""
    return round(max(parts) * len(parts) / sum(parts), 2) if sum(parts) else math.nan


async def jobs(
    running: Running, nodes: Nodes, markets: Sequence[Market], seen: Seen, drive: Drive, shown: argparse.Namespace
) -> dict[str, Any]:
    """Jobs beside the positions; what each cost that was offered to somebody, beyond what the positions cost anyway. A span of positions
    alone goes before, as long as theirs.
    """
    moments = arrivals(shown.rate, shown.run_s, seed=3)
    pickups = spread_over(markets, len(moments), seed=2)
    customers = customers_of(running, 0.0)
    before, nodes_before = running.usage(), await Work.of(nodes)
    await wait("positions alone", shown.run_s)
    middle, nodes_middle = running.usage(), await Work.of(nodes)

    def one(number: int, due_ns: int) -> Coroutine[Any, Any, None]:
        customer = customers[number % len(customers)]
        return one_job(customer, pickups[number], seen, asked_ns=due_ns, hold_s=HOLD_S, measured=True)

    say(f"{len(moments)} jobs")
    await at_moments(moments, one)
    used, worked = running.usage().since(middle), (await Work.of(nodes)).since(nodes_middle)
    await wait("the last offers", GRACE_S)
    quiet, idled = middle.since(before), nodes_middle.since(nodes_before)
    offered = sum(job in seen.first_of_job for job in seen.asked)
    cost = used.beyond(quiet).per(max(1, offered))
    share = used.at / max(quiet.at, 1e-9)
    nodes_us = max(0.0, sum(worked.cpu_s) - share * sum(idled.cpu_s)) / max(1, offered) * 1e6
    return {
        "jobs": len(seen.asked),
        "jobs_offered": offered,
        "requests_failed": dict(sorted(seen.failed.items())),
        "cpu_us_per_offered_job": {"server": cost["server"], "postgres": cost["postgres"], "nodes": round(nodes_us, 1)},
        "nodes_cpu_s": worked.cpu_s,
        "nodes_commands": worked.commands,
        "sent_late_ms_max": round(drive.pace.late_s_max * 1000, 1),
    }


async def at_count(count: int, shown: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """One server on one cluster with so many markets; (figures, versions)."""
    codes = CODES[:count]
    cities = more_cities(folder / "source", codes)
    loaded = Markets.load(folder=cities)
    markets = [loaded[code] for code in codes]
    seen = Seen()
    async with cluster(folder / "cluster", shown.nodes) as nodes:
        # The source in `folder` is found before ours: that is how more cities come in without a change of the server.
        settings = {"REDIS_URL": nodes.url, "PYTHONPATH": str(folder / "source"), "PYTHONSAFEPATH": "1"}
        async with server(
            market=codes[0], providers=shown.providers, customers=shown.customers, workers=shown.workers, market_overrides={}, say=say,
            settings=settings,
        ) as started:  # fmt: skip
            running = replace(started, redis=None, redis_pid=None)  # the embedded one stands by, unused
            phones = fleet(running.url, running.providers, spread_over(markets, shown.providers, seed=1), seen.event)
            with bar("providers connecting", len(phones)) as advance:
                await open_all(phones, advance=advance)
            gc.collect()
            gc.freeze()
            try:
                before = await Work.of(nodes)
                one = await at_rate(
                    running, phones, float(shown.providers), argparse.Namespace(**vars(shown), probes=1)
                )
                worked = (await Work.of(nodes)).since(before)
                async with Drive(phones, float(shown.providers)) as drive:
                    found = await jobs(running, nodes, markets, seen, drive, shown)
            finally:
                gc.unfreeze()
            positions = one["sent_with_warm_up"]
            figures = {
                "markets": count,
                "positions": positions,
                "taken_by_server": one["taken_by_server"],
                "server_cpu_us_per_position": one["server_cpu_us_per_position"],
                "nodes_cpu_us_per_position": round(sum(worked.cpu_s) / max(1, positions) * 1e6, 1),
                "nodes_cpu_s": worked.cpu_s,
                "nodes_commands": worked.commands,
                "busiest_node_cpu": busiest(worked.cpu_s),
                "busiest_node_commands": busiest(worked.commands),
                "with_jobs": found | {"busiest_node_commands": busiest(found["nodes_commands"])},
                "lines_lost": lost(phones),
                "errors": complaints(phones),
                "processes": one["processes"],
            }
            await hang_up(phones, offline=False)
            return figures, started.versions


def scaling(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By markets. Pure."""
    found = []
    for one in measured:
        each = one["with_jobs"]["cpu_us_per_offered_job"]
        found += [
            point(of, unit, "markets", one["markets"], value)
            for of, unit, value in (
                ("server CPU per position", "µs", one["server_cpu_us_per_position"]),
                ("CPU of all nodes per position", "µs", one["nodes_cpu_us_per_position"]),
                ("server CPU per offered job", "µs each job", each["server"]),
                ("Postgres CPU per offered job", "µs each job", each["postgres"]),
                ("CPU of all nodes per offered job", "µs each job", each["nodes"]),
                ("busiest node to an even one, commands", "times", one["busiest_node_commands"]),
                (
                    "busiest node to an even one, commands, with jobs",
                    "times",
                    one["with_jobs"]["busiest_node_commands"],
                ),
            )
        ]
    return found


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    measured: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for count in shown.markets:
        say(f"{count} markets on {shown.nodes} nodes")
        with tempfile.TemporaryDirectory(prefix="dispatch-markets-") as name:
            found, versions = await at_count(count, shown, Path(name))
        measured.append(found)
        for reason in wrong(found):
            void(reason)
        show(f"{count} markets, {shown.nodes} nodes, {shown.providers:,} providers", rows(found))
    figures = {
        "measured": measured,
        "scaling": scaling(measured),
        "lines_lost": sum(one["lines_lost"] for one in measured),
    }
    return complete(figures, shown, versions), 0


def wrong(one: Mapping[str, Any]) -> list[str]:
    """Why the cost is not that of such a load. Pure."""
    found = broken(one) + broken({"errors": one["with_jobs"]["requests_failed"]})
    if one["taken_by_server"] not in (None, one["positions"]):
        found.append(
            f"{one['taken_by_server']:,} of {one['positions']:,} positions were taken in {one['markets']} markets"
        )
    return found


def rows(one: Mapping[str, Any]) -> list[Row]:
    """For people."""
    work = one["with_jobs"]
    each = work["cpu_us_per_offered_job"]
    shares = ", ".join(f"{commands / max(1, sum(one['nodes_commands'])):.0%}" for commands in one["nodes_commands"])
    return [
        ("server CPU per position", us(one["server_cpu_us_per_position"]), ""),
        ("CPU of all nodes per position", us(one["nodes_cpu_us_per_position"]), ""),
        ("sent, taken by the server", f"{one['positions']:,}, {known(one['taken_by_server'], ',')}", ""),
        (
            "CPU per offered job: server, Postgres, nodes",
            ", ".join(us(each[name]) for name in ("server", "postgres", "nodes")),
            "",
        ),
        ("jobs, offered to somebody", f"{work['jobs']:,}, {work['jobs_offered']:,}", ""),
        ("requests failed", f"{work['requests_failed'] or 'none'}", ""),
        ("commands by node, positions alone", shares, ""),
        (
            "busiest node to an even one: commands, CPU",
            f"{one['busiest_node_commands']:.2f}, {one['busiest_node_cpu']:.2f}",
            "",
        ),
        ("the same with jobs, commands", f"{work['busiest_node_commands']:.2f}", ""),
        *rows_of(one["processes"]),
        ("lines lost", f"{one['lines_lost']}", ""),
    ]


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parsed(parser(), args, SHORT))
