"""Phones of the peers: `bench.fleet.Phone` with another greeting and plain JSON frames, so that the load is made by the same code."""

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid5

import orjson

from bench.fleet import FleetError, Phone, framed
from protocol.frames import Event, Reply

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def own_offer(offer_id: str, provider: str) -> str:
    """A peer gives all who are offered a job one offer's id; each offer is counted by one of its own."""
    return str(uuid5(UUID(offer_id), provider))


class PeerPhone(Phone):
    """Speaks `{"type": …}` frames to peers (a) and (c). What is no reply and no greeting is handed on as an event without a number."""

    __slots__ = ()

    path: ClassVar[str] = "/socket"
    subprotocol: ClassVar[str] = ""

    def _greet(self) -> None:
        self.provider_id = self.person.user_id

    async def online(self) -> None:
        """Nothing to ask for: his first position makes him searchable. Sent at once, as an app does."""
        self.locate(b"1970-01-01T00:00:00.000Z")

    def _text(self, payload: bytes, now_ns: int) -> None:
        frame = orjson.loads(payload)
        self._heard(frame["type"], frame.get("data"), now_ns)

    def _heard(self, name: str, data: dict[str, Any] | None, now_ns: int) -> None:
        if name == "welcome":
            self._welcomed()
        elif data is None:
            raise FleetError(f"a peer sent {name} without data")
        elif name == "reply":
            self._answer(Reply(id=UUID(data["id"]), ok=data["ok"]), now_ns)
        elif self._on_event is not None:
            if name == "offer.created":
                data["offer_id"] = own_offer(data["offer_id"], self.person.user_id)
            self._on_event(self, Event(seq=0, name=name, at=_EPOCH, data=data), now_ns)


class SocketIoPhone(PeerPhone):
    """The same over Engine.IO 4 and Socket.IO 5, by WebSocket only: the engine's `0` opens, `40` joins, `42` is an event, `2` a ping."""

    __slots__ = ()

    path: ClassVar[str] = "/socket.io/?EIO=4&transport=websocket"

    def _text(self, payload: bytes, now_ns: int) -> None:
        kind = payload[:2]
        if kind == b"42":
            name, *rest = orjson.loads(payload[2:])
            self._heard(name, rest[0] if rest else None, now_ns)
        elif payload == b"2":
            self._write(framed(b"3"))
        elif kind[:1] == b"0":
            self._write(framed(b"40" + orjson.dumps({"token": self.person.token})))
        elif kind == b"44":
            self.refused = 401
            self.close()

    def _say(self, message: bytes) -> None:
        # The codec writes the type first: {"type":"location",…
        name = message[9 : message.index(b'"', 9)]
        self._write(framed(b'42["%b",%b]' % (name, message)))
