"""The load filter against a model of it; and the accept behind it while somebody meddles with the filter. I1, I1b, I3."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dispatch.claims import keys, live
from dispatch.claims.model import Ask
from dispatch.kit.redis import Redis
from protocol.lifecycle import ServiceType
from protocol.resources import JobRequest, Place
from tests.machines.stage import MACHINE, Stage, acting, stage_of, word_of
from tests.support.server import BANGKOK, WITHIN_S

RACERS = [UUID(int=number) for number in range(1, 4)]
ACCEPTS = [UUID(int=number) for number in range(101, 104)]
asks = st.tuples(st.integers(1, 3), st.sampled_from(RACERS), st.sampled_from(ACCEPTS))
"""(round, provider, accept_id)"""
which = st.integers(0, 1)


@dataclass
class Held:
    """A claim as it should be."""

    round: int
    user: UUID
    accept: UUID
    committed: bool = False

    @property
    def stored(self) -> bytes:
        return f"{self.round}:{self.user}:{self.accept}{':C' if self.committed else ''}".encode()


class Filter(RuleBasedStateMachine):
    """Two jobs, three racers, three requests, any order of rounds."""

    def __init__(self, runner: asyncio.Runner, redis: Redis) -> None:
        super().__init__()
        self.runner = runner
        self.redis = redis
        self.jobs = [uuid4(), uuid4()]
        self.held: dict[int, Held | bytes] = {}

    def ask(self, job: int, user: UUID, accept: UUID) -> Ask:
        return Ask(user, self.jobs[job], None, None, accept, "key", "fingerprint")

    def owned(self, number: int) -> list[tuple[int, Held]]:
        """The claims that somebody holds, the chosen job's first."""
        both = [(job, self.held.get(job)) for job in (number, 1 - number)]
        return [(job, held) for job, held in both if isinstance(held, Held)]

    @rule(job=which, asked=asks)
    def somebody_asks(self, job: int, asked: tuple[int, UUID, UUID]) -> None:
        round, user, accept = asked
        mine, held = Held(round, user, accept), self.held.get(job)
        if not isinstance(held, Held):
            expected = "first"
        elif (held.round, held.user, held.accept) == asked:
            expected = "yours"
        elif held.round != round:
            expected = "stale" if held.round > round else "first"
        else:
            expected = "committed" if held.committed else "pending"
        assert self.runner.run(live.claim(self.redis, self.ask(job, user, accept), round)) == expected
        if expected == "first":
            self.held[job] = mine

    @precondition(lambda self: self.owned(0))
    @rule(job=which)
    def the_owner_asks_again(self, job: int) -> None:
        job, held = self.owned(job)[0]
        self.somebody_asks(job, (held.round, held.user, held.accept))

    @precondition(lambda self: self.owned(0))
    @rule(job=which, user=st.sampled_from(RACERS), accept=st.sampled_from(ACCEPTS))
    def a_rival_asks(self, job: int, user: UUID, accept: UUID) -> None:
        job, held = self.owned(job)[0]
        self.somebody_asks(job, (held.round, user, accept))

    @precondition(lambda self: self.owned(0))
    @rule(job=which, committed=st.booleans())
    def the_owner_settles(self, job: int, committed: bool) -> None:
        job, held = self.owned(job)[0]
        self.somebody_settles(job, (held.round, held.user, held.accept), committed)

    @rule(job=which, asked=asks, committed=st.booleans())
    def somebody_settles(self, job: int, asked: tuple[int, UUID, UUID], committed: bool) -> None:
        held = self.held.get(job)
        round, user, accept = asked
        self.runner.run(live.settle(self.redis, self.ask(job, user, accept), round, committed=committed))
        if isinstance(held, Held) and (held.round, held.user, held.accept) == asked:
            if committed:
                held.committed = True
            else:
                del self.held[job]

    @rule(
        job=which,
        how=st.sampled_from(["expires", "functions lost", b"", b"nonsense", b":::", b"9", b"x:1:2:C"]),
        really=which,
    )
    def redis_has_a_bad_moment(self, job: int, how: str | bytes, really: int) -> None:
        key = keys.claim(self.jobs[job])
        if not really:
            return
        if how == "functions lost":
            self.runner.run(self.redis.plain.execute_command("FUNCTION", "FLUSH"))
        elif isinstance(how, bytes):
            self.runner.run(self.redis.plain.set(key, how, px=keys.PENDING_MS))
            self.held[job] = how
        else:
            self.runner.run(self.redis.plain.delete(key))
            self.held.pop(job, None)

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        for number, job in enumerate(self.jobs):
            stored, left_ms = self.runner.run(self.look(job))
            held = self.held.get(number)
            assert stored == (held.stored if isinstance(held, Held) else held)
            if held is not None:
                longest_ms = keys.COMMITTED_MS if isinstance(held, Held) and held.committed else keys.PENDING_MS
                assert 0 < left_ms <= longest_ms, "a claim always lapses by itself"

    async def look(self, job: UUID) -> tuple[bytes | None, int]:
        return await self.redis.plain.get(keys.claim(job)), await self.redis.plain.pttl(keys.claim(job))


