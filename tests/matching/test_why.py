"""Why a job was offered to whom: to the office about everybody, to a provider about himself, to others nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatch.matching.model import Decision, Question, Reason, Search, terms_of
from dispatch.matching.why import CONSIDERED_MAX, OUTCOMES, REASONS, WAITING_MAX, Why, _considered
from dispatch.presence import Candidate
from protocol.errors import LOCALES, Denied
from protocol.resources import PaymentMethod
from protocol.resources.why import Outcome
from tests.matching.test_cash import LIMIT, owes
from tests.support.server import BANGKOK, WITHIN_S, Server, serving

EAST = 0.01 / 1.08
"""About a kilometre of longitude in Bangkok."""
MARKET = {"bkk": {"policy": "nearest", "offer_ttl_s": 60, "research_s": 60, "open_board": False}}


def east(km: float) -> tuple[float, float]:
    return BANGKOK[0], BANGKOK[1] + EAST * km


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, markets=MARKET) as running:
        yield running


async def noted(server: Server, job_id: UUID, rounds: int = 1) -> None:
    """Until so many searches for this job are written down, but for those that will be made again as a gate was held in that moment."""
    query = """SELECT 1 FROM match_rounds WHERE job_id = $1 AND NOT (round = 0 AND considered::text LIKE '%"unfit","distance_m"%')"""
    async with asyncio.timeout(WITHIN_S):
        while True:
            await server.app.why.write()
            if len(await server.sql(query, job_id)) >= rounds:
                return
            await asyncio.sleep(0)


async def asked(server: Server) -> UUID:
    """A job whose first search is over and written down."""
    job_id = UUID((await server.request(await server.person(), at=east(0)))["id"])
    await noted(server, job_id)
    return job_id


async def test_the_office_sees_who_was_asked(server: Server) -> None:
    admin = await server.admin()
    async with server.working(at=east(0.5)) as (near, _), server.working(at=east(2)) as (far, _):
        job_id = await asked(server)
        told = await admin.http.why(job_id)
    assert (told["job_id"], told["status"]) == (str(job_id), "offered")
    # The last: a try that met a gate which somebody else held in that moment is told too, and made again.
    *_, made = told["rounds"]
    assert (made["policy"], made["reason"], made["round"]) == ("nearest", "nearest", 1), told["rounds"]
    assert made["text"] == REASONS["en"][Reason.NEAREST]
    one, other = made["considered"]
    assert (one["provider_id"], one["outcome"]) == (str(near.provider_id), "offered"), told["rounds"]
    assert 400 < one["distance_m"] < 600 and one["provider_uid"] and one["text"]
    assert (other["provider_id"], other["outcome"]) == (str(far.provider_id), "behind")
    assert 1_900 < other["distance_m"] < 2_100 and other["text"] == OUTCOMES["en"][Outcome.BEHIND]


async def test_nobody_near_is_told_too(server: Server) -> None:
    admin = await server.admin()
    job_id = await asked(server)
    *_, made = (await admin.http.why(job_id))["rounds"]
    assert (made["reason"], made["considered"]) == ("nobody_near", []) and "round" not in made
    assert made["radius_m"] == 10_000, "it looked as far as the market reaches"


async def test_who_declined_is_told_so_himself_and_hears_nothing_of_others(server: Server) -> None:
    async with server.working(at=east(0.5)) as (near, phone), server.working(at=east(2)) as (far, _):
        job_id = await asked(server)
        offer = await near.inbox.named("offer.created")
        await phone.decline(offer.data["offer_id"])
        await far.inbox.named("offer.created")
        await noted(server, job_id, rounds=2)
        mine = await near.http.why_not_me(job_id)
        assert _asked(mine) == ["offered", "left_out"]
        assert str(far.provider_id) not in str(mine) and str(near.provider_id) not in str(mine)
        theirs = await far.http.why_not_me(job_id)
        assert _asked(theirs) == ["behind", "offered"]


def _asked(told: dict[str, Any]) -> list[str]:
    """Outcomes, but for the tries that met a gate which somebody else held in that moment: those are made again."""
    return [one["outcome"] for one in told["rounds"] if one["outcome"] != "unfit"]


async def test_those_behind_a_wave_are_told_so_and_are_there_for_the_next_job(
    database_url: str, redis_url: str
) -> None:
    """Two of five are asked. The others are held by nothing: a job of the same moment goes to the next two, and for that one the first two
    were held.
    """
    markets = {"bkk": MARKET["bkk"] | {"policy": "waves", "wave_size": 2}}
    async with serving(database_url, redis_url, markets=markets) as server, AsyncExitStack() as stack:
        admin = await server.admin()
        drivers = [
            (await stack.enter_async_context(server.working(at=east(0.1 * number))))[0] for number in range(1, 6)
        ]
        first, second = await asked(server), await asked(server)
        for job_id, outcomes in (
            (first, ["offered", "offered", "behind", "behind", "behind"]),
            (second, ["held", "held", "offered", "offered", "behind"]),
        ):
            made = (await admin.http.why(job_id))["rounds"][-1]
            told = {one["provider_id"]: one["outcome"] for one in made["considered"]}
            assert [told[str(driver.provider_id)] for driver in drivers] == outcomes
            assert len(made["considered"]) == 5, "nobody twice"
            for driver, outcome in zip(drivers, outcomes, strict=True):
                mine = (await driver.http.why_not_me(job_id))["rounds"][-1]
                assert (mine["outcome"], mine["text"]) == (outcome, OUTCOMES["en"][Outcome(outcome)])
        market = server.app.matching._markets["bkk"]
        seen = await server.app.presence.near(market, "ride", *east(0), wanted=5, radius_max_m=5_000, hold_s=-1)
        assert [str(one.provider_id) for one in seen.found] == [str(drivers[4].provider_id)], "the holds of both stand"


async def test_a_search_lets_go_of_nobody_whom_another_holds_by_now(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those behind it was told of, and before its offers were made another search held them."""
    markets = {"bkk": MARKET["bkk"] | {"policy": "waves", "wave_size": 2}}
    async with serving(database_url, redis_url, markets=markets) as server, AsyncExitStack() as stack:
        for number in range(1, 6):
            await stack.enter_async_context(server.working(at=east(0.1 * number)))
        matching, presence = server.app.matching, server.app.presence
        market = matching._markets["bkk"]
        give = matching._give
        others: list[UUID] = []

        async def later(*given: Any, **named: Any) -> Any:
            near = await presence.near(market, "ride", *east(0), wanted=2, radius_max_m=5_000, hold_s=60)
            others.extend(one.provider_id for one in near.found)
            return await give(*given, **named)

        monkeypatch.setattr(matching, "_give", later)
        job_id = await asked(server)
        offered = await server.sql("SELECT provider_id FROM offers WHERE job_id = $1", job_id)
        assert len(others) == 2 and not {row["provider_id"] for row in offered} & set(others)
        seen = await presence.near(market, "ride", *east(0), wanted=5, radius_max_m=5_000, hold_s=-1)
        assert len(seen.found) == 5 - 2 - len(offered) and not {one.provider_id for one in seen.found} & set(others)


