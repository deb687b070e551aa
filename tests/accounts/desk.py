"""What a person at a browser has: a client without a token, a mailbox, a phone."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from protocol.errors import Denied
from protocol.http import Http
from protocol.notices import NoticeType
from tests.support.server import WITHIN_S, Server

PASSWORD = "correct horse 8 Ünïcode"


@asynccontextmanager
async def visitor(server: Server, token: str = "", worker: int = 0, patience_s: float = 0) -> AsyncIterator[Http]:
    """Somebody who takes the first answer he gets, or asks for a while until one has decided something."""
    async with Http(server.url(worker), token, locale="en", patience_s=patience_s) as http:
        yield http


def an_email() -> str:
    return f"{uuid4().hex}@Test.invalid"


async def signed_up(http: Http, email: str | None = None, **given: Any) -> dict[str, Any]:
    names = {"first_name": "Ann", "last_name": "Bee"} | given
    return await http.account.sign_up(email or an_email(), PASSWORD, **names)


async def outcome(work: Awaitable[Any]) -> str:
    """The code of the refusal, or ok."""
    try:
        await work
    except Denied as refusal:
        return refusal.code
    return "ok"


async def sent(server: Server, user_id: str | UUID, kind: NoticeType) -> list[dict[str, str]]:
    """What was to be sent to this user, oldest first, as a deliverer would have it now: empty for what is void."""
    rows = await server.sql(
        "SELECT data FROM notifications WHERE recipient_id = $1 AND type = $2 ORDER BY created_at, id",
        UUID(str(user_id)),
        str(kind),
    )
    async with server.app.pg.system() as conn:
        return [await server.app.accounts.secret_of(conn, kind, json.loads(row["data"])) for row in rows]


def token_of(message: dict[str, str]) -> str:
    return message["link"].partition("token=")[2]


@asynccontextmanager
async def held(server: Server, rows: str) -> AsyncIterator[Callable[[str, int], Awaitable[None]]]:
    """Rows of a table are locked, so that whoever comes now waits; let go when the block ends. A race that is ordered, not hoped for.

    Yields a function that waits until so many statements with this word in them wait for a lock.
    """
    conn = await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})
    try:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(f"SELECT FROM {rows} FOR UPDATE")

        async def all_wait(word: str, count: int) -> None:
            async with asyncio.timeout(WITHIN_S):
                while count > await conn.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1",
                    f"%{word}%",
                ):
                    await conn.execute("SELECT pg_stat_clear_snapshot()")

        yield all_wait
        await transaction.commit()
    finally:
        await conn.close()
