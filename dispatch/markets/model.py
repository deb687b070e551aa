"""What a market is: its area and zones, its money, its speed, and how work is handed out in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

import shapely
from shapely.geometry import MultiPolygon, Polygon

# (lat, lng) in WGS84 degrees, latitude first as on the wire. Shapely wants (x, y) = (lng, lat): only this
# room and the store turn it round.
Area = Polygon | MultiPolygon
Place = tuple[float, float]

PolicyName = Literal["waves", "nearest", "broadcast", "batch"]


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a trip costs before surge, in minor units of the market's currency (satang, cents). All ≥ 0."""

    base_minor: int
    per_km_minor: int
    per_min_minor: int


@dataclass(frozen=True, slots=True)
class FareParts:
    """One fare, each part rounded by itself; `total_minor` is their exact sum."""

    base_minor: int
    distance_minor: int
    time_minor: int
    surge_minor: int
    total_minor: int


@dataclass(frozen=True, slots=True)
class Leg:
    """A way from one place to another: road metres and seconds, whole, rounded half up."""

    distance_m: int
    duration_s: int


class RouteEstimate(Protocol):
    """How far and how long from `a` to `b`. The straight line answers today; a routing engine may later.

    Synchronous on purpose: it is asked inside rankings. An engine across the network answers from what it
    fetched before, or falls back to the line.
    """

    def estimate(self, a: Place, b: Place) -> Leg: ...


@dataclass(frozen=True, slots=True)
class Zone:
    """A named part of a market, shown in place of an address to those who may not know it yet."""

    name: str
    area: Area = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """One city. Compared by identity: there is exactly one object per market in a process.

    Every number's meaning and bounds stand in `store.FIELDS`; its source stands in the city's own file.
    """

    code: str
    name: str
    polygon: Area = field(repr=False)
    zones: tuple[Zone, ...] = field(repr=False)
    timezone: ZoneInfo
    currency: str
    default: bool
    tariff: Tariff
    platform_fee_percent: int
    # Hundredths, so that money never meets a float: 150 is a multiplier of 1.50.
    surge_pct: int
    speed_mps: float
    detour_factor: float
    speed_max_mps: float
    policy: PolicyName
    offer_ttl_s: float
    wave_size: int
    # 0: as many as the job's life allows.
    rounds: int
    job_ttl_s: float
    # 0: no bound. Always 0 under broadcast, whatever the file says.
    offers_at_once: int
    open_board: bool
    redispatch: bool
    radius_first_m: float
    radius_max_m: float
    research_s: float
    lapse_cooldown_s: float
    # Read by the policy "batch" alone.
    batch_window_s: float
    _zone_tree: shapely.STRtree = field(init=False, repr=False)
    _bounds: tuple[float, float, float, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A prepared polygon answers in 3 µs instead of walking its ring.
        shapely.prepare(self.polygon)
        areas = [zone.area for zone in self.zones]
        for area in areas:
            shapely.prepare(area)
        object.__setattr__(self, "_zone_tree", shapely.STRtree(areas))
        object.__setattr__(self, "_bounds", self.polygon.bounds)

    @property
    def surge_multiplier(self) -> float:
        """As people and the wire write it: 1.00 to 9.99."""
        return self.surge_pct / 100

    def holds(self, lat: float, lng: float) -> bool:
        """Whether the place lies in this market, border included. About 3 µs, 0.2 µs when far away."""
        west, south, east, north = self._bounds
        if not (south <= lat <= north and west <= lng <= east):
            return False
        return bool(shapely.intersects_xy(self.polygon, lng, lat))

    def zone_of(self, lat: float, lng: float) -> str | None:
        """The name of the zone that holds the place; on a common border the first in the file. None: no zone."""
        found = self._zone_tree.query(shapely.Point(lng, lat), predicate="intersects")
        return self.zones[int(found.min())].name if len(found) else None

    def centre(self) -> Place:
        """A place well inside, for seeding and for maps. Not the middle of anything in particular."""
        point = self.polygon.representative_point()
        return point.y, point.x

    def zone_names(self) -> Sequence[str]:
        """In the order of the file."""
        return [zone.name for zone in self.zones]