async def test_who_let_it_lapse_long_ago_is_told_that_others_came_first(database_url: str, redis_url: str) -> None:
    """He might be asked again, and is where nobody else is: no search finds him while there are others."""
    markets = {"bkk": MARKET["bkk"] | {"lapse_cooldown_s": 0}}
    async with (
        serving(database_url, redis_url, markets=markets) as server,
        server.working(at=east(0.5)) as (near, _),
        server.working(at=east(2)) as (far, _),
    ):
        job_id = await asked(server)
        await near.inbox.named("offer.created")
        await server.sql(
            "UPDATE offers SET expires_at = clock_timestamp() WHERE job_id = $1 AND status = 'live'", job_id
        )
        await server.sql(
            "UPDATE jobs SET offer_deadline = clock_timestamp(), next_search_at = clock_timestamp() WHERE id = $1",
            job_id,
        )
        await far.inbox.named("offer.created")
        await noted(server, job_id, rounds=2)
        assert _asked(await near.http.why_not_me(job_id)) == ["offered", "left_out"]


async def test_who_was_tried_in_vain_is_told_so_in_the_next_try_too(server: Server) -> None:
    async with server.working(at=east(0.5)) as (deep, _), server.working(at=east(2)) as (clear, _):
        await owes(server, deep.user_id, LIMIT)
        job = await server.request(await server.person(), at=east(0), payment_method=PaymentMethod.CASH)
        await clear.inbox.named("offer.created")
        await noted(server, UUID(job["id"]))
        told = (await deep.http.why_not_me(UUID(job["id"])))["rounds"]
        assert [one["outcome"] for one in told] == ["unfit", "unfit"]
        assert "round" not in told[0] and (told[1]["round"], "distance_m" in told[1]) == (1, False)


