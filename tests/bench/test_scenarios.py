"""The parts of the load tools that can be wrong without anybody noticing: figures and pacing."""

import argparse
import asyncio
import io
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import candidates, figures, offers, server
from bench.accepts import WAVE, circle
from bench.candidates import HELD, growth, nearest
from bench.fleet import cloud
from bench.meter import share_kib
from bench.offers import Seen, aim_ms, one_job
from bench.offers import figures_of as offer_figures
from bench.offers import wrong as offers_wrong
from bench.pace import Pace, arrivals, at_moments, bursts
from bench.positions import parser as positions_parser
from bench.positions import scaling
from bench.positions import wrong as positions_wrong
from bench.progress import bar
from bench.sockets import wrong as sockets_wrong
from bench.tracking import ages_of, due
from dispatch.kit.geo import distance_m
from dispatch.markets import Markets
from protocol.errors import Denied
from protocol.lifecycle import ServiceType
from tests.support.loops import stand_still

# --- pacing


@given(st.floats(0.5, 5_000), st.lists(st.floats(0.0001, 0.5), min_size=1, max_size=50))
def test_an_open_loop_sends_what_is_due_and_never_more(rate: float, steps: list[float]) -> None:
    pace, now = Pace(rate, 100.0), 100.0
    assert pace.due(now) == 1
    for step in steps:
        now += step
        pace.due(now)
        due = (now - 100.0) * rate + 1
        assert due - 1.001 <= pace.sent <= due + 0.001


def test_a_pause_of_the_sender_is_made_up_for_and_told() -> None:
    pace = Pace(100.0, 0.0)
    assert [pace.due(0.0), pace.due(0.005), pace.due(0.01)] == [1, 0, 1]
    assert pace.due(1.01) == 100
    assert pace.late_s_max == pytest.approx(0.99)
    assert pace.sent == 102


async def test_what_is_late_counts_from_the_moment_that_was_its() -> None:
    began_ns = time.monotonic_ns()
    due: dict[int, float] = {}
    answered = asyncio.Event()

    async def work(number: int, due_ns: int) -> None:
        due[number] = (due_ns - began_ns) / 1e9
        if number == 0:
            stand_still(0.05)  # the whole loop stands still: whoever is due meanwhile is started late
            await answered.wait()
        elif number == 2:
            answered.set()

    async with asyncio.timeout(5):
        late_s = await at_moments([0.0, 0.01, 0.02], work)
    assert list(due) == [0, 1, 2], "the first was not waited for"
    assert due[1] - due[0] == pytest.approx(0.01) and due[2] - due[0] == pytest.approx(0.02)
    assert late_s >= 0.02


def test_what_falls_into_one_instant_is_as_much_a_second() -> None:
    assert bursts(100, 3, of=50) == [at for at in (0, 0.5, 1, 1.5, 2, 2.5) for _ in range(50)]
    assert bursts(10, 0.5, of=100) == []


@pytest.mark.parametrize(
    ("rate", "providers", "at_once", "limit"),
    [
        (50, 2_000, 1, 15), (100, 5_000, 1, 10), (100, 5_000, 100, 25), (100, 2_000, 1, 15), (50, 5_000, 1, 15),
        (100, 2_000, 100, None), (100, 5_000, 99, None), (50, 5_000, 100, None), (50, 1_999, 1, None), (20, 5_000, 1, None),
    ],
)  # fmt: skip
def test_an_offer_is_judged_by_the_aim_of_its_load_and_a_smaller_load_by_none(
    rate: float, providers: int, at_once: int, limit: float | None
) -> None:
    assert aim_ms(rate, providers, at_once) == limit


def test_arrivals_are_a_poisson_process() -> None:
    moments = arrivals(50, 200, seed=1)
    assert moments == arrivals(50, 200, seed=1)
    assert moments != arrivals(50, 200, seed=2)
    assert moments == sorted(moments)
    assert 0 < moments[0]
    assert moments[-1] < 200
    assert len(moments) == pytest.approx(10_000, rel=0.05)
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    # Exponential gaps spread as widely as their mean; an even stream would not spread at all.
    mean = sum(gaps) / len(gaps)
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(mean, rel=0.05)


# --- places


