"""Why an identity was not taken, or not proved."""

from dispatch.kit.errors import DispatchError, Overloaded
from protocol.errors import ErrorCode


class TicketsUnavailable(Overloaded):
    """Redis is away: no ticket can be sold or redeemed. Tickets fail closed."""


class KeysUnavailable(Overloaded):
    """The keys of an outside issuer have never been read: its tokens can be neither taken nor refused."""


class PasswordsBusy(Overloaded):
    """Too many passwords wait to be hashed."""


class EmailTaken(DispatchError):
    """Somebody else has this e-mail address."""

    code = ErrorCode.EMAIL_TAKEN


class BadToken(DispatchError):
    """This token or code was never given, is used, or is not the newest."""

    code = ErrorCode.INVALID_TOKEN


class TokenExpired(DispatchError):
    """This token or code was good once."""

    code = ErrorCode.TOKEN_EXPIRED


class UserMissing(DispatchError):
    """There is no such user."""

    code = ErrorCode.USER_NOT_FOUND