async def test_what_waits_of_a_broadcast_is_bounded_and_names_nobody_twice(server: Server) -> None:
    """A thousand found, and all else that a round may know, each in two places."""
    why = server.app.why
    people = [uuid4() for _ in range(1_000)]
    near = [Candidate(one, n) for n, one in enumerate(people)]
    one = Search(uuid4(), "bkk", "ride", 0, *BANGKOK, False, False, False, tuple(people), silent=tuple(people[::-1]))
    terms = replace(terms_of(server.app.matching._markets["bkk"]), policy="broadcast")
    question = Question(0, terms, (one,), {one.job_id: near})
    decision = Decision({one.job_id: near}, {one.job_id: Reason.EVERYBODY})
    why._waiting = []
    others = [uuid4() for _ in range(200)]
    why.note(
        question, decision, one, radius_m=1.0, round=1, offered=frozenset(people[1:]),
        held=[Candidate(other, 1) for other in (*people[:5], *others)], unfit=[*others, *people],
    )  # fmt: skip
    (kept,) = why._waiting
    for part in (kept.found, kept.chosen, kept.offered, kept.held, kept.unfit):
        assert len(part) <= CONSIDERED_MAX
    assert len(kept.left_out) <= 2 * CONSIDERED_MAX
    told = {line["id"]: line["outcome"] for line in _considered(kept)}
    assert len(told) == len(_considered(kept)) == 50 + 45 + 50 + 5
    assert (told[str(people[0])], told[str(people[1])]) == ("held", "offered")
    assert (told[str(others[0])], told[str(others[47])], told[str(people[999])]) == ("held", "unfit", "left_out")
    why._waiting = []


async def test_a_job_that_he_was_never_considered_for_does_not_exist_for_him(server: Server) -> None:
    async with server.working(at=east(0.5)), server.working(at=east(15)) as (far, _):
        job_id = await asked(server)
        for who, which in ((far, job_id), (far, uuid4()), (await server.person(), job_id)):
            with pytest.raises(Denied) as refused:
                await who.http.why_not_me(which)
            assert refused.value.code == "JOB_NOT_FOUND"
        with pytest.raises(Denied) as refused:
            await far.http.why(job_id)
        assert refused.value.code == "FORBIDDEN"
        with pytest.raises(Denied) as refused:
            await (await server.admin()).http.why(uuid4())
        assert refused.value.code == "JOB_NOT_FOUND"


