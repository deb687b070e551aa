"""A recorded day: who asked for a cab when and where, where the cabs were, and when they had a fare.

A folder holds `requests_DATE.csv.gz`, `traces_DATE*.csv.gz` and `occupied_DATE.csv.gz`; the columns stand in
`bench/data/sf/README.md`. Times become seconds since 1970 (UTC), places (lat, lng). The recording is real
and so are its faults: reports a minute apart, silent hours, and a few hundred places where no cab can be.
"""

import bisect
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from dispatch.kit.geo import distance_m, valid_coordinates

Place = tuple[float, float]

# What `--date` means when the folder holds several days is up to the caller; this is how long a peak lasts.
PEAK_S = 20 * 60
# More requests than this in one second are no people: the fleet's nightly restart reports minutes of flag
# changes at once (up to 42 in the source; the busiest ordinary second has 5).
BURST = 8
# Nobody drives 40 m/s between two reports a minute apart in a city: a GPS jump. The source has 2,824 a day.
JUMP_MPS = 40.0
# A jump that three reports in a row agree on was none: the report before them was.
JUMP_AGREED = 3
# A cab silent for longer is off shift or in a radio shadow: it is not on the road for us either.
SILENCE_S = 600.0


class RecordingError(ValueError):
    """The folder cannot be replayed; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for a cab. No dropoff where the source has none."""

    at: float
    pickup: Place
    dropoff: Place | None


@dataclass(frozen=True, slots=True)
class Fare:
    """A cab's "has a fare" flag was on from `pickup_at` until `dropoff_at`."""

    vehicle: str
    pickup_at: float
    dropoff_at: float


class Trace:
    """Where one cab was. Between two reports it drives straight at an even speed; in a silence it is nowhere."""

    def __init__(self, times: Sequence[float], places: Sequence[Place]) -> None:
        """`times` strictly ascending, one place each. Raises RecordingError otherwise."""
        if len(times) != len(places) or any(b <= a for a, b in pairwise(times)):
            raise RecordingError("a trace needs one place per time, and times that grow")
        self._times = list(times)
        self._places = list(places)

    def __len__(self) -> int:
        return len(self._times)

    @property
    def places(self) -> Sequence[Place]:
        """Where it reported from, in order of time."""
        return self._places

    def at(self, moment: float) -> Place | None:
        """The place at `moment`, or None before the first report, after the last and within a silence."""
        after = bisect.bisect_right(self._times, moment)
        if after == 0:
            return None
        begin = self._times[after - 1]
        if begin == moment:
            return self._places[after - 1]
        if after == len(self._times) or self._times[after] - begin > SILENCE_S:
            return None
        share = (moment - begin) / (self._times[after] - begin)
        (lat1, lng1), (lat2, lng2) = self._places[after - 1], self._places[after]
        return lat1 + (lat2 - lat1) * share, lng1 + (lng2 - lng1) * share

    def next_report(self, moment: float) -> tuple[float, Place] | None:
        """The first report at or after `moment`: when and where the cab is seen again. None after the last."""
        index = bisect.bisect_left(self._times, moment)
        return (self._times[index], self._places[index]) if index < len(self._times) else None

    def coverage(self, start: float, end: float, step_s: float = 60.0) -> float:
        """The share of the time between `start` and `end` in which the cab is somewhere."""
        steps = max(1, int((end - start) / step_s))
        return sum(self.at(start + step * step_s) is not None for step in range(steps)) / steps


@dataclass(frozen=True, slots=True)
class Recording:
    """One stretch of one recorded day. `jumps` counts the reports left out because no cab can drive so fast."""

    start: float
    end: float
    requests: tuple[Request, ...]
    traces: dict[str, Trace]
    fares: tuple[Fare, ...]
    jumps: int


def seconds(text: str) -> float:
    """An ISO 8601 instant of UTC as seconds since 1970."""
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()


def instant(moment: float) -> str:
    """The other way round, to whole seconds, as in the files."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rows(file: Path, columns: int) -> Iterator[list[str]]:
    """The lines of a CSV of ours below its header; it quotes nothing, so a comma is a comma."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        next(lines, None)
        for number, line in enumerate(lines, 2):
            cells = line.rstrip("\n").split(",")
            if len(cells) != columns:
                raise RecordingError(f"{file}, line {number}: {len(cells)} columns instead of {columns}")
            yield cells


def find(folder: Path, kind: str, date: str) -> Path:
    """The file of that kind and date; a suffix after the date is allowed (`traces_2008-06-04_1500-2300pdt`)."""
    found = sorted(folder.glob(f"{kind}_{date}*.csv.gz"))
    if not found:
        dates = ", ".join(sorted({path.name.split("_")[1][:10] for path in folder.glob("traces_*.csv.gz")}))
        have = f"complete recordings there: {dates}" if dates else "there is no traces_*.csv.gz there at all"
        raise RecordingError(f"no {kind}_{date}*.csv.gz in {folder}; {have}")
    return found[0]