def test_a_cloud_lies_in_its_market_and_is_the_same_for_the_same_seed() -> None:
    market = Markets.load()["bkk"]
    places = cloud(market, 300, seed=1)
    assert places == cloud(market, 300, seed=1)
    assert all(market.holds(*place) for place in places)
    away_m = sorted(distance_m(*market.centre(), *place) for place in places)
    assert 3_000 < away_m[150] < 12_000


def test_on_the_circle_the_five_nearest_are_oneself_and_two_on_either_side() -> None:
    places = circle(100, 3_000, (13.75, 100.5))
    for number, place in enumerate(places):
        nearest = sorted(range(100), key=lambda other: distance_m(*place, *places[other]))[:WAVE]
        assert set(nearest) == {(number + step) % 100 for step in (-2, -1, 0, 1, 2)}


# --- figures


def test_what_never_came_is_infinite_and_not_left_out() -> None:
    found = figures.spread([1.0] * 98 + [math.inf] * 2, "x_ms")
    assert found == {"x_ms_p50": 1.0, "x_ms_p95": 1.0, "x_ms_p99": None, "x_ms_max": None}
    assert figures.verdict(found["x_ms_p99"], 15, "ms") == "≤ 15 ms: MISSED"
    assert figures.ms(None) == "never"
    assert figures.spread([], "x_ms") == dict.fromkeys(("x_ms_p50", "x_ms_p95", "x_ms_p99", "x_ms_max"))
    curve = figures.curve([1.0] * 98 + [math.inf] * 2)
    assert curve[0] == (0.0, 1.0) and (0.98, 1.0) in curve and (0.99, None) in curve and curve[-1] == (1.0, None)
    assert figures.curve([]) == []
    assert figures.verdict(15.0, 15, "ms") == "≤ 15 ms: met"


def test_offers_are_counted_by_their_stamps() -> None:
    seen = Seen()
    for offer, at_ns in (("early", 1_500_000), ("a", 12_000_000), ("b", 14_000_000), ("unstamped", 15_000_000)):
        seen.offers[offer] = at_ns
    seen.asked = {"j1": 9_000_000, "j2": 10_000_000}
    seen.first_of_job = {"j1": 12_000_000}
    seen.refused = 1
    stamps = {"early": 1_000_000, "a": 11_000_000, "b": 12_000_000, "never": 13_000_000, "late": 90_000_000}
    found = offer_figures(seen, stamps, 10_000_000, 20_000_000)
    assert (found["offers"], found["offers_never_seen"], found["offers_seen_without_stamp"]) == (3, 1, 1)
    assert found["commit_to_frame_ms_p50"] == 2.0
    assert found["commit_to_frame_ms_p99"] is None
    assert (found["jobs"], found["jobs_without_offer"], found["requests_refused"]) == (2, 1, 1)
    # Of three requests one came to a frame: neither the one without an offer nor the refused one is left out.
    assert found["request_to_first_frame_ms_p50"] is found["request_to_first_frame_ms_p99"] is None
    assert found["latency"]["request to first frame"][0] == (0.0, 3.0)


