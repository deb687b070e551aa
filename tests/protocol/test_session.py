from collections import deque
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.errors import ErrorCode, Refused
from protocol.frames import (
    Ack,
    Bye,
    ErrorFrame,
    ErrorObject,
    Event,
    Hello,
    Location,
    Offline,
    Position,
    Reply,
    ResumeFrom,
    ServerFrame,
    Snapshot,
    Welcome,
)
from protocol.session import (
    MARKS_MAX,
    REPEAT_AFTER_S,
    RESUME_BYTES_MAX,
    RESUME_EVENTS_MAX,
    Answer,
    Apply,
    ClientSession,
    Complaint,
    Farewell,
    Gap,
    Live,
    Located,
    NeedSnapshot,
    Replace,
    Resume,
    SendAck,
    ServerSession,
    Verdict,
    WhySnapshot,
    too_big,
)

AT = datetime(2026, 11, 20, 10, 36, tzinfo=UTC)


def welcome(*, epoch: str = "e1", seq: int = 0, resumed: bool = False) -> Welcome:
    return Welcome("s", epoch, seq, resumed, 15.0, AT, AT)


def event(seq: int, **data: Any) -> Event:
    return Event(seq, "job.updated", AT, data)


def snapshot(seq: int, epoch: str = "e1", jobs: list[dict[str, Any]] | None = None) -> Snapshot:
    return Snapshot(epoch, seq, jobs or [], [])


def started(base: int = 0, *, sent: int = 0, now: float = 0.0) -> ServerSession:
    """A server's session that stands at `base` and has sent the `sent` events after it at `now`."""
    session = ServerSession()
    session.hello(Hello("d1", 1), epoch="e1", newest=base, floor=0)
    session.started(base)
    for seq in range(base + 1, base + sent + 1):
        assert session.event(seq, now) is Verdict.SEND
    return session


# --- the server's end: hello


def decide(resume: ResumeFrom | None, *, newest: int = 100, floor: int = 0) -> Resume | NeedSnapshot:
    return ServerSession().hello(Hello("d1", 1, resume), epoch="e1", newest=newest, floor=floor)


@pytest.mark.parametrize("seq", [0, 40, 100])
def test_a_device_resumes_after_what_it_has(seq: int) -> None:
    assert decide(ResumeFrom("e1", seq)) == Resume(seq)


def test_the_edges_of_resuming_are_exact() -> None:
    assert decide(ResumeFrom("e1", 0), newest=RESUME_EVENTS_MAX) == Resume(0)
    assert decide(ResumeFrom("e1", 30), floor=30) == Resume(30)
    assert not too_big(RESUME_BYTES_MAX) and too_big(RESUME_BYTES_MAX + 1)


@pytest.mark.parametrize(
    ("resume", "newest", "floor", "why"),
    [
        (None, 100, 0, WhySnapshot.NO_RESUME),
        (ResumeFrom("e0", 100), 100, 0, WhySnapshot.OTHER_EPOCH),
        (ResumeFrom("e1", 101), 100, 0, WhySnapshot.AHEAD),
        (ResumeFrom("e1", 0), RESUME_EVENTS_MAX + 1, 0, WhySnapshot.TOO_MANY),
        (ResumeFrom("e1", 29), 100, 30, WhySnapshot.HISTORY_GONE),
    ],
)
def test_what_cannot_be_resumed_gets_a_snapshot(
    resume: ResumeFrom | None, newest: int, floor: int, why: WhySnapshot
) -> None:
    assert decide(resume, newest=newest, floor=floor) == NeedSnapshot(why)


def test_before_hello_every_other_frame_is_refused_with_its_id() -> None:
    session, frame = ServerSession(), Offline(uuid4())
    with pytest.raises(Refused) as caught:
        session.admit(frame)
    assert (caught.value.code, caught.value.id) == (ErrorCode.BAD_FRAME, frame.id)
    with pytest.raises(Refused):
        session.admit(Ack(1))
    session.admit(Hello("d1", 1))


def test_a_second_hello_is_refused_and_changes_nothing() -> None:
    session = started(5, sent=1)
    with pytest.raises(Refused) as caught:
        session.hello(Hello("d1", 2), epoch="e1", newest=9, floor=0)
    assert caught.value.code is ErrorCode.BAD_FRAME
    assert session.sent_seq == 6
    session.admit(Location(1.0, 2.0, AT))


