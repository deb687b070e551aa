"""Mutants of the judge's own statements, each in the order of events that it fails in; and the judge as it is, in the same orders."""

import pytest

from bench.faults.checkers import judge
from tests.mutants import races
from tests.mutants.conftest import Caught
from tests.mutants.edits import EXISTS_INSTEAD_OF_LOCKS, NO_ROUND_CHECK, NO_UNIQUE_INDEX, Edit, edit
from tests.support.server import serving

MUTANTS = {
    "no round check": (races.late_accept_of_an_old_round, NO_ROUND_CHECK, (), "I4"),
    "no unique index": (races.two_jobs_at_once, (), NO_UNIQUE_INDEX, "I2"),
    "EXISTS instead of lock, then read": (races.suspension_against_accept, EXISTS_INSTEAD_OF_LOCKS, (), "I7"),
}


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_mutant_is_caught(name: str, database_url: str, redis_url: str, caught: Caught) -> None:
    attack, edits, statements, invariant = MUTANTS[name]
    await edit(database_url, edits, statements)
    async with serving(database_url, redis_url, workers=2) as server:
        assert invariant in {violation.invariant for violation in judge(await attack(server))}
    caught(name, attack.__name__.replace("_", " "))


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_judge_is_not(name: str, database_url: str, redis_url: str) -> None:
    attack = MUTANTS[name][0]
    async with serving(database_url, redis_url, workers=2) as server:
        assert judge(await attack(server)) == []


async def test_a_mutant_whose_words_are_gone_is_out_of_date(database_url: str) -> None:
    gone: Edit = ("accept_job", "words that it does not hold", "")
    with pytest.raises(AssertionError, match="0 times"):
        await edit(database_url, [gone])
