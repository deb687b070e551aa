"""One try of one delivery, and what follows from how it ended.

The truth about a delivery is its row: a job of the queue is only the reason to look at it. So a job that comes twice finds it sent, two
jobs at the same time find one lease, and a job that was lost is made again by `rescue`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import structlog

from dispatch.kit.breaker import Breaker, CircuitOpen, State
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Overloaded
from dispatch.kit.ids import jitter_s, new_id
from dispatch.kit.postgres import LOST, STUCK, Postgres, Tx
from dispatch.kit.tasks import each
from dispatch.notifications.model import Device, DeviceKind, Door, Gone, Message, NeverDeliverable, NotNow, People
from dispatch.notifications.rules import TRIES, URGENT, wait_s
from dispatch.notifications.store import Q, devices_of
from dispatch.notifications.texts import has_secret, text_out
from protocol.notices import Channel, NoticeType

log = structlog.get_logger("notifications")

_ERROR_MAX = 300
_SMS_MAX = 320
_PUSH_DATA_BYTES_MAX = 1000
_ORIGINS_MAX = 256
_POSTGRES_PAUSE_S = 2.0
_RESERVED = ("from", "message_type", "collapse_key", "google", "gcm")
_UNCONFIGURED = "no such channel configured"
_TOO_LATE = "too late"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`again`: `wait_s` is what the service asked for, `counted` whether anything was tried. `gone`: forget the device."""

    word: Literal["sent", "skipped", "dead", "again", "gone"]
    why: str | None = None
    wait_s: float | None = None
    counted: bool = True


