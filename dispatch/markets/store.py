"""Markets as files: `cities/<code>/market.toml`, `outline.geojson` and, if there are any, `zones.geojson`.

A file is checked key by key. Whatever is wrong is a `MarketConfigError` that names the file (or the
override), the key, the value and what would be allowed; an unknown key is one too, so that a misspelt
setting never looks as if it worked.
"""

import difflib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo

import shapely
from shapely.geometry import MultiPolygon, Polygon, shape

from dispatch.kit.geo import valid_coordinates
from dispatch.markets.errors import MarketConfigError
from dispatch.markets.model import Area, Market, PolicyName, Tariff, Zone

CITIES = Path(__file__).with_name("cities")

# A code stands in Redis keys and in URLs.
_CODE = re.compile(r"[a-z][a-z0-9_]{1,15}")


@dataclass(frozen=True, slots=True)
class _Field:
    """One key of market.toml: how to read it, what to say when it cannot be read, and its default if any."""

    read: Callable[[object], object | None]
    allowed: str
    fallback: object = None


def _number(lowest: float, highest: float, unit: str, fallback: float | None = None) -> _Field:
    def read(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value) if lowest <= value <= highest else None

    return _Field(read, f"a number of {unit} from {lowest:g} to {highest:g}", fallback)


def _count(lowest: int, highest: int, unit: str, fallback: int | None = None) -> _Field:
    def read(value: object) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if lowest <= value <= highest else None

    return _Field(read, f"a whole number of {unit} from {lowest} to {highest}", fallback)


def _text(pattern: str, allowed: str) -> _Field:
    def read(value: object) -> str | None:
        return value if isinstance(value, str) and re.fullmatch(pattern, value) else None

    return _Field(read, allowed)


def _flag(fallback: bool) -> _Field:
    return _Field(lambda value: value if isinstance(value, bool) else None, "true or false", fallback)


def _policy(value: object) -> object | None:
    return value if value in get_args(PolicyName) else None


def _zone_info(value: object) -> ZoneInfo | None:
    try:
        return ZoneInfo(value) if isinstance(value, str) else None
    except (ValueError, OSError, KeyError):  # a bad name, a directory, an unknown zone
        return None


