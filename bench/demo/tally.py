"""What the clients saw, and what it proves. Pure; the replay feeds it, the summary reads it.

Nothing here believes the server: doubles are counted from what sockets were told, lost events from what each
client applied against what the table holds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.demo.books import Told


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank). NaN without values.

    Infinite values count like any other, as the largest: one that never arrived is not left out.
    """
    return percentile_of(sorted(values), share)


def percentile_of(ordered: Sequence[float], share: float) -> float:
    """The same of values in their order, so that many shares of them cost one sorting."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class Applied:
    """Which of a user's events one client has: everything up to a snapshot's seq, and every event since."""

    def __init__(self) -> None:
        self._upto = 0
        self._beyond: set[int] = set()

    def snapshot(self, seq: int) -> None:
        """A snapshot as of `seq` tells the outcome of all events up to it."""
        if seq > self._upto:
            self._upto = seq
            self._beyond = {later for later in self._beyond if later > seq}
            self._close_up()

    def event(self, seq: int) -> bool:
        """Event `seq` was applied. False: it had been already."""
        if seq <= self._upto or seq in self._beyond:
            return False
        self._beyond.add(seq)
        self._close_up()
        return True

    def _close_up(self) -> None:
        while self._upto + 1 in self._beyond:
            self._upto += 1
            self._beyond.remove(self._upto)

    def lacks(self, written: Iterable[int]) -> list[int]:
        """Those of the `written` seqs that this client has not."""
        return sorted(seq for seq in written if seq > self._upto and seq not in self._beyond)


def lost_events(written: Mapping[str, Iterable[int]], applied: Mapping[str, Applied]) -> int:
    """How many events of the table are missing at the client of their user. Users without a client lose none."""
    return sum(len(applied[user].lacks(seqs)) for user, seqs in written.items() if user in applied)


class Assignments:
    """Who was told yes for which job, and who was told that it is his no longer."""

    def __init__(self) -> None:
        self._yes: dict[str, list[tuple[int, str]]] = {}
        self._released: set[tuple[str, str]] = set()

    def told_yes(self, job: str, round_: int, provider: str) -> None:
        """A reply of ok to an accept reached that provider's socket. The same yes twice is one yes."""
        if (round_, provider) not in (told := self._yes.setdefault(job, [])):
            told.append((round_, provider))

    def told_released(self, job: str, provider: str) -> None:
        """That provider's socket heard that the job is taken from him."""
        self._released.add((job, provider))

    def doubles(self) -> int:
        """Jobs for which two providers were told yes without a release in between.

        Two in one round never may be. In different rounds, everyone but the last must have heard that he
        lost it; the order in which the two frames arrive does not matter, they come over different sockets.
        """
        return sum(self._double(job, told) for job, told in self._yes.items())

    def _double(self, job: str, told: list[tuple[int, str]]) -> bool:
        providers = {provider for _, provider in told}
        if len(providers) < 2:
            return False
        rounds = [round_ for round_, _ in told]
        if len(set(rounds)) < len(rounds):
            return True
        last = max(told)[1]
        return any((job, provider) not in self._released for provider in providers - {last})

    def __len__(self) -> int:
        return len(self._yes)


@dataclass(slots=True)
class Tally:
    """Everything that is counted while the city runs. Latencies in milliseconds, stamps in nanoseconds."""

    jobs: dict[str, str] = field(default_factory=dict)  # job → its newest status, as its customer heard it
    no_provider: int = 0
    outside: int = 0
    requests_failed: int = 0
    offer_seen_ns: dict[str, int] = field(default_factory=dict)  # offer → when its frame was here first
    accept_ms: list[float] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)  # final answers to accepts: "ok" or the error's code
    declined: int = 0
    ignored: int = 0
    positions: int = 0
    events: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # error frames by code
    lines_lost: int = 0
    tracked: int = 0  # location frames that customers saw
    assignments: Assignments = field(default_factory=Assignments)
    applied: dict[str, Applied] = field(default_factory=dict)  # user → what his client has
    wallets: dict[tuple[str, str], Told] = field(default_factory=dict)  # user, currency → what his phone was told

    def saw_offer(self, offer: str, now_ns: int) -> None:
        """The offer's frame was decoded here; only the first time counts."""
        self.offer_seen_ns.setdefault(offer, now_ns)

    def count(self, counts: dict[str, int], key: str) -> None:
        """One more of that kind."""
        counts[key] = counts.get(key, 0) + 1

    def by_status(self) -> dict[str, int]:
        """How many jobs are in which state."""
        counts: dict[str, int] = {}
        for status in self.jobs.values():
            counts[status] = counts.get(status, 0) + 1
        return counts


def offer_latencies_ms(stamped_ns: Mapping[str, int], seen_ns: Mapping[str, int]) -> list[float]:
    """From the server's stamp after COMMIT to the frame here, per offer; infinite when no frame ever came.

    Both clocks are the machine's CLOCK_MONOTONIC. Offers seen without a stamp are a fault of the stamp
    file and are left to the caller to notice.
    """
    return [(seen_ns[offer] - stamp) / 1e6 if offer in seen_ns else math.inf for offer, stamp in stamped_ns.items()]


def read_stamps(lines: Iterable[str]) -> dict[str, int]:
    """`offer_id<TAB>nanoseconds` per line, as the server's workers write them; a torn last line is left out."""
    stamps: dict[str, int] = {}
    for line in lines:
        if not line.endswith("\n"):
            continue
        offer, _, stamp = line.rstrip("\n").partition("\t")
        stamps.setdefault(offer, int(stamp))
    return stamps
