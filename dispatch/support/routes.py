"""HTTP door of support."""

from collections.abc import Sequence

from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Param, Route
from dispatch.support.service import Support
from protocol.errors import ErrorCode
from protocol.resources import Page
from protocol.resources.support import SupportTicket, TicketMove, TicketReply, TicketReplyRequest, TicketRequest
from protocol.tickets import TicketStatus

_LIST: dict[str, str | Param] = {"status": Param("only these", TicketStatus), **QUERY}


def routes(support: Support) -> Sequence[Route]:
    async def create(call: Call) -> Answered:
        answer = await support.open(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def read(call: Call) -> Answered:
        return Answered(await support.read(call.actor, call.id("id")))

    async def mine(call: Call) -> Answered:
        status = call.one_of("status", TicketStatus)
        return Answered(
            await support.page(call.actor, status=status, limit=call.limit(), cursor=call.query.get("cursor"))
        )

    async def everybodys(call: Call) -> Answered:
        status = call.one_of("status", TicketStatus)
        return Answered(
            await support.everybodys(call.actor, status=status, limit=call.limit(), cursor=call.query.get("cursor"))
        )

    async def reply(call: Call) -> Answered:
        answer = await support.reply(call.actor, call.id("id"), call.body, call.key, staff=False)
        return Answered(answer.body, answer.status)

    async def answer(call: Call) -> Answered:
        given = await support.reply(call.actor, call.id("id"), call.body, call.key, staff=True)
        return Answered(given.body, given.status)

    async def move(call: Call) -> Answered:
        body: TicketMove = call.body
        return Answered(await support.move(call.actor, call.id("id"), body.status))

    missing = (ErrorCode.TICKET_NOT_FOUND,)
    moved = (*missing, ErrorCode.INVALID_STATUS_TRANSITION)
    return [
        Route(
            "POST",
            "/v1/support/tickets",
            create,
            "Ask for help; a confirmation follows",
            SupportTicket,
            body=TicketRequest,
            status=201,
            errors=(ErrorCode.JOB_NOT_FOUND,),
            idempotent=True,
        ),
        Route("GET", "/v1/support/tickets", mine, "The own tickets, newest first", Page[SupportTicket], query=_LIST),
        Route("GET", "/v1/support/tickets/{id}", read, "One ticket with its replies", SupportTicket, errors=missing),
        Route(
            "POST",
            "/v1/support/tickets/{id}/replies",
            reply,
            "Write in an own ticket",
            TicketReply,
            body=TicketReplyRequest,
            status=201,
            errors=moved,
            idempotent=True,
        ),
        Route(
            "GET",
            "/v1/admin/tickets",
            everybodys,
            "Everybody's tickets, newest first",
            Page[SupportTicket],
            who="admin",
            query=_LIST,
        ),
        Route(
            "POST",
            "/v1/admin/tickets/{id}/replies",
            answer,
            "Answer a ticket; its owner is told",
            TicketReply,
            who="admin",
            body=TicketReplyRequest,
            status=201,
            errors=moved,
            idempotent=True,
        ),
        Route(
            "POST",
            "/v1/admin/tickets/{id}/status",
            move,
            "Take a ticket one status further",
            SupportTicket,
            who="admin",
            body=TicketMove,
            errors=moved,
        ),
    ]
