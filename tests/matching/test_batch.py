"""The batch policy by itself: exact, sparse, in no order but that of ids."""

import itertools
import random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.markets import Markets
from dispatch.matching import (
    Decision,
    Question,
    Reason,
    Search,
    Standing,
    acceptance_of,
    decide,
    policy_named,
    terms_of,
    window_end_ms,
)
from dispatch.matching.batch import IDLE_MAX_S, PATIENT_WAY_S, components, penalty_ms, way_ms
from dispatch.presence import Candidate

SF = Markets.load({"sf": {"policy": "batch"}})["sf"]
TERMS = terms_of(SF)


def job(number: int) -> UUID:
    return UUID(int=(1 << 96) + number)


def cab(number: int) -> UUID:
    return UUID(int=(2 << 96) + number)


def question(
    metres: dict[tuple[int, int], int],
    *,
    waited: dict[int, float] | None = None,
    standings: dict[int, Standing] | None = None,
    alone: tuple[int, ...] = (),
) -> Question:
    """Jobs and cabs by number, and how far apart those are that know of each other; `alone`: jobs with nobody near."""
    numbers = sorted({number for number, _ in metres} | set(alone))
    searches = [
        Search(job(n), "sf", "ride", 0, 37.7, -122.4, False, False, False, (), (waited or {}).get(n, 0.0))
        for n in numbers
    ]
    found = {
        job(n): sorted(
            (Candidate(cab(c), far) for (j, c), far in metres.items() if j == n), key=lambda one: one.distance_m
        )
        for n in numbers
        if n not in alone
    }
    return Question(0, TERMS, searches, found, {cab(n): one for n, one in (standings or {}).items()})


def cost(metres: int) -> int:
    """Of a default provider for a job that has not waited."""
    return round(way_ms(TERMS, metres) + penalty_ms(TERMS, Standing()))


def pairs(decision: Decision) -> dict[int, int]:
    return {one.int - (1 << 96): some[0].provider_id.int - (2 << 96) for one, some in decision.offers.items() if some}


def test_the_nearest_cab_goes_where_the_other_job_has_no_other() -> None:
    """First come, nearest first would send the second job's only near cab away."""
    metres = {(1, 1): 100, (1, 2): 150, (2, 1): 100, (2, 2): 5_000}
    assert pairs(decide(question(metres))) == {1: 2, 2: 1}


def test_as_many_jobs_as_can_be_get_somebody() -> None:
    """Leaving the far pair out would be cheaper and is not asked."""
    metres = {(1, 1): 10, (2, 1): 10, (1, 2): 9_000}
    assert pairs(decide(question(metres))) == {1: 2, 2: 1}


def test_a_long_way_is_for_those_who_have_waited() -> None:
    reach = policy_named("batch").reach
    radii = [reach(SF, 0, waited_s).radius_m for waited_s in (0.0, 60.0, 120.0, 100_000.0)]
    assert radii[0] == pytest.approx(PATIENT_WAY_S * SF.speed_mps / SF.detour_factor)
    assert radii[0] < radii[1] < radii[2] < radii[3] == SF.radius_max_m


def test_of_two_with_one_cab_the_nearer_gets_it_unless_the_other_has_waited() -> None:
    metres = {(1, 1): 800, (2, 1): 700}
    near = decide(question(metres))
    assert pairs(near) == {2: 1}
    assert near.reasons == {job(1): Reason.OUTBID, job(2): Reason.ASSIGNED}
    assert pairs(decide(question(metres, waited={1: 300.0}))) == {1: 1}


def test_nobody_near_is_said() -> None:
    decision = decide(question({(1, 1): 10}, alone=(2,)))
    assert decision.reasons == {job(1): Reason.ASSIGNED, job(2): Reason.NOBODY_NEAR}
    assert pairs(decision) == {1: 1}


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_between_equals_the_smaller_id_gets_the_smaller(jobs: int) -> None:
    metres = {(j, c): 500 for j in range(jobs) for c in range(3)}
    one = question(metres)
    for searches in (one.searches, list(reversed(one.searches))):
        assert pairs(decide(Question(0, TERMS, searches, one.found))) == {j: j for j in range(jobs)}


