"""Nouns of notifications."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from protocol.notices import NoticeType

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell one person. Text is made of `type` and `data` in the person's language."""

    recipient_id: UUID
    type: NoticeType
    data: Mapping[str, Plain] = field(default_factory=dict)
    """For the text, and for the app that shows it: ids as strings, words of the wire. No secrets: rows are kept."""
    key: str | None = None
    """Told once under this key, whoever asks again and how often. None: as often as it is written."""