async def test_what_cannot_be_written_waits_and_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    why = server.app.why
    async with server.working(at=east(0.5)):
        with monkeypatch.context() as patch:
            patch.setattr(Why, "write", _nothing)
            await server.request(await server.person(), at=east(0))
            async with asyncio.timeout(WITHIN_S):
                while not why._waiting:
                    await asyncio.sleep(0)
        one = why._waiting[-1]

        async def full(*_: Any) -> None:
            raise asyncpg.DiskFullError("no room")

        with monkeypatch.context() as patch:
            patch.setattr("asyncpg.pool.PoolConnectionProxy.execute", full)
            why._waiting = [one] * 3
            with pytest.raises(asyncpg.DiskFullError):
                await why.write()
        assert len(why._waiting) == 3 and why.dropped == 0
        why._waiting = [one] * WAITING_MAX
        search = Search(one.job_id, "bkk", "ride", 0, *BANGKOK, False, False, False, ())
        question = Question(0, one.terms, (search,), {})
        decision = Decision({}, {one.job_id: Reason.NOBODY_NEAR})
        why.note(question, decision, search, radius_m=1.0, round=0, offered=frozenset())
        assert (len(why._waiting), why.dropped) == (WAITING_MAX, 1)
        why._waiting = [one] * 2
        await why.write()
        assert await _kept(server) >= 2


async def _nothing(self: Why) -> None:
    """The loop of the server writes nothing meanwhile."""


async def _kept(server: Server) -> int:
    return int((await server.sql("SELECT count(*) AS n FROM match_rounds"))[0]["n"])


async def test_of_many_rounds_the_newest_are_told_in_order(server: Server) -> None:
    async with server.working(at=east(0.5)) as (driver, _):
        job_id = await asked(server)
        await noted(server, job_id, rounds=1)
        await server.sql(
            "INSERT INTO match_rounds (job_id, at, policy, reason, round, radius_m, considered) "
            "SELECT $1, clock_timestamp(), 'nearest', 'nearest', n, 1, json_build_array(json_build_object('id', $2::text, 'outcome', 'offered')) "
            "FROM generate_series(1001, 1150) n",
            job_id, driver.provider_id,
        )  # fmt: skip
        told = (await driver.http.why_not_me(job_id))["rounds"]
        assert [one["round"] for one in told] == list(range(1051, 1151))


async def test_old_rounds_are_forgotten(server: Server) -> None:
    await asked(server)
    assert await server.app.why.forget(days=7) == 0
    await server.sql("UPDATE match_rounds SET at = at - interval '8 days'")
    before = await _kept(server)
    assert before and await server.app.why.forget(days=7) == before
    assert await _kept(server) == 0


async def test_switched_off_nothing_is_written(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets=MARKET, explain=False) as server, server.working(at=east(0.5)):
        job = await server.request(await server.person(), at=east(0))
        await server.searched(UUID(job["id"]))
        await server.app.why.write()
        assert await _kept(server) == 0


async def test_the_batch_policy_tells_costs_and_who_was_outbid(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cabs near one job: one is assigned, the other was dearer."""
    monkeypatch.setattr("dispatch.matching.batching.BUDGET_S", WITHIN_S)
    markets = {"bkk": MARKET["bkk"] | {"policy": "batch", "batch_window_s": 2}}
    async with (
        serving(database_url, redis_url, markets=markets) as server,
        server.working(at=east(0.3)) as (near, _),
        server.working(at=east(0.5)) as (far, _),
    ):
        admin = await server.admin()
        job = await server.request(await server.person(), at=east(0))
        await noted(server, UUID(job["id"]))
        made = (await admin.http.why(UUID(job["id"])))["rounds"][-1]
        assert made["reason"] == "assigned"
        outcomes = {one["provider_id"]: (one["outcome"], one["cost_s"]) for one in made["considered"]}
        assert outcomes[str(near.provider_id)][0] == "offered" and outcomes[str(far.provider_id)][0] == "outbid"
        assert 0 < outcomes[str(near.provider_id)][1] < outcomes[str(far.provider_id)][1]


def test_every_word_has_its_text() -> None:
    for locale in LOCALES:
        assert REASONS[locale].keys() == set(Reason) and OUTCOMES[locale].keys() == set(Outcome)
