"""Mutants that the simulator catches, each within a few seeds; the same seeds find nothing without them."""

import pytest

from bench.faults.promises import MUTANTS, Mutant
from bench.simulation.world import run_seed
from tests.mutants import models, patches
from tests.mutants.conftest import Caught
from tests.mutants.patches import Patch
from tests.mutants.test_races import MUTANTS as RACED

SIMULATED: dict[str, Patch] = {
    "ack before commit": patches.ack_before_commit,
    "SET NX claim with retries": patches.set_nx_with_retries,
    "taken from a pending claim": patches.taken_from_a_pending_claim,
    "event published before commit": patches.published_before_commit,
    "outbox skipped": patches.outbox_skipped,
    "copy out of order": models.copy_out_of_order,
    "seq allocated outside the transaction": models.seq_outside_the_transaction,
    "socket lookup by index": patches.seat_by_index,
}
SEEDS = 100
"""At most: nearly all are caught within ten."""


def named(seed: int) -> set[str]:
    """What a seed finds broken."""
    return {violation.invariant for violation in run_seed(seed).violations}


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.attack == "simulation"], ids=lambda one: one.name)
def test_the_mutant_is_caught(mutant: Mutant, caught: Caught) -> None:
    with SIMULATED[mutant.name]():
        seed = next((seed for seed in range(SEEDS) if mutant.named in named(seed)), None)
    assert seed is not None, f"{mutant.name} broke no {mutant.named} in {SEEDS} seeds"
    assert mutant.named not in named(seed), "nor without it"
    caught(mutant.name, f"seed {seed}")


def test_all_twelve_have_an_attack() -> None:
    crashed = {"synchronous_commit off"}
    assert len(MUTANTS) == 12
    assert {mutant.name for mutant in MUTANTS if mutant.attack == "simulation"} == set(SIMULATED)
    assert {mutant.name for mutant in MUTANTS if mutant.attack == "race"} == set(RACED)
    assert {mutant.name for mutant in MUTANTS if mutant.attack == "crash"} == crashed
