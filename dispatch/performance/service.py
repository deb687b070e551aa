"""What a provider reads of himself, and an admin of one provider: counted when it is asked for."""

from uuid import UUID

import orjson

from dispatch.earnings import last_market
from dispatch.kit.postgres import Actor, Postgres, Row, Tx
from dispatch.kit.sql import Queries
from dispatch.markets import Markets
from dispatch.matching import Matching
from dispatch.performance.rules import LAST, outcomes, warnings_of
from dispatch.presence import LocationRequired, Offline
from dispatch.providers import NotApproved, ProviderMissing, Suspended, check_may_work
from protocol import codec
from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.resources.performance import Dashboard, Outcomes, Performance, ServiceRating, Today

_Q = Queries.beside(__file__)
AVAILABLE_MAX = 100


class Performances:
    """One per worker."""

    def __init__(self, pg: Postgres, matching: Matching, markets: Markets) -> None:
        self._pg = pg
        self._matching = matching
        self._markets = markets

    async def mine(self, actor: Actor, locale: str) -> bytes:
        """The caller's Performance, whatever his status. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["performance_mine"], actor.user_id, LAST)
            if row is None:
                raise ProviderMissing("this user is no provider")
            return await self._performance(tx, row, locale)

    async def of(self, actor: Actor, provider_id: UUID, locale: str) -> bytes:
        """Any provider's Performance. For admins. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["performance_of"], provider_id, LAST)
            if row is None:
                raise ProviderMissing(f"no provider {provider_id}")
            return await self._performance(tx, row, locale)

    async def _performance(self, tx: Tx, row: Row, locale: str) -> bytes:
        ratings = await tx.fetch(_Q["ratings_of"], row["provider_id"])
        lifetime = _lifetime(row)
        return codec.encode(
            Performance(
                provider_id=row["provider_id"],
                rating=row["rating"],
                ratings=[
                    ServiceRating(ServiceType(one["service_type"]), one["rating"], one["ratings_count"])
                    for one in ratings
                ],
                acceptance_rate=lifetime.acceptance_rate,
                completion_rate=lifetime.completion_rate,
                cancellation_rate=lifetime.cancellation_rate,
                total_completed_jobs=lifetime.completed,
                total_cancelled_jobs=lifetime.cancelled,
                lifetime=lifetime,
                last_200=outcomes(
                    row["last_offered"], row["last_accepted"], row["last_completed"], row["last_cancelled"]
                ),
                warnings=warnings_of(row["rating"], lifetime, locale),
                calculated_at=row["calculated_at"],
            )
        )

    async def dashboard(self, actor: Actor) -> bytes:
        """What an approved or active provider sees first. Raises: ProviderMissing, NotApproved, Suspended."""
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["performance_mine"], actor.user_id, LAST)
            if row is None:
                raise ProviderMissing("this user is no provider")
            check_may_work(ProviderStatus(row["status"]))
            job: bytes | None = await tx.fetchval(_Q["current_job"], row["provider_id"])
            today = await self._today(tx, actor.user_id)
        lifetime = _lifetime(row)
        view = codec.encode(
            Dashboard(
                provider_id=row["provider_id"],
                today=today,
                rating=row["rating"],
                acceptance_rate=lifetime.acceptance_rate,
                completion_rate=lifetime.completion_rate,
                cancellation_rate=lifetime.cancellation_rate,
                available_jobs=await self._available(actor),
                calculated_at=row["calculated_at"],
            )
        )
        return view if job is None else view[:-1] + b',"current_job":' + job + b"}"

    async def _today(self, tx: Tx, user_id: UUID) -> Today:
        """The day of the market where he earned last, in its currency; of the default market while he has earned nothing."""
        market = await last_market(tx, user_id, self._markets)
        row = await tx.fetchrow(_Q["earned_today"], user_id, str(market.timezone), market.currency)
        assert row is not None
        return Today(row["day"].isoformat(), row["net_minor"], market.currency, row["jobs"])

    async def _available(self, actor: Actor) -> int:
        try:
            board = await self._matching.available(actor, max_distance_m=None, limit=AVAILABLE_MAX)
        except (Offline, LocationRequired, NotApproved, Suspended):
            return 0
        return len(orjson.loads(board)["items"])


def _lifetime(row: Row) -> Outcomes:
    return outcomes(row["offered"], row["accepted"], row["completed"], row["cancelled"])
