"""Points on the globe: distance, bearing, a step towards, coarse points. Pure; plain floats in and out.

All coordinates are WGS84 degrees, latitude first. Distances are great-circle metres on the IUGG mean
sphere: within 0.6 % of the ellipsoid, far below phone GPS noise. Everything here assumes coordinates
that `valid_coordinates` accepts; with others the answers are numbers without meaning, never a crash of
the server: the doors check first.
"""

import math

# IUGG mean radius R1 = (2a + b) / 3 of GRS 80, in metres.
EARTH_RADIUS_M = 6_371_008.8

# One degree of latitude on that sphere, about 111 195 m.
_DEGREE_M = EARTH_RADIUS_M * math.pi / 180

# At the poles a degree of longitude has no length; the coarse grid stops shrinking here.
_COS_MIN = 0.01


def valid_coordinates(lat: float, lng: float) -> bool:
    """Whether this is a place on Earth: finite, latitude within ±90, longitude within ±180 degrees.

    NaN compares false with everything, so it fails here without a case of its own.
    """
    return -90.0 <= lat <= 90.0 and -180.0 <= lng <= 180.0


def distance_m(lat1: float, lng1: float, lat2: float, lng2: float) -> float:
    """Great-circle metres between two points, by haversine: exact to millimetres also for tiny distances."""
    phi1 = math.radians(lat1)
    phi2 = math.radians(lat2)
    half_lat = math.sin((phi2 - phi1) / 2)
    half_lng = math.sin(math.radians(lng2 - lng1) / 2)
    h = half_lat * half_lat + math.cos(phi1) * math.cos(phi2) * half_lng * half_lng
    # Rounding may carry h a hair above 1 for antipodes.
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, h)))


def bearing_deg(lat1: float, lng1: float, lat2: float, lng2: float) -> float:
    """Initial course from the first point to the second, degrees clockwise from north, 0 ≤ b < 360.

    Two equal points have no course; the answer is then 0.
    """
    phi1 = math.radians(lat1)
    phi2 = math.radians(lat2)
    delta = math.radians(lng2 - lng1)
    east = math.sin(delta) * math.cos(phi2)
    north = math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(delta)
    course = math.degrees(math.atan2(east, north)) % 360.0
    # A tiny negative angle rounds up to 360.0 under %.
    return 0.0 if course >= 360.0 else course


def toward(a: tuple[float, float], b: tuple[float, float], metres: float) -> tuple[float, float]:
    """The point `metres` from `a` on the way to `b`, both `(lat, lng)`; never beyond `b`, never behind `a`.

    Interpolates in degrees, which is the great circle to within a metre over a city (≤ 100 km), and not
    for paths across the 180th meridian's far side: the shorter way round is taken.
    """
    whole_m = distance_m(a[0], a[1], b[0], b[1])
    if metres >= whole_m:
        return b
    if metres <= 0.0:
        return a
    share = metres / whole_m
    east = (b[1] - a[1] + 540.0) % 360.0 - 180.0
    lng = (a[1] + east * share + 540.0) % 360.0 - 180.0
    return a[0] + (b[0] - a[0]) * share, lng


def coarse(lat: float, lng: float, metres: float = 200.0) -> tuple[float, float]:
    """The middle of the grid cell, about `metres` square, that holds this point; for eyes that may not see it.

    A grid and not noise: the same place always gives the same answer, so asking often reveals nothing more.
    The middle lies at most 0.71 of `metres` away. Five decimals (about 1 m), so the text stays short. The
    column width follows the row's own latitude, so that every point of a cell agrees on it.
    """
    step_lat = metres / _DEGREE_M
    row = (math.floor(lat / step_lat) + 0.5) * step_lat
    step_lng = step_lat / max(_COS_MIN, math.cos(math.radians(row)))
    column = (math.floor(lng / step_lng) + 0.5) * step_lng
    return round(max(-90.0, min(90.0, row)), 5), round(max(-180.0, min(180.0, column)), 5)
