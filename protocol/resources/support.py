"""HTTP bodies of support. The rules of `protocol.resources` hold here."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from protocol.frames import At
from protocol.tickets import TicketCategory, TicketStatus

Subject = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
Body = Annotated[str, Meta(min_length=1, max_length=4000, pattern=r"\S")]


class TicketRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`job_id` names the job that it is about: one of the caller's."""

    category: TicketCategory
    subject: Subject
    body: Body
    job_id: UUID | None = None


class TicketReplyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    body: Body


class TicketMove(Struct, frozen=True, forbid_unknown_fields=True):
    """The next status: open, in_progress, resolved, closed, one after the other."""

    status: TicketStatus


class TicketReply(Struct, frozen=True):
    """`staff`: written by the office."""

    id: UUID
    staff: bool
    body: str
    created_at: At


class SupportTicket(Struct, frozen=True, omit_defaults=True):
    """`replies` only where one ticket is read, oldest first, the newest 200."""

    id: UUID
    user_id: UUID
    category: TicketCategory
    subject: str
    body: str
    status: TicketStatus
    created_at: At
    updated_at: At
    job_id: UUID | None = None
    replies: list[TicketReply] = msgspec.field(default_factory=list)
