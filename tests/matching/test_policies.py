"""Policies are pure: one suite for all of them, and what is special to each."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.markets import Market, Markets
from dispatch.matching.model import Decision, Policy, Question, Reason, Search, terms_of
from dispatch.matching.policies import BROADCAST_MAX, decide, policy_named
from dispatch.presence import Candidate

BKK = Markets.load()["bkk"]
NAMES = ["waves", "nearest", "broadcast", "batch"]


def search() -> Search:
    return Search(uuid4(), "bkk", "ride", 0, 13.7, 100.5, False, False, False, ())


def decided(market: Market, sizes: Sequence[int]) -> tuple[Question, Decision]:
    """So many free near each of some jobs, nobody near two of them."""
    searches = [search() for _ in sizes]
    found: dict[UUID, list[Candidate]] = {
        one.job_id: [Candidate(uuid4(), 10 * n) for n in range(size)]
        for one, size in zip(searches, sizes, strict=True)
        if size
    }
    question = Question(0, terms_of(market), searches, found)
    return question, decide(question)


@pytest.fixture(params=NAMES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return policy_named(request.param)


@pytest.mark.parametrize("name", NAMES)
@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), wave_size=st.integers(1, 8))
def test_a_policy_chooses_the_nearest_of_those_found_as_many_as_it_is_for(
    name: str, sizes: list[int], wave_size: int
) -> None:
    """More may be found than were asked for: those behind are to tell of, and nobody offers them anything."""
    market = replace(BKK, policy=name, wave_size=wave_size)
    question, decision = decided(market, sizes)
    most = {"nearest": 1, "waves": wave_size, "broadcast": 12, "batch": 1}[name]
    for one in question.searches:
        near = question.found.get(one.job_id, [])
        assert list(decision.offers.get(one.job_id, ())) == near[:most]
        assert (decision.reasons[one.job_id] == Reason.NOBODY_NEAR) == (not near)
    assert decision.reasons.keys() == {one.job_id for one in question.searches}
    assert decide(question) == decision, "equal questions get equal decisions"


@pytest.mark.parametrize("name", ["waves", "nearest", "broadcast"])
def test_so_many_are_searched_for_as_are_chosen(name: str) -> None:
    """Fewer would be held than get an offer, or more, who are then let go of for nothing."""
    market = replace(BKK, policy=name, wave_size=7)
    question, decision = decided(market, [BROADCAST_MAX + 3])
    assert len(decision.offers[question.searches[0].job_id]) == policy_named(name).reach(market, 0).wanted


@pytest.mark.parametrize("round", [0, 1, 3, 50, 10_000])
def test_no_policy_reaches_beyond_the_market(policy: Policy, round: int) -> None:
    reach = policy.reach(BKK, round)
    assert 1 <= reach.wanted <= BROADCAST_MAX
    assert 0 < reach.radius_m <= BKK.radius_max_m


def test_waves_grow_and_nearest_asks_one() -> None:
    radii = [policy_named("waves").reach(BKK, n).radius_m for n in range(8)]
    assert radii == sorted(radii)
    assert radii[0] == BKK.radius_first_m
    assert radii[-1] == BKK.radius_max_m
    assert policy_named("nearest").reach(BKK, 0).wanted == 1