def _surge(value: object) -> int | None:
    """A multiplier with at most two decimals, as hundredths."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    pct = round(value * 100)
    return pct if 100 <= pct <= 999 and abs(value * 100 - pct) < 1e-6 else None


# Amounts fit 64 bits with room to spare, also for the longest trip at the highest surge.
_MINOR = _count(0, 1_000_000, "minor units")

TARIFF_FIELDS: Mapping[str, _Field] = {"base_minor": _MINOR, "per_km_minor": _MINOR, "per_min_minor": _MINOR}

# Every key of market.toml. Without a fallback it must be given. Where a fallback is not the contract's own
# number (15 s of cooldown, a search every 5 s, one offer at once, the open board), its reason is given.
FIELDS: Mapping[str, _Field] = {
    "name": _text(r"\S(.{0,58}\S)?", "a text of 1 to 60 characters"),
    "timezone": _Field(_zone_info, 'an IANA time zone such as "Asia/Bangkok"'),
    "currency": _text(r"[A-Z]{3}", 'a currency code of ISO 4217 such as "THB"'),
    "default": _flag(False),
    # 20 % of the fare parts and surge, never of tips: the requirement ERN-03.
    "platform_fee_percent": _count(0, 100, "percent", 20),
    "surge_multiplier": _Field(_surge, "a multiplier from 1.00 to 9.99 with at most two decimals", 100),
    # Up to 2,000: a time-lapse multiplies the speeds, nothing else.
    "speed_mps": _number(0.1, 2_000, "metres per second"),
    "detour_factor": _number(1, 5, "road metres per straight metre"),
    # 55 m/s = 198 km/h: faster than any cab, so what lies above is a GPS jump and not a driver.
    "speed_max_mps": _number(1, 10_000, "metres per second", 55.0),
    "policy": _Field(_policy, '"waves", "nearest", "broadcast" or "batch"', "waves"),
    # A driver needs some seconds to look, and a customer waits for each one who does not answer.
    "offer_ttl_s": _number(0.1, 300, "seconds", 15.0),
    # About one of five says yes at once in peak hours: our estimate, to be replaced by measured acceptance.
    "wave_size": _count(1, 50, "providers", 5),
    "rounds": _count(0, 1_000, "rounds (0: until the job's time is up)", 0),
    # Ten minutes: longer than anyone stands at a kerb without looking for something else.
    "job_ttl_s": _number(1, 86_400, "seconds", 600.0),
    "offers_at_once": _count(0, 100, "offers (0: no bound)", 1),
    "open_board": _flag(True),
    "redispatch": _flag(False),
    "radius_first_m": _number(50, 100_000, "metres", 800.0),
    "radius_max_m": _number(50, 100_000, "metres", 10_000.0),
    "research_s": _number(0.1, 300, "seconds", 5.0),
    "lapse_cooldown_s": _number(0, 3_600, "seconds", 15.0),
    # The best of 2 to 20 s, swept on recorded days: docs/matching.md.
    "batch_window_s": _number(0.2, 60, "seconds", 2.0),
}


def read_market(folder: Path, overrides: Mapping[str, object], overrides_from: str) -> Market:
    """The market in `folder`, whose name is its code, with `overrides` laid over its file.

    `overrides_from` names their source in errors. A `tariff` override may give some of its keys only.
    Raises MarketConfigError.
    """
    code = folder.name
    if not _CODE.fullmatch(code):
        raise MarketConfigError(str(folder), "a market's folder is named a-z, 0-9 and _, 2 to 16 long")
    file = folder / "market.toml"
    values = _parsed(file, lambda text: tomllib.loads(text))
    tariff_wanted = overrides.get("tariff", {})
    flat = {key: value for key, value in overrides.items() if key != "tariff"}
    if not isinstance(tariff_wanted, Mapping):
        raise MarketConfigError(overrides_from, f"tariff = {tariff_wanted!r}: give a table of its keys")
    fields = _checked(FIELDS, values, flat, str(file), overrides_from, skip="tariff")
    tariff_values = values.get("tariff")
    if not isinstance(tariff_values, Mapping):
        raise MarketConfigError(str(file), "the table [tariff] is missing")
    tariff = _checked(TARIFF_FIELDS, tariff_values, tariff_wanted, f"{file} [tariff]", f"{overrides_from} tariff")
    if cast(float, fields["radius_first_m"]) > cast(float, fields["radius_max_m"]):
        first, most = fields["radius_first_m"], fields["radius_max_m"]
        raise MarketConfigError(str(file), f"radius_first_m = {first}: at most radius_max_m, which is {most}")
    policy = cast(PolicyName, fields.pop("policy"))
    at_once = cast(int, fields.pop("offers_at_once"))
    return Market(
        code=code,
        polygon=_outline(folder / "outline.geojson"),
        zones=_zones(folder / "zones.geojson"),
        tariff=Tariff(**cast(dict[str, int], tariff)),
        surge_pct=cast(int, fields.pop("surge_multiplier")),
        policy=policy,
        # Under broadcast everybody hears everything: a bound would silently turn it into something else.
        offers_at_once=0 if policy == "broadcast" else at_once,
        **cast(dict[str, Any], fields),
    )


def _parsed(file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        values = parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MarketConfigError(str(file), "this file is missing") from None
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML, not JSON
        raise MarketConfigError(str(file), f"cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise MarketConfigError(str(file), "must hold an object")
    return values


def _checked(
    fields: Mapping[str, _Field],
    values: Mapping[str, object],
    overrides: Mapping[str, object],
    where: str,
    overrides_from: str,
    skip: str = "",
) -> dict[str, object]:
    """Each field's value: the override's, else the file's, else its fallback."""
    for source, given in ((where, values), (overrides_from, overrides)):
        for key in given:
            if key not in fields and key != skip:
                near = difflib.get_close_matches(key, fields, 1, 0.5)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(fields))}"
                raise MarketConfigError(source, f"unknown key {key}; {hint}")
    checked: dict[str, object] = {}
    for key, field in fields.items():
        if key in overrides or key in values:
            source = overrides_from if key in overrides else where
            raw = overrides[key] if key in overrides else values[key]
            value = field.read(raw)
            if value is None:
                raise MarketConfigError(source, f"{key} = {raw!r}: must be {field.allowed}")
            checked[key] = value
        elif field.fallback is None:
            raise MarketConfigError(where, f"{key} is missing: must be {field.allowed}")
        else:
            checked[key] = field.fallback
    return checked


def _outline(file: Path) -> Area:
    """The one area of a market: a Feature, or a collection of exactly one."""
    value = _parsed(file, json.loads)
    features = value.get("features", [value])
    if not isinstance(features, list) or len(features) != 1:
        raise MarketConfigError(str(file), "must hold exactly one feature, the market's outline")
    return _area(features[0], str(file), "the outline")


def _zones(file: Path) -> tuple[Zone, ...]:
    """The named zones, in the order of the file; a market without the file has none."""
    if not file.exists():
        return ()
    value = _parsed(file, json.loads)
    features = value.get("features")
    if not isinstance(features, list):
        raise MarketConfigError(str(file), "must be a FeatureCollection")
    zones: list[Zone] = []
    for number, feature in enumerate(features, 1):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        name = properties.get("name") if isinstance(properties, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise MarketConfigError(str(file), f"feature {number} has no properties.name")
        zones.append(Zone(name=name, area=_area(feature, str(file), f"zone {name!r}")))
    return tuple(zones)


def _area(feature: object, where: str, what: str) -> Area:
    """A feature's geometry. Refused when invalid: a repair changes a border, so a person does it, not the server."""
    try:
        geometry = shape(cast(Any, feature)["geometry"])
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise MarketConfigError(where, f"{what} has no readable geometry: {error!r}") from error
    if not isinstance(geometry, Polygon | MultiPolygon) or geometry.is_empty:
        raise MarketConfigError(where, f"{what} is a {geometry.geom_type}: must be a Polygon or MultiPolygon")
    west, south, east, north = geometry.bounds
    if not valid_coordinates(south, west) or not valid_coordinates(north, east):
        raise MarketConfigError(where, f"{what} lies outside the globe: GeoJSON is [lng, lat] in degrees")
    if not geometry.is_valid:
        reason = shapely.is_valid_reason(geometry)
        raise MarketConfigError(where, f"{what} is no valid polygon ({reason}); shapely.make_valid repairs it")
    return geometry
