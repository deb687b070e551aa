"""The trips that are under way when the clock starts. Pure."""

from collections.abc import Iterable

from bench.demo.recording import Fare, Recording, Request, Trace


def warm_fares(recording: Recording, vehicles: Iterable[str]) -> dict[str, Fare]:
    """The recorded trips that are under way when the recording starts, by vehicle; with both ends on the trace."""
    chosen = set(vehicles)
    return {
        fare.vehicle: fare
        for fare in recording.fares
        if fare.vehicle in chosen
        and fare.pickup_at < recording.start < fare.dropoff_at
        and recording.traces[fare.vehicle].at(fare.pickup_at) is not None
        and recording.traces[fare.vehicle].at(fare.dropoff_at) is not None
    }


def warm_request(fare: Fare, trace: Trace) -> Request:
    """The request that this trip must have come from. Raises ValueError when its ends are not on the trace."""
    pickup, dropoff = trace.at(fare.pickup_at), trace.at(fare.dropoff_at)
    if pickup is None or dropoff is None:
        raise ValueError(f"the trace does not know where the trip of {fare.vehicle} began and ended")
    return Request(fare.pickup_at, pickup, dropoff)
