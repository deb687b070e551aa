"""A city for the simulator: requests on a flat map in metres, how many cabs are out in each half hour, and where they come from.

Recorded cities come from the files that `bench.demo.recording` reads. The fleet follows the recorded demand: `fleet` cabs are out for
each cab that the trips of a half hour keep busy. Times are whole milliseconds since the city's day began, places metres east and north
of its middle, on a plane that touches the globe there: within 0.1 % over 40 km.
"""

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.demo.recording import BURST, Request, Trace, read_requests, read_traces
from dispatch.kit.geo import EARTH_RADIUS_M
from dispatch.markets import Market

DAY_MS = 86_400_000
SLOT_MS = 1_800_000
"""The fleet changes by half hours."""
_DEGREE_M = EARTH_RADIUS_M * math.pi / 180


class Plane:
    """Degrees to metres and back around one place."""

    def __init__(self, lat: float, lng: float) -> None:
        self.lat, self.lng = lat, lng
        self._east = _DEGREE_M * math.cos(math.radians(lat))

    def metres(self, lat: float, lng: float) -> tuple[float, float]:
        return (lng - self.lng) * self._east, (lat - self.lat) * _DEGREE_M

    def degrees(self, x: float, y: float) -> tuple[float, float]:
        """(lat, lng)."""
        return self.lat + y / _DEGREE_M, self.lng + x / self._east


@dataclass(frozen=True, slots=True)
class Trip:
    """Somebody asks at `at_ms` to be taken from one place to another, straight `length_m` apart."""

    at_ms: int
    x: float
    y: float
    to_x: float
    to_y: float

    @property
    def length_m(self) -> float:
        return math.sqrt((self.x - self.to_x) ** 2 + (self.y - self.to_y) ** 2)


@dataclass(frozen=True, slots=True)
class City:
    """One day. `out[slot]` cabs are on shift in the half hour `slot`; who comes on begins at one of `haunts[slot]`."""

    name: str
    plane: Plane
    trips: tuple[Trip, ...]
    out: tuple[int, ...]
    haunts: tuple[tuple[tuple[float, float], ...], ...]
    under_way: int = 0
    """So many of the first cabs have a customer when the day begins."""

    @property
    def end_ms(self) -> int:
        return len(self.out) * SLOT_MS


