"""What a job would cost, and how soon somebody could be there."""

from dataclasses import asdict
from typing import Any

import orjson

from dispatch.jobs import Jobs
from dispatch.markets import StraightLine, fare
from dispatch.presence import Presence
from protocol.resources import QuoteRequest

_NEAR_MAX = 20


class Quotes:
    """Stores nothing, holds nobody."""

    def __init__(self, jobs: Jobs, presence: Presence) -> None:
        self._jobs = jobs
        self._presence = presence

    async def quote(self, request: QuoteRequest) -> bytes:
        """Wire JSON of a Quote. `providers_near` counts up to 20 within the market's reach. Raises: OutsideMarket."""
        here = request.pickup
        market = self._jobs.market_at(here.lat, here.lng)
        route = StraightLine(market.speed_mps, market.detour_factor)
        drop = request.dropoff
        leg = None if drop is None else route.estimate((here.lat, here.lng), (drop.lat, drop.lng))
        parts = fare(market.tariff, leg.distance_m if leg else 0, leg.duration_s if leg else 0, market.surge_pct)
        looked = await self._presence.near(
            market,
            str(request.service_type),
            here.lat,
            here.lng,
            wanted=_NEAR_MAX,
            radius_max_m=market.radius_max_m,
            hold_s=0,
        )
        near = looked.found
        quote: dict[str, Any] = {
            "market": market.code,
            "fare": {**asdict(parts), "currency": market.currency, "estimated": True},
            "providers_near": len(near),
        }
        if leg is not None:
            quote |= {"distance_m": leg.distance_m, "duration_s": leg.duration_s}
        if near:
            quote["pickup_eta_s"] = round(near[0].distance_m * market.detour_factor / market.speed_mps)
        return orjson.dumps(quote)
