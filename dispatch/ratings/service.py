"""Use cases of ratings."""

from uuid import UUID

import structlog

from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append
from dispatch.jobs import JobMissing, JobNotCompleted, seen
from dispatch.kit.errors import TooLate
from dispatch.kit.ids import new_id
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.kit.sql import Queries
from dispatch.notifications import Notice, Notifications
from dispatch.providers import ProviderMissing, state_of_user, updated
from dispatch.ratings.errors import RatingExists
from dispatch.ratings.rules import LAST, RATE_WITHIN, check_may_rate, words_of
from protocol.notices import NoticeType
from protocol.resources.ratings import RatingRequest

_Q = Queries.beside(__file__)
_REFUSED = {"not_completed": JobNotCompleted, "exists": RatingExists, "late": TooLate}

log = structlog.get_logger("ratings")


class Ratings:
    """One per worker."""

    def __init__(self, pg: Postgres, inbox: Inbox, notifications: Notifications, idempotency: Idempotency) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications
        self._once = idempotency.once

    async def rate(self, actor: Actor, job_id: UUID, request: RatingRequest, key: str | None) -> Answer:
        """The customer rates his completed job; the provider is told, and of his new overall rating too.

        Raises: JobMissing, NotYourJob, JobNotCompleted, RatingExists, TooLate.
        """
        asked = {"job_id": job_id, "score": request.score, "comment": request.comment}
        async with self._once(actor, key, fingerprint_of("ratings.rate", asked)) as turn:
            if turn.replay is not None:
                return turn.replay
            job = await seen(turn.tx, job_id)
            if job is None:
                raise JobMissing(f"no job {job_id}")
            check_may_rate(job, actor.user_id)
            row = await turn.tx.fetchrow(
                _Q["rating_add"], new_id(), job_id, request.score, words_of(request.comment), RATE_WITHIN, LAST
            )
            assert row is not None
            if row["word"] != "rated":
                raise _REFUSED[row["word"]](f"job {job_id}: {row['word']}")
            told = [] if row["changed"] is None else [updated(row["owner"], row["changed"])]
            notice = Notice(
                row["owner"],
                NoticeType.RATING_RECEIVED,
                {"score": request.score, "job_id": str(job_id)},
                f"rating:{job_id}",
            )
            facts = await append(turn.tx, [*told, *await self._notifications.write(turn.tx, [notice])])
            answer = turn.keep(Answer(row["view"], 201))
        self._inbox.deliver(facts)
        log.info("job rated", job_id=str(job_id), score=request.score)
        return answer

    async def mine(self, actor: Actor, *, limit: int, cursor: str | None) -> bytes:
        """Reviews of the caller as a provider, newest first. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            state = await state_of_user(tx, actor.user_id)
            if state is None:
                raise ProviderMissing("this user is no provider")
            return await self._page(tx, state.id, limit, cursor)

    async def of(self, actor: Actor, provider_id: UUID, *, limit: int, cursor: str | None) -> bytes:
        """Reviews of any provider, newest first. For admins. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            if not await tx.fetchval(_Q["provider_known"], provider_id):
                raise ProviderMissing(f"no provider {provider_id}")
            return await self._page(tx, provider_id, limit, cursor)

    async def _page(self, tx: Tx, provider_id: UUID, limit: int, cursor: str | None) -> bytes:
        return page(await tx.fetch(_Q["reviews_of"], provider_id, *read_cursor(cursor), limit + 1), limit)
