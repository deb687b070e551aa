"""New York's pickups get ends by the model that is written down, the same for the same file, and say what they miss."""

import gzip
import math
import random
from itertools import pairwise
from pathlib import Path

import pytest

from bench.demo.recording import RecordingError
from bench.matching import command
from bench.matching.engine import World
from bench.matching.evidence import ELSEWHERE, Stretch, elsewhere, market_with
from bench.matching.pickups import DATES, Pickups, here
from dispatch.markets import Market

DATE = DATES[0]
MILES = (0.5, 1.0, 2.0, 4.0)


def _write(file: Path, head: str, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.write("\n".join([head, *lines, ""]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two hours of one day, some sixty trips an hour, and one pickup in another state."""
    dice = random.Random(5)
    asked = [(minute, 40.75 + dice.gauss(0, 0.02), -73.97 + dice.gauss(0, 0.02)) for minute in range(120)]
    lines = [f"{DATE}T{9 + minute // 60:02}:{minute % 60:02}:00Z,{lat:.4f},{lng:.4f},," for minute, lat, lng in asked]
    head = "ts_utc,pickup_lat,pickup_lng,dropoff_lat,dropoff_lng"
    far = f"{DATE}T09:30:00Z,41.3700,-72.9300,,"
    _write(tmp_path / "nyc" / "requests_uber_2014-04.csv.gz", head, sorted([*lines, far]))
    _write(tmp_path / "nyc" / "requests_uber_2014-09.csv.gz", head, ["2014-09-01T09:00:00Z,40.7500,-73.9700,,"])
    fares = [f"2019-03-01T05:03:29Z,2019-03-01T05:13:32Z,{miles},10,0,2,12,yellow,a,b" for miles in (*MILES, 0.01, "")]
    _write(tmp_path / "fares" / "fare_samples_nyc_2019-03.csv.gz", "a,b,c,d,e,f,g,h,i,j", fares)
    return tmp_path / "nyc"


@pytest.fixture
def market() -> Market:
    return market_with("nearest")


def test_a_trip_ends_where_somebody_else_was_picked_up_within_the_hour(folder: Path, market: Market) -> None:
    city = Pickups(folder, market, [DATE]).city([DATE], 2.0)
    assert len(city.trips) == 120, "without the one in another state"
    begins = {hour: {(one.x, one.y) for one in city.trips if one.at_ms // 3_600_000 == hour} for hour in (0, 1)}
    for trip in city.trips:
        assert (trip.to_x, trip.to_y) in begins[trip.at_ms // 3_600_000]
    lengths = sorted(miles * 1_609.344 / market.detour_factor for miles in MILES)
    off = [min(abs(trip.length_m - one) for one in lengths) for trip in city.trips]
    assert sorted(off)[len(off) // 2] < 150, "24 places are enough to find one at about that distance"
    # Recorded in whole minutes, and not all at once.
    assert len({trip.at_ms % 60_000 for trip in city.trips}) > 100
    assert all(first.at_ms // 60_000 <= second.at_ms // 60_000 for first, second in pairwise(city.trips))


def test_the_same_file_is_the_same_city_and_can_be_driven(folder: Path, market: Market) -> None:
    one, other = (Pickups(folder, market, [DATE]).city([DATE], 2.0, first_h=1, hours=1) for _ in range(2))
    assert (one.trips, one.haunts, one.out) == (other.trips, other.haunts, other.out)
    assert len(one.trips) == 60 and len(one.out) == 2
    outcome = World(one, market, seed=1).run()
    assert sum(job.taken_at is not None for job in outcome.jobs) > 40
    assert math.isfinite(outcome.cruised_m)
    assert {run.density for run in elsewhere([DATE], 1, [])} == set()
    assert {run.density for run in elsewhere([DATE], 1, [Stretch(0, 1)])} == {ELSEWHERE}


def test_what_is_missing_is_named(folder: Path, market: Market, capsys: pytest.CaptureFixture[str]) -> None:
    assert here(folder) and not here(folder.parent)
    with pytest.raises(RecordingError, match="2014-04-02"):
        Pickups(folder, market, ["2014-04-02"])
    (folder.parent / "fares" / "fare_samples_nyc_2019-03.csv.gz").unlink()
    assert command.main(["--data", str(folder)]) == 2
    assert "fare_samples_nyc" in capsys.readouterr().err
    assert command.main(["--data", str(folder.parent)]) == 2
    assert "no requests_2008-05-23" in capsys.readouterr().err
