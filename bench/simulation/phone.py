"""A phone: the shipped `ClientSession` on a model of a line. It comes back, resumes, and asks the same thing again until it knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import orjson

from bench.faults.history import NEVER, UNDECIDED, Op, Told, digest
from bench.faults.standing import Standing
from bench.simulation.wire import CLOSE, PING, PONG, TEXT, Line
from protocol import codec
from protocol.errors import CloseCode
from protocol.frames import Ack, Bye, Event, Reply, ServerFrame, Snapshot, Welcome
from protocol.session import Answer, Apply, ClientSession, Farewell, Gap, Live, Replace, SendAck

if TYPE_CHECKING:
    from bench.simulation.world import World

ASK_AGAIN_S = 2.5
_BLOCKED = int(CloseCode.BLOCKED).to_bytes(2, "big")
_OTHER_DEVICE = int(CloseCode.OTHER_DEVICE).to_bytes(2, "big")
SILENCE_S = 20.0


@dataclass(eq=False)
class Asking:
    """A request that waits for its final answer. `frame` goes over the socket; without one `http` says what is asked over HTTP."""

    op: Op
    then: Callable[[Op, Any], None]
    frame: bytes = b""
    http: tuple[str, Any] | None = None
    tries: int = 0
    twice: bool = False


class Phone:
    """One device of one user. Subclasses say what its owner does."""

    def __init__(self, world: "World", user: UUID, device: str) -> None:
        self.world = world
        self.around = world.around
        self.loop = world.around.loop
        self.chance = world.around.chance
        self.user = user
        self.device = device
        self.session = ClientSession()
        self.attempt = 0
        self.line: Line | None = None
        self.asking: dict[str, Asking] = {}
        self.answered: dict[str, Op] = {}
        self.wait_s: float | None = None
        self.heard_at = 0.0
        self.retired = False
        self._ack_due = False

    # --- the line

    def connect(self) -> None:
        if self.line is not None or self.retired:
            return
        self.attempt += 1
        self.wait_s = None
        worker = self.world.some_worker()
        line = self.line = Line(self.around, self, "" if worker is None else worker.name)
        self.heard_at = self.loop.time()
        self.loop.after(0.03, self._opened, line)
        self.loop.after(4.0, self._not_greeted, line)

    def _opened(self, line: Line) -> None:
        worker = self.world.workers.get(line.worker)
        if line.cut or worker is None or not worker.ready or worker.owner.dead or worker.door.draining:
            self.lost(line)
            return
        worker.lines[line] = None
        worker.run(worker.serve(line, self.user), f"socket {self.device}")
        hello = codec.encode(self.session.hello(self.device, self.attempt))
        line.up(TEXT, hello)

    def _not_greeted(self, line: Line) -> None:
        if self.line is line and not self.session.live:
            self.leave()

    def look(self) -> None:
        """Now and then: has this line gone silent?"""
        if self.line is not None and self.loop.time() - self.heard_at > SILENCE_S:
            self.leave()
        self.loop.after(5.0, self.look)

    def leave(self) -> None:
        """Give the line up and come back."""
        line = self.line
        if line is not None:
            line.abandoned()
            self.lost(line)

    def retire(self) -> None:
        """Switched off for good; what it has asked and not heard stays unknown."""
        self.retired = True
        self.leave()

    def lost(self, line: Line) -> None:
        worker = self.world.workers.get(line.worker)
        if worker is not None:
            worker.lines.pop(line, None)
        if self.line is not line:
            return
        line.cut = True
        self.line = None
        self.session.live = False
        wait_s = self.wait_s if self.wait_s is not None else 0.05
        self.loop.after(wait_s + self.chance.random() * 0.5, self.connect)

    # --- frames

    def hear(self, line: Line, opcode: int, payload: bytes) -> None:
        if self.line is not line:
            return
        self.heard_at = self.loop.time()
        if opcode == PING:
            line.up(PONG, payload)
        elif opcode == CLOSE:
            line.up(CLOSE, payload)
            if payload[:2] == _OTHER_DEVICE:
                self.wait_s = 2.0 + self.chance.random() * 3  # its owner takes it up again
            elif payload[:2] == _BLOCKED:
                self.wait_s = 1.0 + self.chance.random() * 2  # its owner does not believe it
            self.leave()
        else:
            self._frame(line, codec.decode_server(payload))

    def _frame(self, line: Line, frame: ServerFrame) -> None:
        at = self.around.now_ns
        if isinstance(frame, Welcome):
            line.session = frame.session
            self._told(at, line, "welcome", name=line.worker, seq=frame.seq, resumed=frame.resumed)
        for effect in self.session.receive(frame):
            match effect:
                case Apply(event):
                    job, offer = _subjects(event.data)
                    said = digest(event.name, event.data)
                    self._told(at, line, "event", seq=event.seq, name=event.name, job=job, offer=offer, digest=said)
                    self.happened(event)
                case Replace(snapshot):
                    jobs = [job["id"] for job in snapshot.jobs] + [offer["job"]["id"] for offer in snapshot.offers]
                    shown = Standing(snapshot.provider, snapshot.jobs, snapshot.offers).digest
                    self._told(at, line, "snapshot", seq=snapshot.seq, jobs=jobs, digest=shown)
                    self.replaced(snapshot)
                case Answer(reply):
                    self._replied(reply)
                case Live():
                    for asking in tuple(self.asking.values()):
                        if asking.frame:
                            self._send(asking)
                    self.live()
                case SendAck():
                    self._ack_soon()
                case Gap(_, got):
                    self._told(at, line, "gap", seq=got)
                    self.leave()
                    return
                case Farewell(Bye(reconnect_after_ms=after_ms)):
                    self.wait_s = after_ms / 1000

    def _told(self, at: int, line: Line, kind: Any, **more: Any) -> None:
        told = Told(at=at, client=self.device, user=str(self.user), socket=line.session, kind=kind, **more)
        self.world.told.append(told)
        self.around.note("phone", self.device, f"{kind} {told.seq} {told.name} {told.digest}", more)

    def _ack_soon(self) -> None:
        if not self._ack_due:
            self._ack_due = True
            self.loop.after(0.1 + self.chance.random() * 0.4, self._ack)

    def _ack(self) -> None:
        self._ack_due = False
        if self.line is not None and self.session.live:
            self.line.up(TEXT, codec.encode(Ack(self.session.seq)))

    # --- requests

    def ask(
        self,
        op: Op,
        then: Callable[[Op, Any], None],
        *,
        frame: msgspec.Struct | None = None,
        http: tuple[str, Any] | None = None,
    ) -> None:
        """Ask until it is decided; `then(op, answer)` hears the final word."""
        asking = Asking(op, then, b"" if frame is None else codec.encode(frame), http)
        asking.twice = self.chance.random() < 0.1
        self.asking[op.key] = asking
        self.around.note("phone", self.device, "asks", (op.kind, op.job, op.round))
        if frame is not None:
            self._send(asking)
        else:
            self._call(asking)

    def _send(self, asking: Asking) -> None:
        if self.asking.get(asking.op.key) is not asking or self.line is None or not self.session.live:
            return
        asking.tries += 1
        self.line.up(TEXT, asking.frame)
        if asking.twice:
            self.line.up(TEXT, asking.frame)
        self.loop.after(ASK_AGAIN_S + self.chance.random(), self._unanswered, asking, self.line, asking.tries)

    def _unanswered(self, asking: Asking, line: Line, tries: int) -> None:
        if self.asking.get(asking.op.key) is not asking or self.line is not line or asking.tries != tries:
            return
        if tries % 3 == 0:
            self.leave()
        else:
            self._send(asking)

    def _replied(self, reply: Reply) -> None:
        key = str(reply.id)
        word, data = ("ok", reply.data) if reply.ok else (_word_of(reply), _details_of(reply))
        asking = self.asking.get(key)
        if asking is None or not asking.frame:
            # The second answer to a frame that was sent twice. What was asked since under the same key, over HTTP, is not answered here.
            if (first := self.answered.get(key)) is not None:
                self._late(first, word, data)
            elif self.line is not None:
                self._told(self.around.now_ns, self.line, "stray", name=key)
            return
        if word in UNDECIDED:
            after_ms = (None if reply.error is None else reply.error.retry_after_ms) or 300
            self.loop.after(after_ms / 1000 * (0.7 + self.chance.random() * 0.6), self._send, asking)
            return
        self._decided(asking, word, data)

    def _call(self, asking: Asking) -> None:
        """One try over HTTP, at any worker."""
        if self.asking.get(asking.op.key) is not asking:
            return
        asking.tries += 1
        tries = asking.tries
        self.loop.after(ASK_AGAIN_S + self.chance.random(), self._unheard, asking, tries)
        for _ in range(2 if asking.twice and tries == 1 else 1):
            self.world.http(self, asking, tries)

    def _unheard(self, asking: Asking, tries: int) -> None:
        if asking.tries == tries:
            self._call(asking)

    def answered_http(self, asking: Asking, tries: int, word: str, body: bytes) -> None:
        """What came back of one try."""
        data = orjson.loads(body) if body else None
        if self.asking.get(asking.op.key) is not asking:
            self._late(asking.op, word, data)
        elif word not in UNDECIDED:
            self._decided(asking, word, data)
        elif asking.tries == tries:
            asking.tries += 1
            self.loop.after(0.2 + self.chance.random() * 0.5, self._call, asking)

    def _decided(self, asking: Asking, word: str, data: Any) -> None:
        op = asking.op
        del self.asking[op.key]
        if asking.frame:
            self.answered[op.key] = op
        op.done, op.word = self.around.now_ns, word
        _learn(op, data)
        self.around.note("phone", self.device, "told", (op.kind, op.job, op.round, word))
        self.world.ops.append(op)
        asking.then(op, data)

    def _late(self, first: Op, word: str, data: Any) -> None:
        """The same request's answer once more: it must be the same."""
        if word in UNDECIDED:
            return
        again = msgspec.structs.replace(first, done=self.around.now_ns, word=word, told_round=0, answer="", says="")
        _learn(again, data)
        if (again.word, again.answer, again.says) != (first.word, first.answer, first.says):
            self.world.ops.append(again)

    def give_up(self) -> None:
        """The end of the world: what was not answered is unknown."""
        for asking in self.asking.values():
            asking.op.done, asking.op.word = NEVER, "unknown"
            self.world.ops.append(asking.op)
        self.asking = {}

    # --- what its owner does

    def happened(self, event: Event) -> None:
        """An event was applied."""

    def replaced(self, snapshot: Snapshot) -> None:
        """The whole state was replaced."""

    def live(self) -> None:
        """The handshake is over."""


def _learn(op: Op, data: Any) -> None:
    """What an answer says besides its word: `data` is its body, or a refusal's details."""
    if op.word == "INVALID_STATUS_TRANSITION" and data is not None:
        op.says = str(data.get("status", ""))
    if op.word != "ok" or data is None:
        return
    job = data.get("job", data)
    # Both doors answer an accept with the job; what else they say differs.
    op.answer = digest(op.kind, job)
    if op.kind == "accept":
        op.told_round = job["round"]
    if op.kind == "create":
        op.job = job["id"]


def _subjects(data: dict[str, Any]) -> tuple[str, str]:
    """(job, offer) that an event speaks of."""
    job = data.get("job")
    return str(job["id"]) if isinstance(job, dict) else str(data.get("job_id", "")), str(data.get("offer_id", ""))


def _word_of(reply: Reply) -> str:
    assert reply.error is not None
    status = (reply.error.details or {}).get("status")
    return str(status) if reply.error.code == "JOB_NOT_AVAILABLE" and status else reply.error.code


def _details_of(reply: Reply) -> Any:
    return None if reply.error is None else reply.error.details
