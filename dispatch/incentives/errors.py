"""Failures of incentives, with their wire codes."""

from dispatch.kit.errors import DispatchError, Missing
from protocol.errors import ErrorCode


class IncentiveMissing(Missing):
    """There is no such program."""


class ProgramStarted(DispatchError):
    """Providers already work towards it: only its name and its end may change, and it may be ended."""

    code = ErrorCode.PROGRAM_STARTED
