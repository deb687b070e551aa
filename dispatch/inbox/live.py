"""The copy in Redis and the hand-over between workers. Hints, every one of them."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from uuid import UUID

import structlog

from dispatch.inbox import keys
from dispatch.inbox.model import Fact
from dispatch.kit.redis import DOWN, Redis

log = structlog.get_logger("inbox")

COPY_TTL_S = 24 * 3600
_QUEUE_MAX = 50_000
_BATCH = 500


class Copier:
    """Writes facts to the Redis copies of their users, in batches, behind everybody's back.

    A full queue or a Redis that is away drops the batch: the copies then lag behind the heads, which every reader notices.
    """

    def __init__(self, redis: Redis, worker_id: str, refill: Callable[[UUID], None]) -> None:
        self._redis = redis
        self._header = worker_id
        self._refill = refill
        self._queue: deque[tuple[Fact, bytes, bool]] = deque(maxlen=_QUEUE_MAX)
        self._ready = asyncio.Event()
        self.epoch = ""
        self.dropped = 0

    def put(self, fact: Fact, frame: bytes, *, hand_over: bool) -> None:
        """Queue one fact. `hand_over`: other workers may hold sockets of its user."""
        if len(self._queue) == _QUEUE_MAX:
            self.dropped += 1
        self._queue.append((fact, frame, hand_over))
        self._ready.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._ready.wait()
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            if not self._queue:
                self._ready.clear()
            if not batch:
                continue
            try:
                await self._write(batch)
            except DOWN as error:
                self.dropped += len(batch)
                log.debug("copy skipped", facts=len(batch), error=repr(error))

    async def _write(self, batch: Sequence[tuple[Fact, bytes, bool]]) -> None:
        # Facts of one user lie in seq order: they were queued as their transactions committed here. Another worker may have
        # committed between two of them; the function says so.
        by_user = sorted(batch, key=lambda item: (item[0].user_id, item[0].seq))
        users: list[UUID] = []
        async with self._redis.plain.pipeline(transaction=False) as pipe:
            for user_id, group in groupby(by_user, key=lambda item: item[0].user_id):
                run: list[tuple[Fact, bytes, bool]] = []
                for item in group:
                    if run and item[0].seq != run[-1][0].seq + 1:
                        self._one(pipe, users, user_id, run)
                        run = []
                    run.append(item)
                self._one(pipe, users, user_id, run)
            answers = await pipe.execute(raise_on_error=False)
        for user_id, answer in zip(users, answers, strict=True):
            if answer == b"gap":
                self._refill(user_id)
            elif isinstance(answer, Exception):
                if "not found" in str(answer).lower():
                    await self._redis.load()
                raise answer

    def _one(self, pipe: object, users: list[UUID], user_id: UUID, run: list[tuple[Fact, bytes, bool]]) -> None:
        header = self._header if any(item[2] for item in run) else ""
        names = (keys.copy(user_id), keys.meta(user_id), keys.wake(user_id))
        users.append(user_id)
        pipe.execute_command(  # type: ignore[attr-defined]
            "FCALL", "inbox_push", 3, *names, self.epoch, run[0][0].seq, header, COPY_TTL_S, *(item[1] for item in run)
        )


async def fill(redis: Redis, epoch: str, user_id: UUID, facts: Sequence[Fact]) -> None:
    """Bring a user's copy up to date with `facts`, which are consecutive and reach its head. Hands nothing over."""
    names = [keys.copy(user_id), keys.meta(user_id), keys.wake(user_id)]
    answer = await redis.call(
        "inbox_push", names, [epoch, facts[0].seq, "", COPY_TTL_S, *(fact.frame() for fact in facts)]
    )
    if answer == b"gap":
        # What lies between was trimmed from Postgres' answer: the old copy is worth nothing.
        await redis.plain.delete(names[0], names[1])
        await redis.call("inbox_push", names, [epoch, facts[0].seq, "", COPY_TTL_S, *(fact.frame() for fact in facts)])


async def read(redis: Redis, epoch: str, user_id: UUID, after: int, newest: int) -> list[bytes] | None:
    """Frames after `after` up to `newest` from the copy, or None: ask Postgres. Raises what `DOWN` lists."""
    answer = await redis.call("inbox_read", [keys.copy(user_id), keys.meta(user_id)], [epoch, after, newest])
    return None if answer == b"no" else list(answer)
