"""Both ends of one socket without any I/O: which events to send, repeat, apply and drop.

Reliable events are numbered per user from 1 without gaps. A device tells by (epoch, seq) what it has; the server sends
what is missing or, when it cannot, a snapshot. Times are seconds of a monotonic clock, given by the caller.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from protocol.errors import ErrorCode, Refused
from protocol.frames import (
    AppInfo,
    Bye,
    ClientFrame,
    ErrorFrame,
    Event,
    Hello,
    Position,
    Reply,
    ResumeFrom,
    ServerFrame,
    Snapshot,
    Welcome,
)

REPEAT_AFTER_S: Final = 5.0
RESUME_EVENTS_MAX: Final = 512
RESUME_BYTES_MAX: Final = 128 * 1024
MARKS_MAX: Final = 512


class WhySnapshot(StrEnum):
    """Why a device gets the whole state and not the events that it missed."""

    NO_RESUME = "no_resume"
    OTHER_EPOCH = "other_epoch"
    AHEAD = "ahead"
    TOO_MANY = "too_many"
    HISTORY_GONE = "history_gone"
    TOO_BIG = "too_big"


@dataclass(frozen=True, slots=True)
class Resume:
    """Send the events after `after`, up to the newest."""

    after: int


@dataclass(frozen=True, slots=True)
class NeedSnapshot:
    reason: WhySnapshot


class Verdict(Enum):
    """What to do with an event that is at hand. DROP: sent before, or not started yet. GAP: fetch `missing` first."""

    SEND = "send"
    DROP = "drop"
    GAP = "gap"


def too_big(total_bytes: int) -> bool:
    """Whether missed events of `total_bytes` together are dearer than a snapshot."""
    return total_bytes > RESUME_BYTES_MAX


class ServerSession:
    """The server's end. hello → Resume or NeedSnapshot → started(seq) → event, ack, due as they come.

    Small, there is one per socket: an idle session holds no container. At most MARKS_MAX sendings are remembered
    apart; beyond that they are repeated together, some of them early.
    """

    __slots__ = ("_marks", "_seen_seq", "_settled_seq", "acked_seq", "greeted", "sent_seq", "started_up")

    def __init__(self) -> None:
        self.greeted = False
        """`hello` came."""
        self.started_up = False
        """The base is known: events may flow."""
        self.sent_seq = 0
        """The newest event that this socket was sent, or that its base covers."""
        self.acked_seq = 0
        """What this device said it has."""
        self._settled_seq = 0  # nothing up to here is repeated: acked, here or elsewhere, or covered by the base
        self._seen_seq = 0  # the newest event offered to `event`
        # What is out and not acked as ranges (after, upto, sent_at), oldest sending first. None: nothing is.
        self._marks: deque[tuple[int, int, float]] | None = None

    def admit(self, frame: ClientFrame) -> None:
        """Raises Refused (BAD_FRAME) for anything before `hello` and for a second `hello`."""
        if isinstance(frame, Hello) is self.greeted:
            problem = "second hello" if self.greeted else "hello comes first"
            raise Refused(ErrorCode.BAD_FRAME, problem, getattr(frame, "id", None), {"problem": problem})

    def hello(self, frame: Hello, *, epoch: str, newest: int, floor: int) -> Resume | NeedSnapshot:
        """Where this device goes on. `newest`: the user's newest seq; every event after `floor` is still kept.

        Raises: Refused (BAD_FRAME) when it is the second.
        """
        self.admit(frame)
        self.greeted = True
        self._seen_seq = max(self._seen_seq, newest)
        if (resume := frame.resume) is None:
            return NeedSnapshot(WhySnapshot.NO_RESUME)
        if resume.epoch != epoch:
            return NeedSnapshot(WhySnapshot.OTHER_EPOCH)
        if resume.seq > newest:
            return NeedSnapshot(WhySnapshot.AHEAD)
        if newest - resume.seq > RESUME_EVENTS_MAX:
            return NeedSnapshot(WhySnapshot.TOO_MANY)
        if resume.seq < floor:
            return NeedSnapshot(WhySnapshot.HISTORY_GONE)
        self.acked_seq = resume.seq
        return Resume(resume.seq)

    def started(self, seq: int) -> None:
        """The base stands: the snapshot of `seq` was sent, or the device resumes after `seq`. Again: a new snapshot."""
        self.started_up = True
        self.sent_seq = seq
        self._settled_seq = max(self._settled_seq, seq)
        self._marks = None

    @property
    def missing(self) -> tuple[int, int] | None:
        """(after, upto): events that exist and were not sent here, or None. Also those that came before the start."""
        if not self.started_up or self._seen_seq <= self.sent_seq:
            return None
        return self.sent_seq, self._seen_seq

    def event(self, seq: int, now: float) -> Verdict:
        """Whether to send event `seq`. SEND counts it as sent at `now`; a socket that fails then is closed anyway."""
        self._seen_seq = max(self._seen_seq, seq)
        if not self.started_up or seq <= self.sent_seq:
            return Verdict.DROP
        if seq != self.sent_seq + 1:
            return Verdict.GAP
        self.sent_seq = seq
        if seq > self._settled_seq:
            self._mark(seq - 1, seq, now)
        return Verdict.SEND

    def _mark(self, after: int, upto: int, now: float) -> None:
        if self._marks is None:
            self._marks = deque()
        elif len(self._marks) >= MARKS_MAX:
            oldest = self._marks[0][2]
            self._marks.clear()
            self._marks.append((self._settled_seq, upto, oldest))
            return
        self._marks.append((after, upto, now))

    def ack(self, seq: int) -> int | None:
        """The newly acked seq, to be kept; None for one that is old or was never sent."""
        if not self.started_up or not self.acked_seq < seq <= self.sent_seq:
            return None
        self.acked_seq = seq
        self._settle(seq)
        return seq

    def acked_elsewhere(self, seq: int) -> None:
        """Another device of the user has all up to `seq`: no repeats of these here."""
        self._settle(seq)

    def _settle(self, seq: int) -> None:
        if seq > self._settled_seq:
            self._settled_seq = seq
            if seq >= self.sent_seq:
                self._marks = None

    def due(self, now: float) -> tuple[int, int] | None:
        """(after, upto): events out for REPEAT_AFTER_S without an ack, to be sent again now; counted as sent at `now`.

        One stretch per call: ask until None. What is repeated has its next turn after another REPEAT_AFTER_S.
        """
        marks = self._marks
        while marks and marks[0][1] <= self._settled_seq:
            marks.popleft()
        if not marks or now - marks[0][2] < REPEAT_AFTER_S:
            return None
        after, upto, _ = marks.popleft()
        while marks and marks[0][0] == upto and now - marks[0][2] >= REPEAT_AFTER_S:
            upto = marks.popleft()[1]
        after = max(after, self._settled_seq)
        marks.append((after, upto, now))
        return after, upto


# --- the client's end


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply this event, exactly once and in order."""

    event: Event


