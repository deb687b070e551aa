"""What machines run on: a server in this process whose loops stand still, and a way to call it without a loop of one's own."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
from hypothesis import HealthCheck, Phase, settings

from dispatch.app import App
from dispatch.kit.clock import Clock, SystemClock
from dispatch.kit.errors import DispatchError
from dispatch.kit.postgres import Actor
from dispatch.providers import seed
from tests.support.server import WITHIN_S, Server, serving

T = TypeVar("T")

_STOCK = 90

# Without the phase that explains failures: it traces every line, and a traced server is too slow to be the same server.
MACHINE = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

_OFFER = """SELECT word, offered, offered_to FROM offers_create($1, $2, $3, $4, $5, interval '60 s', 0, interval '5 s', interval '0 s')"""


class StillClock(SystemClock):
    """The machine's clock, on which the loops of a server sleep for ever and everybody else not at all."""

    def __init__(self) -> None:
        self._awake = asyncio.current_task()
        self._loops: set[asyncio.Task[Any]] | None = None

    def begun(self) -> None:
        """The server has started: the tasks there are now are its loops."""
        self._loops = asyncio.all_tasks()

    async def sleep(self, seconds: float) -> None:
        task = asyncio.current_task()
        if task is self._awake or (self._loops is not None and task not in self._loops):
            await asyncio.sleep(0)
        else:
            await asyncio.Event().wait()


class Stage:
    """One server for all runs of a machine. Everything on it moves while `run` does, and stands still in between."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.server: Server
        self.judge: asyncpg.Connection[Any]
        self._stock: list[tuple[UUID, UUID]] = []

    def beaten(self) -> None:
        """The server said a moment ago that it lives. Its loops stand still, and one that has been silent for 5 s judges nobody's absence."""
        inbox = self.server.app.inbox
        inbox._beat_at, inbox._trusted_from = self.server.app.clock.monotonic(), 0.0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and then whatever it has left to finish."""
        return self.runner.run(self._finished(work))

    async def _finished(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            await self.quiet()

    async def quiet(self) -> None:
        """Until no worker has unfinished work: searches, aftermaths."""
        async with asyncio.timeout(WITHIN_S):
            while any(len(app.nursery) for app in self.server.apps):
                await asyncio.sleep(0)

    @property
    def app(self) -> App:
        return self.server.app

    def sql(self, query: str, *args: Any) -> "list[asyncpg.Record]":
        """Ask or change the judge's books, past all row security."""
        rows: list[asyncpg.Record] = self.runner.run(self.judge.fetch(query, *args))
        return rows

    def providers(self, count: int) -> list[tuple[UUID, UUID]]:
        """(user, provider) of new approved ones, off, whose phones Postgres believes connected."""
        if len(self._stock) < count:
            people = self.runner.run(seed(self.server.settings, providers=_STOCK, customers=0))
            users = [user for _, user in people]
            self.sql(
                """INSERT INTO sockets (user_id, device, attempt, worker_id, conn_id)
                   SELECT u, 'believed', 1, 'elsewhere', gen_random_uuid() FROM unnest($1::uuid[]) u""",
                users,
            )
            self._stock += [
                (row["user_id"], row["id"])
                for row in self.sql("SELECT user_id, id FROM providers WHERE user_id = ANY ($1::uuid[])", users)
            ]
        return [self._stock.pop() for _ in range(count)]

    def customers(self, count: int) -> list[UUID]:
        users = [uuid4() for _ in range(count)]
        self.sql("INSERT INTO users (id, first_name) SELECT u, 'Malee' FROM unnest($1::uuid[]) u", users)
        return users

    def forget(self, jobs: list[UUID]) -> None:
        """End these jobs behind everybody's back, so that no later turn of a loop meets them."""
        self.sql("UPDATE offers SET status = 'withdrawn' WHERE job_id = ANY ($1::uuid[]) AND status = 'live'", jobs)
        self.sql(
            """UPDATE jobs SET status = 'cancelled', cancelled_by = 'system', cancelled_at = clock_timestamp(), next_search_at = NULL
               WHERE id = ANY ($1::uuid[]) AND status NOT IN ('completed', 'cancelled')""",
            jobs,
        )

    async def offer(self, job_id: UUID, round: int, providers: Iterable[UUID]) -> tuple[str, dict[UUID, UUID]]:
        """A round by the judge's own function: its word, and provider → offer of those it found eligible."""
        wanted = list(providers)
        async with self.app.pg.system() as conn:
            row = await conn.fetchrow(_OFFER, job_id, round, [uuid4() for _ in wanted], wanted, [100] * len(wanted))
        assert row is not None
        return row["word"], dict(zip(row["offered_to"], row["offered"], strict=True))


@contextmanager
def stage_of(database_url: str, redis_url: str, *, clock: Clock | None = None, **given: Any) -> Iterator[Stage]:
    """A stage with these settings. Unless a clock is given its loops stand still: a machine calls their turns itself."""
    stage = Stage()
    stack = AsyncExitStack()

    async def begin() -> None:
        still = StillClock()
        stage.server = await stack.enter_async_context(serving(database_url, redis_url, clock=clock or still, **given))
        still.begun()
        stage.judge = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
        stack.push_async_callback(stage.judge.close)
        # A worker that nobody runs and nobody buries: it holds the sockets of those who have none.
        await stage.judge.execute(
            "INSERT INTO workers (id, beat_at) VALUES ('elsewhere', clock_timestamp() + interval '1 day')"
        )

    with stage.runner:
        try:
            stage.runner.run(begin())
            yield stage
        finally:
            stage.runner.run(stack.aclose())


def acting(user: UUID, *roles: str) -> Actor:
    return Actor(user, frozenset(roles or ("customer",)), "en")


async def word_of(work: Any) -> str:
    """ "done", or the code of the refusal with its status."""
    try:
        await work
    except DispatchError as refusal:
        status = refusal.details.get("status")
        return f"{refusal.code}:{status}" if refusal.code == "JOB_NOT_AVAILABLE" else str(refusal.code)
    return "done"
