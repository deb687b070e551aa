"""Which notification goes out by which ways, how urgent it is, and when it is tried again."""

from collections.abc import Mapping
from typing import Final

from protocol.notices import Channel, NoticeType

_PUSH = (Channel.PUSH,)
_PUSH_AND_EMAIL = (Channel.PUSH, Channel.EMAIL)

CHANNELS: Final[Mapping[NoticeType, tuple[Channel, ...]]] = {
    **{kind: _PUSH for kind in NoticeType},
    NoticeType.APPLICATION_APPROVED: _PUSH_AND_EMAIL,
    NoticeType.APPLICATION_REJECTED: _PUSH_AND_EMAIL,
    NoticeType.DOCUMENT_EXPIRING: _PUSH_AND_EMAIL,
    NoticeType.DOCUMENT_EXPIRED: _PUSH_AND_EMAIL,
    NoticeType.VEHICLE_SUSPENDED: _PUSH_AND_EMAIL,
    NoticeType.ACCOUNT_SUSPENDED: (Channel.PUSH, Channel.EMAIL, Channel.SMS),
    NoticeType.ACCOUNT_REACTIVATED: _PUSH_AND_EMAIL,
    NoticeType.EMAIL_VERIFICATION: (Channel.EMAIL,),
    NoticeType.PHONE_VERIFICATION: (Channel.SMS,),
    NoticeType.PASSWORD_RESET: (Channel.EMAIL,),
    NoticeType.WITHDRAWAL_COMPLETED: _PUSH_AND_EMAIL,
    NoticeType.WITHDRAWAL_FAILED: _PUSH_AND_EMAIL,
    NoticeType.WITHDRAWAL_REJECTED: _PUSH_AND_EMAIL,
    NoticeType.SUPPORT_TICKET_CREATED: _PUSH_AND_EMAIL,
    NoticeType.SUPPORT_REPLY: _PUSH_AND_EMAIL,
}

URGENT: Final = frozenset(
    {
        NoticeType.JOB_AVAILABLE,
        NoticeType.JOB_ACCEPTED,
        NoticeType.JOB_STATUS_CHANGED,
        NoticeType.JOB_CANCELLED,
        NoticeType.EMAIL_VERIFICATION,
        NoticeType.PHONE_VERIFICATION,
        NoticeType.PASSWORD_RESET,
    }
)
"""Somebody waits with the phone in his hand: these overtake letters that may wait, and wake a sleeping phone."""

TRIES: Final = 3
"""In all, the first one included."""

RETRY_AFTER_S_MAX: Final = 300.0
"""The longest Retry-After that is honoured: what a service asks beyond it is asked of us again."""


def priority_of(kind: NoticeType) -> int:
    """Of its jobs in the queue: higher goes first."""
    return 10 if kind in URGENT else 0


def wait_s(failures: int, *, base_s: float, chance: float, asked_s: float | None = None) -> float:
    """Before the next try, after so many failed ones: base, doubled each time, a quarter more or less by `chance` (0 to 1); not
    before the service that asked for `asked_s` wants to see us.
    """
    own = base_s * 2.0 ** (failures - 1) * (0.75 + 0.5 * chance)
    return max(own, min(asked_s or 0.0, RETRY_AFTER_S_MAX))
