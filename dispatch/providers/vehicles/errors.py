"""Failures of vehicles, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class VehicleMissing(DispatchError):
    """There is no such vehicle, or none that the caller may know of."""

    code = ErrorCode.VEHICLE_NOT_FOUND


class VehicleNotApproved(DispatchError):
    """Only an approved vehicle can be put into use."""

    code = ErrorCode.VEHICLE_NOT_APPROVED


class PlateTaken(DispatchError):
    """A vehicle with this plate is registered already."""

    code = ErrorCode.PLATE_TAKEN


class StaleVersion(DispatchError):
    """The row has changed since the caller read it."""

    code = ErrorCode.CONCURRENT_MODIFICATION
