"""HTTP bodies of the question why: who was considered for a job, and what became of him. The rules of `protocol.resources` hold here."""

from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from protocol.frames import At, Count, Metres
from protocol.lifecycle import JobStatus


class Outcome(StrEnum):
    """What became of a provider in a round."""

    OFFERED = "offered"
    UNFIT = "unfit"
    """Found, and by the time of the offer he could not be asked any more."""
    OUTBID = "outbid"
    """Another job of the same window was offered to him, or this one to somebody for whom all of them together come cheaper."""
    BEHIND = "behind"
    """Others were nearer."""
    HELD = "held"
    """He was near, and another job was just then offered to him, or about to be."""
    LEFT_OUT = "left_out"
    """He had declined this job, or let an offer of it lapse."""


class Considered(Struct, frozen=True, omit_defaults=True):
    """One provider in one round. `distance_m` is straight; `cost_s`, with the policy `batch`, is what he cost beside the others: the way
    there and penalties, in seconds. `text` is for people.
    """

    provider_id: UUID
    outcome: Outcome
    text: str
    provider_uid: str | None = None
    distance_m: Metres | None = None
    cost_s: float | None = None


class MatchRound(Struct, frozen=True, omit_defaults=True):
    """Once that somebody was looked for. `round` is missing where nobody was offered the job; `considered` are the nearest 50 of those free,
    also some who were not asked, then up to 10 near ones who were held, and up to 50 of each kind of those who were left out.
    """

    at: At
    policy: str
    reason: str
    text: str
    radius_m: Metres
    considered: list[Considered]
    round: Count | None = None


class Why(Struct, frozen=True):
    """The last 100 times, in order."""

    job_id: UUID
    status: JobStatus
    rounds: list[MatchRound]


class OwnRound(Struct, frozen=True, omit_defaults=True):
    """What became of the asker himself."""

    at: At
    outcome: Outcome
    text: str
    distance_m: Metres | None = None
    round: Count | None = None


class WhyNotMe(Struct, frozen=True):
    job_id: UUID
    rounds: list[OwnRound]
