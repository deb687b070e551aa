"""Sentences for people."""

from collections.abc import Mapping

from dispatch.notifications.model import Plain
from protocol.notices import NoticeType


def text_of(kind: NoticeType, locale: str, data: Mapping[str, Plain]) -> tuple[str, str]:
    """(title, body) in this language."""
    return kind.replace("_", " "), " ".join(str(value) for value in data.values())
