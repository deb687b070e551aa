"""Nouns of claims."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job is his. `job` is its wire JSON as its provider sees it."""

    job: bytes
    navigation_url: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """One accept. `accept_id` is the same for every sending of the same request, so that a lost answer can be asked for again."""

    user_id: UUID
    job_id: UUID
    offer_id: UUID | None
    round: int | None
    accept_id: UUID
    key: str
    fingerprint: str
