"""The notification centre, devices and their doors: own things only, page by page."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.kit.postgres import Actor
from dispatch.notifications import Notice
from protocol.notices import NoticeType
from tests.properties.scenes import PROPERTY
from tests.support.server import Person, Server, denied, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def tell(server: Server, person: Person, count: int = 1, **given: Any) -> None:
    await person.http.me()
    async with server.app.pg.acting(Actor(person.user_id)) as tx:
        await server.app.admin._notifications.write(
            tx,
            [Notice(person.user_id, NoticeType.VEHICLE_APPROVED, {"vehicle": f"P-{n}"}, **given) for n in range(count)],
        )


async def pages(person: Person, limit: int, **given: Any) -> list[list[dict[str, Any]]]:
    found, cursor = [], None
    while True:
        page = await person.http.notices.page(limit=limit, cursor=cursor, **given)
        found.append(page["items"])
        cursor = page.get("next_cursor")
        if cursor is None:
            return found


async def test_a_notification_has_what_the_app_shows(server: Server) -> None:
    person = await server.person()
    await person.http.patch_me(locale="en")
    await tell(server, person)
    (row,) = (await person.http.notices.page())["items"]
    assert row["title"] == "Vehicle approved" and "P-0" in row["body"]
    assert row["data"] == {"vehicle": "P-0"} and row["read"] is False and "read_at" not in row
    assert row["sent"].keys() == {"push"} and row["created_at"].endswith("Z")


async def test_the_list_is_newest_first_and_paged_without_gap_or_repeat(server: Server) -> None:
    person = await server.person()
    await tell(server, person, 7)
    found = await pages(person, 3)
    assert [len(page) for page in found] == [3, 3, 1]
    rows = [row for page in found for row in page]
    assert len({row["id"] for row in rows}) == 7
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
    assert [len(page) for page in await pages(person, 7)] == [7]


async def test_reading_one_and_all(server: Server) -> None:
    person = await server.person()
    await tell(server, person, 4)
    assert await person.http.notices.unread_count() == 4
    first = (await person.http.notices.page())["items"][0]
    read = await person.http.notices.read(first["id"])
    assert read["read"] is True and read["read_at"]
    assert (await person.http.notices.read(first["id"]))["read_at"] == read["read_at"], "the first time stays"
    assert await person.http.notices.unread_count() == 3
    assert first["id"] not in {row["id"] for page in await pages(person, 2, unread=True) for row in page}
    assert (await person.http.notices.read_all(), await person.http.notices.read_all()) == (3, 0)
    assert await person.http.notices.unread_count() == 0
    assert len((await person.http.notices.page())["items"]) == 4


async def test_anothers_notification_is_like_one_that_never_was(server: Server) -> None:
    owner, stranger, admin = await server.person(), await server.person(), await server.admin()
    await tell(server, owner)
    (row,) = (await owner.http.notices.page())["items"]
    for person in (stranger, admin):
        for target in (row["id"], uuid4()):
            refusal = await denied(person.http.notices.read(target))
            assert (refusal.status, refusal.code) == (404, "NOTIFICATION_NOT_FOUND")
        assert (await person.http.notices.page())["items"] == []
        assert await person.http.notices.read_all() == 0
    assert await owner.http.notices.unread_count() == 1


BAD_QUERIES = "limit=0 limit=101 limit=x cursor=x cursor=MjAyNg== unread=yes unread=true&unread=true status=dead"


async def test_bad_questions_are_refused(server: Server) -> None:
    person = await server.person()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {person.token}"}) as session:
        for query in BAD_QUERIES.split():
            async with session.get(f"{server.url()}/v1/notifications?{query}") as answer:
                assert answer.status == 400, query
                assert (await answer.json())["error"]["code"] == "VALIDATION_ERROR"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


KEYS = {"p256dh": b64(b"\x04" + bytes(64)), "auth": b64(bytes(16))}


async def test_an_address_belongs_to_whoever_registered_it_last(server: Server) -> None:
    one, two = await server.person(), await server.person()
    first = await one.http.notices.register_fcm("token", name="Pixel")
    assert first["kind"] == "fcm" and first["name"] == "Pixel" and "token" not in str(first)
    again = await one.http.notices.register_fcm("token")
    assert again["id"] == first["id"] and "name" not in again
    moved = await two.http.notices.register_fcm("token")
    assert moved["id"] != first["id"], "the former owner must not know it"
    assert await one.http.notices.devices() == []
    assert (await denied(one.http.notices.drop_device(moved["id"]))).status == 404
    await two.http.notices.drop_device(moved["id"])
    assert await two.http.notices.devices() == []
    assert (await denied(two.http.notices.drop_device(moved["id"]))).status == 404


async def test_a_user_has_ten_devices_and_the_oldest_goes(server: Server) -> None:
    person = await server.person()
    for n in range(12):
        await person.http.notices.register_fcm(f"token-{n}", name=str(n))
    assert [device["name"] for device in await person.http.notices.devices()] == [str(n) for n in range(11, 1, -1)]
    async with asyncio.TaskGroup() as group:
        for n in range(12):
            group.create_task(person.http.notices.register_fcm(f"other-{n}"))
    assert len(await person.http.notices.devices()) == 10


async def test_a_browser_registers_what_its_to_json_gives(server: Server) -> None:
    person = await server.person()
    subscription = {"endpoint": "https://push.example.com/abc", "expirationTime": 1.5e12, "keys": KEYS}
    assert (await person.http.notices.register_webpush(subscription))["kind"] == "webpush"
    assert (await person.http.notices.register_webpush({**subscription, "expirationTime": None}))["kind"] == "webpush"
    assert len(await person.http.notices.devices()) == 1


GOOD = {"endpoint": "https://push.example.com/x", "keys": KEYS}


NO_DEVICES: list[Any] = [
        {}, {"kind": "fcm"}, {"kind": "apns", "token": "x"}, {"kind": "fcm", "token": ""}, {"kind": "fcm", "token": "a b"},
    {"kind": "fcm", "token": "x" * 1025}, {"kind": "fcm", "token": "ก"}, {"kind": "fcm", "token": "x\n"}, {"kind": "fcm", "token": "x", "user_id": "y"},
    {"kind": "fcm", "token": "x", "subscription": GOOD}, {"kind": "webpush", "token": "x"}, {"kind": "webpush"},
    {"kind": "webpush", "subscription": {**GOOD, "endpoint": "https://127.0.0.1/x"}},
    {"kind": "webpush", "subscription": {**GOOD, "endpoint": "http://push.example.com/x"}},
    {"kind": "webpush", "subscription": {**GOOD, "endpoint": "https://metadata.internal/x"}},
    {"kind": "webpush", "subscription": {**GOOD, "endpoint": "https://push.example.com/" + "x" * 2000}},
    {"kind": "webpush", "subscription": {**GOOD, "keys": {"p256dh": "x", "auth": KEYS["auth"]}}},
    {"kind": "webpush", "subscription": {**GOOD, "keys": {"p256dh": KEYS["p256dh"], "auth": "!"}}},
    {"kind": "fcm", "token": "x", "name": " "}, {"kind": "fcm", "token": "x", "name": "n" * 101}, {"kind": "fcm", "token": 5}, [], "x",
]  # fmt: skip


async def test_what_is_no_device_is_refused(server: Server) -> None:
    person = await server.person()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {person.token}"}) as session:
        for body in NO_DEVICES:
            async with session.post(f"{server.url()}/v1/devices", json=body) as answer:
                assert answer.status == 400, body
                assert (await answer.json())["error"]["code"] == "VALIDATION_ERROR"
    assert await person.http.notices.devices() == []


async def test_deliveries_are_for_admins_and_paged(server: Server) -> None:
    person, admin = await server.person(), await server.admin()
    assert (await denied(person.http.notices.deliveries())).status == 403
    assert (await denied(person.http.notices.requeue(uuid4()))).status == 403
    await tell(server, person, 5)
    found, cursor = [], None
    while True:
        page = await admin.http.notices.deliveries(limit=2, cursor=cursor, channel="push")
        found += page["items"]
        if (cursor := page.get("next_cursor")) is None:
            break
    mine = [row for row in found if row["recipient_id"] == str(person.user_id)]
    assert len({row["id"] for row in mine}) == len(mine) == 5
    assert (await denied(admin.http.notices.deliveries(status="lost"))).code == "VALIDATION_ERROR"  # type: ignore[arg-type]
    assert (await denied(admin.http.notices.deliveries(channel="fax"))).code == "VALIDATION_ERROR"  # type: ignore[arg-type]


async def test_guarded_functions_refuse_who_is_no_party(server: Server) -> None:
    import asyncpg

    person = await server.person()
    await tell(server, person)
    (row,) = await server.sql("SELECT id FROM notification_deliveries")
    for statement in (
        "SELECT delivery_requeue($1)",
        "SELECT device_register(gen_random_uuid(), $1, 'fcm', 't', NULL, NULL, NULL, 10)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with server.app.pg.acting(Actor(uuid4())) as tx:
                await tx.execute(statement, row["id"])


@PROPERTY
@given(
    steps=st.lists(
        st.one_of(
            st.just("all"),
            st.tuples(st.just("write"), st.integers(0, 5)),
            st.tuples(st.just("read"), st.integers(0, 9)),
        ),
        max_size=12,
    )
)
async def test_the_centre_is_what_was_written_once_per_key_minus_what_was_read(
    server: Server, steps: list[Any]
) -> None:
    """Feature: notifications, NTF-06 and NTF-07: list, unread list and count always tell the same story as a plain model."""
    person = Person(uuid4(), "", None, server, ["customer"])  # type: ignore[arg-type]
    actor = Actor(person.user_id)
    centre, notifications = _centre(server), server.app.admin._notifications
    async with server.app.pg.app() as conn:
        await conn.execute("SELECT users_ensure($1, NULL, NULL, NULL)", person.user_id)
    order: list[int] = []
    read: set[int] = set()
    for step in steps:
        match step:
            case ("write", key):
                async with server.app.pg.acting(actor) as tx:
                    told = await notifications.write(
                        tx, [Notice(person.user_id, NoticeType.VEHICLE_APPROVED, {"n": key}, key=str(key))]
                    )
                assert len(told) == (key not in order), "told live exactly when it is new"
                if key not in order:
                    order.append(key)
            case ("read", place) if order:
                key = order[place % len(order)]
                await centre.read(actor, await _id_of(server, person.user_id, key))
                read.add(key)
            case "all":
                assert await centre.read_all(actor) == len(set(order) - read)
                read |= set(order)
    import orjson

    rows = orjson.loads(await centre.page(actor, unread=False, limit=100, cursor=None))["items"]
    assert [row["data"]["n"] for row in rows] == order[::-1]
    assert {row["data"]["n"] for row in rows if row["read"]} == read
    unread = orjson.loads(await centre.page(actor, unread=True, limit=100, cursor=None))["items"]
    assert [row["data"]["n"] for row in unread] == [key for key in order[::-1] if key not in read]
    assert await centre.unread(actor) == len(order) - len(read)
    deliveries = await server.sql(
        "SELECT count(*) AS n FROM notification_deliveries d JOIN notifications n ON n.id = notification_id WHERE recipient_id = $1",
        person.user_id,
    )
    assert deliveries[0]["n"] == len(order), "one delivery per channel and key"


def _centre(server: Server) -> Any:
    from dispatch.accounts import Idempotency
    from dispatch.notifications import Centre

    return Centre(server.app.pg, Idempotency(server.app.pg))


async def _id_of(server: Server, user: UUID, key: int) -> UUID:
    async with server.app.pg.system() as conn:
        found: UUID = await conn.fetchval(
            "SELECT id FROM notifications WHERE recipient_id = $1 AND dedupe_key = $2", user, str(key)
        )
    return found
