"""Support tickets, from both sides of the counter."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from protocol.tickets import TicketCategory, TicketStatus
from tests.support.server import Server, code, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_a_ticket_is_confirmed_answered_and_closed(server: Server) -> None:
    asker, admin = await server.person(), await server.admin()
    async with asker.connected():
        ticket = await asker.http.support.open(TicketCategory.APP, "จอดำ 📱", "It went dark.\nTwice.")
        assert ticket["status"] == "open"
        told = (await asker.inbox.named("notification.created")).data["notification"]
        assert told["type"] == "support_ticket_created" and told["data"]["ticket_id"] == ticket["id"]

        await admin.http.office.answer(ticket["id"], "Which phone?")
        told = (await asker.inbox.named("notification.created", nth=2)).data["notification"]
        assert told["type"] == "support_reply"

    async with admin.connected():
        await asker.http.support.reply(ticket["id"], "An old one.")
        told = (await admin.inbox.named("notification.created")).data["notification"]
        assert told["type"] == "support_reply" and told["data"]["ticket_id"] == ticket["id"]

    read = await asker.http.support.ticket(ticket["id"])
    assert [(reply["staff"], reply["body"]) for reply in read["replies"]] == [
        (True, "Which phone?"),
        (False, "An old one."),
    ]
    with code("INVALID_STATUS_TRANSITION"):
        await admin.http.office.move_ticket(ticket["id"], TicketStatus.RESOLVED)
    for status in (TicketStatus.IN_PROGRESS, TicketStatus.RESOLVED, TicketStatus.CLOSED):
        assert (await admin.http.office.move_ticket(ticket["id"], status))["status"] == status
    with code("INVALID_STATUS_TRANSITION"):
        await asker.http.support.reply(ticket["id"], "Still dark.")
    moves = await server.sql(
        "SELECT action, before, after FROM audit_log WHERE subject_id = $1 ORDER BY at", ticket["id"]
    )
    assert [row["action"] for row in moves] == ["reply", "move", "move", "move"]


async def test_a_ticket_is_its_owners_and_the_offices(server: Server) -> None:
    asker, stranger = await server.person(), await server.person()
    ticket = await asker.http.support.open(TicketCategory.OTHER, "mine", "words")
    with code("TICKET_NOT_FOUND"):
        await stranger.http.support.ticket(ticket["id"])
    with code("TICKET_NOT_FOUND"):
        await stranger.http.support.reply(ticket["id"], "let me in")
    with code("TICKET_NOT_FOUND"):
        await stranger.http.support.reply(uuid4(), "let me in")
    with code("FORBIDDEN"):
        await asker.http.call("POST", f"/v1/admin/tickets/{ticket['id']}/replies", {"body": "I answer myself"})
    assert (await stranger.http.support.tickets())["items"] == []


async def test_a_ticket_may_be_about_an_own_job_only(server: Server) -> None:
    asker, stranger = await server.person(), await server.person()
    job = await server.request(asker)
    assert (await asker.http.support.open(TicketCategory.JOB, "late", "very", job_id=job["id"]))["job_id"] == job["id"]
    with code("JOB_NOT_FOUND"):
        await stranger.http.support.open(TicketCategory.JOB, "late", "very", job_id=job["id"])


@pytest.mark.parametrize(
    "fields", [{"subject": " "}, {"body": ""}, {"body": "x" * 4001}, {"category": "gossip"}, {"status": "closed"}]
)
async def test_a_ticket_that_says_nothing_is_refused(server: Server, fields: dict[str, str]) -> None:
    asker = await server.person()
    with code("VALIDATION_ERROR"):
        await asker.http.call("POST", "/v1/support/tickets", {"category": "app", "subject": "s", "body": "b"} | fields)


async def test_lists_come_in_pages_newest_first(server: Server) -> None:
    asker, admin = await server.person(), await server.admin()
    made = [
        (await asker.http.support.open(TicketCategory.APP, f"nr {n}", "words", key=f"k{n}"))["id"] for n in range(5)
    ]
    assert (await asker.http.support.open(TicketCategory.APP, "nr 4", "words", key="k4"))["id"] == made[4]
    seen, cursor = [], None
    while True:
        page = await asker.http.support.tickets(limit=2, cursor=cursor)
        seen += [item["id"] for item in page["items"]]
        if (cursor := page.get("next_cursor")) is None:
            break
    assert seen == made[::-1]
    assert len((await asker.http.support.tickets(status=TicketStatus.CLOSED))["items"]) == 0
    everybodys = await admin.http.office.tickets(status=TicketStatus.OPEN)
    assert [item["id"] for item in everybodys["items"]] == made[::-1]
