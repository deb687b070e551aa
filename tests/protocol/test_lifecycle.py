from itertools import product

import pytest

from protocol.lifecycle import (
    ACTIVE,
    FINAL,
    LEGAL,
    MAY_WORK,
    OPEN,
    PROVIDER_LEGAL,
    Actor,
    JobStatus,
    ProviderStatus,
    Stage,
    may,
    provider_may,
)

P, O, A, R, I, C, X = JobStatus


def test_the_edges_are_those_of_the_contract_and_no_others() -> None:
    forward = {(P, O), (O, A), (A, R), (R, I), (I, C)}
    cancelled = {(start, X) for start in (P, O, A, R, I)}
    released = {(A, O), (R, O)}
    assert set(LEGAL) == forward | cancelled | released


def test_the_three_sets_part_the_statuses() -> None:
    assert sorted([*OPEN, *ACTIVE, *FINAL]) == sorted(JobStatus)


@pytest.mark.parametrize(("start", "end"), list(product(sorted(FINAL), JobStatus)))
def test_no_edge_leaves_a_final_status(start: JobStatus, end: JobStatus) -> None:
    assert not may(start, end)


@pytest.mark.parametrize(("end", "start"), [(Stage.ARRIVED, A), (Stage.IN_PROGRESS, R), (Stage.COMPLETED, I)])
def test_only_the_provider_advances_a_job(end: Stage, start: JobStatus) -> None:
    assert [actor for actor in Actor if may(start, JobStatus(end), actor)] == [Actor.PROVIDER]


@pytest.mark.parametrize("start", [A, R, I])
def test_everybody_may_cancel_an_active_job(start: JobStatus) -> None:
    assert all(may(start, X, actor) for actor in Actor)


@pytest.mark.parametrize("start", [P, O])
def test_a_provider_cannot_cancel_a_job_that_is_not_his(start: JobStatus) -> None:
    assert may(start, X) and not may(start, X, Actor.PROVIDER)


def test_a_customer_cannot_release_a_job() -> None:
    assert not may(A, O, Actor.CUSTOMER) and may(A, O, Actor.ADMIN) and may(A, O, Actor.SYSTEM)


def test_a_stage_equals_the_status_of_its_word() -> None:
    assert {JobStatus(stage) for stage in Stage} == {R, I, C}
    assert all(stage == str(JobStatus(stage)) for stage in Stage)


def test_provider_edges_are_those_of_the_requirements() -> None:
    edges = {(start.value, end.value) for start, ends in PROVIDER_LEGAL.items() for end in ends}
    assert edges == {
        ("pending", "pending_verification"),
        ("pending", "rejected"),
        ("pending_verification", "approved"),
        ("pending_verification", "rejected"),
        ("approved", "active"),
        ("approved", "suspended"),
        ("active", "suspended"),
        ("suspended", "approved"),
        ("rejected", "pending"),
    }


def test_only_the_approved_may_work() -> None:
    assert {ProviderStatus.APPROVED, ProviderStatus.ACTIVE} == MAY_WORK
    assert not provider_may(ProviderStatus.SUSPENDED, ProviderStatus.ACTIVE)