def read_requests(folder: Path, date: str) -> tuple[Request, ...]:
    """All requests of the day, in order of time."""
    requests = []
    for at, lat, lng, to_lat, to_lng in rows(find(folder, "requests", date), 5):
        dropoff = (float(to_lat), float(to_lng)) if to_lat and to_lng else None
        requests.append(Request(seconds(at), (float(lat), float(lng)), dropoff))
    if not requests:
        raise RecordingError(f"{find(folder, 'requests', date)} holds no request")
    return tuple(requests)


def peak(times: Sequence[float], length_s: float = PEAK_S) -> float:
    """When the `length_s` with the most requests begin, on whole minutes; the earliest of equals.

    Stretches with a burst in them are left out: those requests are older than their time says.
    """
    bursts = {at for at in set(times) if bisect.bisect_right(times, at) - bisect.bisect_left(times, at) > BURST}
    best_start, best_count = times[0] // 60 * 60, -1
    minute = best_start
    while minute <= times[-1]:
        first, last = bisect.bisect_left(times, minute), bisect.bisect_left(times, minute + length_s)
        if last - first > best_count and not any(minute <= at < minute + length_s for at in bursts):
            best_start, best_count = minute, last - first
        minute += 60
    return best_start


def without_jumps(reports: Sequence[tuple[float, Place]]) -> list[tuple[float, Place]]:
    """The reports of one cab, ascending, without those it could not have driven to.

    A report is doubted when it is too far from the last good one for the time between. The doubted ones are
    dropped, unless JUMP_AGREED in a row fit each other: then the one before them was the jump, and they count.
    """
    good: list[tuple[float, Place]] = []
    doubted: list[tuple[float, Place]] = []
    for report in reports:
        if not valid_coordinates(*report[1]):
            continue
        if not good or _drivable(good[-1], report):
            good.append(report)
            doubted.clear()
            continue
        if doubted and not _drivable(doubted[-1], report):
            doubted.clear()
        doubted.append(report)
        if len(doubted) == JUMP_AGREED:
            while good and not _drivable(good[-1], doubted[0]):
                good.pop()
            good += doubted
            doubted.clear()
    return good


def _drivable(before: tuple[float, Place], after: tuple[float, Place]) -> bool:
    """Whether a cab gets from one report to the next; two reports within a second may differ by GPS noise."""
    return distance_m(*before[1], *after[1]) <= 30 + JUMP_MPS * (after[0] - before[0])


def read_traces(folder: Path, date: str, start: float, end: float) -> tuple[dict[str, Trace], int]:
    """Every cab's reports between the two instants (both included), and how many jumps were left out."""
    first, last = instant(start), instant(end)
    reports: dict[str, list[tuple[float, Place]]] = {}
    for vehicle, at, lat, lng in rows(find(folder, "traces", date), 4):
        # The files are sorted by time, and this format of time sorts like its text.
        if at < first:
            continue
        if at > last:
            break
        reports.setdefault(vehicle, []).append((seconds(at), (float(lat), float(lng))))
    traces: dict[str, Trace] = {}
    jumps = 0
    for vehicle in sorted(reports):
        good = without_jumps(reports[vehicle])
        jumps += len(reports[vehicle]) - len(good)
        if len(good) > 1:
            traces[vehicle] = Trace([at for at, _ in good], [place for _, place in good])
    return traces, jumps


def read_fares(folder: Path, date: str) -> tuple[Fare, ...]:
    """All fares that begin in the day, in the order of the file; an end before the beginning is left out."""
    fares = []
    for vehicle, begin, end in rows(find(folder, "occupied", date), 3):
        if end and seconds(end) > seconds(begin):
            fares.append(Fare(vehicle, seconds(begin), seconds(end)))
    return tuple(fares)


def read(folder: Path, date: str, length_s: float, warm_s: float = 3600.0) -> Recording:
    """The recording from the day's peak on, `length_s` long or as long as there is one.

    `warm_s` before the peak the traces begin, so that trips under way at its start have their beginning.
    Raises RecordingError.
    """
    requests = read_requests(folder, date)
    start = peak([request.at for request in requests])
    end = min(start + length_s, requests[-1].at)
    # A little more than the length: cabs interpolate towards a report after the end.
    traces, jumps = read_traces(folder, date, start - warm_s, end + SILENCE_S)
    return Recording(
        start=start,
        end=end,
        requests=tuple(request for request in requests if start <= request.at < end),
        traces=traces,
        fares=tuple(fare for fare in read_fares(folder, date) if start - warm_s <= fare.pickup_at < end),
        jumps=jumps,
    )
