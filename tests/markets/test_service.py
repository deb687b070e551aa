"""Which city a place belongs to: the shipped markets, and the rules for any set of them."""

import json
from pathlib import Path

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from dispatch.markets import MarketConfigError, Markets

SHIPPED = Markets.load()
LAT = st.floats(37.4, 38.0)
LNG = st.floats(-122.6, -122.1)


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ((13.7563, 100.5018), "bkk"),
        ((13.69, 100.75), "bkk"),  # Suvarnabhumi
        ((13.9126, 100.6068), "bkk"),  # Don Mueang
        ((37.7793, -122.4193), "sf"),
        ((37.6188, -122.375), "sf"),  # its airport
        ((37.8235, -122.3706), "sf"),  # Treasure Island
        ((37.8044, -122.2712), None),  # Oakland
        ((37.8591, -122.4853), None),  # Sausalito
        ((18.7883, 98.9853), None),  # Chiang Mai
        ((0, 0), None),
    ],
)
def test_known_places_belong_where_people_say(place: tuple[float, float], code: str | None) -> None:
    market = SHIPPED.at(*place)
    assert (market.code if market else None) == code


def test_bangkok_is_the_default_and_has_the_required_tariff() -> None:
    bkk = SHIPPED.default
    assert (bkk.code, bkk.currency, bkk.timezone.key) == ("bkk", "THB", "Asia/Bangkok")
    assert (bkk.tariff.base_minor, bkk.tariff.per_km_minor, bkk.tariff.per_min_minor) == (3500, 500, 100)
    assert (bkk.platform_fee_percent, bkk.surge_pct, bkk.surge_multiplier) == (20, 100, 1.0)
    assert (bkk.policy, bkk.offers_at_once, bkk.open_board) == ("waves", 1, True)


def test_san_francisco_counts_dollars_in_its_own_time() -> None:
    sf = SHIPPED["sf"]
    assert (sf.currency, sf.timezone.key, sf.default) == ("USD", "America/Los_Angeles", False)


@pytest.mark.parametrize(
    ("place", "zone"),
    [
        ((37.7599, -122.4148), "Mission"),
        ((37.6155, -122.3857), "San Francisco Airport"),
        ((37.8037, -122.4368), "Marina"),  # one of the three that are broken in the source
        ((37.7793, -122.4193), "Downtown/Civic Center"),  # another
        ((37.8033, -122.4103), "North Beach"),  # the third
        ((37.55, -122.32), None),
    ],
)
def test_zones_carry_the_names_of_the_city(place: tuple[float, float], zone: str | None) -> None:
    assert SHIPPED["sf"].zone_of(*place) == zone


def test_every_shipped_zone_is_valid_named_once_and_inside_its_market() -> None:
    for market in SHIPPED:
        names = market.zone_names()
        assert len(set(names)) == len(names)
        for zone in market.zones:
            assert zone.area.is_valid
            assert shapely.intersects(market.polygon, zone.area)
    assert len(SHIPPED["sf"].zones) == 38


def test_the_centre_of_a_market_is_in_it() -> None:
    for market in SHIPPED:
        assert SHIPPED.at(*market.centre()) is market


@given(st.lists(st.tuples(LAT, LNG), max_size=50))
def test_a_batch_is_answered_like_single_questions(places: list[tuple[float, float]]) -> None:
    assert SHIPPED.at_many(places) == [SHIPPED.at(lat, lng) for lat, lng in places]


@given(LAT, LNG)
def test_the_tree_finds_the_zone_that_a_walk_over_all_finds(lat: float, lng: float) -> None:
    sf = SHIPPED["sf"]
    point = shapely.Point(lng, lat)
    walked = next((zone.name for zone in sf.zones if zone.area.intersects(point)), None)
    assert sf.zone_of(lat, lng) == walked


def test_an_unknown_code_is_no_market() -> None:
    assert SHIPPED.get("nyc") is None
    assert "nyc" not in SHIPPED
    with pytest.raises(KeyError):
        SHIPPED["nyc"]


def test_overrides_lie_over_the_file_and_touch_nothing_else() -> None:
    markets = Markets.load({"sf": {"offer_ttl_s": 8, "surge_multiplier": 1.25, "tariff": {"base_minor": 999}}})
    sf, shipped = markets["sf"], SHIPPED["sf"]
    assert (sf.offer_ttl_s, sf.surge_pct, sf.tariff.base_minor) == (8.0, 125, 999)
    assert (sf.tariff.per_km_minor, sf.wave_size) == (shipped.tariff.per_km_minor, shipped.wave_size)
    assert markets["bkk"].offer_ttl_s == SHIPPED["bkk"].offer_ttl_s


def test_another_market_can_become_the_default() -> None:
    assert Markets.load({"sf": {"default": True}}).default.code == "sf"


def test_broadcast_knows_no_bound_of_offers() -> None:
    sf = Markets.load({"sf": {"policy": "broadcast", "offers_at_once": 3}})["sf"]
    assert sf.offers_at_once == 0


