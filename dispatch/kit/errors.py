"""Refusals that a caller is told about. Anything that is not one of these is a bug: 500, logged once, nothing leaked."""

from typing import Any, ClassVar

from protocol.errors import ErrorCode, status_of

_owners: dict[ErrorCode, type["DispatchError"]] = {}


class DispatchError(Exception):
    """A refusal with a wire code. Subclasses set `code`; `details` goes to the client, the message to the log.

    `decided` is False for answers that decided nothing (busy, overloaded, limited): the same request may be sent again
    and such an answer is never stored under its idempotency key.
    """

    code: ClassVar[ErrorCode]
    decided: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code = cls.__dict__.get("code")
        if code is None:
            return
        if (other := _owners.get(code)) is not None and other.__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.__qualname__} and {other.__qualname__} both claim {code}: one code, one class")
        _owners[code] = cls

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message or self.__doc__ or self.code)
        self.details: dict[str, Any] = details

    @property
    def status(self) -> int:
        return status_of(self.code)


class Invalid(DispatchError):
    """The request is wrong whatever the state."""

    code = ErrorCode.VALIDATION_ERROR


class BadDateRange(DispatchError):
    """The range ends before it begins, is too long, or is none."""

    code = ErrorCode.INVALID_DATE_RANGE


class InvalidCoordinates(DispatchError):
    """Not a place on Earth."""

    code = ErrorCode.INVALID_COORDINATES


class ReasonRequired(DispatchError):
    """This change needs a reason."""

    code = ErrorCode.REASON_REQUIRED


class Unauthenticated(DispatchError):
    """No valid identity."""

    code = ErrorCode.UNAUTHORIZED


class SessionExpired(DispatchError):
    """The token was good once."""

    code = ErrorCode.SESSION_EXPIRED


class Forbidden(DispatchError):
    """An identity without the right."""

    code = ErrorCode.FORBIDDEN


class Missing(DispatchError):
    """There is no such thing, or none that the caller may know of."""

    code = ErrorCode.NOT_FOUND


class FileTooLarge(DispatchError):
    """A file over its bound, refused while it came."""

    code = ErrorCode.FILE_TOO_LARGE


class IllegalTransition(DispatchError):
    """This change of status is not in the table."""

    code = ErrorCode.INVALID_STATUS_TRANSITION


class TooLate(DispatchError):
    """The time in which this could be done is over."""

    code = ErrorCode.TOO_LATE


class KeyReused(DispatchError):
    """The request id was used for another request."""

    code = ErrorCode.IDEMPOTENCY_KEY_REUSED


class KeyRequired(DispatchError):
    """What moves money is asked for under a key, so that it can be asked again."""

    code = ErrorCode.IDEMPOTENCY_KEY_REQUIRED


class StillRunning(DispatchError):
    """The same request is at work right now."""

    code = ErrorCode.REQUEST_IN_PROGRESS
    decided = False


class Limited(DispatchError):
    """Too many requests."""

    code = ErrorCode.RATE_LIMITED
    decided = False


class Busy(DispatchError):
    """No answer yet: it may already be done. Ask again with the same id."""

    code = ErrorCode.BUSY
    decided = False

    def __init__(self, message: str = "", *, retry_after_ms: int = 250) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)


class Overloaded(DispatchError):
    """A bounded resource is full or a store does not answer."""

    code = ErrorCode.OVERLOADED
    decided = False
