"""How a cab moves: along its own trace when free, straight to a place when not. Pure; time is an argument.

Times and speeds belong to one clock, the caller's: city seconds of the recorded day or wall seconds, and metres
per second of the same. A speed is that of the straight line: the road's detour is already taken out of it, so
that a drive takes as long as a road trip at city speed does.
"""

from dataclasses import dataclass

from bench.demo.recording import Place, Trace
from dispatch.kit.geo import distance_m, toward

# How far ahead a cab looks for the place where it can meet its own trace again, and how finely.
REJOIN_WITHIN_S = 3600.0
REJOIN_STEP_S = 10.0


@dataclass(frozen=True, slots=True)
class Drive:
    """A straight drive from `a` to `b` between two moments; before it the cab stands at `a`, after it at `b`."""

    a: Place
    b: Place
    start: float
    end: float

    def at(self, moment: float) -> Place:
        """Where the cab is at `moment`."""
        if moment >= self.end:
            return self.b
        if moment <= self.start:
            return self.a
        whole_m = distance_m(*self.a, *self.b)
        return toward(self.a, self.b, whole_m * (moment - self.start) / (self.end - self.start))

    def length_m(self) -> float:
        """Straight metres from end to end."""
        return distance_m(*self.a, *self.b)


def drive(a: Place, b: Place, start: float, speed_mps: float) -> Drive:
    """From `a` at `start` to `b` at an even speed."""
    return Drive(a, b, start, start + distance_m(*a, *b) / speed_mps)


def rejoin(place: Place, trace: Trace, start: float, speed_mps: float) -> Drive | None:
    """The drive from `place` back to the cab's own trace: to where it will be, arriving when it is there.

    The earliest meeting on a grid of REJOIN_STEP_S. If the trace cannot be caught within REJOIN_WITHIN_S,
    because it is silent, to its next report, early and waiting there. None: the trace is over.
    """
    ahead = 0.0
    while ahead <= REJOIN_WITHIN_S:
        there = trace.at(start + ahead)
        if there is not None and distance_m(*place, *there) <= speed_mps * ahead:
            return Drive(place, there, start, start + ahead)
        ahead += REJOIN_STEP_S
    report = trace.next_report(start + REJOIN_WITHIN_S)
    if report is None:
        return None
    return drive(place, report[1], start, speed_mps)
