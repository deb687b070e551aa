"""Use cases of the inbox: greet a connection, deliver what committed, hear acks."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import structlog

from dispatch.inbox import keys, live, store
from dispatch.inbox.model import Fact, Greeting, Line, OnFact, Seat, State
from dispatch.kit.clock import Clock
from dispatch.kit.ears import ear_on
from dispatch.kit.ids import jitter_s
from dispatch.kit.postgres import Postgres
from dispatch.kit.redis import DOWN, Redis
from dispatch.kit.sql import Queries
from dispatch.kit.tasks import Nursery
from protocol import codec
from protocol.errors import ByeReason, CloseCode
from protocol.frames import Hello, Welcome
from protocol.session import NeedSnapshot, ServerSession, Verdict, too_big

log = structlog.get_logger("inbox")

_Q = Queries(Path(__file__).with_name("queries.sql"))
HEARTBEAT_S = 15
BEAT_LATE_S = 5.0
BEATS_BACK_S = 10.0
"""Once our beats go through again, those of all who live do within so long."""
RELAY_EVERY_S = 0.5
_RESTS = 3
"""Turns of the relay without a question, while Redis carries the hand-overs."""
DEVICES_MAX = 5
_BACK_WITHIN_S = 2.0
_REPEAT_SEATS_MAX = 200
_REPEAT_EVENTS_MAX = 64
_NO_END = 2**62
_FORGET_REST_S = 0.05
"""Between two steps: a pass over a million inboxes takes some five minutes."""


class Inbox:
    """One per worker. Seats are this worker's greeted connections, by user."""

    def __init__(
        self,
        pg: Postgres,
        redis: Redis,
        clock: Clock,
        nursery: Nursery,
        *,
        worker_id: str,
        state_of: Callable[[UUID], Awaitable[State]],
    ) -> None:
        self._pg = pg
        self._redis = redis
        self._clock = clock
        self._nursery = nursery
        self.worker_id = worker_id
        self._state_of = state_of
        self._seats: dict[UUID, list[Seat]] = {}
        self._lines: dict[UUID, Seat] = {}  # by conn_id
        self._catching: set[UUID] = set()
        self._acks: dict[UUID, int] = {}
        self._strange: set[UUID] = set()
        self._listeners: list[OnFact] = []
        self.ear = ear_on(redis, clock, nursery, own=keys.orders(worker_id), hear=self._hear)
        """Hand-overs of our users and orders to this worker."""
        self.copier = live.Copier(redis, worker_id, self._refill)
        self._beat_at = self._trusted_from = clock.monotonic()
        self._rests = 0
        self.repeated = 0
        self.caught_up = 0

    # --- who listens

    def on_fact(self, listener: OnFact) -> None:
        """Call `listener` with each fact as it first reaches a device of its user on this worker."""
        self._listeners.append(listener)

    def seats(self) -> Iterable[Seat]:
        return self._lines.values()

    def seats_of(self, user_id: UUID) -> Sequence[Seat]:
        return self._seats.get(user_id, ())

    # --- greeting and leaving

    async def greet(self, line: Line, session: ServerSession, hello: Hello, greeting: Greeting) -> Seat | None:
        """Answer `hello` with welcome and what was missed, or a snapshot. None: the same device lives elsewhere with this
        attempt or a later one, and the line has been told 4409. Raises what the stores raise; the line may then try again.
        """
        seat = Seat(line, session, hello.device, greeting.solo)
        async with self._pg.system() as conn:
            opened = await conn.fetchrow(
                _Q["socket_open"],
                line.user_id,
                hello.device,
                hello.attempt,
                self.worker_id,
                line.conn_id,
                1 if greeting.solo else DEVICES_MAX,
            )
            assert opened is not None
            if opened["word"] == "stale":
                line.leave(CloseCode.REPLACED, ByeReason.REPLACED)
                return None
            # Seated before the head is read: what commits from here on is noticed as missing and caught up below.
            self._sit(seat)
        try:
            await self._welcome(seat, hello, opened, greeting)
        except BaseException:
            self.leave(seat)
            raise
        if session.missing is not None:
            self._catch_up(line.user_id)
        self.ear.follow(keys.wake(line.user_id))
        return seat

    async def _welcome(self, seat: Seat, hello: Hello, opened: Any, greeting: Greeting) -> None:
        """Replace whom this connection replaces, and send welcome and base."""
        line, session = seat.line, seat.session
        for victim, worker, code in zip(
            opened["victims"], opened["victim_workers"], opened["victim_codes"], strict=True
        ):
            await self._order_close(victim, worker, CloseCode(code))
        frames: list[bytes] | None = None
        async with self._pg.system() as conn:
            head = await conn.fetchrow(_Q["head"], line.user_id)
            assert head is not None
            self.copier.epoch = head["epoch"]
            plan = session.hello(hello, epoch=head["epoch"], newest=head["newest"], floor=head["floor"])
            if not isinstance(plan, NeedSnapshot):
                frames = await self._missed(conn, line.user_id, head["epoch"], plan.after, head["newest"])
        state = None if frames is not None else await self._state_of(line.user_id)
        newest = head["newest"] if state is None else state.seq
        welcome = Welcome(
            session=str(line.conn_id),
            epoch=head["epoch"],
            seq=newest,
            resumed=state is None,
            heartbeat_s=HEARTBEAT_S,
            server_time_at=self._clock.now(),
            token_expires_at=greeting.token_expires_at,
        )
        line.send(codec.encode(welcome), line.user_id)
        if state is not None:
            base = codec.snapshot(head["epoch"], state.seq, state.provider, state.jobs, state.offers)
            line.send_base(base, line.user_id)
            session.started(newest)
            return
        assert frames is not None
        session.started(newest - len(frames))
        for seq, frame in enumerate(frames, newest - len(frames) + 1):
            session.event(seq, self._clock.monotonic())
            line.send(frame, line.user_id)

    async def _missed(self, conn: Any, user_id: UUID, epoch: str, after: int, newest: int) -> list[bytes] | None:
        """Frames after `after` up to `newest`: from the copy, else from Postgres; None when they are dearer than a snapshot."""
        if after == newest:
            return []
        frames: list[bytes] | None = None
        if self._redis.reachable:
            try:
                frames = await live.read(self._redis, epoch, user_id, after, newest)
            except DOWN:
                frames = None
        if frames is None:
            facts = await store.after(conn, user_id, after, newest)
            if len(facts) != newest - after:
                return None
            frames = [fact.frame() for fact in facts]
        return None if too_big(sum(map(len, frames))) else frames

    def _sit(self, seat: Seat) -> None:
        self._seats.setdefault(seat.user_id, []).append(seat)
        self._lines[seat.line.conn_id] = seat

    def gone(self, conn_id: UUID) -> None:
        """A connection has closed, greeted or not."""
        if (seat := self._lines.get(conn_id)) is not None:
            self.leave(seat)

    def leave(self, seat: Seat) -> None:
        """Forget a connection that has closed. The row in `sockets` follows in a batch (see `Duties.note_lost`)."""
        if self._lines.pop(seat.line.conn_id, None) is None:
            return
        others = self._seats.get(seat.user_id)
        if others is not None:
            others.remove(seat)
            if not others:
                del self._seats[seat.user_id]
                self.ear.unfollow(keys.wake(seat.user_id))

    async def lost(self, conn_ids: Sequence[UUID]) -> None:
        """Write down that these connections of ours are gone."""
        async with self._pg.system() as conn:
            await conn.execute(_Q["socket_lost"], conn_ids, self.worker_id)

    async def _order_close(self, conn_id: UUID, worker_id: str, code: CloseCode) -> None:
        if worker_id == self.worker_id:
            self.close(conn_id, code)
            return
        try:
            await self._redis.once.execute_command("SPUBLISH", keys.orders(worker_id), f"close {conn_id} {int(code)}")
        except DOWN:
            log.debug("close order lost; the other worker's poll finds it", conn_id=str(conn_id))

    def close(self, conn_id: UUID, code: CloseCode) -> None:
        """Close a connection of ours, if it still is one."""
        if (seat := self._lines.get(conn_id)) is not None:
            if code is CloseCode.RESTART:
                seat.line.leave(code, ByeReason.DRAINING, round(jitter_s(0, _BACK_WITHIN_S) * 1000))
                return
            reason = ByeReason.REVOKED if code is CloseCode.BLOCKED else ByeReason.REPLACED
            seat.line.leave(code, reason)

    # --- delivery

    def deliver(self, facts: Sequence[Fact]) -> None:
        """Send what has just committed to the devices here, and leave the rest to copy and hand-over. Never waits, never fails:
        a fact that reaches nobody is found by the heads' poll.
        """
        for fact in facts:
            frame = fact.frame()
            seats = self._seats.get(fact.user_id)
            alone = bool(seats) and seats[0].solo if seats else False
            self.copier.put(fact, frame, hand_over=not alone)
            if seats:
                self._arrive(fact.user_id, fact.seq, frame, fact.name, fact.body)

    def _arrive(
        self, user_id: UUID, seq: int, frame: bytes, name: str | None = None, body: bytes | None = None
    ) -> None:
        now = self._clock.monotonic()
        told = gap = False
        for seat in tuple(self._seats.get(user_id, ())):
            match seat.session.event(seq, now):
                case Verdict.SEND:
                    told = True
                    seat.line.send(frame, user_id)
                case Verdict.GAP:
                    gap = True
        if told and self._listeners:
            if name is None or body is None:
                name, body = _split(frame)
            for listener in self._listeners:
                listener(user_id, name, body)
        if gap:
            self._catch_up(user_id)

    def _catch_up(self, user_id: UUID) -> None:
        """Fetch what this user's seats miss, once at a time."""
        if user_id not in self._catching:
            self._catching.add(user_id)
            self._nursery.start(self._catching_up(user_id), "catch up")

    async def _catching_up(self, user_id: UUID) -> None:
        try:
            while started := [
                seat.session.sent_seq for seat in self._seats.get(user_id, ()) if seat.session.started_up
            ]:
                async with self._pg.system() as conn:
                    facts = await store.after(conn, user_id, min(started), _NO_END)
                for fact in facts:
                    self._arrive(user_id, fact.seq, fact.frame(), fact.name, fact.body)
                self.caught_up += len(facts)
                if len(facts) < store.EVENTS_PER_READ:
                    return
        finally:
            self._catching.discard(user_id)
        # What was noticed between the last read and the line above belongs to the next caller, who sees the gap again.

    def _refill(self, user_id: UUID) -> None:
        self._nursery.start(self._refilling(user_id), "refill copy")

    async def _refilling(self, user_id: UUID) -> None:
        async with self._pg.system() as conn:
            head = await conn.fetchrow(_Q["head"], user_id)
            assert head is not None
            facts = await store.after(
                conn, user_id, max(head["floor"], head["newest"] - store.EVENTS_PER_READ), head["newest"]
            )
        if facts:
            try:
                await live.fill(self._redis, head["epoch"], user_id, facts)
            except DOWN:
                log.debug("refill skipped, the copy stays behind", user_id=str(user_id))

    # --- acks and repeats

    def ack(self, seat: Seat, seq: int) -> None:
        """The device has everything up to `seq`."""
        acked = seat.session.ack(seq)
        if acked is None:
            return
        self._acks[seat.user_id] = max(acked, self._acks.get(seat.user_id, 0))
        for other in self._seats.get(seat.user_id, ()):
            if other is not seat:
                other.session.acked_elsewhere(acked)

    async def flush_acks(self) -> None:
        """Write down what was acked since the last turn, in user order so that two workers cannot deadlock."""
        if not self._acks:
            return
        acks, self._acks = self._acks, {}
        users = sorted(acks)
        try:
            async with self._pg.system() as conn:
                await conn.execute(_Q["mark_acked"], users, [acks[user] for user in users])
        except BaseException:
            for user, seq in acks.items():
                self._acks[user] = max(seq, self._acks.get(user, 0))
            raise

    async def repeat(self) -> None:
        """Send again what was sent 5 s ago and not acked. Bounded per turn; the rest has its turn a second later."""
        now = self._clock.monotonic()
        due = 0
        for seat in tuple(self._lines.values()):
            while (stretch := seat.session.due(now)) is not None:
                due += 1
                after, upto = stretch
                async with self._pg.system() as conn:
                    rows = await conn.fetch(_Q["repeat"], seat.user_id, after, upto, _REPEAT_EVENTS_MAX)
                    if not rows:
                        seat.session.acked_elsewhere(int(await conn.fetchval(_Q["acked"], seat.user_id)))
                for row in rows:
                    self.repeated += 1
                    seat.line.send(store.facts_of([row])[0].frame(), seat.user_id)
            if due >= _REPEAT_SEATS_MAX:
                return

    # --- relay: heads, hand-overs, orders

    async def relay(self) -> None:
        """A turn of the relay, every RELAY_EVERY_S. While Redis is away the heads are all there is: asked in every turn, else in every
        fourth, and at once again after one that failed.
        """
        if self._rests and self._redis.reachable:
            self._rests -= 1
            return
        await self.poll_heads()
        self._rests = _RESTS

    async def poll_heads(self) -> None:
        """Ask Postgres how far our users' histories are, and fetch what no hint brought. The relay that cannot be lost."""
        sent = [
            (user_id, min(started))
            for user_id, seats in self._seats.items()
            if (started := [seat.session.sent_seq for seat in seats if seat.session.started_up])
        ]
        for start in range(0, len(sent), 5_000):
            batch = sent[start : start + 5_000]
            async with self._pg.system() as conn:
                rows = await conn.fetch(
                    _Q["heads_beyond"], [user_id for user_id, _ in batch], [seq for _, seq in batch]
                )
            for row in rows:
                if any(
                    seat.session.started_up and seat.session.sent_seq < row["seq"]
                    for seat in self._seats.get(row["user_id"], ())
                ):
                    self._catch_up(row["user_id"])

    async def poll_sockets(self) -> None:
        """Close connections that Postgres does not count among the living: they have been replaced, and the order to close was lost; or
        this worker was taken for dead, and their phones must come back to be counted again.
        """
        before = {conn_id: seat for conn_id, seat in self._lines.items() if seat.session.started_up}
        strange, self._strange = self._strange, set()
        async with self._pg.system() as conn:
            living = {row["conn_id"] for row in await conn.fetch(_Q["sockets_of_worker"], self.worker_id)}
            gone = [seat for conn_id, seat in before.items() if conn_id not in living]
            if gone:
                for row in await conn.fetch(
                    _Q["sockets_why"],
                    [seat.line.conn_id for seat in gone],
                    [seat.user_id for seat in gone],
                    [seat.device for seat in gone],
                    [1 if seat.solo else DEVICES_MAX for seat in gone],
                ):
                    self.close(row["conn_id"], CloseCode(row["code"]))
        # Rows without a line: a greeting that failed half way. Seen twice, so that one under way is not meant.
        self._strange = living - self._lines.keys()
        if ended := list(self._strange & strange):
            await self.lost(ended)

    async def beat(self) -> None:
        """Say that this worker lives. A crowd of its own clients must not keep it from saying so: taken for dead, it would be sent all of
        them once more.
        """
        async with self._pg.reserved() as conn:
            await conn.execute(_Q["worker_beat"], self.worker_id)
        now = self._clock.monotonic()
        if now - self._beat_at > BEAT_LATE_S:
            self._trusted_from = now + BEATS_BACK_S
        self._beat_at = now

    @property
    def beats_tell(self) -> bool:
        """Whether a worker that is not heard of is dead. Not while, nor just after, Postgres was away (or we were): then everybody's last
        word is old, and whoever looks first would take all the others, and their phones, for gone.
        """
        now = self._clock.monotonic()
        return now - self._beat_at <= BEAT_LATE_S and now >= self._trusted_from

    async def bury(self) -> None:
        """Note the sockets of workers as lost that have not said for 10 s that they live, though they could have."""
        if not self.beats_tell:
            return
        async with self._pg.system() as conn:
            await conn.fetchval(_Q["workers_dead"])

    async def sign_off(self) -> None:
        """This worker ends in order."""
        async with self._pg.system() as conn:
            await conn.execute(_Q["worker_gone"], self.worker_id)

    def _hear(self, channel: str, data: bytes) -> None:
        head, _, rest = data.partition(b" ")
        if head == b"close":
            conn_id, _, code = rest.partition(b" ")
            self.close(UUID(conn_id.decode()), CloseCode(int(code)))
        elif head.decode() != self.worker_id:  # our own hand-overs have reached the seats here already
            seq, _, frame = rest.partition(b" ")
            self._arrive(keys.user_of(channel), int(seq), frame)

    async def forget_events(self, *, days: int, users: int = 200, each: int = 100) -> int:
        """Forget events older than `days`: one pass over all inboxes, `users` at a time. Returns how many went. Cancelling is safe."""
        after, total = UUID(int=0), 0
        while True:
            async with self._pg.system() as conn:
                row = await conn.fetchrow(_Q["events_forget"], days, each, users, after)
            assert row is not None
            total += int(row["gone"])
            if row["last"] is None:
                return total
            if row["gone"] < each:  # else one of them may have more
                after = row["last"]
            await self._clock.sleep(_FORGET_REST_S)


def _split(frame: bytes) -> tuple[str, bytes]:
    """(name, data) of an event frame of our own making."""
    document = orjson.loads(frame)
    return document["name"], orjson.dumps(document["data"])
