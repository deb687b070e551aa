"""Who holds the phones: providers of several tempers, and customers."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from bench.faults.history import UNDECIDED, Op
from bench.simulation.chance import START_S
from bench.simulation.phone import Phone
from dispatch.kit.ids import new_id
from protocol.frames import Accept, Advance, Cancel, Decline, Event, Location, Offline, Online, Snapshot
from protocol.lifecycle import Stage

if TYPE_CHECKING:
    from bench.simulation.world import World

_NEXT = {"accepted": Stage.ARRIVED, "arrived": Stage.IN_PROGRESS, "in_progress": Stage.COMPLETED}
TEMPERS = ("eager", "eager", "eager", "slow", "decliner", "doubler", "board")


class Customer(Phone):
    """Wants rides, one after the other or two at once; now and then thinks better of it."""

    def __init__(self, world: "World", user: UUID, device: str) -> None:
        super().__init__(world, user, device)
        self.open: dict[str, str] = {}
        """Job → status, as this phone knows it."""

    def want(self) -> None:
        """A new job."""
        key = str(new_id())
        place = self.world.somewhere()
        op = Op(at=self.around.now_ns, client=self.device, user=str(self.user), kind="create", key=key, body=str(place))
        self.ask(op, self._created, http=("create", place))

    def _created(self, op: Op, data: Any) -> None:
        if op.word == "ok" and self.chance.random() < self.world.shape.cancels:
            self.loop.after(self.chance.random() * 4, self.cancel, op.job)

    def cancel(self, job: str) -> None:
        if self.world.healing:
            return
        socket = self.chance.random() < 0.5
        own = new_id()
        op = Op(
            at=self.around.now_ns,
            client=self.device,
            user=str(self.user),
            kind="cancel",
            key=str(own),
            job=job,
            body=job,
        )
        if socket:
            self.ask(op, _nothing, frame=Cancel(own, UUID(job)))
        else:
            self.ask(op, _nothing, http=("cancel", UUID(job)))


class Provider(Phone):
    """Works. `temper` says how he takes offers; `job` is what he knows he is on."""

    def __init__(self, world: "World", user: UUID, provider: UUID, device: str, temper: str) -> None:
        super().__init__(world, user, device)
        self.provider = provider
        self.temper = temper
        self.place = world.somewhere()
        self.job: str | None = None
        self.status = ""
        self.online: bool | None = None
        self.may_work = True
        self._versions: dict[str, int] = {}
        self._moving = False
        self._switching = False

    def _op(self, kind: Any, key: UUID, job: str = "", **more: Any) -> Op:
        fields = {"body": job, **more}
        return Op(
            at=self.around.now_ns, client=self.device, user=str(self.user), kind=kind, key=str(key), job=job, **fields
        )

    # --- going on and off

    def live(self) -> None:
        self.loop.after(self.chance.random() * 0.3, self.switch_on)

    def switch_on(self) -> None:
        if self.online or not self.may_work or self._switching:
            return
        self._switching = True
        own = new_id()
        self.ask(self._op("online", own), self._switched, frame=Online(own, *self.place))

    def switch_off(self) -> None:
        if not self._switching and not self.world.healing:
            self._switching = True
            own = new_id()
            self.ask(self._op("offline", own), self._switched, frame=Offline(own))

    def _switched(self, op: Op, data: Any) -> None:
        self._switching = False
        if op.word == "ok":
            self.online = op.kind == "online"
        if not self.online:
            self.loop.after(1.0 + self.chance.random() * 2, self.switch_on)

    def walk(self) -> None:
        """A fix every few seconds."""
        if self.line is not None and self.session.live and self.online:
            self.place = (
                self.place[0] + self.chance.uniform(-1e-4, 1e-4),
                self.place[1] + self.chance.uniform(-1e-4, 1e-4),
            )
            at = _instant(self.loop.time())
            self.line.up(0x1, _encoded(Location(*self.place, at=at)))
        self.loop.after(6.0 + self.chance.random() * 2, self.walk)

    # --- offers

    def happened(self, event: Event) -> None:
        data = event.data
        match event.name:
            case "offer.created":
                self._offered(data)
            case "job.updated":
                self._job(data["job"])
            case "job.cancelled" if data["job"]["id"] == self.job:
                self.job = None
            case "provider.updated":
                self._record(data["provider"])

    def replaced(self, snapshot: Snapshot) -> None:
        if snapshot.provider is not None:
            self._record(snapshot.provider)
        self.job = None
        for job in snapshot.jobs:
            self._job(job)
        for offer in snapshot.offers:
            self._offered(offer)

    def _record(self, provider: dict[str, Any]) -> None:
        self.may_work = provider["status"] in ("approved", "active")
        self.online = provider["is_online"]
        if not self.online:
            self.loop.after(0.5 + self.chance.random() * 2, self.switch_on)

    def _offered(self, offer: dict[str, Any]) -> None:
        chance, temper = self.chance, self.temper
        if self.world.healing:
            temper = "eager"
        if temper == "decliner" and chance.random() < 0.6:
            self.loop.after(chance.random(), self.decline, offer)
            return
        # Three of ten say yes at the very moment, all together.
        wait_s = 0.0 if chance.random() < 0.3 else chance.random() * (4.5 if temper == "slow" else 0.8)
        self.loop.after(wait_s, self.accept, offer)
        if temper == "doubler":
            self.loop.after(wait_s + chance.random() * 0.2, self.accept, offer)

    def decline(self, offer: dict[str, Any]) -> None:
        own = new_id()
        op = self._op("decline", own, offer["job"]["id"], body=offer["offer_id"])
        self.ask(op, _nothing, frame=Decline(own, UUID(offer["offer_id"])))

    def accept(self, offer: dict[str, Any]) -> None:
        """Say yes: by his offer, naming its round or not; or as from the board; by the socket or over HTTP."""
        if self.job is not None and self.chance.random() < 0.8:
            return
        own, job = new_id(), offer["job"]["id"]
        offer_id: UUID | None = UUID(offer["offer_id"])
        round = offer["round"] if self.chance.random() < 0.7 else None
        if self.temper == "board" and self.chance.random() < 0.5:
            offer_id = None
        named = "" if offer_id is None else str(offer_id)
        op = self._op("accept", own, job, round=round or 0, offer=named, body=f"{job} {offer_id} {round}")
        if self.chance.random() < 0.15:
            self.ask(op, self._accepted, http=("accept", (UUID(job), offer_id, round)))
        else:
            self.ask(op, self._accepted, frame=Accept(own, UUID(job), offer_id, round))

    def _accepted(self, op: Op, data: Any) -> None:
        if op.word == "ok":
            self._job(data["job"])
        if self.chance.random() < 0.1:
            self.loop.after(self.chance.random() * 3, self._ask_once_more, op)

    def _ask_once_more(self, op: Op) -> None:
        """The same key again, past its answer: the same answer must come. Or with another job: it must be refused."""
        if self.world.healing or op.key in self.asking:
            return
        job, offer, round = op.body.split()
        other = self.chance.random() < 0.3
        job = str(new_id()) if other else job
        offer_id = None if offer == "None" else UUID(offer)
        asked = None if round == "None" else int(round)
        again = self._op("accept", UUID(op.key), job, round=asked or 0, offer=op.offer, body=f"{job} {offer} {round}")
        if not other:
            again.at = op.at  # sent again with the same key, it stays one request
        self.ask(again, _nothing, http=("accept", (UUID(job), offer_id, asked)))

    # --- the job

    def _job(self, job: dict[str, Any]) -> None:
        if job["version"] < self._versions.get(job["id"], 0):
            return  # an answer that an event has overtaken
        self._versions[job["id"]] = job["version"]
        mine = (job.get("provider") or {}).get("id") == str(self.provider)
        if mine and job["status"] in _NEXT:
            self.job, self.status = job["id"], job["status"]
            if not self._moving:
                self._moving = True
                self.loop.after(0.2 + self.chance.random() * 1.2, self._advance)
        elif job["id"] == self.job:
            self.job = None

    def _advance(self) -> None:
        self._moving = False
        job, chance = self.job, self.chance
        if job is None:
            return
        own = new_id()
        self._moving = True
        if self.status != "in_progress" and chance.random() < 0.06 and not self.world.healing:
            op = self._op("cancel", own, job, body="cannot")
            self.ask(op, self._moved, frame=Cancel(own, UUID(job), "cannot"))
        else:
            to = _NEXT[self.status]
            self.ask(self._op("advance", own, job, to=str(to)), self._moved, frame=Advance(own, UUID(job), to))

    def _moved(self, op: Op, data: Any) -> None:
        self._moving = False
        if op.word == "ok" and op.kind == "advance" and data["job"]["id"] == self.job:
            self._job(data["job"])
            if self.job is not None and not self._moving:
                # The answer was older than what his events have told since: he drives on from there.
                self.loop.after(0.5, self._again)
        elif op.kind == "advance" and op.word not in UNDECIDED:
            # It stands elsewhere than this phone believes: an old answer has misled it. It asks for the whole state.
            self.job = None
            self.session.epoch = None
            self.leave()
        elif self.job is not None:
            self.loop.after(1.0, self._again)

    def _again(self) -> None:
        if self.job is not None and not self._moving:
            self._moving = True
            self._advance()


def _nothing(op: Op, data: Any) -> None:
    """The record is all that is wanted."""


def _instant(second: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(START_S + second, UTC)


def _encoded(frame: Any) -> bytes:
    from protocol import codec

    return codec.encode(frame)