def test_the_filter_answers_as_the_model_says(redis_url: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        redis = runner.run(stack.enter_async_context(Redis.open(redis_url)))
        try:
            run_state_machine_as_test(lambda: Filter(runner, redis), settings=settings(MACHINE, max_examples=40))
        finally:
            runner.run(stack.aclose())


LIES = ("other", "other committed", "later round", "nonsense")


class Race(RuleBasedStateMachine):
    """One job after the other, four racers, and claims that vanish, lie and speak for others."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.claims = stage.app.claims
        self.racers = stage.providers(4)
        (self.customer,) = stage.customers(1)
        self.admin = acting(stage.customers(1)[0], "admin")
        stage.sql(
            "UPDATE provider_gate SET online = true WHERE provider_id = ANY ($1::uuid[])",
            [one for _, one in self.racers],
        )
        self.job_id: UUID
        self.jobs: list[UUID] = []
        self.round = 0
        self.offers: dict[int, UUID] = {}
        self.winner: int | None = None
        self.told: dict[tuple[UUID, int], set[int]] = {}
        """(job, round) → who was told that it is his"""
        self.asked: dict[int, str] = {}
        """The request that each racer sends again until its answer is final"""

    @initialize()
    def a_job_is_offered(self) -> None:
        request = JobRequest(
            service_type=ServiceType.RIDE, pickup=Place(lat=BANGKOK[0], lng=BANGKOK[1], address="here")
        )
        made = self.stage.run(self.stage.app.jobs.create(acting(self.customer), request, None))
        self.job_id, self.round = UUID(orjson.loads(made.body)["id"]), 0
        self.jobs.append(self.job_id)
        self.offer()

    def offer(self) -> None:
        word, offers = self.stage.run(self.stage.offer(self.job_id, self.round, [one for _, one in self.racers]))
        self.offers = {number: offers[one] for number, (_, one) in enumerate(self.racers) if one in offers}
        self.round += word == "offered"
        self.winner = None
        self.asked.clear()

    def request(self, racer: int) -> Any:
        key = self.asked.setdefault(racer, str(uuid4()))
        return word_of(
            self.claims.accept(acting(self.racers[racer][0]), self.job_id, self.offers[racer], self.round, key)
        )

    @precondition(lambda self: self.offers)
    @rule(
        racers=st.sets(st.integers(0, 3), min_size=1),
        before=st.none() | st.sampled_from(LIES),
        meddler=st.sampled_from(["nobody", "deletes", "lies"]),
    )
    def some_accept_at_once(self, racers: set[int], before: str | None, meddler: str) -> None:
        running = sorted(racers & set(self.offers))
        if before is not None:
            self.stage.run(self.overwrite(before, 3))
        words = self.stage.run(self.race(running, meddler))
        winners = {racer for racer, word in words.items() if word == "done"}
        assert len(winners | ({self.winner} - {None})) <= 1
        for word in words.values():
            assert word in ("done", "BUSY", "JOB_NOT_AVAILABLE:accepted"), word
        if winners:
            (self.winner,) = winners
            self.told.setdefault((self.job_id, self.round), set()).update(winners)
        row = self.row()
        if "JOB_NOT_AVAILABLE:accepted" in words.values():
            assert row["status"] == "accepted", "I1b: nobody is told «taken» of a job that is still to be had"
        if row["status"] == "accepted" and self.winner is None:
            self.winner = next(n for n, (_, one) in enumerate(self.racers) if one == row["provider_id"])

    async def race(self, running: list[int], meddler: str) -> dict[int, str]:
        async def meddle() -> None:
            for turn in range(6):
                await (self.overwrite("other", turn % 2) if meddler == "lies" else self.vanish())

        tasks = [self.request(racer) for racer in running]
        *words, _ = await asyncio.gather(*tasks, meddle() if meddler != "nobody" else asyncio.sleep(0))
        return dict(zip(running, words, strict=True))

    async def vanish(self) -> None:
        await self.stage.app.redis.plain.delete(keys.claim(self.job_id))

    async def overwrite(self, how: str, racer: int) -> None:
        user, round = self.racers[racer][0], self.round
        words = {
            "other": f"{round}:{user}:{uuid4()}",
            "other committed": f"{round}:{user}:{uuid4()}:C",
            "later round": f"{round + 5}:{user}:{uuid4()}",
            "nonsense": "nonsense",
        }[how]
        await self.stage.app.redis.plain.set(keys.claim(self.job_id), words, px=keys.PENDING_MS)

    @precondition(lambda self: self.winner is not None)
    @rule()
    def it_is_taken_back_and_offered_again(self) -> None:
        """Who had it once is not asked again, so the third time there are two left, and then the next job comes."""
        self.stage.run(self.stage.app.jobs.release(self.admin, self.job_id, "the office says so", None))
        self.round += 1
        self.offer()

    @rule()
    def the_next_job_comes(self) -> None:
        self.stage.run(self.stage.app.jobs.cancel(acting(self.customer), self.job_id, None, None))
        self.a_job_is_offered()

    @precondition(lambda self: self.offers)
    @rule(racer=st.integers(0, 3))
    def left_alone_somebody_gets_it(self, racer: int) -> None:
        """The claim lapses by itself; then asking again, with the same id, comes to an end."""
        racer = sorted(self.offers)[racer % len(self.offers)]
        self.stage.run(self.vanish())
        word = self.stage.run(self.until_final(racer))
        if self.winner in (None, racer):
            assert word == "done"
            self.winner = racer
            self.told.setdefault((self.job_id, self.round), set()).add(racer)
        else:
            assert word == "JOB_NOT_AVAILABLE:accepted"

    async def until_final(self, racer: int) -> str:
        async with asyncio.timeout(WITHIN_S):
            while (word := await self.request(racer)) == "BUSY":
                await asyncio.sleep(0)
            return word

    def row(self) -> Any:
        return self.stage.sql("SELECT * FROM jobs WHERE id = $1", self.job_id)[0]

    @invariant()
    def a_round_has_one_winner_and_keeps_him(self) -> None:
        if not self.jobs:
            return
        assert all(len(told) == 1 for told in self.told.values()), "I1"
        row = self.row()
        holder = None if self.winner is None else self.racers[self.winner][1]
        assert (row["provider_id"], row["round"]) == (holder, self.round), "I3: what was told stands"
        accepted = self.stage.sql(
            "SELECT job_id, round, count(*) AS n FROM offers WHERE job_id = ANY ($1::uuid[]) AND status = 'accepted' GROUP BY 1, 2",
            self.jobs,
        )
        assert all(one["n"] == 1 for one in accepted)

    def teardown(self) -> None:
        self.stage.forget(self.jobs)


@pytest.fixture
def stage(database_url: str, redis_url: str) -> Iterator[Stage]:
    with stage_of(database_url, redis_url) as opened:
        yield opened


def test_no_meddling_makes_two_winners(stage: Stage) -> None:
    run_state_machine_as_test(lambda: Race(stage), settings=settings(MACHINE, max_examples=30, stateful_step_count=30))
    assert stage.app.claims.outcomes["accepted"] > 20, "too little to prove anything"
