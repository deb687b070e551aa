"""Counting completed jobs in the programs that run."""

from collections.abc import Sequence

from dispatch.earnings import Bonus
from dispatch.incentives.store import Q
from dispatch.jobs import Completed
from dispatch.kit.postgres import Tx
from dispatch.markets import Markets


class Counting:
    """One per worker."""

    def __init__(self, markets: Markets) -> None:
        self._markets = markets

    async def earned(self, tx: Tx, done: Completed) -> Sequence[Bonus]:
        """Count `done` in the running programs; the tiers that it reaches, each once for ever. One round trip, with the wallet locked."""
        rows = await tx.fetch(
            Q["count"],
            done.provider_id,
            done.provider_user_id,
            done.market,
            done.service_type,
            done.currency,
            done.pickup_lat,
            done.pickup_lng,
            done.completed_at,
            str(self._markets[done.market].timezone),
        )
        return [Bonus(row["incentive_id"], row["tier"], row["bonus"], row["name"]) for row in rows]
