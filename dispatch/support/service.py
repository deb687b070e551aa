"""Use cases of support."""

from typing import Any
from uuid import UUID

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append
from dispatch.jobs import JobMissing, seen
from dispatch.kit.ids import new_id
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.kit.sql import Queries
from dispatch.notifications import Notice, Notifications
from dispatch.support.errors import TicketMissing
from dispatch.support.rules import check_move, check_reply
from protocol.notices import NoticeType
from protocol.resources.support import TicketReplyRequest, TicketRequest
from protocol.tickets import TicketStatus

_Q = Queries.beside(__file__)
REPLIES_MAX = 200
OFFICE_MAX = 20


class Support:
    """One per worker."""

    def __init__(self, pg: Postgres, inbox: Inbox, notifications: Notifications, idempotency: Idempotency) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications
        self._once = idempotency.once

    async def open(self, actor: Actor, request: TicketRequest, key: str | None) -> Answer:
        """A new ticket, and a confirmation to whoever opened it. Raises: JobMissing for a job that is not the caller's."""
        ticket_id = new_id()
        async with self._once(actor, key, fingerprint_of("support.open", request)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            if request.job_id is not None and await seen(tx, request.job_id) is None:
                raise JobMissing(f"no job {request.job_id}")
            view: bytes = await tx.fetchval(
                _Q["ticket_open"],
                ticket_id,
                actor.user_id,
                str(request.category),
                request.subject,
                request.body,
                request.job_id,
            )
            facts = await append(
                tx,
                await self._notifications.write(
                    tx,
                    [
                        Notice(
                            actor.user_id,
                            NoticeType.SUPPORT_TICKET_CREATED,
                            {"ticket_id": str(ticket_id), "subject": request.subject},
                            f"ticket:{ticket_id}",
                        )
                    ],
                ),
            )
            answer = turn.keep(Answer(view, 201))
        self._inbox.deliver(facts)
        return answer

    async def read(self, actor: Actor, ticket_id: UUID) -> bytes:
        """One ticket with its newest replies. Raises: TicketMissing."""
        async with self._pg.acting(actor) as tx:
            view: bytes | None = await tx.fetchval(_Q["ticket_view"], ticket_id)
            if view is None:
                raise TicketMissing(f"no ticket {ticket_id}")
            replies = await tx.fetch(_Q["ticket_replies"], ticket_id, REPLIES_MAX)
        return view[:-1] + b',"replies":[' + b",".join(row["view"] for row in replies) + b"]}"

    async def page(self, actor: Actor, *, status: TicketStatus | None, limit: int, cursor: str | None) -> bytes:
        """The caller's own tickets, newest first."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(
                _Q["tickets_of"], actor.user_id, None if status is None else str(status), *before, limit + 1
            )
        return page(rows, limit)

    async def everybodys(self, actor: Actor, *, status: TicketStatus | None, limit: int, cursor: str | None) -> bytes:
        """All tickets, newest first. For admins: row security shows anybody else his own."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            if status is None:
                rows = await tx.fetch(_Q["tickets_all"], *before, limit + 1)
            else:
                rows = await tx.fetch(_Q["tickets_in"], str(status), *before, limit + 1)
        return page(rows, limit)

    async def reply(
        self, actor: Actor, ticket_id: UUID, request: TicketReplyRequest, key: str | None, *, staff: bool
    ) -> Answer:
        """Write in a ticket: its owner, or (`staff`) the office. The other side is told: the owner, or the admin who last handled it;
        while nobody has, the office's admins.

        Raises: TicketMissing, IllegalTransition (closed).
        """
        fingerprint = fingerprint_of("support.reply", {"ticket_id": ticket_id, "body": request.body, "staff": staff})
        async with self._once(actor, key, fingerprint) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            ticket = await self._locked(tx, ticket_id)
            if not staff and ticket["user_id"] != actor.user_id:
                raise TicketMissing(f"no ticket {ticket_id} of this user")
            status = TicketStatus(ticket["status"])
            check_reply(status)
            reply_id = new_id()
            view: bytes = await tx.fetchval(
                _Q["reply_add"], reply_id, ticket_id, ticket["user_id"], actor.user_id, staff, request.body
            )
            await tx.execute(_Q["ticket_touch"], ticket_id, str(status), actor.user_id if staff else None)
            if staff:
                await audit.write(tx, actor, "reply", ("ticket", ticket_id))
            told = [ticket["user_id"]] if staff else [ticket["handler_id"]]
            if told == [None]:
                told = [row["user_id"] for row in await tx.fetch(_Q["office"], OFFICE_MAX)]
            data = {"ticket_id": str(ticket_id), "subject": ticket["subject"]}
            notices = [
                Notice(one, NoticeType.SUPPORT_REPLY, data, f"reply:{reply_id}") for one in told if one != actor.user_id
            ]
            facts = await append(tx, await self._notifications.write(tx, notices))
            answer = turn.keep(Answer(view, 201))
        self._inbox.deliver(facts)
        return answer

    async def move(self, actor: Actor, ticket_id: UUID, to: TicketStatus) -> bytes:
        """The office takes a ticket one status further. Raises: TicketMissing, IllegalTransition."""
        async with self._pg.acting(actor) as tx:
            ticket = await self._locked(tx, ticket_id)
            start = TicketStatus(ticket["status"])
            check_move(start, to)
            await tx.execute(_Q["ticket_touch"], ticket_id, str(to), actor.user_id)
            await audit.write(tx, actor, "move", ("ticket", ticket_id), before={"status": start}, after={"status": to})
            view: bytes = await tx.fetchval(_Q["ticket_view"], ticket_id)
        return view

    async def _locked(self, tx: Tx, ticket_id: UUID) -> Any:
        ticket = await tx.fetchrow(_Q["ticket_lock"], ticket_id)
        if ticket is None:
            raise TicketMissing(f"no ticket {ticket_id}")
        return ticket