@dataclass(frozen=True, slots=True)
class Replace:
    """Forget the state and take this one."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Answer:
    reply: Reply


@dataclass(frozen=True, slots=True)
class Located:
    position: Position


@dataclass(frozen=True, slots=True)
class Complaint:
    """The server could not use a frame of ours."""

    frame: ErrorFrame


@dataclass(frozen=True, slots=True)
class Live:
    """The handshake is over: requests that wait for an answer go out again, tracked jobs are asked for again."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class Farewell:
    bye: Bye


@dataclass(frozen=True, slots=True)
class SendAck:
    """Tell the server, once the effects before this one are safely kept. May be delayed and merged."""

    seq: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Events are missing on this line. Reconnect: the resume brings them."""

    expected: int
    got: int


Effect = Apply | Replace | Answer | Located | Complaint | Live | Farewell | SendAck | Gap


class ClientSession:
    """The client's end. Outlives its sockets: `hello` begins each new one. Keep (epoch, seq) to survive a restart."""

    __slots__ = ("_welcome", "epoch", "live", "seq")

    def __init__(self, epoch: str | None = None, seq: int = 0) -> None:
        self.epoch = epoch
        self.seq = seq
        """The newest event that was applied, or that the last snapshot covers."""
        self.live = False
        """Welcome, and the snapshot if there is to be one, have come on this socket."""
        self._welcome: Welcome | None = None  # of this socket, while its snapshot is awaited

    def hello(self, device: str, attempt: int, app: AppInfo | None = None) -> Hello:
        """The first frame of a new socket. `attempt` grows with each."""
        self.live = False
        self._welcome = None
        resume = ResumeFrom(self.epoch, self.seq) if self.epoch is not None else None
        return Hello(device=device, attempt=attempt, resume=resume, app=app)

    def receive(self, frame: ServerFrame) -> list[Effect]:
        """What to do about `frame`, in this order. `seq` moves here: save it only when the effects are done."""
        if isinstance(frame, Event):
            return self._event(frame)
        if isinstance(frame, Position):
            return [Located(frame)]
        if isinstance(frame, Reply):
            return [Answer(frame)]
        if isinstance(frame, Welcome):
            return self._welcomed(frame)
        if isinstance(frame, Snapshot):
            return self._replaced(frame)
        if isinstance(frame, ErrorFrame):
            return [Complaint(frame)]
        return [Farewell(frame)]

    def _event(self, frame: Event) -> list[Effect]:
        if not self.live:
            return []  # before the base stands it means nothing; it comes again
        if frame.seq <= self.seq:
            return [SendAck(self.seq)]  # a repeat: our ack was lost or is under way
        if frame.seq != self.seq + 1:
            return [Gap(self.seq + 1, frame.seq)]
        self.seq = frame.seq
        return [Apply(frame), SendAck(frame.seq)]

    def _welcomed(self, frame: Welcome) -> list[Effect]:
        if frame.resumed and frame.epoch == self.epoch:
            self.live = True
            return [Live(frame)]
        self._welcome = frame
        return []

    def _replaced(self, frame: Snapshot) -> list[Effect]:
        if not self.live and self._welcome is None:
            return []  # before the welcome: not of this handshake
        self.epoch, self.seq = frame.epoch, frame.seq
        effects: list[Effect] = [Replace(frame), SendAck(frame.seq)]
        if self._welcome is not None:
            effects.append(Live(self._welcome))
            self._welcome = None
            self.live = True
        return effects
