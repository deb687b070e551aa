"""New York's recorded pickups as days for the simulator. Nobody recorded where they ended, so that ends are a model, and it is this one:

A trip is as long as one of the recorded taxi trips of that city, drawn at random (`fares/fare_samples_nyc_2019-03.csv.gz`; straight, so
divided by the market's detour factor), and ends where somebody else was picked up within the hour: of 24 such places, drawn at random,
the one whose distance from its beginning is nearest to that length. Times are recorded in whole minutes, and are spread evenly within
them. No cab was recorded either: cabs come on, and cruise to, where people of that half hour are picked up.
"""

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bench.demo.recording import Place, RecordingError, Request, read_requests, rows
from bench.matching.city import DAY_MS, SLOT_MS, City, Plane, Trip, stretch
from dispatch.markets import Market

DATES: Final = (*(f"2014-04-{day:02}" for day in range(1, 6)), *(f"2014-09-{day:02}" for day in range(1, 5)))
"""Of the two recorded months those days on which both of the recorded bases are there from end to end."""
_MONTHS: Final = ("2014-04", "2014-09")
_MIDDLE: Final = (40.75, -73.97)
_WITHIN_M: Final = 40_000.0
"""Beyond it the plane is off by more than 0.1 %; a few pickups are in other states."""
_BEGINS_H: Final = 9
"""UTC: 05:00 in New York, as the days of the other cities begin."""
_ENDS: Final = 24
_MILE_M: Final = 1_609.344
_SHORTEST_M: Final = 300.0


def here(folder: Path) -> bool:
    """Whether that folder holds New York's pickups."""
    return any(folder.glob("requests_uber_*.csv.gz"))


class Pickups:
    """Days of them, read once. Raises RecordingError where a file is missing or broken."""

    def __init__(self, folder: Path, market: Market, dates: Sequence[str] = DATES) -> None:
        """The samples of fares are looked for in the folder `fares` beside `folder`."""
        self.market = market
        self.plane = Plane(*_MIDDLE)
        lengths = _lengths(folder.parent / "fares", market)
        asked = [request for month in _MONTHS for request in read_requests(folder, f"uber_{month}")]
        self._trips = {date: self._day(date, asked, lengths) for date in dates}

    def city(self, dates: Sequence[str], per_busy: float, *, first_h: float = 0, hours: float = 24) -> City:
        """As `Recorded` says."""
        trips = [trip for date in dates for trip in self._trips[date]]
        haunts: list[list[tuple[float, float]]] = [[] for _ in range(DAY_MS // SLOT_MS)]
        for trip in trips:
            haunts[trip.at_ms // SLOT_MS].append((trip.x, trip.y))
        name = f"New York {dates[0]}" if len(dates) == 1 else f"{len(dates)} days of New York in one"
        places = [tuple(some) for some in haunts]
        return stretch(name, self.plane, trips, places, self.market, per_busy, first_h, hours)

    def _day(self, date: str, asked: Sequence[Request], lengths: Sequence[float]) -> list[Trip]:
        begin = datetime.fromisoformat(date).replace(tzinfo=UTC) + timedelta(hours=_BEGINS_H)
        begin_s = begin.timestamp()
        some = [
            (request.at - begin_s, self.plane.metres(*request.pickup))
            for request in asked
            if 0 <= request.at - begin_s < DAY_MS / 1000
        ]
        some = [one for one in some if math.hypot(*one[1]) <= _WITHIN_M]
        if not some:
            raise RecordingError(f"no pickup is recorded on {date}")
        chance = random.Random(date)
        by_hour: dict[int, list[Place]] = {}
        for at_s, place in some:
            by_hour.setdefault(int(at_s // 3600), []).append(place)
        trips = []
        for at_s, (x, y) in some:
            length_m = chance.choice(lengths)
            ends = chance.choices(by_hour[int(at_s // 3600)], k=_ENDS)
            _, to_x, to_y = min((abs(math.hypot(ex - x, ey - y) - length_m), ex, ey) for ex, ey in ends)
            trips.append(Trip(round(1000 * (at_s + 60 * chance.random())), x, y, to_x, to_y))
        return [trip for trip in trips if trip.at_ms < DAY_MS]


def _lengths(folder: Path, market: Market) -> list[float]:
    """Straight metres of the recorded taxi trips, by their driven miles."""
    file = folder / "fare_samples_nyc_2019-03.csv.gz"
    if not file.is_file():
        raise RecordingError(f"there is no {file}: how long trips are in New York is taken from it")
    metres = (float(cells[2]) * _MILE_M / market.detour_factor for cells in rows(file, 10) if cells[2])
    return [one for one in metres if one >= _SHORTEST_M]
