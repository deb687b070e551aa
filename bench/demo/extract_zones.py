"""How `dispatch/markets/cities/sf/zones.geojson` was made: `python -m bench.demo.extract_zones SOURCE TARGET`.

Reads the 37 neighbourhoods of San Francisco as published, repairs the three whose ring crosses itself
(Marina, Downtown/Civic Center, North Beach), leaves out detail finer than 5 m, rounds to 5 decimals (1 m)
and adds one hand-drawn zone, the airport, where 3 % of the recorded pickups are.
"""

import argparse
import json
from pathlib import Path

import shapely
from shapely.geometry import MultiPolygon, Polygon, mapping, shape

# Degrees: 5.5 m north, 4.4 m east. Far below what a zone name promises.
DETAIL_DEG = 5e-5
GRID_DEG = 1e-5

# The airport's grounds with its terminals and access roads, by hand: [lng, lat].
AIRPORT = Polygon(
    [
        *((-122.405, 37.630), (-122.390, 37.642), (-122.372, 37.634), (-122.352, 37.616)),
        *((-122.362, 37.602), (-122.382, 37.603), (-122.398, 37.610), (-122.405, 37.630)),
    ]
)


def polygons_only(geometry: shapely.Geometry) -> Polygon | MultiPolygon:
    """A repaired ring may leave stray lines and points behind; a zone is made of area alone."""
    if isinstance(geometry, Polygon | MultiPolygon):
        return geometry
    merged = shapely.union_all([part for part in shapely.get_parts(geometry) if isinstance(part, Polygon)])
    if not isinstance(merged, Polygon | MultiPolygon):
        raise TypeError(f"nothing with an area in {geometry}")
    return merged


def slimmed(geometry: shapely.Geometry) -> Polygon | MultiPolygon:
    """Valid, simplified and on the grid; `set_precision` keeps it valid where rounding would break it."""
    whole = polygons_only(shapely.make_valid(geometry))
    return polygons_only(shapely.set_precision(whole.simplify(DETAIL_DEG), GRID_DEG))


def zones(source: Path) -> list[dict[str, object]]:
    """GeoJSON features, sorted by name, the airport last."""
    published = json.loads(source.read_text(encoding="utf-8"))["features"]
    features: list[dict[str, object]] = [
        {
            "type": "Feature",
            "properties": {"name": feature["properties"]["name"]},
            "geometry": mapping(slimmed(shape(feature["geometry"]))),
        }
        for feature in sorted(published, key=lambda feature: str(feature["properties"]["name"]))
    ]
    airport: dict[str, object] = {
        "type": "Feature",
        "properties": {"name": "San Francisco Airport"},
        "geometry": mapping(AIRPORT),
    }
    return [*features, airport]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the published zones.geojson")
    parser.add_argument("target", type=Path, help="where to write the small one")
    args = parser.parse_args()
    lines = ",\n".join(json.dumps(feature, separators=(",", ":")) for feature in zones(args.source))
    args.target.write_text('{"type":"FeatureCollection","features":[\n' + lines + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
