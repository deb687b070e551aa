"""HTTP bodies of ratings. The rules of `protocol.resources` hold here."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At
from protocol.lifecycle import ServiceType

Score = Annotated[int, Meta(ge=1, le=5)]
Comment = Annotated[str, Meta(max_length=1000)]


class RatingRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A comment of blanks counts as none."""

    score: Score
    comment: Comment | None = None


class Rating(Struct, frozen=True, omit_defaults=True):
    id: UUID
    job_id: UUID
    score: Score
    created_at: At
    comment: Comment | None = None


class Review(Struct, frozen=True, omit_defaults=True):
    """A rating as its provider reads it. The first name is that of the time of the job."""

    id: UUID
    job_id: UUID
    service_type: ServiceType
    score: Score
    at: At
    comment: Comment | None = None
    customer_first_name: str | None = None