# --- the server's end: events


def test_events_go_out_once_and_in_order() -> None:
    session = started(5)
    assert session.event(6, 0.0) is Verdict.SEND
    assert session.event(6, 0.0) is Verdict.DROP
    assert session.event(4, 0.0) is Verdict.DROP
    assert session.event(8, 0.0) is Verdict.GAP
    assert session.missing == (6, 8)
    assert session.event(7, 0.0) is Verdict.SEND
    assert session.event(8, 0.0) is Verdict.SEND
    assert session.missing is None


def test_an_event_before_the_start_is_not_lost() -> None:
    session = ServerSession()
    session.hello(Hello("d1", 1), epoch="e1", newest=3, floor=0)
    assert session.event(4, 0.0) is Verdict.DROP
    assert session.missing is None
    session.started(3)
    assert session.missing == (3, 4)


def test_resumed_events_are_what_is_missing() -> None:
    session = ServerSession()
    assert session.hello(Hello("d1", 1, ResumeFrom("e1", 2)), epoch="e1", newest=5, floor=0) == Resume(2)
    session.started(2)
    assert session.missing == (2, 5)


# --- the server's end: acks and repeats


def test_an_event_is_repeated_five_seconds_after_sending_and_every_five_until_acked() -> None:
    session = started(sent=3)
    assert session.due(4.9) is None
    assert session.due(5.0) == (0, 3)
    assert session.due(5.0) is None
    assert session.due(9.9) is None
    assert session.due(10.0) == (0, 3)
    assert session.ack(3) == 3
    assert session.due(100.0) is None


def test_each_sending_has_its_own_five_seconds() -> None:
    session = started(sent=2)
    session.event(3, 3.0)
    assert session.due(5.0) == (0, 2)
    assert session.due(7.9) is None
    assert session.due(8.0) == (2, 3)
    assert session.due(10.0) == (0, 2)


def test_a_partial_ack_leaves_the_rest_to_be_repeated() -> None:
    session = started(sent=5)
    assert session.ack(2) == 2
    assert session.due(5.0) == (2, 5)
    assert session.ack(4) == 4
    assert session.due(10.0) == (4, 5)


def test_an_ack_counts_once_and_only_for_what_was_sent() -> None:
    session = started(10, sent=2)
    assert session.ack(13) is None
    assert session.ack(11) == 11
    assert session.ack(11) is None
    assert session.ack(9) is None
    assert session.acked_seq == 11


def test_an_ack_before_the_start_is_ignored() -> None:
    session = ServerSession()
    session.hello(Hello("d1", 1), epoch="e1", newest=3, floor=0)
    assert session.ack(3) is None


def test_a_snapshot_is_acked_like_the_events_it_covers() -> None:
    session = started(10)
    assert session.ack(10) == 10


def test_what_another_device_has_acked_is_not_repeated_here() -> None:
    session = started(sent=3)
    session.acked_elsewhere(2)
    assert session.due(5.0) == (2, 3)
    session.acked_elsewhere(4)
    assert session.due(10.0) is None
    assert session.event(4, 11.0) is Verdict.SEND
    assert session.due(16.0) is None
    assert session.event(5, 16.0) is Verdict.SEND
    assert session.due(21.0) == (4, 5)
    assert session.acked_seq == 0


def test_sendings_to_remember_are_bounded_and_none_is_forgotten() -> None:
    session = ServerSession()
    session.hello(Hello("d1", 1), epoch="e1", newest=0, floor=0)
    session.started(0)
    for seq in range(1, 3 * MARKS_MAX):
        session.event(seq, seq / 1000)
        assert session._marks is not None and len(session._marks) <= MARKS_MAX
    repeated: set[int] = set()
    while (stretch := session.due(3 * MARKS_MAX / 1000 + REPEAT_AFTER_S)) is not None:
        repeated |= set(range(stretch[0] + 1, stretch[1] + 1))
    assert repeated == set(range(1, 3 * MARKS_MAX))


def test_an_idle_session_holds_no_container() -> None:
    session = started(sent=3)
    session.ack(3)
    assert session._marks is None


# --- the client's end


def live_client(seq: int = 0) -> ClientSession:
    client = ClientSession()
    client.hello("d1", 1)
    client.receive(welcome(seq=seq))
    client.receive(snapshot(seq))
    return client


def test_a_first_hello_has_nothing_to_resume() -> None:
    assert ClientSession().hello("d1", 1) == Hello("d1", 1)