def offered() -> dict[str, Any]:
    """Figures of a run of the largest load, in which nothing happened."""
    return offer_figures(Seen(), {}, 0, 1) | {
        "rate": 100.0, "providers": 5_000, "at_once": 1, "fixes": 1.0, "requests_failed": {}, "lines_lost": 0, "sent_late_ms_max": 0.0,
        "cpu_us_per_job_with_its_positions": dict.fromkeys(("server", "redis", "postgres"), 1.0), "processes": PROCESSES,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("failed", "short", "said"),
    [({}, False, "0: met"), ({"OVERLOADED": 2, "BUSY": 1}, False, "0: MISSED"), ({"OVERLOADED": 2}, True, "")],
)
def test_a_request_that_is_refused_at_the_load_of_the_aim_is_a_miss_of_its_own(
    failed: dict[str, int], short: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = offered() | {"requests_failed": failed}
    monkeypatch.setattr(offers, "show", lambda _, rows: tables.append(rows))
    tables: list[Sequence[Sequence[str]]] = []
    offers._show(found, argparse.Namespace(short=short))
    (target,) = (row[2] for row in tables[0] if row[0] == "requests failed")
    assert target == said


@pytest.mark.parametrize(("fixes", "aimed"), [(1.0, True), (0.25, True), (1 / 15, True), (0.05, False)])
def test_a_table_of_offers_says_how_often_its_providers_moved(
    fixes: float, aimed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[tuple[str, Sequence[Sequence[str]]]] = []
    monkeypatch.setattr(offers, "show", lambda title, rows: tables.append((title, rows)))
    offers._show(offered() | {"fixes": fixes}, argparse.Namespace(short=False))
    ((title, rows),) = tables
    assert title == f"100 jobs a second, 5,000 providers online, {fixes:g} positions a second each"
    assert any("≤ 10 ms" in row[2] for row in rows) == aimed


PROCESSES = {
    "took_s": 1.0, "workers": [], "rss_mib": {"redis": 1.0, "postgres": 1.0}, "cpu_s": {"server": 1.0}, "loop_lag_ms_max": 1.0,
    "others_cores": 0.0,
}  # fmt: skip
JOB = "6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1"


class Refusing:
    """A customer who is told no, or whose job cannot be cancelled any more."""

    def __init__(self, *, made: bool) -> None:
        self.made = made

    async def create_job(self, service_type: ServiceType, pickup: Mapping[str, Any], /) -> dict[str, Any]:
        if not self.made:
            raise Denied("OVERLOADED", "", 503)
        return {"id": JOB}

    async def cancel(self, job_id: UUID, /) -> Any:
        raise Denied("JOB_NOT_AVAILABLE", "", 409)


async def test_a_request_that_is_refused_is_one_that_was_never_answered() -> None:
    for made, measured, refused in ((False, True, 1), (False, False, 0), (True, True, 0)):
        seen = Seen()
        await one_job(Refusing(made=made), (13.75, 100.5), seen, asked_ns=1, hold_s=0.0, measured=measured)
        assert (seen.refused, list(seen.asked)) == (refused, [JOB] if made else [])
        assert sum(seen.failed.values()) == 1


def test_a_run_that_did_something_else_than_it_says_is_told_why() -> None:
    sound = {
        "offers": 9,
        "jobs": 2,
        "requests_failed": {},
        "offers_seen_without_stamp": 0,
        "lines_lost": 0,
        "errors": {},
    }
    assert offers_wrong(sound) == offers_wrong(sound | {"offers": None, "offers_seen_without_stamp": None}) == []
    for what in (
        {"offers": 0}, {"jobs": 0}, {"requests_failed": {"OVERLOADED": 1}}, {"offers_seen_without_stamp": 3}, {"lines_lost": 1},
        {"errors": {"BUSY": 1}},
    ):  # fmt: skip
        assert len(offers_wrong(sound | what)) == 1, what
    position = {"rate": 2_000.0, "taken_by_server": 900, "sent_with_warm_up": 900, "misplaced_in_redis": 0}
    assert positions_wrong(position) == positions_wrong(position | {"taken_by_server": None}) == []
    assert positions_wrong(position | {"taken_by_server": 899}) == ["899 of 900 positions were taken at 2,000 a second"]
    assert positions_wrong(position | {"misplaced_in_redis": 2}) == ["2 are not where Redis has them at 2,000 a second"]
    search = {
        "k": 3,
        "pickups": "even",
        "hold": True,
        "also": 0,
        "providers": 10_000,
        "searches": 300,
        "found_too_few": 0,
    }
    assert candidates.wrong([search]) == []
    (reason,) = candidates.wrong([search, search | {"found_too_few": 1}])
    assert reason == "1 of 300 found fewer than they wanted: 3 nearest, even, with a hold, 10,000 providers"
    weighed = {"rss_kib_per_socket": 8.3, "lines_lost": 0}
    assert sockets_wrong(weighed) == sockets_wrong(weighed | {"rss_kib_per_socket": math.nan}) == []
    assert sockets_wrong(weighed | {"lines_lost": 12}) == ["12 lines lost"]
    assert sockets_wrong(weighed | {"rss_kib_per_socket": -0.1}) == ["memory did not grow while sockets came"]


@pytest.mark.parametrize(
    ("more", "limits"),
    [
        ((), (100.0, 400.0)),
        (("--short", "--providers", "100000"), (None, None)),
        (("--providers", "50000"), (None, None)),
    ],
)
def test_a_search_is_judged_in_a_city_as_large_as_its_aim_is_for(
    more: tuple[str, ...], limits: tuple[float | None, float | None], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = figures.parsed(candidates.parser(), list(more), candidates.SHORT)
    mean = {size: 90.0 for size in shown.providers}
    measured = [
        {"providers": size, "pickups": "even", "k": 3, "hold": False, "also": 0, "function_us_mean": mean[size], "function_us_p99": 500.0}
        | dict.fromkeys(("waited_us_p50", "waited_us_p95", "waited_us_p99", "waited_us_max", "redis_cpu_us", "load_generator_cpu_us"), 1.0)
        | {"redis_rss_mib": 1.0, "found_too_few": 0}
        for size in shown.providers
    ]  # fmt: skip
    candidates._show(measured, shown)
    said = capsys.readouterr().out
    assert ("≤ 100 µs: met" in said, "≤ 400 µs: MISSED" in said) == tuple(limit is not None for limit in limits)
    # 10,000 has no aim of its own, whichever is the largest.
    assert said.count("≤ 100 µs") <= 1


def test_aims_are_for_full_runs() -> None:
    shown = argparse.Namespace(short=False)
    assert figures.full(shown) and figures.full(shown, (2_000, 2_000), (3, 2))
    assert not figures.full(shown, (2_000, 2_000), (1, 2))
    assert not figures.full(argparse.Namespace(short=True), (2_000, 2_000))
    assert figures.verdict(1.0, None, "ms") == figures.at_least(1.0, None, "/s") == ""


def test_a_frame_that_was_due_and_did_not_come_is_infinite_for_its_customer() -> None:
    began = datetime(2026, 11, 20, tzinfo=UTC)
    moments = [began + timedelta(seconds=at) for at in (-0.1, 0.0, 1.0, 1.9, 2.0)]
    all_seen = [(at, 5.0) for at in moments]
    found = ages_of([all_seen, all_seen[:2], []], began, moments[-1], 2)
    # What another saw more often does not stand for what one did not see.
    assert found == [[5.0] * 3, [5.0, math.inf], [math.inf] * 2]
    assert (due(20, 1, 1), due(20, 1, 4), due(20, 0.5, 1), due(20, 5, 1), due(0.9, 1, 1)) == (19, 19, 19, 3, 0)


def test_growth_is_the_largest_city_to_the_smallest_for_the_same_search() -> None:
    measured = [
        {"providers": providers, "pickups": "even", "k": k, "hold": False, "also": 0, "function_us_mean": mean}
        for providers, k, mean in ((10, 3, 50.0), (100, 3, 60.0), (1_000, 3, 75.0), (10, 10, 100.0), (1_000, 10, 90.0))
    ]
    assert growth(measured) == {"k=3 even": 1.5, "k=10 even": 0.9}
    assert growth(measured[:1]) == {}


def test_those_held_are_who_stand_nearest() -> None:
    places = [(13.75 + n * 0.001, 100.5) for n in range(HELD + 50)]
    names = [UUID(int=n) for n in range(len(places))]
    assert nearest(names[::-1], places[::-1], (13.75, 100.5)) == names[:HELD]


def test_a_table_is_plain_in_a_file() -> None:
    text = io.StringIO()
    rows = [("winner's yes p99", "120.0 ms", "≤ 100 ms: MISSED"), ("answers", "ok 1", "")]
    figures.show("Races", rows, Console(file=text))
    assert "\x1b" not in text.getvalue()
    assert "120.0 ms" in text.getvalue()
    assert "MISSED" in text.getvalue()


def test_figures_stand_beside_what_they_belong_to() -> None:
    found = figures.complete({"x": 1}, argparse.Namespace(workers=2, json=None), {"postgres": "18"})
    assert found["x"] == 1
    assert found["options"] == {"workers": 2}
    assert {"cores", "python", "cpu"} <= found["machine"].keys()
    assert {"postgres", "aiohttp", "uvloop"} <= found["versions"].keys()
    assert found["commit"]


def test_the_short_form_gives_way_to_what_is_given() -> None:
    parser = figures.options("x", "")
    parser.add_argument("--sockets", type=int, default=9)
    parser.add_argument("--rate", type=int, default=9)
    shown = figures.parsed(parser, ["--short", "--sockets", "5"], {"sockets": 1, "rate": 2})
    assert (shown.sockets, shown.rate) == (5, 2)
    assert figures.parsed(figures.options("x", ""), [], {"workers": 1}).workers == 2


def test_a_position_is_compared_by_sockets_only_where_each_sends_one_a_second() -> None:
    measured = [{"rate": rate, "server_cpu_us_per_position": cost} for rate, cost in ((300.0, 60.0), (900.0, 40.0))]
    found = {(one["by"], one["at"], one["value"]) for one in scaling(measured, 300, 2)}
    assert found == {
        ("positions a second", 300.0, 60.0), ("positions a second", 900.0, 40.0), ("sockets", 300, 60.0), ("workers", 2, 60.0),
        ("workers", 2, 40.0),
    }  # fmt: skip
    assert not any(one["by"] == "workers" for one in scaling(measured, 300, 0))


def test_a_bar_is_drawn_on_a_terminal_and_a_line_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    text = io.StringIO()
    with bar("connecting", 3, Console(file=text, force_terminal=True, width=80, _environ={"TERM": "xterm"})) as advance:
        for _ in range(3):
            advance(1)
    assert "connecting" in text.getvalue() and "\x1b" in text.getvalue()
    with bar("connecting", 3, Console(file=io.StringIO())) as advance:
        advance(1)
    assert capsys.readouterr().out == "connecting (3)\n"


def test_rates_are_a_list() -> None:
    options = positions_parser().parse_args(["--rates", "400,2000"])
    assert options.rates == [400.0, 2000.0]
    with pytest.raises(SystemExit):
        positions_parser().parse_args(["--rates", "0"])


# --- processes


def test_cpu_and_parents_are_read_from_proc() -> None:
    before = server.own_cpu_s()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 0.03 <= server.own_cpu_s() - before < 1
    assert server.parent(os.getpid()) == os.getppid()
    fields = ["S", "7", *["0"] * 9, "150", "25", *["0"] * 10]
    assert server.ticks_s(fields) == (1.5, 0.25)


def test_children_and_their_memory_are_found() -> None:
    program = "print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert child.pid in server.children(os.getpid())
        assert server.rss_of([child.pid]) > 1_000
        child.kill()
    assert child.pid not in server.children(os.getpid())
    assert server.rss_kib("Name:\tx\nVmHWM:\t  999 kB\nVmRSS:\t  4321 kB\n") == 4321
    with pytest.raises(ValueError, match="has ended"):
        server.rss_kib("Name:\tx\nState:\tZ (zombie)\n")


def test_usage_is_divided_by_what_it_was_used_for() -> None:
    used = server.Usage(3.0, 1.5, 1.0, 9.0, 50.0, 14.0).since(server.Usage(1.0, 1.0, 1.0, 8.0, 42.5, 4.0))
    assert used.per(10_000) == {"server": 200.0, "redis": 50.0, "postgres": 0.0, "load_generator": 100.0}
    assert used.others_share() == 0.4


def test_what_cannot_be_measured_is_unknown_and_not_nothing() -> None:
    before = server.usage_of([], None, None)
    used = server.usage_of([os.getpid()], None, os.getpid()).since(before)
    assert math.isnan(used.server) and math.isnan(used.redis) and math.isnan(used.postgres) and used.load >= 0
    assert (
        math.isnan(used.per(10)["server"]) and math.isnan(used.others_share()) and math.isnan(used.beyond(used).redis)
    )
    assert figures.us(used.per(10)["redis"]) == "unknown µs" and figures.cores(math.nan) == "unknown cores"
    assert figures.verdict(math.nan, 60, "µs") == "≤ 60 µs: unknown"
    assert json.loads(orjson.dumps({"cpu": used.server})) == {"cpu": None}
    assert figures.us(0.0) == "0.0 µs"


def test_who_listens_on_a_port_is_found() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert server.listeners(sock.getsockname()[1]) == ()
        sock.listen()
        assert server.listeners(sock.getsockname()[1]) == (os.getpid(),)
    assert share_kib(os.getpid()) > 1_000


def test_the_busy_time_of_the_machine_leaves_out_idling() -> None:
    assert server.busy_s("cpu  100 20 30 9999 888 4 5 6 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == 1.65


def test_a_metric_is_summed_over_its_labels() -> None:
    text = (
        '# HELP a_total x\n# TYPE a_total counter\na_total{pid="0"} 3.0\na_total{pid="1"} 4e1\na_total_other 9\nb 1\n'
    )
    assert server.total(text, "a_total") == 43
    with pytest.raises(KeyError):
        server.total(text, "a")
