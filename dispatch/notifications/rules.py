"""Which notification goes out by which ways."""

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
    NoticeType.SUPPORT_TICKET_CREATED: _PUSH_AND_EMAIL,
    NoticeType.SUPPORT_REPLY: _PUSH_AND_EMAIL,
}
