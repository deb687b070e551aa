"""A ticket is redeemed after the upgrade: whatever goes wrong then is told on the socket, not by HTTP in the middle of it."""

import asyncio

import aiohttp
import asyncpg
import orjson
import pytest

from tests.support.server import WITHIN_S, serving


@pytest.mark.parametrize(
    "held_up", [asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.DiskFullError, TimeoutError]
)
async def test_a_ticket_that_cannot_be_looked_into_now_asks_back(
    database_url: str, redis_url: str, held_up: type[Exception]
) -> None:
    async def by_ticket(ticket: str, address: str) -> object:
        raise held_up("too slow")

    async with serving(database_url, redis_url) as server:
        server.app.door._rules.by_ticket = by_ticket  # type: ignore[assignment]
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{server.url()}/v1/socket?ticket=x", protocols=("dispatch.v1",)) as ws,
            asyncio.timeout(WITHIN_S),
        ):
            bye = await ws.receive()
            assert bye.type is aiohttp.WSMsgType.TEXT, f"{bye.type}: {bye.data}"
            said = orjson.loads(bye.data)
            assert said["type"] == "bye" and said["reconnect_after_ms"] >= 1_000
            assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
            assert ws.close_code == 1012