def load(trips: Sequence[Trip], market: Market) -> list[float]:
    """Per half hour, how many cabs its trips keep busy, smoothed over the neighbours: 1/4, 1/2, 1/4. Ways to pickups are not in it."""
    slots = [0.0] * (trips[-1].at_ms // SLOT_MS + 1)
    for trip in trips:
        slots[trip.at_ms // SLOT_MS] += trip.length_m * market.detour_factor / market.speed_mps / (SLOT_MS / 1000)
    padded = [slots[0], *slots, slots[-1]]
    return [(padded[i] + 2 * padded[i + 1] + padded[i + 2]) / 4 for i in range(len(slots))]


def fleet(trips: Sequence[Trip], market: Market, per_busy: float) -> tuple[int, ...]:
    """Cabs out in each half hour: `per_busy` for each that the trips keep busy, 2 at least."""
    return tuple(max(2, round(per_busy * busy)) for busy in load(trips, market))


def under_way(trips: Sequence[Trip], market: Market) -> int:
    """Cabs that are busy when a stretch begins in the middle of a day: as many as the trips of its first half hour keep busy."""
    return round(load(trips, market)[0])


def stretch(
    name: str,
    plane: Plane,
    trips: Sequence[Trip],
    haunts: Sequence[tuple[tuple[float, float], ...]],
    market: Market,
    per_busy: float,
    first_h: float,
    hours: float,
) -> City:
    """Of trips and haunts of whole days the part that begins `first_h` after the day's beginning, as a city."""
    first, last = round(first_h * 3_600_000), round((first_h + hours) * 3_600_000)
    some = sorted(
        (trip for trip in trips if first <= trip.at_ms < last),
        key=lambda trip: (trip.at_ms, trip.x, trip.y, trip.to_x, trip.to_y),
    )
    skip = first // SLOT_MS
    shifted = tuple(Trip(trip.at_ms - skip * SLOT_MS, trip.x, trip.y, trip.to_x, trip.to_y) for trip in some)
    out = fleet(shifted, market, per_busy)
    return City(name, plane, shifted, out, tuple(haunts[skip : skip + len(out)]), under_way(shifted, market))


class Recorded(Protocol):
    """Recorded days of somewhere."""

    def city(self, dates: Sequence[str], per_busy: float, *, first_h: float = 0, hours: float = 24) -> City:
        """The given days laid over each other, as one; of them the stretch that begins `first_h` after the day's beginning."""


class Days:
    """Recorded days of one folder, read once. Raises RecordingError where a file is missing or broken."""

    def __init__(self, folder: Path, market: Market, dates: Sequence[str], *, traces: str) -> None:
        """`traces` is the date whose cabs say where cabs are at which time of day: few days have traces."""
        self.market = market
        self.plane = Plane(37.76, -122.43)
        self._trips = {date: self._read(folder, date) for date in dates}
        times = [trip.at_ms for trips in self._trips.values() for trip in trips]
        self._slots = range(max(times) // SLOT_MS + 1)
        self._haunts = self._places(folder, traces)

    def city(self, dates: Sequence[str], per_busy: float, *, first_h: float = 0, hours: float = 24) -> City:
        """As `Recorded` says."""
        trips = [trip for date in dates for trip in self._trips[date]]
        name = dates[0] if len(dates) == 1 else f"{len(dates)} days in one"
        return stretch(name, self.plane, trips, self._haunts, self.market, per_busy, first_h, hours)

    def _read(self, folder: Path, date: str) -> list[Trip]:
        requests = read_requests(folder, date)
        begin_s = _day_start(requests[0].at)
        times = [request.at for request in requests]
        trips = []
        for request in requests:
            # More in one second than people are: the fleet's restart tells of minutes at once.
            burst = bisect.bisect_right(times, request.at) - bisect.bisect_left(times, request.at) > BURST
            if request.dropoff is not None and not burst:
                trips.append(self._trip(request, request.dropoff, begin_s))
        return trips

    def _trip(self, request: Request, dropoff: tuple[float, float], begin_s: float) -> Trip:
        return Trip(
            round((request.at - begin_s) * 1000), *self.plane.metres(*request.pickup), *self.plane.metres(*dropoff)
        )

    def _places(self, folder: Path, date: str) -> list[tuple[tuple[float, float], ...]]:
        """Per half hour, where the recorded cabs are in its middle; a half hour without any takes its neighbour's."""
        begin_s = _day_start(read_requests(folder, date)[0].at)
        traces, _ = read_traces(folder, date, begin_s, begin_s + DAY_MS / 1000)
        cabs = [traces[vehicle] for vehicle in sorted(traces)]
        per_slot = [self._seen(cabs, begin_s + (slot + 0.5) * SLOT_MS / 1000) for slot in self._slots]
        known = [slot for slot in self._slots if per_slot[slot]]
        return [per_slot[min(known, key=lambda one: (abs(one - slot), one))] for slot in self._slots]

    def _seen(self, cabs: Sequence[Trace], at_s: float) -> tuple[tuple[float, float], ...]:
        places = (cab.at(at_s) for cab in cabs)
        metres = (self.plane.metres(*place) for place in places if place is not None)
        return tuple(place for place in metres if abs(place[0]) < 50_000 and abs(place[1]) < 50_000)


def _day_start(first_s: float) -> float:
    """When the day of a file begins: 12:00 UTC before its first request, which is 05:00 in San Francisco."""
    return (first_s - 43_200) // 86_400 * 86_400 + 43_200


def made_up(seed: int, market: Market, *, trips: int, hours: float, per_busy: float, side_m: float = 8_000) -> City:
    """A city out of nothing, for tests: trips at even chances over time, places thick in the middle, the same for the same seed."""
    chance = random.Random(seed)

    def place() -> tuple[float, float]:
        return round(chance.gauss(0, side_m / 4), 1), round(chance.gauss(0, side_m / 4), 1)

    asked = sorted(round(chance.random() * hours * 3_600_000) for _ in range(trips))
    made = tuple(Trip(at_ms, *place(), *place()) for at_ms in asked)
    out = fleet(made, market, per_busy)
    return City(
        f"made up {seed}", Plane(37.76, -122.43), made, out, tuple(tuple(place() for _ in range(50)) for _ in out)
    )
