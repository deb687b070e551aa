"""A completion is one thing: whatever dies in the middle of it, job, pay and messages are all there or none is."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from bench.faults.proxy import Proxy
from dispatch.books import reconciled
from protocol.lifecycle import Stage
from tests.incentives.stage import a_program
from tests.support.crowd import Racer, crowd, lone_job, offer, until_final
from tests.support.fault_points import DIED, dying
from tests.support.server import Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def riding(server: Server, **given: Any) -> tuple[Racer, UUID]:
    """Somebody with a passenger aboard."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    if given:
        await server.sql("UPDATE jobs SET payment_method = $2 WHERE id = $1", job_id, given["payment_method"])
    offers = await offer(server, job_id, [racer])
    assert await until_final(server, racer, job_id, offers[racer.id]) == "accepted"
    for stage in (Stage.ARRIVED, Stage.IN_PROGRESS):
        await server.app.jobs.advance(racer.actor, job_id, stage, key=str(uuid4()))
    return racer, job_id


async def state_of(server: Server, racer: Racer, job_id: UUID) -> dict[str, Any]:
    """Everything that a completion writes, of this provider and his job."""
    counts = {
        "events": "SELECT count(*) AS n FROM events WHERE name IN ('earnings.created', 'wallet.updated') AND user_id = $1",
        "idem": "SELECT count(*) AS n FROM idem WHERE user_id = $1",
        "earnings": "SELECT count(*) AS n FROM earnings WHERE user_id = $1",
        "totals": "SELECT coalesce(sum(jobs), 0) AS n FROM earning_totals WHERE user_id = $1",
        "entries": "SELECT coalesce(sum(abs(amount)), 0) AS n FROM ledger_entry WHERE owner_id = $1",
        "counted": "SELECT coalesce(sum(count), 0) AS n FROM incentive_progress WHERE user_id = $1",
        "notices": "SELECT count(*) AS n FROM notifications WHERE recipient_id = $1 AND type = 'incentive_completed'",
        "money": "SELECT coalesce(sum(balance), 0) AS n FROM ledger_account WHERE owner_id = $1",
    }
    found = {name: (await server.sql(query, racer.actor.user_id))[0]["n"] for name, query in counts.items()}
    job = (await server.sql("SELECT status, version, actual_earnings_minor FROM jobs WHERE id = $1", job_id))[0]
    history = (await server.sql("SELECT count(*) AS n FROM job_events WHERE job_id = $1", job_id))[0]["n"]
    txns = (await server.sql("SELECT count(*) AS n FROM ledger_txn WHERE ref = $1", f"job:{job_id}"))[0]["n"]
    return found | dict(job) | {"history": history, "txns": txns}


@pytest.mark.parametrize("cut", [False, True], ids=["exception", "connection gone"])
@pytest.mark.parametrize("payment_method", ["cashless", "cash"])
async def test_a_death_between_any_two_statements_leaves_nothing(
    server: Server, cut: bool, payment_method: str
) -> None:
    racer, job_id = await riding(server, payment_method=payment_method)
    await (await server.admin()).http.incentives.create(**a_program((1, 500)))
    before = await state_of(server, racer, job_id)
    key = str(uuid4())
    statements = 0
    while True:
        async with dying(server, statements, cut=cut) as death:
            with pytest.raises(DIED):
                await server.app.jobs.advance(racer.actor, job_id, Stage.COMPLETED, key=key)
        assert await state_of(server, racer, job_id) == before, f"something was left after {death.sent[-1:]}"
        if death.at_commit:
            break
        statements += 1
    assert statements >= 12, "the walk passed through the whole completion"
    await server.app.jobs.advance(racer.actor, job_id, Stage.COMPLETED, key=key)
    after = await state_of(server, racer, job_id)
    assert (after["status"], after["earnings"], after["totals"], after["txns"]) == ("completed", 2, 1, 1)
    assert (after["counted"], after["notices"]) == (1, 1), "the bonus of the job is part of it"
    assert await reconciled(server.settings.database_url or "", print) == 0


async def test_a_completion_whose_commit_reply_is_lost_pays_once(database_url: str, redis_url: str) -> None:
    async with Proxy(database_url) as line, serving(line.url, redis_url) as server:
        racer, job_id = await riding(server)
        key = str(uuid4())
        line.drop_next_reply(b"COMMIT")
        try:
            await server.app.jobs.advance(racer.actor, job_id, Stage.COMPLETED, key=key)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            pass
        else:
            pytest.fail("the reply was to be lost")
        for again in (key, key):
            answer = await server.app.jobs.advance(racer.actor, job_id, Stage.COMPLETED, key=again)
            assert answer.replayed
        state = await state_of(server, racer, job_id)
        assert (state["status"], state["earnings"], state["txns"]) == ("completed", 1, 1)
        assert state["money"] == state["actual_earnings_minor"]
        assert await reconciled(database_url, print) == 0
