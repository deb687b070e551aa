"""Policies are pure: one suite for all of them, and what is special to each."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.markets import Markets
from dispatch.matching.model import Policy, Search
from dispatch.matching.policies import BROADCAST_MAX, policy_named
from dispatch.presence import Candidate

BKK = Markets.load()["bkk"]
NAMES = ["waves", "nearest", "broadcast"]


def search() -> Search:
    return Search(uuid4(), "bkk", "ride", 0, 13.7, 100.5, False, False, False, ())


@pytest.fixture(params=NAMES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return policy_named(request.param)


@pytest.mark.parametrize("name", NAMES)
@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_a_policy_chooses_among_what_was_found_in_its_order(name: str, sizes: list[int]) -> None:
    searches = [search() for _ in sizes]
    found: dict[UUID, list[Candidate]] = {
        one.job_id: [Candidate(uuid4(), 10 * n) for n in range(size)] for one, size in zip(searches, sizes, strict=True)
    }
    chosen = policy_named(name).choose(searches, found)
    for job_id, candidates in chosen.items():
        assert list(candidates) == found[job_id][: len(candidates)]


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
    one = search()
    assert (
        len(policy_named("nearest").choose([one], {one.job_id: [Candidate(uuid4(), n) for n in range(4)]})[one.job_id])
        == 1
    )