def test_a_kept_position_is_resumed_after_a_restart() -> None:
    assert ClientSession("e1", 7).hello("d1", 2) == Hello("d1", 2, ResumeFrom("e1", 7))


def test_a_snapshot_replaces_the_state_and_brings_the_client_to_life() -> None:
    client = ClientSession()
    client.hello("d1", 1)
    greeting, state = welcome(seq=4), snapshot(4)
    assert client.receive(greeting) == [] and not client.live
    assert client.receive(state) == [Replace(state), SendAck(4), Live(greeting)]
    assert (client.live, client.epoch, client.seq) == (True, "e1", 4)


def test_a_resumed_client_is_live_at_once() -> None:
    client = ClientSession("e1", 4)
    client.hello("d1", 2)
    greeting = welcome(seq=6, resumed=True)
    assert client.receive(greeting) == [Live(greeting)]
    assert client.receive(event(5)) == [Apply(event(5)), SendAck(5)]


def test_a_client_that_is_told_resumed_of_another_epoch_waits_for_a_snapshot() -> None:
    client = ClientSession("e1", 4)
    client.hello("d1", 2)
    assert client.receive(welcome(epoch="e2", seq=6, resumed=True)) == []
    assert client.receive(event(5)) == []
    assert client.seq == 4


def test_a_repeat_is_not_applied_but_acked_again() -> None:
    client = live_client(3)
    assert client.receive(event(3)) == [SendAck(3)]
    assert client.receive(event(1)) == [SendAck(3)]


def test_a_gap_is_told_and_not_applied() -> None:
    client = live_client(3)
    assert client.receive(event(6)) == [Gap(4, 6)]
    assert client.seq == 3


def test_a_later_snapshot_on_the_same_socket_counts() -> None:
    client = live_client(3)
    assert client.receive(snapshot(9)) == [Replace(snapshot(9)), SendAck(9)]
    assert client.seq == 9


def test_a_snapshot_before_the_welcome_is_not_of_this_handshake() -> None:
    client = live_client(3)
    client.hello("d1", 2)
    assert client.receive(snapshot(9)) == []
    assert client.seq == 3


def test_the_other_frames_pass_through() -> None:
    client, at = live_client(), AT
    reply, error = Reply(uuid4(), True, data={}), ErrorFrame(ErrorObject("BAD_FRAME", "m"))
    where, bye = Position(uuid4(), 1.0, 2.0, at), Bye("draining", 100)
    assert client.receive(reply) == [Answer(reply)]
    assert client.receive(error) == [Complaint(error)]
    assert client.receive(where) == [Located(where)]
    assert client.receive(bye) == [Farewell(bye)]


# --- both ends over a line that loses, doubles and breaks