def test_on_a_common_border_the_first_code_wins_one_by_one_and_in_a_batch(tmp_path: Path) -> None:
    for code, west, default in (("aa", 0, True), ("bb", 1, False)):
        city(tmp_path, code, box=(west, 0, west + 1, 1), default=default)
    markets = Markets.load(folder=tmp_path)
    border = (0.5, 1.0)
    assert markets.at(*border) is markets["aa"]
    assert markets.at_many([border]) == [markets["aa"]]
    assert markets.at(0.5, 1.5) is markets["bb"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"nyc": {}}, "no such market; known: bkk, sf"),
        ({"sf": {"ofer_ttl_s": 8}}, "unknown key ofer_ttl_s; did you mean offer_ttl_s?"),
        ({"sf": {"xyzzy": 8}}, "known: batch_window_s, currency, default"),
        ({"sf": {"offer_ttl_s": 0}}, "offer_ttl_s = 0: must be a number of seconds from 0.1 to 300"),
        ({"sf": {"offer_ttl_s": "8"}}, "offer_ttl_s = '8': must be a number"),
        ({"sf": {"offer_ttl_s": float("nan")}}, "offer_ttl_s = nan"),
        ({"sf": {"wave_size": 2.5}}, "wave_size = 2.5: must be a whole number of providers from 1 to 50"),
        ({"sf": {"wave_size": True}}, "wave_size = True"),
        ({"sf": {"open_board": 1}}, "open_board = 1: must be true or false"),
        ({"sf": {"policy": "batches"}}, 'policy = \'batches\': must be "waves", "nearest", "broadcast" or "batch"'),
        ({"sf": {"surge_multiplier": 10}}, "surge_multiplier = 10: must be a multiplier from 1.00 to 9.99"),
        ({"sf": {"surge_multiplier": 0.99}}, "surge_multiplier = 0.99"),
        ({"sf": {"surge_multiplier": 1.005}}, "at most two decimals"),
        ({"sf": {"timezone": "Mars/Olympus"}}, "timezone = 'Mars/Olympus': must be an IANA time zone"),
        ({"sf": {"timezone": "../etc"}}, "timezone = '../etc'"),
        ({"sf": {"currency": "usd"}}, "currency = 'usd'"),
        ({"sf": {"tariff": 5}}, "tariff = 5: give a table"),
        ({"sf": {"tariff": {"base_minor": -1}}}, "base_minor = -1: must be a whole number of minor units"),
        ({"sf": {"tariff": {"base": 1}}}, "unknown key base; did you mean base_minor?"),
        ({"sf": {"radius_first_m": 20000}}, "radius_first_m = 20000.0: at most radius_max_m, which is 10000.0"),
        ({"sf": {"default": True}, "bkk": {"default": True}}, "exactly one market has default = true; now: bkk, sf"),
        ({"bkk": {"default": False}}, "exactly one market has default = true; now: none"),
    ],
)
def test_a_wrong_override_says_where_what_and_what_is_allowed(
    overrides: dict[str, dict[str, object]], words: str
) -> None:
    with pytest.raises(MarketConfigError) as refusal:
        Markets.load(overrides)
    assert words in str(refusal.value)


BOWTIE = [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("market.toml", "name = ", "market.toml: cannot be read"),
        ("market.toml", 'name = "X"', "timezone is missing: must be an IANA time zone"),
        ("outline.geojson", "{", "outline.geojson: cannot be read"),
        ("outline.geojson", "[]", "must hold an object"),
        ("outline.geojson", '{"type": "FeatureCollection", "features": []}', "exactly one feature"),
        ("outline.geojson", '{"geometry": {"type": "Point", "coordinates": [1, 2]}}', "must be a Polygon"),
        ("outline.geojson", '{"geometry": null}', "no readable geometry"),
        ("outline.geojson", json.dumps({"geometry": {"type": "Polygon", "coordinates": BOWTIE}}), "make_valid"),
        (
            "outline.geojson",
            json.dumps({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [0, 200], [1, 1], [0, 0]]]}}),
            "outside the globe",
        ),
        ("zones.geojson", "{}", "must be a FeatureCollection"),
        ("zones.geojson", '{"features": [{"properties": {}}]}', "feature 1 has no properties.name"),
        (
            "zones.geojson",
            json.dumps(
                {"features": [{"properties": {"name": "Tie"}, "geometry": {"type": "Polygon", "coordinates": BOWTIE}}]}
            ),
            "zone 'Tie' is no valid polygon (Self-intersection",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path: Path, name: str, text: str, words: str) -> None:
    folder = city(tmp_path, "aa")
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(MarketConfigError) as refusal:
        Markets.load(folder=tmp_path)
    assert words in str(refusal.value)
    assert str(folder / name) in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (city(tmp_path, "aa") / "outline.geojson").unlink()
    with pytest.raises(MarketConfigError, match=r"outline\.geojson: this file is missing"):
        Markets.load(folder=tmp_path)


def test_a_folder_without_cities_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MarketConfigError, match="there is none"):
        Markets.load(folder=tmp_path)


def test_a_folder_with_a_name_unfit_for_keys_is_refused(tmp_path: Path) -> None:
    city(tmp_path, "San Francisco")
    with pytest.raises(MarketConfigError, match="folder is named"):
        Markets.load(folder=tmp_path)


def city(
    folder: Path, code: str, box: tuple[float, float, float, float] = (0, 0, 1, 1), *, default: bool = True
) -> Path:
    """A small city on disk: a square with only the keys that have no default. Its folder."""
    path = folder / code
    path.mkdir()
    (path / "market.toml").write_text(
        f'name = "X"\ntimezone = "UTC"\ncurrency = "EUR"\ndefault = {str(default).lower()}\n'
        "speed_mps = 7\ndetour_factor = 1.3\n"
        "[tariff]\nbase_minor = 1\nper_km_minor = 2\nper_min_minor = 3\n",
        encoding="utf-8",
    )
    outline = {"type": "Feature", "properties": {}, "geometry": shapely.box(*box).__geo_interface__}
    (path / "outline.geojson").write_text(json.dumps(outline), encoding="utf-8")
    return path
