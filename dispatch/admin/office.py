"""What an office looks at: providers by any part of what is known of them, their files, numbers, and who did what."""

from datetime import date
from uuid import UUID

from dispatch.admin.errors import BadDateRange
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres
from dispatch.kit.sql import Queries
from dispatch.providers import ProviderMissing
from protocol.lifecycle import ProviderStatus, ServiceType

_Q = Queries.beside(__file__)
HISTORY_MAX = 100
RANGE_DAYS_MAX = 366


class Office:
    """One per worker. For admins: what it reads it reads as the acting user, whom row security or the function asks for the role."""

    def __init__(self, pg: Postgres) -> None:
        self._pg = pg

    async def providers(
        self,
        actor: Actor,
        *,
        search: str | None,
        status: ProviderStatus | None,
        service_type: ServiceType | None,
        online: bool | None,
        limit: int,
        cursor: str | None,
    ) -> bytes:
        """A page of providers, newest first; `search` is any part of name, phone, e-mail or uid, in any case. None: any."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(
                _Q["providers_found"],
                search,
                None if status is None else str(status),
                None if service_type is None else str(service_type),
                online,
                *before,
                limit + 1,
            )
        return page(rows, limit)

    async def provider(self, actor: Actor, provider_id: UUID) -> bytes:
        """One provider's file. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["provider_file"], provider_id)
            if row is None:
                raise ProviderMissing(f"no provider {provider_id}")
            history = await tx.fetch(_Q["provider_history"], provider_id, HISTORY_MAX)
        job = b"" if row["active_job"] is None else b',"active_job_id":"%b"' % str(row["active_job"]).encode()
        view: bytes = row["view"]
        return b'{"provider":%b,"history":[%b]%b}' % (view, b",".join(one["view"] for one in history), job)

    async def analytics(
        self,
        actor: Actor,
        *,
        first: date,
        last: date,
        service_type: ServiceType | None,
        status: ProviderStatus | None,
    ) -> bytes:
        """Numbers of the days from `first` to `last`, both included. Raises: BadDateRange."""
        if not 0 <= (last - first).days < RANGE_DAYS_MAX:
            raise BadDateRange(f"{first} to {last}", days_max=RANGE_DAYS_MAX)
        kind = None if service_type is None else str(service_type)
        async with self._pg.acting(actor) as tx:
            view: bytes = await tx.fetchval(_Q["analytics"], first, last, kind, None if status is None else str(status))
        return view

    async def statistics(self, actor: Actor) -> bytes:
        """How things stand now."""
        async with self._pg.acting(actor) as tx:
            view: bytes = await tx.fetchval(_Q["statistics"])
        return view

    async def audit(
        self, actor: Actor, *, subject_id: UUID | None, actor_id: UUID | None, limit: int, cursor: str | None
    ) -> bytes:
        """A page of what admins did, newest first: to one subject, by one of them, or all of it."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            if subject_id is not None:
                rows = await tx.fetch(_Q["audit_of_subject"], subject_id, *before, limit + 1)
            elif actor_id is not None:
                rows = await tx.fetch(_Q["audit_of_actor"], actor_id, *before, limit + 1)
            else:
                rows = await tx.fetch(_Q["audit_all"], *before, limit + 1)
        return page(rows, limit)
