"""A worker whose subscription is dead while Redis answers PING: out of /readyz within three seconds, and back by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest

from bench.faults.lines import Line
from bench.faults.proxy import Proxy
from dispatch.tracking import keys
from tests.support.server import WITHIN_S, Server, serving


async def ready(server: Server, worker: int = 0) -> tuple[int, list[str]]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url(worker)}/readyz") as answer:
        return answer.status, (await answer.json()).get("problems", [])


async def until(server: Server, status: int) -> float:
    """Seconds until /readyz says so."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(3 * WITHIN_S):
        while (await ready(server))[0] != status:
            await asyncio.sleep(0.05)
    return loop.time() - began


async def unsubscribed(server: Server, lines: list[Line]) -> None:
    """The connection lives, and nothing is subscribed on it any more."""
    await server.app.inbox.ear._pubsub.sunsubscribe()


async def silenced(server: Server, lines: list[Line]) -> None:
    """Half open: what Redis says on this one connection goes nowhere, and nobody is told."""
    channel = server.app.inbox.worker_id.encode()
    (line,) = [line for line in lines if channel in getattr(line, "heard", b"")]
    line.mute = True  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", [unsubscribed, silenced])
async def test_a_deaf_worker_is_out_and_comes_back(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Awaitable[None]]
) -> None:
    _teach_lines_to_be_muted(monkeypatch)
    async with Proxy(redis_url) as line, serving(database_url, line.url, workers=2) as server:
        person = await server.person()
        async with person.connected() as phone:
            await until(server, 200)
            await fault(server, list(line.lines))
            out_s = await until(server, 503)
            assert (await ready(server))[1] == ["deaf"] or (await ready(server))[0] == 200
            assert (await ready(server, 1))[0] == 200, "the other one hears"
            # It is asked every 50 ms on a busy machine; three seconds are counted from the last word that was heard.
            assert out_s <= 4.0, f"deaf for {out_s:.1f} s before anybody was told"
            await until(server, 200)
            # It hears again: what the other worker hands over arrives, without the poll of heads that would bring it in the end.
            seen = len(person.inbox.events)
            customer = await server.person(worker=1, user_id=person.user_id)
            await server.request(customer)
            await person.inbox.until(lambda: len(person.inbox.events) > seen)
            await phone.untrack(uuid4())
            assert phone.welcomes == 1, "its sockets lived through it"


async def test_fixes_of_other_workers_are_heard_again(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other subscription of a worker, of those who watch their provider come: silent, and nobody opened it anew."""
    _teach_lines_to_be_muted(monkeypatch)
    async with Proxy(redis_url) as proxy, serving(database_url, proxy.url) as server:
        customer = await server.person()
        async with server.working() as (driver, _), customer.connected() as phone:
            job = UUID((await server.request(customer))["id"])
            await driver.http.accept(job)
            await phone.track(job)
            watched = server.app.tracking._watched[job]
            at_ms = 0

            async def heard() -> None:
                """Some fix that another worker hands over from now on arrives."""
                nonlocal at_ms
                before = watched.fix
                while watched.fix is before:
                    at_ms = max(at_ms, int(server.app.clock.now().timestamp() * 1000)) + 1
                    fix = msgspec.json.encode((13.75, 100.5, at_ms, None, str(driver.user_id)))
                    await server.app.redis.plain.execute_command("SPUBLISH", keys.channel(job), fix)
                    await asyncio.sleep(0.05)

            async with asyncio.timeout(3 * WITHIN_S):
                await heard()
                channel = keys.channel(job).encode()
                (line,) = [line for line in proxy.lines if channel in getattr(line, "heard", b"")]
                line.mute = True  # type: ignore[attr-defined]
                await until(server, 503)
                await heard()
                await until(server, 200)


def _teach_lines_to_be_muted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of the proxy that know what was said on them, and lose what is answered once `mute` is set."""
    requested, replied = Line.requested, Line.replied

    def requesting(self: Line, data: bytes) -> None:
        if b"SSUBSCRIBE" in data.upper():
            self.heard = getattr(self, "heard", b"") + data  # type: ignore[attr-defined]
        requested(self, data)

    def replying(self: Line, data: bytes) -> None:
        if not getattr(self, "mute", False):
            replied(self, data)

    monkeypatch.setattr(Line, "requested", requesting)
    monkeypatch.setattr(Line, "replied", replying)