def test_who_says_no_often_and_who_has_just_worked_come_later() -> None:
    metres = {(1, 1): 500, (1, 2): 510}
    assert pairs(decide(question(metres))) == {1: 1}
    assert pairs(decide(question(metres, standings={1: Standing(acceptance=0.5)}))) == {1: 2}
    assert pairs(decide(question(metres, standings={2: Standing(idle_s=IDLE_MAX_S)}))) == {1: 2}
    assert penalty_ms(TERMS, Standing(idle_s=IDLE_MAX_S)) == penalty_ms(TERMS, Standing(idle_s=9e9)) < 0


def test_a_way_costs_its_seconds_on_the_road() -> None:
    assert way_ms(TERMS, 1_000) == pytest.approx(1000 * 1_000 * SF.detour_factor / SF.speed_mps)


def test_what_nobody_shares_is_solved_apart() -> None:
    assert components([[1], [1, 2], [3], [2], [4]]) == [[0, 1, 3], [2], [4]]
    assert components([[1], [2], [3], [3, 2, 1]]) == [[0, 1, 2, 3]]


@st.composite
def _windows(draw: st.DrawFn) -> dict[tuple[int, int], int]:
    edges = st.tuples(st.integers(0, 4), st.integers(0, 4))
    return draw(st.dictionaries(edges, st.integers(0, 9_999), min_size=1, max_size=18))


@settings(deadline=None, max_examples=200)
@given(_windows())
def test_no_other_assignment_is_better(metres: dict[tuple[int, int], int]) -> None:
    """Against trying them all: first how many get somebody, then the sum."""
    jobs = sorted({number for number, _ in metres})
    best: tuple[int, int] | None = None
    for cabs in itertools.product([None, *range(5)], repeat=len(jobs)):
        used = [(j, c) for j, c in zip(jobs, cabs, strict=True) if c is not None]
        if len({c for _, c in used}) < len(used) or any(pair not in metres for pair in used):
            continue
        total = sum(cost(metres[j, c]) for j, c in used)
        best = min(best or (0, 0), (-len(used), total)) if used else best
    made = pairs(decide(question(metres)))
    assert len(set(made.values())) == len(made)
    mine = sum(cost(metres[j, c]) for j, c in made.items())
    assert (-len(made), mine) == best


@settings(deadline=None, max_examples=50)
@given(_windows(), st.integers(0, 1_000))
def test_the_order_of_jobs_and_candidates_changes_nothing(metres: dict[tuple[int, int], int], seed: int) -> None:
    one = question(metres, waited={number: 100.0 * number for number in range(5)})
    chance = random.Random(seed)
    searches = list(one.searches)
    chance.shuffle(searches)
    found = {search.job_id: list(one.found[search.job_id]) for search in searches}
    for near in found.values():
        chance.shuffle(near)
    other = Question(0, TERMS, searches, found)
    assert decide(one) == decide(other)


def test_reach_is_within_the_market() -> None:
    reach = policy_named("batch").reach(SF, 3)
    assert 0 < reach.radius_m <= SF.radius_max_m
    assert reach.wanted > 1


def test_windows_follow_each_other_on_the_clock() -> None:
    assert window_end_ms(0, 4.0) == 4_000
    assert window_end_ms(3_999, 4.0) == 4_000
    assert window_end_ms(4_000, 4.0) == 8_000


def test_the_first_no_is_no_verdict() -> None:
    assert acceptance_of(0, 0) == pytest.approx(0.8)
    assert acceptance_of(1, 0) > 0.7
    assert acceptance_of(1_000, 100) < 0.12
