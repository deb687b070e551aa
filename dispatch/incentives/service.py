"""Use cases of programs: the office makes and changes them, providers look how far they have come."""

from datetime import datetime
from uuid import UUID

import msgspec

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.incentives import rules, store
from dispatch.incentives.errors import IncentiveMissing
from dispatch.kit.errors import Invalid
from dispatch.kit.ids import new_id
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres
from dispatch.markets import Markets
from dispatch.providers import ProviderMissing
from protocol.resources.incentives import IncentivePatch, IncentiveRequest


class Incentives:
    """One per worker."""

    def __init__(self, pg: Postgres, markets: Markets, idempotency: Idempotency) -> None:
        self._pg = pg
        self._markets = markets
        self._once = idempotency.once

    async def create(self, actor: Actor, request: IncentiveRequest, key: str | None) -> Answer:
        """A new program. For admins. Raises: Invalid for an unknown market, BadDateRange."""
        currency = self._currency(request.market)
        rules.check_window(request.starts_at, request.ends_at)
        program_id = new_id()
        async with self._once(actor, key, fingerprint_of("incentives.create", request)) as turn:
            if turn.replay is not None:
                return turn.replay
            made = await store.add(turn.tx, program_id, request, currency, actor.user_id)
            rules.check_new(request.ends_at, made["now"])
            after = msgspec.to_builtins(request)
            await audit.write(turn.tx, actor, "create", ("incentive", program_id), after=after)
            answer = turn.keep(Answer(made["view"], 201))
        return answer

    async def change(self, actor: Actor, program_id: UUID, patch: IncentivePatch) -> bytes:
        """Change a program: before its start all of it, afterwards its name and its end. What was paid stays paid. For admins.

        Raises: IncentiveMissing, ProgramStarted, BadDateRange, Invalid.
        """
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(store.Q["program_lock"], program_id)
            if row is None:
                raise IncentiveMissing(f"no program {program_id}")
            rules.check_patch(patch, started=row["started"])
            before = store.fields_of(row)
            given = msgspec.to_builtins(rules.changed(patch), builtin_types=(datetime,))
            request = msgspec.convert({**before, **given}, IncentiveRequest)
            rules.check_window(request.starts_at, request.ends_at)
            if not row["started"]:
                rules.check_new(request.ends_at, row["now"])
            view = await store.change(tx, program_id, request, self._currency(request.market))
            was = {name: before[name] for name in given}
            await audit.write(tx, actor, "change", ("incentive", program_id), before=was, after=given)
        return view

    async def everybodys(self, actor: Actor, *, limit: int, cursor: str | None) -> bytes:
        """All programs, newest first. For admins."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(store.Q["programs"], *before, limit + 1)
        return page(rows, limit)

    async def page(self, actor: Actor, *, limit: int, cursor: str | None) -> bytes:
        """Running and coming programs that fit the caller's service types, with his count. Raises: ProviderMissing."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            if not await tx.fetchval(store.Q["is_provider"], actor.user_id):
                raise ProviderMissing(f"user {actor.user_id} is no provider")
            rows = await tx.fetch(store.Q["programs_for"], actor.user_id, *before, limit + 1)
        return page(rows, limit)

    def _currency(self, market: str) -> str:
        found = self._markets.get(market)
        if found is None:
            raise Invalid("market", fields=[{"field": "market", "problem": "there is no such market"}])
        return found.currency
