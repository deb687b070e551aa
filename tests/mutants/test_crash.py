"""The mutant that answers before it is on disk loses what it answered; ours does not."""

from pathlib import Path

from bench.faults.checkers import judge
from tests.mutants.conftest import Caught
from tests.mutants.crash import ANSWERED, ASYNCHRONOUS, killed_while_answering


async def test_synchronous_commit_off_is_caught(tmp_path: Path, redis_url: str, caught: Caught) -> None:
    history = await killed_while_answering(tmp_path, redis_url, ASYNCHRONOUS)
    violations = judge(history)
    assert "I3" in {violation.invariant for violation in violations}
    lost = sum(violation.invariant == "I3" for violation in violations)
    caught("synchronous_commit off", f"{lost} of {sum(op.word == 'ok' for op in history.ops)} answers lost")


async def test_what_was_answered_survives_the_death_of_postgres(tmp_path: Path, redis_url: str) -> None:
    history = await killed_while_answering(tmp_path, redis_url)
    assert judge(history) == []
    assert sum(op.word == "ok" for op in history.ops) >= ANSWERED
    assert any(op.word != "ok" for op in history.ops), "nobody was in the middle of it"
