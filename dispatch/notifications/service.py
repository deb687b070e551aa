"""Use cases of notifications: writing them, the centre where a person reads them, his devices, and what could not be delivered."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import orjson

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import pending
from dispatch.kit.errors import IllegalTransition, Invalid, Missing
from dispatch.kit.ids import new_id
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Row, Tx
from dispatch.notifications.doors import endpoint_problem
from dispatch.notifications.errors import NotificationMissing
from dispatch.notifications.model import Notice
from dispatch.notifications.rules import CHANNELS, priority_of
from dispatch.notifications.store import Q
from dispatch.notifications.texts import LOCALES, catalogue, text_of
from protocol.codec import wire_time
from protocol.notices import Channel, DeliveryStatus
from protocol.resources.notices import DeviceRequest

DEVICES_MAX = 10
UNREAD_MAX = 1_000


class Notifications:
    """One per worker."""

    def __init__(self, circuits: Callable[[], Mapping[str, str]] = dict) -> None:
        self.circuits = circuits
        """service → closed, open or half-open, as this process sees it: for the page of the system's health."""
        for locale in LOCALES:
            catalogue(locale)  # a worker without its texts must not start: it would fail in the middle of business

    async def write(self, tx: Tx, notices: Sequence[Notice]) -> list[tuple[UUID, str, bytes]]:
        """Store `notices`, their deliveries and the jobs for these in the caller's transaction; what is to be told live comes back as
        facts for `append`.

        A notice whose key was written before is dropped, and tells nothing. Heads are not locked here: call it before `append`.
        """
        if not notices:
            return []
        ids = [new_id() for _ in notices]
        recipients = [notice.recipient_id for notice in notices]
        locales = {row["user_id"]: row["locale"] for row in await tx.fetch(Q["recipient_locales"], recipients)}
        texts = [text_of(notice.type, locales[notice.recipient_id], notice.data) for notice in notices]
        rows = await tx.fetch(
            Q["notice_write"],
            ids,
            recipients,
            [str(notice.type) for notice in notices],
            [locales[recipient] for recipient in recipients],
            [title for title, _ in texts],
            [body for _, body in texts],
            [orjson.dumps(dict(notice.data)) for notice in notices],
            [notice.key or str(own) for notice, own in zip(notices, ids, strict=True)],
            [" ".join(CHANNELS[notice.type]) for notice in notices],
            [priority_of(notice.type) for notice in notices],
        )
        return [pending(row["user_id"], "notification.created", row["body"]) for row in rows]


class Centre:
    """What a person reads and owns. Reading tells no event: it changes nothing that anybody else, or a snapshot, shows."""

    def __init__(self, pg: Postgres, idempotency: Idempotency, *, loopback: bool = False) -> None:
        self._pg = pg
        self._once = idempotency.once
        self._loopback = loopback

    async def page(self, actor: Actor, *, unread: bool, limit: int, cursor: str | None) -> bytes:
        """A page of the own notifications, newest first. Raises: Invalid for a cursor not of ours."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(Q["notices_page"], actor.user_id, unread, *before, limit + 1)
        return page(rows, limit)

    async def unread(self, actor: Actor) -> int:
        """How many are unread, counted to UNREAD_MAX."""
        async with self._pg.acting(actor) as tx:
            return int(await tx.fetchval(Q["notices_unread"], actor.user_id, UNREAD_MAX))

    async def read(self, actor: Actor, notice_id: UUID) -> bytes:
        """Mark one as read; again changes nothing. Raises: NotificationMissing."""
        async with self._pg.acting(actor) as tx:
            view: bytes | None = await tx.fetchval(Q["notice_read"], notice_id, actor.user_id)
        if view is None:
            raise NotificationMissing(f"no notification {notice_id} of this user")
        return view

    async def read_all(self, actor: Actor) -> int:
        """Mark all as read. Returns how many were not."""
        async with self._pg.acting(actor) as tx:
            return int(await tx.fetchval(Q["notices_read_all"], actor.user_id))

    async def register(self, actor: Actor, request: DeviceRequest, key: str | None) -> Answer:
        """Send this user's pushes to this device too, and nobody else's any more. The oldest beyond DEVICES_MAX go. Raises: Invalid."""
        subscription = request.subscription
        if subscription is not None:
            problem = endpoint_problem(subscription.endpoint, loopback=self._loopback)
            if problem is not None:
                raise Invalid("endpoint", fields=[{"field": "subscription.endpoint", "problem": problem}])
        address = subscription.endpoint if subscription is not None else request.token
        keys = None if subscription is None else subscription.keys
        async with self._once(actor, key, fingerprint_of("notifications.register", request)) as turn:
            if turn.replay is not None:
                return turn.replay
            device_id = await turn.tx.fetchval(
                Q["device_register"], new_id(), actor.user_id, str(request.kind), address, keys and keys.p256dh,
                keys and keys.auth, request.name, DEVICES_MAX,
            )  # fmt: skip
            rows = [row for row in await turn.tx.fetch(Q["devices_of"], actor.user_id) if row["id"] == device_id]
            return turn.keep(Answer(orjson.dumps(_device(rows[0])), 201))

    async def devices(self, actor: Actor) -> bytes:
        """The own devices, newest first; their addresses stay here."""
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(Q["devices_of"], actor.user_id)
        return orjson.dumps({"items": [_device(row) for row in rows]})

    async def drop(self, actor: Actor, device_id: UUID) -> None:
        """No pushes to this device any more. Raises: Missing."""
        async with self._pg.acting(actor) as tx:
            if await tx.fetchval(Q["device_drop"], device_id, actor.user_id) is None:
                raise Missing(f"no device {device_id} of this user")


class DeadLetters:
    """What was to be sent, for admins: how it went, and again."""

    def __init__(self, pg: Postgres, idempotency: Idempotency) -> None:
        self._pg = pg
        self._once = idempotency.once

    async def page(
        self, actor: Actor, *, status: DeliveryStatus | None, channel: Channel | None, limit: int, cursor: str | None
    ) -> bytes:
        """A page of deliveries, newest first. Raises: Invalid for a cursor not of ours."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            if status is None:
                rows = await tx.fetch(Q["deliveries_page"], channel, *before, limit + 1)
            else:
                rows = await tx.fetch(Q["deliveries_in"], status, channel, *before, limit + 1)
        return page(rows, limit)

    async def requeue(self, actor: Actor, delivery_id: UUID, key: str | None) -> Answer:
        """Send it again, as if it had never been tried. What is under way stays so. Raises: Missing, IllegalTransition (it was sent)."""
        async with self._once(actor, key, fingerprint_of("notifications.requeue", {"id": delivery_id})) as turn:
            if turn.replay is not None:
                return turn.replay
            word = await turn.tx.fetchval(Q["delivery_requeue"], delivery_id)
            if word == "gone":
                raise Missing(f"no delivery {delivery_id}")
            if word == "sent":
                raise IllegalTransition("it was sent", status=word)
            await audit.write(turn.tx, actor, "requeue", ("delivery", delivery_id))
            return turn.keep(Answer(orjson.dumps({"id": str(delivery_id), "status": DeliveryStatus.PENDING})))


def _device(row: Row) -> dict[str, object]:
    named = {} if row["name"] is None else {"name": row["name"]}
    times = {name: wire_time(row[name]) for name in ("created_at", "registered_at")}
    return {"id": str(row["id"]), "kind": row["kind"], **named, **times}