class Sender:
    """One per worker. `people` may be set later than made: accounts come by app.py."""

    def __init__(
        self,
        pg: Postgres,
        doors: Mapping[str, Door],
        people: People,
        clock: Clock,
        *,
        timeout_s: float,
        base_s: float,
        jitter: Callable[[float, float], float] = jitter_s,
    ) -> None:
        self._pg = pg
        self._doors = doors
        self.people = people
        self._clock = clock
        self._timeout_s = timeout_s
        self._base_s = base_s
        self._jitter = jitter
        self.lease_s = 3 * timeout_s
        """A try ends within one timeout; the rest is for Postgres, and for a worker that is slow and not dead."""
        self._circuits: dict[str, Breaker] = {name: Breaker(clock) for name in doors if name != DeviceKind.WEBPUSH}
        # Browsers' push services are many, and anybody can name one that never answers: each host has a circuit of its own.
        self._origins: OrderedDict[str, Breaker] = OrderedDict()
        self.outcomes: dict[tuple[str, str], int] = {}
        """Tries by (channel, how they ended), since the start."""

    def circuits(self) -> dict[str, State]:
        """Each configured service, and those hosts of browsers that do not answer: what they are to this process now."""
        found = {name: circuit.state for name, circuit in self._circuits.items()}
        if DeviceKind.WEBPUSH in self._doors:
            found[DeviceKind.WEBPUSH] = State.CLOSED
            shut = {name: one.state for name, one in self._origins.items() if one.state is not State.CLOSED}
            found |= {f"{DeviceKind.WEBPUSH} {name}": state for name, state in shut.items()}
        return found

    async def handle(self, payload: bytes) -> float | None:
        """A job of the queue. Raises: ValueError for a payload that is no delivery."""
        delivery_id = UUID(payload.decode("ascii"))
        try:
            return await self.deliver(delivery_id)
        except (*LOST, *STUCK, Overloaded) as error:
            log.warning("no Postgres for a delivery", delivery=str(delivery_id), error=repr(error))
            return _POSTGRES_PAUSE_S

    async def deliver(self, delivery_id: UUID) -> float | None:
        """One try. Returns None when nothing is left to do, else the seconds after which to come back.

        Cancelled while sending, it leaves the lease to lapse: whether the message left is unknown then.
        """
        lease = new_id()
        async with self._pg.system() as conn:
            claim = await conn.fetchrow(Q["delivery_claim"], delivery_id, lease, self.lease_s, TRIES)
            assert claim is not None
            if claim["word"] == "held":
                return float(claim["wait_s"]) + self._jitter(0.0, 0.5)
            if claim["word"] != "yours":
                return None
            delivery, notice = claim["delivery"], claim["notice"]
            messages, reached, nothing = await self._messages(conn, delivery, notice)
        if nothing is not None:
            return await self._settle(delivery, lease, nothing, reached)
        outcomes: dict[UUID, Outcome] = {}

        async def attempt(way: tuple[str, str, Message]) -> None:
            name, circuit, message = way
            key = message.to.id if isinstance(message.to, Device) else delivery_id
            outcomes[key] = await self._through(name, circuit, message)

        await each(messages, attempt)
        if delivery["channel"] == Channel.PUSH:
            reached = [*reached, *(device for device, one in outcomes.items() if one.word == "sent")]
        again_s = await self._settle(delivery, lease, _together([*outcomes.values()], bool(reached)), reached)
        gone = [one.to for *_, one in messages if isinstance(one.to, Device) and outcomes[one.to.id].word == "gone"]
        if gone:
            # After the outcome is safe: a device that could not be forgotten now is found gone by its next push.
            async with self._pg.system() as conn:
                for device in gone:
                    await conn.execute(Q["device_gone"], device.id, device.address)
        return again_s

    async def rescue(self, *, after_s: float = 10.0, batch: int = 2_000) -> int:
        """Give jobs to deliveries that are overdue and have none. Returns how many."""
        async with self._pg.system() as conn:
            rescued = int(await conn.fetchval(Q["deliveries_rescue"], after_s, batch))
        if rescued:
            log.info("deliveries without a job", rescued=rescued)
        return rescued

    async def forget(self, *, days: int, batch: int = 2_000) -> int:
        """Forget one batch of notifications, and of the queue's notes, older than `days`. Returns how many went."""
        async with self._pg.system() as conn:
            gone = await conn.fetchval(Q["notices_forget"], days, batch)
            return int(gone) + int(await conn.fetchval(Q["queue_forget"], min(days, 7), batch))

    async def close(self) -> None:
        for door in self._doors.values():
            await door.close()

    # --- what leaves

    async def _messages(
        self, conn: Tx, delivery: Any, notice: Any
    ) -> tuple[list[tuple[str, str, Message]], list[UUID], Outcome | None]:
        """([(door, circuit, message)], devices that have it already, or why there is nothing to send)."""
        channel, kind = Channel(delivery["channel"]), NoticeType(notice["type"])
        reached = list(delivery["reached"])
        data = orjson.loads(notice["data"])
        left_s = None if "expires_at" not in data else self._left_s(data["expires_at"])
        if left_s is not None and left_s <= 0:
            # Retries, an open circuit and a phone that was off take longer than what it told of lasts.
            return [], reached, Outcome("sent") if reached else Outcome("skipped", _TOO_LATE)
        message = Message(
            delivery["id"], "", notice["title"], notice["body"], notice["locale"], urgent=kind in URGENT,
            data=_push_data(notice["id"], kind, data), ttl_s=None if left_s is None else int(left_s),
        )  # fmt: skip
        if channel is Channel.PUSH:
            devices = [one for one in await devices_of(conn, notice["recipient_id"]) if one.id not in reached]
            if not devices:
                return [], reached, Outcome("sent") if reached else Outcome("skipped", "no device")
            ways = [(str(one.kind), _origin(one), replace(message, to=one)) for one in devices]
            return ways, reached, None
        if channel not in self._doors:
            return [], reached, Outcome("skipped", _UNCONFIGURED)
        contact = await self.people.contact_of(conn, notice["recipient_id"])
        to = contact.email if channel is Channel.EMAIL else contact.phone_number
        if has_secret(kind):
            hidden = await self.people.secret_of(conn, kind, data)
            text = None if hidden is None else text_out(kind, notice["locale"], data, hidden)
            if hidden is None or text is None:
                return [], reached, Outcome("skipped", "what it told is of no use any more")
            to = hidden.get("address", to)
            message = replace(message, title=text[0], body=text[1], link=hidden.get("link"))
        elif channel is Channel.SMS:
            message = replace(message, body=f"{notice['title']}: {notice['body']}"[:_SMS_MAX])
        if not to:
            return [], reached, Outcome("skipped", "no address")
        return [(str(channel), str(channel), replace(message, to=to))], reached, None

    def _left_s(self, expires_at: str) -> float:
        return (datetime.fromisoformat(expires_at) - self._clock.now()).total_seconds()

    async def _through(self, name: str, circuit: str, message: Message) -> Outcome:
        door = self._doors.get(name)
        if door is None:
            return Outcome("skipped", _UNCONFIGURED)
        try:
            with self._circuit(circuit).call(_is_trouble):
                async with asyncio.timeout(self._timeout_s):
                    await door.send(message)
        except CircuitOpen as error:
            # All that wait would come back at the same moment, and only one of them may ask.
            spread_s = self._jitter(0.0, max(1.0, error.wait_s / 5))
            return Outcome("again", "the circuit is open", error.wait_s + spread_s, counted=False)
        except Gone as error:
            return Outcome("gone", str(error))
        except NeverDeliverable as error:
            return Outcome("dead", str(error))
        except NotNow as error:
            return Outcome("again", str(error), error.after_s)
        except TimeoutError:
            return Outcome("again", f"no answer within {self._timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 a door's own faults are tries like any other: counted, and three at most
            log.warning("trouble with a service", service=name, error=type(error).__name__)
            return Outcome("again", type(error).__name__)
        return Outcome("sent")

    def _circuit(self, name: str) -> Breaker:
        known = self._circuits.get(name)
        if known is not None:
            return known
        circuit = self._origins.pop(name, None) or Breaker(self._clock)
        self._origins[name] = circuit
        if len(self._origins) > _ORIGINS_MAX:
            self._origins.popitem(last=False)
        return circuit

    # --- what follows

    async def _settle(self, delivery: Any, lease: UUID, outcome: Outcome, reached: list[UUID]) -> float | None:
        status, wait = outcome.word, 0.0
        if status == "again":
            if outcome.counted and delivery["attempts"] >= TRIES:
                status = "sent" if reached else "dead"
            else:
                wait = wait_s(
                    delivery["attempts"], base_s=self._base_s, chance=self._jitter(0.0, 1.0), asked_s=outcome.wait_s
                )
                wait = wait if outcome.counted else outcome.wait_s or wait
        why = None if status == "sent" and not outcome.why else (outcome.why or "")[:_ERROR_MAX]
        seen = (delivery["channel"], status)
        self.outcomes[seen] = self.outcomes.get(seen, 0) + 1
        if status == "dead":
            log.warning("delivery given up", delivery=str(delivery["id"]), channel=delivery["channel"], why=why)
        await self._note(
            delivery["id"], lease, "pending" if status == "again" else status, why, reached, wait, outcome.counted
        )
        return wait if status == "again" else None

    async def _note(self, *said: Any) -> None:
        """Written down with patience: a message that left and is not known to have left would leave again."""
        for pause_s in (0.2, 1.0, None):
            try:
                async with self._pg.system() as conn:
                    await conn.fetchval(Q["delivery_settle"], *said)
                return
            except (*LOST, *STUCK, Overloaded):
                if pause_s is None:
                    raise
                await self._clock.sleep(pause_s)


def _together(outcomes: list[Outcome], any_reached: bool) -> Outcome:
    """Of all devices: again if one of them may still be reached, sent if one was, else the strongest no."""
    again = [one for one in outcomes if one.word == "again"]
    if again:
        counted = [one for one in again if one.counted]
        worst = max(counted or again, key=lambda one: one.wait_s or 0.0)
        # A try that reached a device was one, whatever the others' circuits say.
        return replace(worst, counted=bool(counted) or any(one.word != "again" for one in outcomes))
    if any_reached or any(one.word == "sent" for one in outcomes):
        return Outcome("sent")
    for word in ("dead", "skipped"):
        for one in outcomes:
            if one.word == word:
                return one
    return Outcome("skipped", "no device is left" if not outcomes else outcomes[0].why)


def _is_trouble(error: Exception) -> bool:
    """Whether a circuit counts it: a service that refuses one message, or asks for patience, works."""
    return not isinstance(error, NeverDeliverable) and not (isinstance(error, NotNow) and error.healthy)


def _origin(device: Device) -> str:
    if device.kind is not DeviceKind.WEBPUSH:
        return str(device.kind)
    return urlsplit(device.address).hostname or ""


def _push_data(notice_id: UUID, kind: NoticeType, data: Mapping[str, Any]) -> dict[str, str]:
    """What the app needs to open the right page: as strings, and little, for a push has 4 KiB in all."""
    own = {"id": str(notice_id), "type": str(kind)}
    words = {name: str(value) for name, value in data.items() if value is not None and not name.startswith(_RESERVED)}
    return words | own if len(orjson.dumps(words)) <= _PUSH_DATA_BYTES_MAX else own
