"""The page of evidence says what the kept results say, and its tables leave nothing out."""

from bench.chaos.blows import BLOWS
from bench.faults.checkers import CHECKERS
from bench.faults.promises import FAULTS, MUTANTS, PROMISES
from bench.faults.targets import TARGETS
from bench.reliability import PAGE, page, results, runs
from bench.simulation.nemesis import KINDS


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(results()), "python -m bench reliability writes it anew"


def test_every_promise_has_its_judge_and_every_judge_its_promise() -> None:
    judges = {check.__name__: name for name, check in CHECKERS.items()}
    assert {one.name for one in PROMISES if one.checker.isidentifier()} == set(CHECKERS)
    for one in PROMISES:
        if one.checker.isidentifier():
            assert judges[one.checker] == one.name
        assert set(one.mutants) <= {mutant.name for mutant in MUTANTS}
        assert set(one.faults) <= {fault.name for fault in FAULTS}


def test_every_mutant_is_named_by_the_promise_that_it_breaks() -> None:
    for mutant in MUTANTS:
        assert mutant.name in next(one for one in PROMISES if one.name == mutant.named).mutants


def test_every_kind_of_fault_stands_in_the_table() -> None:
    assert {kind for fault in FAULTS for kind in fault.simulated} == set(KINDS)
    assert {kind for fault in FAULTS for kind in fault.real} == set(BLOWS) | {"dropped-commit", "dropped-claim"}
    assert [fault.name for fault in FAULTS] == [f"F{number}" for number in range(1, 22)]


def test_no_kept_run_has_broken_a_promise() -> None:
    for name, one in runs(results()):
        assert one["violations"] == 0, name


def test_targets_without_a_run_are_open() -> None:
    assert all(target.value({}) is None for target in TARGETS)