class Inbox(RuleBasedStateMachine):
    """One user, one device. The server keeps `history`; the state of both is the fold of events, as in the app.

    Whatever the line does, what the client has is always what the server had at some seq of the same epoch.
    """

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.epoch = 1
        self.history: list[int] = []  # the value of event n is history[n - 1]
        self.pasts: dict[str, list[int]] = {}  # epoch → its history, also of those that are over
        self.floor = 0
        self.serial = 0
        self.client = ClientSession()
        self.state: list[int] = []
        self.applied: list[int] = []  # seqs since the last snapshot
        self.base = 0
        self.attempt = 0
        self.server: ServerSession | None = None
        self.down: deque[ServerFrame] = deque()
        self.up: deque[Ack] = deque()
        self.broken = False

    # the server's gateway, in little

    def name(self) -> str:
        return f"e{self.epoch}"

    def send(self, seq: int) -> None:
        self.down.append(event(seq, value=self.history[seq - 1]))

    def push(self, seq: int) -> None:
        """A new event reaches the gateway; events that passed it by are fetched first."""
        assert self.server is not None
        if self.server.event(seq, self.now) is Verdict.SEND:
            self.send(seq)
        while (missing := self.server.missing) is not None:
            for number in range(missing[0] + 1, missing[1] + 1):
                assert self.server.event(number, self.now) is Verdict.SEND
                self.send(number)

    @rule(heard=st.booleans())
    def an_event_happens(self, heard: bool) -> None:
        self.serial += 1
        self.history.append(self.serial)
        if self.server is not None and heard:
            self.push(len(self.history))

    @rule(upto=st.integers(0, 30))
    def old_events_are_deleted(self, upto: int) -> None:
        self.floor = max(self.floor, min(upto, len(self.history)))

    @rule(keep=st.integers(0, 30))
    def an_operator_restores_an_older_history(self, keep: int) -> None:
        self.pasts[self.name()] = self.history
        self.epoch += 1
        self.history = self.history[:keep]
        self.floor = min(self.floor, len(self.history))
        self.server = None  # sockets are closed for that
        self.down.clear()
        self.up.clear()
        self.broken = True

    @rule()
    def the_device_reconnects(self) -> None:
        self.down.clear()
        self.up.clear()
        self.broken = False
        self.attempt += 1
        hello = self.client.hello("d1", self.attempt)
        newest = len(self.history)
        self.server = ServerSession()
        plan = self.server.hello(hello, epoch=self.name(), newest=newest, floor=self.floor)
        resumed = isinstance(plan, Resume)
        self.down.append(welcome(epoch=self.name(), seq=newest, resumed=resumed))
        if isinstance(plan, Resume):
            assert self.floor <= plan.after <= newest
            self.server.started(plan.after)
        else:
            rows = [{"value": value} for value in self.history]
            self.down.append(snapshot(newest, self.name(), rows))
            self.server.started(newest)
        if newest:
            self.push(newest)

    @rule(seconds=st.floats(0.1, 6))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        while self.server is not None and (stretch := self.server.due(self.now)) is not None:
            assert self.server.acked_seq <= stretch[0] < stretch[1] <= self.server.sent_seq
            for seq in range(stretch[0] + 1, stretch[1] + 1):
                self.send(seq)

    # the line

    @precondition(lambda self: self.down)
    @rule()
    def a_frame_arrives(self) -> None:
        self.take(self.down.popleft())

    @precondition(lambda self: self.down)
    @rule()
    def a_frame_is_lost(self) -> None:
        self.down.popleft()

    @precondition(lambda self: self.down)
    @rule()
    def a_frame_is_doubled(self) -> None:
        self.down.appendleft(self.down[0])

    @precondition(lambda self: self.up)
    @rule()
    def an_ack_arrives(self) -> None:
        assert self.server is not None
        seq = self.up.popleft().seq
        taken = self.server.ack(seq)
        assert taken is None or taken == seq <= self.client.seq

    @precondition(lambda self: self.up)
    @rule()
    def an_ack_is_lost(self) -> None:
        self.up.popleft()

    def take(self, frame: ServerFrame) -> None:
        for effect in self.client.receive(frame):
            match effect:
                case Apply(happened):
                    self.applied.append(happened.seq)
                    self.state.append(happened.data["value"])
                case Replace(whole):
                    self.state = [row["value"] for row in whole.jobs]
                    self.base, self.applied = whole.seq, []
                case SendAck(seq):
                    self.up.append(Ack(seq))
                case Gap(expected, got):
                    assert expected == self.client.seq + 1 < got
                    self.broken = True
                case _:
                    assert isinstance(effect, Live)

    # what always holds

    @invariant()
    def applied_events_are_a_gap_free_prefix(self) -> None:
        assert self.applied == list(range(self.base + 1, self.client.seq + 1))

    @invariant()
    def snapshot_and_events_are_the_state_of_their_seq(self) -> None:
        if self.client.epoch is not None:
            history = {**self.pasts, self.name(): self.history}[self.client.epoch]
            assert self.state == history[: self.client.seq]

    @invariant()
    def the_server_believes_no_ack_that_was_not_meant(self) -> None:
        if self.server is not None and self.client.live:
            assert self.server.acked_seq <= self.client.seq

    def teardown(self) -> None:
        """Once the line is good again everything arrives, by repeats or by one reconnect, and falls silent."""
        if not hasattr(self, "history"):
            return
        for _ in range(4):
            if self.server is None or self.broken or not self.client.live:
                self.the_device_reconnects()
            elif self.history:
                self.push(len(self.history))
            while self.down or self.up:
                if self.down:
                    self.take(self.down.popleft())
                elif self.server is not None:
                    self.server.ack(self.up.popleft().seq)
            self.time_passes(REPEAT_AFTER_S)
        assert self.server is not None
        assert self.client.live and self.state == self.history
        assert self.client.seq == len(self.history)
        assert not self.down, "still repeating what the client has"


Inbox.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestInbox = Inbox.TestCase
