"""Who is dead? A worker that has not said for long that it lives, and could have."""

from uuid import uuid4

from dispatch.inbox import Inbox
from dispatch.kit.clock import ManualClock
from dispatch.kit.postgres import Postgres
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery


async def test_after_an_outage_everybody_has_time_to_speak_before_he_is_buried(
    database_url: str, redis_url: str
) -> None:
    """Postgres was away for 50 s: the last word of every worker is old, and the first undertaker to come back is not alone alive."""
    clock = ManualClock()
    async with Postgres.open(database_url) as pg, Redis.open(redis_url) as redis:

        async def no_state(user_id: object) -> object:
            raise AssertionError("nobody is greeted here")

        inbox = Inbox(pg, redis, clock, Nursery(), worker_id="one", state_of=no_state)  # type: ignore[arg-type]
        user, conn = uuid4(), uuid4()
        await inbox.beat()
        async with pg.system() as connection:

            async def living() -> int:
                found: int = await connection.fetchval("SELECT count(*) FROM sockets WHERE lost_at IS NULL")
                return found

            await connection.execute(
                "INSERT INTO workers (id, beat_at) VALUES ('other', clock_timestamp() - interval '50 s')"
            )
            await connection.fetch("SELECT * FROM users_ensure($1, NULL, NULL, NULL)", user)
            await connection.execute(
                "INSERT INTO sockets (user_id, device, attempt, worker_id, conn_id) VALUES ($1, 'd', 1, 'other', $2)",
                user,
                conn,
            )
            clock.advance(50)
            await inbox.bury()
            assert await living() == 1, "buried by one who has not heard anything himself for 50 s"
            await inbox.beat()
            await inbox.bury()
            assert await living() == 1, "buried before he could speak"
            for _ in range(10):
                clock.advance(1)
                await inbox.beat()
            await inbox.bury()
            assert await living() == 0, "silent though others spoke for 10 s"


async def test_a_crowd_of_clients_does_not_keep_a_worker_from_saying_that_it_lives(
    database_url: str, redis_url: str
) -> None:
    """Every connection was taken for greetings, the beat waited behind them, and after 10 s the worker's phones were sent away: more of
    the same.
    """
    async with Postgres.open(database_url, size=2) as pg, Redis.open(redis_url) as redis:

        async def no_state(user_id: object) -> object:
            raise AssertionError("nobody is greeted here")

        inbox = Inbox(pg, redis, ManualClock(), Nursery(), worker_id="one", state_of=no_state)  # type: ignore[arg-type]
        async with pg.system() as one, pg.system(), pg.app(), pg.app():
            await inbox.beat()
            assert await one.fetchval("SELECT count(*) FROM workers WHERE id = 'one'") == 1
