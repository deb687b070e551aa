"""Markets: the cities we serve. A point belongs to one market or to none; a market says what a trip costs.

Promise: configuration and arithmetic, nothing else. Everything here is read once at start, never changes
while the server runs, needs no store and awaits nothing. A market that loaded is sound: its outline is a
valid polygon, its zones too, its numbers are within bounds; what is not is refused at start in words that
name the file, the key, the value and what is allowed. Money is whole minor units from end to end, and the
parts of a fare always add up to its total.

Later slices extend at three doors: `RouteEstimate` takes a routing engine, `Tariff` one tariff per service
type, and a new folder under `cities/` is a new city.
"""

from dispatch.markets.errors import MarketConfigError
from dispatch.markets.model import FareParts, Leg, Market, Place, PolicyName, RouteEstimate, Tariff, Zone
from dispatch.markets.rules import StraightLine, fare, fee_minor, net_minor
from dispatch.markets.service import Markets

__all__ = [
    "FareParts",
    "Leg",
    "Market",
    "MarketConfigError",
    "Markets",
    "Place",
    "PolicyName",
    "RouteEstimate",
    "StraightLine",
    "Tariff",
    "Zone",
    "fare",
    "fee_minor",
    "net_minor",
]
