"""What an office looks at: providers by any part of what is known of them, their files, numbers, and who did what."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from uuid import UUID

import orjson

from dispatch import audit
from dispatch.accounts import Accounts, UserMissing
from dispatch.kit.clock import Clock
from dispatch.kit.days import check_range
from dispatch.kit.errors import Forbidden, ReasonRequired
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.kit.redis import Redis
from dispatch.kit.sql import Queries
from dispatch.kit.words import blank
from dispatch.providers import ProviderMissing
from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.resources import Role

_Q = Queries.beside(__file__)
HISTORY_MAX = 100


class Office:
    """One per worker. For admins: what it reads it reads as the acting user, whom row security or the function asks for the role."""

    def __init__(
        self, pg: Postgres, redis: Redis, clock: Clock, accounts: Accounts, circuits: Callable[[], Mapping[str, str]]
    ) -> None:
        self._pg = pg
        self._redis = redis
        self._clock = clock
        self._accounts = accounts
        self._circuits = circuits

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

    async def users(
        self,
        actor: Actor,
        *,
        search: str | None,
        role: Role | None,
        blocked: bool | None,
        limit: int,
        cursor: str | None,
    ) -> bytes:
        """A page of users, newest first; `search` is any part of name, phone or e-mail. None: any."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(
                _Q["users_found"], search, None if role is None else str(role), blocked, *before, limit + 1
            )
        return page(rows, limit)

    async def user(self, actor: Actor, user_id: UUID) -> bytes:
        """Raises: UserMissing."""
        async with self._pg.acting(actor) as tx:
            return await self._user(tx, user_id)

    async def give_roles(self, actor: Actor, user_id: UUID, roles: Sequence[Role] | None) -> bytes:
        """Give a user these roles whatever his token says; None: as it says. Counts within a second, on every worker.

        Raises: UserMissing, Forbidden: nobody takes the office away from himself, or there might be nobody left who can give it back.
        """
        if user_id == actor.user_id and Role.ADMIN not in (roles or ()):
            raise Forbidden("an admin does not take his own role away")
        names = None if roles is None else sorted({str(role) for role in roles})
        async with self._pg.acting(actor) as tx:
            before = await self._accounts.roles_set(tx, user_id, names)
            await audit.write(tx, actor, "roles", ("user", user_id), before={"roles": before}, after={"roles": names})
            view = await self._user(tx, user_id)
        self._accounts.forget([user_id])
        return view

    async def block(self, actor: Actor, user_id: UUID, blocked: bool, reason: str | None) -> bytes:
        """Shut a user out, or let him in again. His sessions end and his sockets close (4403) within seconds.

        Raises: UserMissing, ReasonRequired (to block), Forbidden (oneself).
        """
        if blocked and blank(reason):
            raise ReasonRequired("blocking needs a reason")
        if blocked and user_id == actor.user_id:
            raise Forbidden("an admin does not block himself")
        async with self._pg.acting(actor) as tx:
            was = await self._accounts.blocked_set(tx, user_id, blocked, reason)
            await audit.write(
                tx,
                actor,
                "block" if blocked else "unblock",
                ("user", user_id),
                before={"blocked": was},
                after={"blocked": blocked},
                reason=reason,
            )
            view = await self._user(tx, user_id)
        self._accounts.forget([user_id])
        return view

    async def _user(self, tx: Tx, user_id: UUID) -> bytes:
        view: bytes | None = await tx.fetchval(_Q["user_file"], user_id)
        if view is None:
            raise UserMissing(f"no user {user_id}")
        return view

    async def health(self, actor: Actor) -> bytes:
        """The database, what waits in it, and this worker's circuits. Raises what Postgres raises when it is away: that is the answer then."""
        before = self._clock.monotonic()
        async with self._pg.acting(actor) as tx:
            view: bytes = await tx.fetchval(_Q["health"])
        mine = {
            "database_ms": round((self._clock.monotonic() - before) * 1000, 1),
            "redis_reachable": self._redis.reachable,
            "circuits": dict(self._circuits()),
        }
        return orjson.dumps(mine)[:-1] + b"," + view[1:]

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
        check_range(first, last)
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
