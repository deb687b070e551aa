"""What counts make of rates, and rates of warnings."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from protocol.resources.performance import Outcomes, PerformanceWarning, WarningWord

LAST: Final = 200
"""Offers in the window that forgets."""

LOW_RATING: Final = 4.0
HIGH_CANCELLATION: Final = Fraction(1, 5)

_TEXT: Final[Mapping[WarningWord, Mapping[str, str]]] = {
    WarningWord.LOW_RATING: {
        "th": "คะแนนของคุณต่ำกว่า 4.0 กรุณาปรับปรุงการให้บริการ",
        "en": "Your rating is below 4.0, please look after your service",
    },
    WarningWord.HIGH_CANCELLATION_RATE: {
        "th": "อัตราการยกเลิกงานของคุณสูงกว่า 20% กรุณารับเฉพาะงานที่คุณทำได้",
        "en": "You cancel more than 20% of the jobs you accept, please accept only what you can do",
    },
}


def share(part: int, whole: int) -> float | None:
    """`part` of `whole`, 0 to 1; None: of nothing there is no share, not even 0."""
    return part / whole if whole else None


def outcomes(offered: int, accepted: int, completed: int, cancelled: int) -> Outcomes:
    return Outcomes(
        offered,
        accepted,
        completed,
        cancelled,
        acceptance_rate=share(accepted, offered),
        completion_rate=share(completed, accepted),
        cancellation_rate=share(cancelled, accepted),
    )


def warnings_of(rating: float | None, lifetime: Outcomes, locale: str) -> list[PerformanceWarning]:
    """What a provider should be told of himself, in `locale`. Whoever has no rating or accepted nothing is warned of nothing."""
    words = []
    if rating is not None and rating < LOW_RATING:
        words.append(WarningWord.LOW_RATING)
    if lifetime.accepted and Fraction(lifetime.cancelled, lifetime.accepted) > HIGH_CANCELLATION:
        words.append(WarningWord.HIGH_CANCELLATION_RATE)
    return [PerformanceWarning(word, _TEXT[word][locale]) for word in words]
