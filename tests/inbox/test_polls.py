"""What the polls of an idle worker ask Postgres."""

import asyncio
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import pytest

from bench.faults.proxy import Proxy
from dispatch.inbox import Inbox, Seat
from dispatch.kit.clock import ManualClock
from dispatch.kit.postgres import Postgres
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery
from protocol.session import ServerSession


class Line:
    """A greeted connection that nobody in Postgres knows of."""

    def __init__(self) -> None:
        self.conn_id, self.user_id = uuid4(), uuid4()
        self.left: list[int] = []

    def leave(self, code: int, *why: object) -> None:
        self.left.append(int(code))


async def test_nobody_is_asked_why_nobody_has_gone(database_url: str, redis_url: str) -> None:
    """Every three seconds, on every worker: a statement about no connections at all."""
    async with Proxy(database_url) as proxy, Postgres.open(proxy.url) as pg, Redis.open(redis_url) as redis:
        nobody: Any = None
        inbox = Inbox(pg, redis, ManualClock(), Nursery(), worker_id="one", state_of=nobody)
        trap = proxy.hold_next(b"c.allowed")
        async with asyncio.timeout(10):
            await inbox.poll_sockets()
        assert not trap.reached.is_set()
        line: Any = Line()
        session = ServerSession()
        session.started(0)
        inbox._sit(Seat(line, session, "d1", False))
        async with asyncio.timeout(10):
            asking = asyncio.create_task(inbox.poll_sockets())
            await trap.reached.wait()
            trap.release()
            await asking
        assert line.left == [1012], "and whoever has gone is asked about, and sent back"


async def test_the_relay_asks_in_every_fourth_turn_and_at_once_after_one_that_failed(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that a silent line swallowed was followed by 1.5 s of rest: the news of a suspension came late by so much more."""
    answers: list[bool] = []

    async def poll_heads(self: Inbox) -> None:
        if not answers.pop():
            raise TimeoutError

    monkeypatch.setattr(Inbox, "poll_heads", poll_heads)
    nobody: Any = None
    async with Postgres.open(database_url) as pg, Redis.open(redis_url) as redis:
        inbox = Inbox(pg, redis, ManualClock(), Nursery(), worker_id="one", state_of=nobody)

        async def turns(count: int, *, asks: int, well: bool = True) -> None:
            answers[:] = [well] * asks
            for _ in range(count):
                with nullcontext() if well else pytest.raises(TimeoutError):
                    await inbox.relay()
            assert answers == []

        redis.reachable = True
        await turns(8, asks=2)
        await turns(2, asks=2, well=False)
        await turns(5, asks=2)
        redis.reachable = False
        await turns(3, asks=3)
