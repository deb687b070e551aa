"""Reading a recorded day: the shipped extract, faulty files, GPS jumps and silences."""

import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.demo import extract
from bench.demo.recording import (
    JUMP_AGREED,
    RecordingError,
    Trace,
    instant,
    peak,
    read,
    read_requests,
    seconds,
    without_jumps,
)
from dispatch.kit.geo import distance_m
from dispatch.markets import Markets

DATA = Path("bench/data/sf")
A, B = (37.78, -122.42), (37.79, -122.41)


def pack(folder: Path, name: str, *lines: str) -> None:
    with gzip.open(folder / f"{name}.csv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def day(folder: Path) -> None:
    """A small day: two requests, one cab with three reports, one fare."""
    pack(
        folder,
        "requests_2020-01-01",
        "ts_utc,pickup_lat,pickup_lng,dropoff_lat,dropoff_lng",
        "2020-01-01T12:00:10Z,37.78,-122.42,37.79,-122.41",
        "2020-01-01T12:00:50Z,37.78,-122.42,,",
        "2020-01-01T12:30:00Z,37.78,-122.42,,",
    )
    pack(
        folder,
        "traces_2020-01-01_all",
        "vehicle_id,ts_utc,lat,lng",
        "abc,2020-01-01T11:59:30Z,37.78,-122.42",
        "abc,2020-01-01T12:00:30Z,37.785,-122.42",
        "abc,2020-01-01T12:01:30Z,37.79,-122.42",
    )
    pack(
        folder,
        "occupied_2020-01-01",
        "vehicle_id,pickup_ts_utc,dropoff_ts_utc",
        "abc,2020-01-01T11:59:30Z,2020-01-01T12:01:30Z",
        "abc,2020-01-01T12:02:30Z,",
    )


def test_the_shipped_extract_holds_the_densest_twenty_minutes_with_room_around_them() -> None:
    recording = read(DATA, "2008-05-23", 1200)
    assert instant(recording.start) == "2008-05-24T05:46:00Z"
    assert len(recording.requests) == 585
    assert sum(trace.coverage(recording.start, recording.end) == 1 for trace in recording.traces.values()) >= 300
    under_way = [fare for fare in recording.fares if fare.pickup_at < recording.start < fare.dropoff_at]
    assert len(under_way) == 272


def test_the_shipped_extract_stays_small_and_names_its_licence() -> None:
    assert sum(file.stat().st_size for file in DATA.iterdir()) < 1_600_000
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in readme
    assert "Piorkowski" in readme


def test_nearly_all_recorded_requests_lie_in_the_market() -> None:
    pickups = [request.pickup for request in read_requests(DATA, "2008-05-23")]
    codes = [market and market.code for market in Markets.load().at_many(pickups)]
    assert codes.count("sf") / len(codes) > 0.998


def test_a_small_day_is_read_whole(tmp_path: Path) -> None:
    day(tmp_path)
    recording = read(tmp_path, "2020-01-01", 600)
    assert instant(recording.start) == "2020-01-01T12:00:00Z"
    assert [request.dropoff for request in recording.requests] == [(37.79, -122.41), None]
    assert [fare.vehicle for fare in recording.fares] == ["abc"]
    assert recording.traces["abc"].at(seconds("2020-01-01T12:00:00Z")) == pytest.approx((37.7825, -122.42))


def test_a_missing_file_is_named_with_what_is_there(tmp_path: Path) -> None:
    day(tmp_path)
    with pytest.raises(RecordingError, match=r"no requests_2021-01-01.*complete recordings there: 2020-01-01"):
        read(tmp_path, "2021-01-01", 600)


def test_a_line_with_a_column_too_few_is_named(tmp_path: Path) -> None:
    day(tmp_path)
    pack(tmp_path, "requests_2020-01-01", "header", "2020-01-01T12:00:10Z,37.78")
    with pytest.raises(RecordingError, match="line 2: 2 columns instead of 5"):
        read(tmp_path, "2020-01-01", 600)


def test_an_extract_of_an_extract_is_the_same_bytes(tmp_path: Path) -> None:
    extract.extract(DATA, tmp_path, "2008-05-23", 3600, 4 * 3600)
    for kind in ("requests", "traces", "occupied"):
        name = f"{kind}_2008-05-23.csv.gz"
        assert gzip.decompress((tmp_path / name).read_bytes()) == gzip.decompress((DATA / name).read_bytes())


def test_the_peak_is_on_a_minute_and_takes_the_earliest_of_equals() -> None:
    times = [float(60 * minute) for minute in range(100)]
    assert peak(times, 600) == 0
    assert peak(sorted([*times, 3000.5]), 600) == 2460  # the first ten minutes that hold the extra one


def test_a_burst_of_the_restart_is_no_peak() -> None:
    times = sorted([10.0, 70.0, 130.0, *[3600.0] * 42])
    assert peak(times, 600) < 3000


def test_a_cab_is_nowhere_before_its_first_report_after_its_last_and_in_a_silence() -> None:
    trace = Trace([0, 60, 1000], [A, B, A])
    assert trace.at(-1) is None
    assert trace.at(0) == A
    assert trace.at(500) is None
    assert trace.at(1000) == A
    assert trace.at(1001) is None
    assert trace.next_report(61) == (1000, A)
    assert trace.next_report(1001) is None


@given(st.floats(0, 60))
def test_between_two_reports_a_cab_is_on_the_line_between_them(moment: float) -> None:
    place = Trace([0, 60], [A, B]).at(moment)
    assert place is not None
    whole = distance_m(*A, *B)
    assert distance_m(*A, *place) == pytest.approx(whole * moment / 60, abs=0.5)
    assert distance_m(*A, *place) + distance_m(*place, *B) == pytest.approx(whole, abs=0.5)


def test_reports_out_of_order_are_refused() -> None:
    with pytest.raises(RecordingError):
        Trace([0, 0], [A, B])


def test_one_jump_is_left_out() -> None:
    far = (37.70, -122.42)
    assert without_jumps([(0, A), (10, far), (20, A)]) == [(0, A), (20, A)]


def test_when_the_first_report_is_the_jump_it_goes_and_the_others_stay() -> None:
    far = (50.3, -125.8)
    reports = [(0.0, far)] + [(60.0 * (number + 1), A) for number in range(JUMP_AGREED)]
    assert without_jumps(reports) == reports[1:]


def test_jumps_that_do_not_agree_with_each_other_never_win() -> None:
    reports = [(0.0, A), (10.0, (37.70, -122.42)), (20.0, (37.90, -122.42)), (30.0, (37.70, -122.42)), (40.0, A)]
    assert without_jumps(reports) == [(0.0, A), (40.0, A)]


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.floats(37.6, 37.9), st.floats(-122.5, -122.3)),
        unique_by=lambda report: report[0],
        max_size=40,
    )
)
def test_what_remains_can_be_driven(raw: list[tuple[int, float, float]]) -> None:
    reports = [(float(at), (lat, lng)) for at, lat, lng in sorted(raw)]
    good = without_jumps(reports)
    assert [report for report in reports if report in good] == good
    for before, after in pairwise(good):
        assert distance_m(*before[1], *after[1]) <= 30 + 40 * (after[0] - before[0])


@given(st.integers(0, 2_000_000_000))
def test_instants_survive_being_written(moment: int) -> None:
    assert seconds(instant(moment)) == moment
