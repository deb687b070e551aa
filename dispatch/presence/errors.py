"""Why a position was not taken."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode, WhyRejected


class PositionRejected(DispatchError):
    """The fix is refused; the last good one stays."""

    code = ErrorCode.POSITION_REJECTED

    def __init__(self, why: WhyRejected) -> None:
        super().__init__(f"position refused: {why}", why=str(why))
        self.why = why


class ClockSkew(DispatchError):
    """The phone's clock is ahead of ours."""

    code = ErrorCode.CLOCK_SKEW

    def __init__(self, offset_ms: int) -> None:
        super().__init__(f"the fix is {offset_ms} ms in the future", offset_ms=offset_ms)
        self.offset_ms = offset_ms


class Offline(DispatchError):
    """Not switched on."""

    code = ErrorCode.PROVIDER_OFFLINE


class LocationRequired(DispatchError):
    """No position is known."""

    code = ErrorCode.LOCATION_REQUIRED
