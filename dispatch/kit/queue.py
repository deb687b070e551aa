"""Consumers of PgQueuer's jobs, kept alive: slow side effects that were enqueued in the transaction that caused them.

PgQueuer 1.6 never opens a lost LISTEN connection again. So the loss ends the run at once, and the run begins anew with a pool
of its own, on connections that go straight to Postgres: LISTEN does not work through a transaction pooler.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import Channel, JobId, QueueEntrypoint

from dispatch.kit.ids import jitter_s

log = structlog.get_logger("queue")

Work = Callable[[bytes], Awaitable[float | None]]
"""Does one job, known by its payload. Returns None: done; seconds: come back with it then. It may be called twice for one job, also at
the same time, and says so itself. What it raises parks the job as failed."""

POOL_SIZE = 4  # one is pinned by LISTEN
_BATCH = 10
_AT_ONCE = 20  # jobs of one entrypoint and process; the batch that reaches it may go beyond
_POLL_S = 2.0  # how late a job is at most whose wake-up was lost
_PAUSE_S = (0.05, 5.0)  # before a new run: after the first loss, and at most


def names(schema: str) -> DBSettings:
    """All names said here: the library would also take them from environment variables as plain as CHANNEL."""
    return DBSettings(
        prefix="",
        db_schema=schema,
        channel=Channel("ch_pgqueuer"),
        function="fn_pgqueuer_changed",
        statistics_table="pgqueuer_statistics",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        trigger="tg_pgqueuer_changed",
        schedules_table="pgqueuer_schedules",
    )


def queries(driver: AsyncpgPoolDriver, schema: str) -> Queries:
    """The library's statements on the tables in `schema`."""
    named = names(schema)
    return Queries(driver, QueryBuilderEnvironment(named), QueryQueueBuilder(named), QuerySchedulerBuilder(named))


class _Driver(AsyncpgPoolDriver):
    """Tells when the connection that listens is gone."""

    def __init__(self, pool: "asyncpg.Pool[Any]", on_loss: Callable[[], None]) -> None:
        super().__init__(pool)
        self._on_loss = on_loss

    async def add_listener(self, channel: str, callback: Callable[[str | bytes | bytearray], None]) -> None:
        await super().add_listener(channel, callback)
        assert self._listener_connection is not None
        self._listener_connection.add_termination_listener(lambda _: self._on_loss())


class _Manager(QueueManager):
    """Takes no more jobs of an entrypoint that has enough of them under way here: a service that hangs must not hold up the others.

    The library's own limits do not fit: one counts the whole fleet, dead workers included, the other all entrypoints together.
    """

    def __init__(self, asked: Queries, channel: Channel) -> None:
        super().__init__(asked, channel)
        self._taken: dict[JobId, QueueEntrypoint] = {}

    async def fetch_jobs(
        self, batch_size: int, global_concurrency_limit: int | None, heartbeat_timeout: timedelta
    ) -> AsyncGenerator[Job, None]:
        async for job in super().fetch_jobs(batch_size, global_concurrency_limit, heartbeat_timeout):
            self._taken[job.id] = job.entrypoint
            yield job

    def entrypoints_below_capacity_limits(self) -> set[QueueEntrypoint]:
        # `job_context` has each job from its taking to its end.
        self._taken = {job: entrypoint for job, entrypoint in self._taken.items() if job in self.job_context}
        busy = Counter(self._taken.values())
        return {entrypoint for entrypoint in self.entrypoint_registry if busy[entrypoint] < _AT_ONCE}


class Consumer:
    """One per worker process. `work` by entrypoint; the truth about a job's subject is elsewhere, a job is only the reason to look.

    A job whose consumer died is taken up by another after `stale_after_s`.
    """

    def __init__(
        self, url: str, *, role: str, search_path: str, schema: str, work: Mapping[str, Work], stale_after_s: float
    ) -> None:
        self._url = url
        self._session = {
            "role": role,
            "search_path": search_path,
            "application_name": f"{role}_queue",
            "jit": "off",
            "statement_timeout": "10000",
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "3",
            "tcp_keepalives_count": "3",
        }
        self._schema = schema
        self._work = work
        self._stale_after = timedelta(seconds=stale_after_s)
        self._stopping = False
        self._run: QueueManager | None = None
        self.runs = 0
        """How often it began to consume: once, and once more after each loss."""
        logging.getLogger("pgqueuer").setLevel(logging.WARNING)

    @asynccontextmanager
    async def consuming(self, *, grace_s: float) -> AsyncIterator[None]:
        """Consume while the block lasts. At its end no job is taken any more, and those under way have `grace_s` to finish."""
        task = asyncio.get_running_loop().create_task(self._forever(), name="queue")
        try:
            yield
        finally:
            self._stopping = True
            if self._run is not None:
                self._run.shutdown.set()
            await asyncio.wait({task}, timeout=grace_s)
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=0.2)

    async def _forever(self) -> None:
        pause_s = _PAUSE_S[0]
        while not self._stopping:
            before = self.runs
            try:
                await self._once()
                lost = None
            except Exception as error:  # noqa: BLE001
                # Also what the library trips over after a loss: it resets a connection that is closed.
                lost = error
            if self._stopping:
                return
            if self.runs > before:
                # Once per loss, not per try to come back.
                log.warning("the queue's run ended; a new one begins", error=repr(lost))
                pause_s = _PAUSE_S[0]
            else:
                pause_s = min(_PAUSE_S[1], pause_s * 2)
            await asyncio.sleep(jitter_s(pause_s / 2, pause_s))

    async def _once(self) -> None:
        async with asyncpg.create_pool(
            self._url, min_size=1, max_size=POOL_SIZE, command_timeout=10, server_settings=self._session
        ) as pool:
            driver = _Driver(pool, lambda: manager.shutdown.set())
            manager = _Manager(queries(driver, self._schema), names(self._schema).channel)
            for entrypoint, work in self._work.items():
                manager.entrypoint(entrypoint, accepts_context=False, on_failure="hold")(partial(self._do, work))
            self._run = manager
            self.runs += 1
            if self._stopping:
                return
            try:
                await manager.run(
                    dequeue_timeout=timedelta(seconds=_POLL_S),
                    batch_size=_BATCH,
                    shutdown_on_listener_failure=True,
                    heartbeat_timeout=self._stale_after,
                )
            finally:
                self._run = None
                if not self._stopping:
                    pool.terminate()

    async def _do(self, work: Work, job: Job) -> None:
        wait_s = await work(job.payload or b"")
        if wait_s is not None:
            raise RetryRequested(timedelta(seconds=wait_s))
